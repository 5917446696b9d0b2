import { parentPort, workerData } from "node:worker_threads";
import type { Coverage } from "./coverage.ts";
import type { Violation } from "./judge.ts";
import type { Mutant } from "./mutants.ts";
import { mutants } from "./mutants.ts";
import { installSwaps, type Swap } from "./swap.ts";

/** Which histories a worker runs, and upon which product. */
export type Task = {
  seeds: number[];
  mutant?: string;
  /** A module with further `swaps`: a repair to be tried before the product has it. */
  with?: string;
  stopAtFirst: boolean;
  verbose: boolean;
};

export type Report =
  | { kind: "progress"; histories: number }
  | { kind: "violation"; seed: number; violation: Violation; text: string }
  | { kind: "done"; coverage: Coverage };

const reportEvery = 50;

async function work({ seeds, mutant: name, with: file, stopAtFirst, verbose }: Task): Promise<void> {
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
  for (const seed of seeds) {
    const history = drawHistory(seed);
    const run = await runHistory(history);
    addCoverage(coverage, run.coverage);
    unreported += 1;
    if (run.violation !== undefined) {
      const { violation } = run;
      violations += 1;
      // A shrunk history for a person: of the first one, since it takes many runs.
      const isShown = mutant === undefined && violations === 1;
      const text = isShown ? describeShrunk(await shrink(history, violation.invariant), verbose) : violation.message;
      tell({ kind: "violation", seed, violation, text });
      if (stopAtFirst) break;
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
