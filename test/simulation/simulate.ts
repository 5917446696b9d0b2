import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { addCoverage, type Coverage, describeCoverage, emptyCoverage, gapsOf } from "./coverage.ts";
import { mutants } from "./mutants.ts";
import type { Report, Task } from "./worker.ts";

const help = `Runs the flows over models of everything around them, through seeded histories of crashes and lost answers.

npm run simulate -- [--histories N] [--seed S]     N histories (2000) of the seed S (1)
npm run simulate -- --history K [--verbose]        the history K alone, shrunk, with all that happens in it
npm run simulate -- --corpus                       the kept histories that once failed, before the others
npm run simulate -- --mutant NAME | all            a product with one function exchanged: ends 0 only if it is caught
                    [--histories N] [--seeds 1,2,3]  within N histories (2000) under each seed
npm run simulate -- --all-violations               goes on after a violation and counts them
npm run simulate -- --with FILE                    functions exchanged by the file's \`swaps\`: a repair to be tried`;

const { values } = parseArgs({
  options: {
    histories: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1,2,3" },
    history: { type: "string" },
    corpus: { type: "boolean", default: false },
    mutant: { type: "string" },
    with: { type: "string" },
    workers: { type: "string", default: "2" },
    verbose: { type: "boolean", default: false },
    "all-violations": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

type Result = { violations: Extract<Report, { kind: "violation" }>[]; coverage: Coverage; histories: number };

/** Coverage says something only of so many histories. */
const coverageMin = 2000;

if (values.help) process.stdout.write(`${help}\n`);
else if (values.mutant !== undefined) process.exitCode = (await hunt(values.mutant)) ? 0 : 1;
else process.exitCode = (await simulate()) ? 0 : 1;

/** Answers whether nothing broke and nothing was left out. */
async function simulate(): Promise<boolean> {
  const startedAt = Date.now();
  const drawn = seedsOf(Number(values.seed), Number(values.histories));
  const seeds =
    values.history !== undefined ? [Number(values.history)] : [...(values.corpus ? corpus() : []), ...drawn];
  const { violations, coverage, histories } = await run(seeds, { verbose: values.verbose }, (count) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${count} of ${seeds.length} histories`);
  });
  for (const { text } of violations.slice(0, values["all-violations"] ? 5 : 1)) process.stdout.write(`\n${text}\n`);
  const seconds = (Date.now() - startedAt) / 1000;
  process.stdout.write(`\n${describeCoverage(coverage, values.verbose)}\n`);
  process.stdout.write(
    `${histories} histories in ${seconds.toFixed(1)} s (${(histories / seconds).toFixed(0)} a second)\n`,
  );
  if (violations.length > 0) {
    const byInvariant = Object.groupBy(violations, ({ violation }) => violation.invariant);
    for (const [invariant, some = []] of Object.entries(byInvariant)) {
      process.stdout.write(
        `BROKEN ${invariant}: ${some.length}, histories ${some
          .slice(0, 10)
          .map(({ seed }) => seed)
          .join(", ")}\n`,
      );
    }
    return false;
  }
  const gaps = histories < coverageMin ? [] : gapsOf(coverage);
  for (const gap of gaps) process.stdout.write(`NEVER SEEN ${gap}\n`);
  process.stdout.write(gaps.length === 0 ? "No violation\n" : "No violation, but the coverage has holes\n");
  return gaps.length === 0;
}

/** Answers whether each mutant is caught under each seed. */
async function hunt(name: string): Promise<boolean> {
  const hunted = name === "all" ? mutants : mutants.filter((mutant) => mutant.name === name);
  if (hunted.length === 0)
    throw new Error(`No such mutant; there are ${mutants.map((mutant) => mutant.name).join(", ")}`);
  let isCaught = true;
  for (const mutant of hunted) {
    const told: string[] = [];
    for (const seed of values.seeds.split(",").map(Number)) {
      const { violations, histories } = await run(seedsOf(seed, Number(values.histories)), {
        mutant: mutant.name,
        verbose: false,
      });
      const [first] = violations;
      if (first === undefined) {
        isCaught = false;
        told.push(`NOT CAUGHT in ${histories} (seed ${seed})`);
      } else {
        const { invariant } = first.violation;
        if (!mutant.breaks.includes(invariant)) isCaught = false;
        const doubt = mutant.breaks.includes(invariant) ? "" : ` (expected ${mutant.breaks.join(" or ")})`;
        told.push(`${invariant}${doubt} after ${histories}`);
      }
    }
    process.stdout.write(`${mutant.name.padEnd(34)} ${told.join("; ")}\n`);
  }
  return isCaught;
}

function run(
  seeds: readonly number[],
  { mutant, verbose }: { mutant?: string; verbose: boolean },
  onProgress: (histories: number) => void = () => {},
): Promise<Result> {
  const workers = Math.max(1, Math.min(Number(values.workers), seeds.length));
  const result: Result = { violations: [], coverage: emptyCoverage(), histories: 0 };
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  const stopAtFirst = mutant !== undefined || !values["all-violations"];
  const repairs = values.with === undefined ? {} : { with: pathToFileURL(values.with).href };
  let running = workers;
  const threads = Array.from({ length: workers }, (_, number) => {
    const own = seeds.filter((__, index) => index % workers === number);
    const task: Task = { seeds: own, stopAtFirst, verbose, ...(mutant === undefined ? {} : { mutant }), ...repairs };
    return new Worker(new URL("worker.ts", import.meta.url), { workerData: task });
  });
  function end(): void {
    for (const thread of threads) void thread.terminate();
    resolve(result);
  }
  for (const thread of threads) {
    thread.on("error", reject);
    thread.on("message", (report: Report) => {
      if (report.kind === "progress") {
        result.histories += report.histories;
        onProgress(result.histories);
      } else if (report.kind === "violation") {
        result.violations.push(report);
        // The other worker's histories are not waited for.
        if (stopAtFirst) setTimeout(end, 20);
      } else {
        addCoverage(result.coverage, report.coverage);
        running -= 1;
        if (running === 0) end();
      }
    });
  }
  return promise;
}

/** The histories of different seeds are different ones. */
function seedsOf(seed: number, histories: number): number[] {
  return Array.from({ length: histories }, (_, index) => seed * 1_000_000 + index);
}

function corpus(): number[] {
  const entries: { seed: number }[] = JSON.parse(readFileSync(new URL("corpus.json", import.meta.url), "utf8"));
  return entries.map(({ seed }) => seed);
}
