import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { addCoverage, type Coverage, describeCoverage, emptyCoverage, gapsOf } from "./coverage.ts";
import { mutants } from "./mutants.ts";
import type { CorpusEntry, Report, Task } from "./worker.ts";

const help = `Runs the flows over models of everything around them, through seeded histories of crashes and lost answers.

npm run simulate -- [--histories N] [--seed S]     N histories (2000) of the seed S (1)
npm run simulate -- --history K [--verbose]        the history K alone, shrunk, with all that happens in it
npm run simulate -- --corpus                       first the kept histories that once failed; with --mutant, its own
npm run simulate -- --mutant NAME | all            a product with one function exchanged: ends 0 only if it is caught
                    [--histories N] [--seeds 1,2,3]  within N histories (2000) under each seed
                    [--keep WHY]                 puts the history that catches it into the corpus, shrunk
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
    keep: { type: "string" },
    with: { type: "string" },
    workers: { type: "string", default: "2" },
    verbose: { type: "boolean", default: false },
    "all-violations": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

type Violated = Extract<Report, { kind: "violation" }>;
type Result = { violations: Violated[]; coverage: Coverage; histories: number };

const corpusFile = new URL("corpus.json", import.meta.url);

/** Coverage says something only of so many histories. */
const coverageMin = 2000;

if (values.help) process.stdout.write(`${help}\n`);
else if (values.mutant !== undefined) process.exitCode = (await hunt(values.mutant)) ? 0 : 1;
else process.exitCode = (await simulate()) ? 0 : 1;

/** Answers whether nothing broke and nothing was left out. */
async function simulate(): Promise<boolean> {
  const startedAt = Date.now();
  const drawn = seedsOf(Number(values.seed), Number(values.histories));
  const seeds = values.history === undefined ? drawn : [Number(values.history)];
  const { violations, coverage, histories } = await run(seeds, { verbose: values.verbose }, (count) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${count} of ${seeds.length} histories`);
  });
  for (const { text } of violations.slice(0, values["all-violations"] ? 5 : 1)) process.stdout.write(`\n${text}\n`);
  const [first] = violations;
  if (first !== undefined) keep(first, undefined);
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
  const kept = new Set(readCorpus().map((entry) => entry.mutant));
  const known = values.corpus ? mutants.filter((mutant) => kept.has(mutant.name)) : mutants;
  const hunted = name === "all" ? known : mutants.filter((mutant) => mutant.name === name);
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
        keep(first, mutant.name);
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
    const kept = number === 0 && values.corpus ? readCorpus() : [];
    const task: Task = {
      seeds: own,
      // A mutant is shown only the histories that it once failed.
      corpus: kept.filter((entry) => mutant === undefined || entry.mutant === mutant),
      shrinks: mutant === undefined || values.keep !== undefined,
      stopAtFirst,
      verbose,
      ...(mutant === undefined ? {} : { mutant }),
      ...repairs,
    };
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
      } else if (report.kind === "trace") {
        process.stdout.write(`${report.text}\n`);
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

function readCorpus(): CorpusEntry[] {
  return JSON.parse(readFileSync(corpusFile, "utf8"));
}

function keep({ shrunk, violation }: Violated, mutant: string | undefined): void {
  if (values.keep === undefined || shrunk === undefined) return;
  const { history, faults } = shrunk;
  const about = { why: values.keep, invariant: violation.invariant, ...(mutant === undefined ? {} : { mutant }) };
  const entries = [...readCorpus().filter((entry) => entry.why !== values.keep), { ...about, history, faults }];
  writeFileSync(corpusFile, `[\n${entries.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n")}\n]\n`);
}
