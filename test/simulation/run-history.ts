import { type Coverage, count, emptyCoverage } from "./coverage.ts";
import { createEngine, type DrawnFault, type EngineOptions } from "./engine.ts";
import type { History } from "./history.ts";
import { createJudge, type Violation } from "./judge.ts";
import { createRoom } from "./room.ts";

export type Run = { violation: Violation | undefined; faults: DrawnFault[]; coverage: Coverage };

/** Not repeated, not unreadable, and not under another one's id. */
const isOneOfItsOwn = /^(m\d+|l\d+-\d+)$/;

/** What waits for a person asks again for days: after so many effects the rest of it is not waited for. */
const stepsMax = 40_000;

/** Runs a history to its end, or to the first violation. */
export async function runHistory(history: History, options: EngineOptions = {}): Promise<Run> {
  const coverage = emptyCoverage();
  const engine = createEngine(history, options);
  const judge = createJudge(history, engine, coverage);
  const room = createRoom(history, engine, judge);
  judge.attach(room);
  let steps = 0;
  await engine.run(history.endAt, () => {
    steps += 1;
    return judge.violation() !== undefined || steps > stepsMax;
  });
  let violation = judge.violation();
  const isCut = steps > stepsMax;
  // Nothing that is still going wrong, or has only just stopped to, may take that many.
  if (violation === undefined && isCut && engine.now() < history.quietAt + 3_600_000) {
    violation = { invariant: "rest", message: `no rest after ${stepsMax} effects` };
  }
  if (violation === undefined) judge.judgeEnd(isCut);
  coverage.histories = 1;
  coverage.commands = history.sends.filter(({ id }) => isOneOfItsOwn.test(id)).length;
  coverage.businesses = history.customers.length;
  coverage.faultCount = engine.faults.length;
  coverage.steps = steps;
  for (const { boundary, kind } of engine.faults) count(coverage.faults, `${boundary} × ${kind}`);
  for (const { kind } of history.hands) count(coverage.hands, kind);
  if (history.breach !== undefined) count(coverage.breaches, history.breach);
  for (const [name, value] of Object.entries(history.variants))
    count(coverage.variants, `${name} ${classOf(name, value)}`);
  return { violation: violation ?? judge.violation(), faults: engine.faults, coverage };
}

/** Of a lag only whether there is one. */
function classOf(name: string, value: unknown): string {
  return name.endsWith("LagMs") && value !== 0 ? "some" : String(value);
}
