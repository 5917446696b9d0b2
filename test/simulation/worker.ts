import { parentPort, workerData } from "node:worker_threads";
import type { Coverage } from "./coverage.ts";
import type { Violation } from "./judge.ts";
import type { History } from "./history.ts";
import type { Mutant } from "./mutants.ts";
import { mutants } from "./mutants.ts";
import type { Shrunk } from "./shrink.ts";
import { installSwaps, type Swap } from "./swap.ts";

/** Which histories a worker runs, and upon which product. */
export type Task = {
  seeds: number[];
  mutant?: string;
  /** A module with further `swaps`: a repair to be tried before the product has it. */
  with?: string;
  /** Histories of the corpus, run before the seeds. */
  corpus: CorpusEntry[];
  /** Only these end the work; others are counted. All, when not given. */
  breaks?: string[];
  /** Shrinks also what a mutant breaks. */
  shrinks: boolean;
  stopAtFirst: boolean;
  verbose: boolean;
};

/** A history that once failed, cut down to what it took; `mutant` still makes it fail. */
export type CorpusEntry = {
  why: string;
  invariant: string;
  mutant?: string;
  history: History;
  faults: Shrunk["faults"];
};

export type Report =
  | { kind: "progress"; histories: number }
  /** All that happened in a history in which nothing broke. */
  | { kind: "trace"; text: string }
  /** `isMeant`: of an invariant that was looked for. */
  | { kind: "violation"; seed: number; isMeant: boolean; violation: Violation; text: string; shrunk?: Shrunk }
  /** What became of a kept history. */
  | { kind: "kept"; why: string; expected: string; violation: Violation | undefined }
  | { kind: "done"; coverage: Coverage };

const reportEvery = 50;

async function work(task: Task): Promise<void> {
  const { seeds, mutant: name, with: file, breaks, corpus, shrinks, stopAtFirst, verbose } = task;

  // Errors are values here: nobody reads where they were made, and telling it takes longer than what they are about.
  Error.stackTraceLimit = verbose ? 10 : 0;
  const mutant: Mutant | undefined = mutants.find((one) => one.name === name);
  const repairs: { swaps: Swap[] } = file === undefined ? { swaps: [] } : await import(file);
  installSwaps([...repairs.swaps, ...(mutant?.swaps ?? [])]);
  // Only now, so that what is swapped is.
  const { addCoverage, emptyCoverage } = await import("./coverage.ts");
  const { drawHistory } = await import("./history.ts");
  const { runHistory } = await import("./run-history.ts");
  const { describeShrunk, shrink } = await import("./shrink.ts");

  const coverage = emptyCoverage();
  let unreported = 0;
  let violations = 0;
  for (const { why, invariant: expected, history, faults } of corpus) {
    const { violation } = await runHistory(history, { onlyFaults: new Map(faults) });
    tell({ kind: "kept", why, expected, violation });
  }
  for (const seed of seeds) {
    const history = drawHistory(seed);
    const trace: string[] = [];
    const isTold = verbose && seeds.length === 1;
    const run = await runHistory(history, isTold ? { trace: (line) => void trace.push(line) } : {});
    if (isTold && run.violation === undefined) tell({ kind: "trace", text: trace.join("\n") });
    addCoverage(coverage, run.coverage);
    unreported += 1;
    if (run.violation !== undefined) {
      const { violation } = run;
      const isMeant = breaks?.includes(violation.invariant) ?? true;
      if (isMeant) violations += 1;
      // Only the first is shrunk, since it takes many runs.
      const shrunk = shrinks && isMeant && violations === 1 ? await shrink(history, violation.invariant) : undefined;
      const text = shrunk === undefined ? violation.message : describeShrunk(shrunk, verbose);
      tell({ kind: "violation", seed, isMeant, violation, text, ...(shrunk === undefined ? {} : { shrunk }) });
      if (stopAtFirst && isMeant) break;
    }
    if (unreported < reportEvery) continue;
    tell({ kind: "progress", histories: unreported });
    unreported = 0;
    // The host must hear of it, and may end us, before the next ones.
    await new Promise((resolve) => setImmediate(resolve));
  }
  tell({ kind: "progress", histories: unreported });
  tell({ kind: "done", coverage });
}

function tell(report: Report): void {
  parentPort?.postMessage(report);
}

await work(workerData as Task);
