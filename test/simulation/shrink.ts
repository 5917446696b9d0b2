import type { History } from "./history.ts";
import type { Violation } from "./judge.ts";
import { runHistory } from "./run-history.ts";

/** A history cut down to what still breaks the invariant, and what happens in it. */
export type Shrunk = {
  history: History;
  faults: [place: string, kind: string][];
  violation: Violation;
  trace: string[];
};

/** More runs than this make it little shorter. */
const runsMax = 400;

/** Drops messages, hands and faults, many at a time and then one by one, while the same invariant still breaks. */
export async function shrink(history: History, invariant: string): Promise<Shrunk> {
  let runs = 0;
  async function breaks(candidate: History, faults: Shrunk["faults"]): Promise<boolean> {
    runs += 1;
    const { violation } = await runHistory(candidate, { onlyFaults: new Map(faults) });
    return violation?.invariant === invariant;
  }

  const first = await runHistory(history);
  let current = history;
  let faults: Shrunk["faults"] = first.faults.map(({ key, kind }) => [key, kind]);
  for (let before = Infinity; size() < before && runs < runsMax;) {
    before = size();
    current = { ...current, sends: await fewer(current.sends, (sends) => breaks({ ...current, sends }, faults)) };
    current = { ...current, hands: await fewer(current.hands, (hands) => breaks({ ...current, hands }, faults)) };
    faults = await fewer(faults, (some) => breaks(current, some));
  }
  const trace: string[] = [];
  const { violation } = await runHistory(current, {
    onlyFaults: new Map(faults),
    trace: (line) => void trace.push(line),
  });
  return { history: current, faults, violation: violation ?? { invariant, message: "not reproduced" }, trace };

  function size(): number {
    return current.sends.length + current.hands.length + faults.length;
  }

  async function fewer<T>(items: readonly T[], stillBreaks: (fewer: T[]) => Promise<boolean>): Promise<T[]> {
    let kept = [...items];
    for (let chunk = Math.ceil(kept.length / 2); chunk >= 1; chunk = chunk === 1 ? 0 : Math.ceil(chunk / 2)) {
      for (let start = 0; start < kept.length && runs < runsMax;) {
        const candidate = kept.toSpliced(start, chunk);
        if (await stillBreaks(candidate)) kept = candidate;
        else start += chunk;
      }
    }
    return kept;
  }
}

/** For a person: the world, what was asked, what went wrong, and what came of it, in the order of time. */
export function describeShrunk({ history, faults, violation, trace }: Shrunk, verbose: boolean): string {
  const told = JSON.stringify(history.sends);
  const customers = history.customers.filter(
    ({ businessId, wabas }) => told.includes(businessId) || wabas.some(({ wabaId }) => told.includes(wabaId)),
  );
  const { policy, clocksApartMs, timersFreeze, indexLagMs } = history;
  const lines = verbose
    ? trace
    : trace.filter((line) => !/ (log:|receives .*|E3 \d+ →)/.test(line) || / dies| frozen/.test(line));
  return [
    `${violation.invariant} is broken in the history ${history.seed}: ${violation.message}`,
    `  ${history.breach === undefined ? "A1 to A6 hold" : `${history.breach} is broken on purpose`}`,
    `  Meta: ${JSON.stringify(history.variants)}`,
    `  stage: ${JSON.stringify({ ...policy, clocksApartMs, timersFreeze, indexLagMs })}`,
    ...customers.map(
      ({ businessId, wabas }) => `  business ${businessId}: ${wabas.map(({ wabaId }) => wabaId).join(", ")}`,
    ),
    `  ${history.sends.length} messages, ${history.hands.length} hands, ${faults.length} faults:`,
    ...lines.map((line) => `  ${line.slice(0, 300)}`),
  ].join("\n");
}
