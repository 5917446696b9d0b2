import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { addCoverage, type Coverage, describeCoverage, emptyCoverage, gapsOf } from "./coverage.ts";
import { type Mutant, mutants } from "./mutants.ts";
import type { CorpusEntry, Report, Task } from "./worker.ts";

const help = `Runs the flows over models of everything around them, through seeded histories of crashes and lost answers.

npm run simulate -- [--histories N] [--seed S]     N histories (2000) of the seed S (1)
npm run simulate -- --corpus [...]                 first the kept histories that once failed
npm run simulate -- --history K [--verbose]        the history K alone, shrunk if it breaks, with all that happens in it
npm run simulate -- --mutant NAME | all            a product with one rule taken away: it must break what the rule holds
                    [--histories N] [--seeds 1,2,3]  within N histories (2000) under each of the seeds; of all, those
                                                     that take longer only in the histories that are kept of them
                    [--corpus]                       only in the kept histories that it once broke, and in each of them
                    [--keep WHY]                     puts the first history that catches it into the corpus, shrunk;
                                                     with --history K, that one

--all-violations  goes on after a violation, and counts them
--workers N       threads (2)
--with FILE       functions exchanged by the file's \`swaps\`: a repair to be tried before the product has it

A run of 2000 histories or more also fails when something that could happen never did.
Ends 0 when nothing broke (every mutant was caught), 1 when something did, 2 when the options make no sense.`;

type Options = ReturnType<typeof readOptions>;
type Violated = Extract<Report, { kind: "violation" }>;
type Kept = Extract<Report, { kind: "kept" }>;
type Result = { violations: Violated[]; kept: Kept[]; coverage: Coverage; histories: number };

const corpusFile = new URL("corpus.json", import.meta.url);

/** Coverage says something only of so many histories. */
const coverageMin = 2000;

const seedSpan = 1_000_000;

const onlyFirst = { corpus: [], shrinks: false, stopAtFirst: true };

class UsageError extends Error {}

process.exitCode = await main();

async function main(): Promise<number> {
  let options: Options;
  try {
    options = readOptions();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n(--help tells the options)\n`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(`${help}\n`);
    return 0;
  }
  const isSound = options.hunted === undefined ? await simulate(options) : await hunt(options.hunted, options);
  return isSound ? 0 : 1;
}

function readOptions() {
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
  const hunted = mutants.filter(({ name }) => values.mutant === "all" || name === values.mutant);
  if (values.mutant !== undefined && hunted.length === 0) {
    throw new UsageError(`--mutant: there are all, ${mutants.map(({ name }) => name).join(", ")}`);
  }
  if (values.keep !== undefined && hunted.length !== 1) throw new UsageError("--keep: of one mutant at a time");
  return {
    help: values.help,
    histories: wholeNumber("histories", values.histories),
    seed: wholeNumber("seed", values.seed),
    seeds: values.seeds.split(",").map((seed) => wholeNumber("seeds", seed)),
    history: values.history === undefined ? undefined : wholeNumber("history", values.history),
    workers: Math.max(1, wholeNumber("workers", values.workers)),
    hunted: values.mutant === undefined ? undefined : hunted,
    keepWhy: values.keep,
    repairs: values.with === undefined ? undefined : pathToFileURL(values.with).href,
    corpus: values.corpus,
    verbose: values.verbose,
    allViolations: values["all-violations"],
  };
}

function wholeNumber(option: string, text: string): number {
  // A history's number is its seed's, times a million, and more: what a run prints must be a number that it takes.
  const digitsMax = option === "history" ? 15 : 9;
  if (!/^\d+$/.test(text) || text.length > digitsMax) {
    throw new UsageError(`--${option}: "${text}" is no whole number of at most ${digitsMax} digits`);
  }
  return Number(text);
}

/** Answers whether nothing broke and nothing was left out. */
async function simulate(options: Options): Promise<boolean> {
  const startedAt = Date.now();
  const seeds = options.history === undefined ? seedsOf(options.seed, options.histories) : [options.history];
  const { violations, kept, coverage, histories } = await run(seeds, options, {
    corpus: options.corpus ? readCorpus() : [],
    shrinks: true,
    stopAtFirst: !options.allViolations,
  });
  for (const { text } of violations.slice(0, options.allViolations ? 5 : 1)) say(`\n${text}`);
  const seconds = (Date.now() - startedAt) / 1000;
  say(`\n${describeCoverage(coverage, options.verbose)}`);
  say(`${histories} histories in ${seconds.toFixed(1)} s (${(histories / seconds).toFixed(0)} a second)`);
  if (options.corpus) say(`${kept.length} kept histories`);
  const broken = kept.filter(({ violation }) => violation !== undefined);
  for (const { why, violation } of broken) say(`BROKEN ${violation?.invariant} in a kept history: ${why}`);
  const byInvariant = Object.groupBy(violations, ({ violation }) => violation.invariant);
  for (const [invariant, some = []] of Object.entries(byInvariant)) {
    const first = some.slice(0, 10).map(({ seed }) => seed);
    say(`BROKEN ${invariant}: ${some.length}, histories ${first.join(", ")}`);
  }
  const gaps = histories < coverageMin ? [] : gapsOf(coverage);
  for (const gap of gaps) say(`NEVER SEEN ${gap}`);
  if (violations.length + broken.length > 0) return false;
  say(gaps.length === 0 ? "No violation" : "No violation, but the coverage has holes");
  return gaps.length === 0;
}

/** Answers whether each mutant is caught: under each seed, or in each of its kept histories. */
async function hunt(hunted: readonly Mutant[], options: Options): Promise<boolean> {
  let caught = 0;
  let tried = 0;
  for (const mutant of hunted) {
    const told: string[] = [];
    let isCaught = true;
    if (options.corpus || (mutant.isSeldom === true && hunted.length > 1)) {
      const entries = readCorpus().filter((entry) => entry.mutant === mutant.name);
      if (entries.length === 0 && mutant.isSeldom !== true) continue;
      if (entries.length === 0) {
        isCaught = false;
        told.push("NOT CAUGHT: no history of it is kept");
      }
      const { kept } = await run([], { ...options, workers: 1 }, { ...onlyFirst, corpus: entries, mutant });
      for (const { why, expected, violation } of kept) {
        if (violation?.invariant !== expected) isCaught = false;
        told.push(
          `${violation?.invariant ?? "NOT CAUGHT"}${violation?.invariant === expected ? "" : ` (not ${expected})`} in "${why}"`,
        );
      }
    } else {
      for (const seed of options.seeds) {
        const seeds = options.history === undefined ? seedsOf(seed, options.histories) : [options.history];
        const { violations } = await run(seeds, options, {
          ...onlyFirst,
          shrinks: options.keepWhy !== undefined,
          mutant,
        });
        const [first] = violations.filter(({ violation }) => mutant.breaks.includes(violation.invariant));
        const others = new Set(violations.map(({ violation }) => violation.invariant));
        if (first === undefined) isCaught = false;
        else keep(first, mutant.name, options);
        told.push(
          first === undefined
            ? `NOT CAUGHT in ${options.histories} (seed ${seed}${others.size === 0 ? "" : `, but ${[...others].join(", ")}`})`
            : `${first.violation.invariant} ${options.history === undefined ? `after ${first.seed - seed * seedSpan + 1}` : `in history ${first.seed}`}`,
        );
        if (options.keepWhy !== undefined && first !== undefined) break;
      }
    }
    tried += 1;
    if (isCaught) caught += 1;
    say(`${mutant.name.padEnd(36)} ${told.join("; ")}`);
  }
  say(`${caught} of ${tried} mutants caught`);
  return caught === tried;
}

function run(
  seeds: readonly number[],
  { workers: workersMax, repairs, verbose }: Options,
  task: Pick<Task, "corpus" | "shrinks" | "stopAtFirst"> & { mutant?: Mutant },
): Promise<Result> {
  const { corpus, shrinks, stopAtFirst, mutant } = task;
  const workers = Math.max(1, Math.min(workersMax, seeds.length));
  const result: Result = { violations: [], kept: [], coverage: emptyCoverage(), histories: 0 };
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  const onProgress = progressOf(mutant?.name ?? "simulate", seeds.length);
  let running = workers;
  const threads = Array.from({ length: workers }, (_, number) => {
    const workerData: Task = {
      seeds: seeds.filter((__, index) => index % workers === number),
      corpus: number === 0 ? corpus : [],
      shrinks,
      stopAtFirst,
      verbose,
      ...(mutant === undefined ? {} : { mutant: mutant.name, breaks: mutant.breaks }),
      ...(repairs === undefined ? {} : { with: repairs }),
    };
    return new Worker(new URL("worker.ts", import.meta.url), { workerData });
  });
  function end(): void {
    onProgress(undefined);
    for (const thread of threads) void thread.terminate();
    resolve(result);
  }
  for (const thread of threads) {
    thread.on("error", reject);
    thread.on("message", (report: Report) => {
      switch (report.kind) {
        case "progress":
          result.histories += report.histories;
          return onProgress(result.histories);
        case "trace":
          return say(report.text);
        case "kept":
          return void result.kept.push(report);
        case "violation":
          result.violations.push(report);
          // The other worker's histories are not waited for.
          if (stopAtFirst && report.isMeant) setTimeout(end, 20);
          return undefined;
        case "done":
          addCoverage(result.coverage, report.coverage);
          running -= 1;
          return running === 0 ? end() : undefined;
      }
    });
  }
  return promise;
}

/** On a terminal a line that is written over; elsewhere one now and then. Undefined: it is over. */
function progressOf(what: string, all: number): (histories: number | undefined) => void {
  const { isTTY } = process.stderr;
  let toldAt = Date.now();
  return (histories) => {
    if (histories === undefined) {
      if (isTTY) process.stderr.write("\r\u001B[K");
    } else if (isTTY) {
      process.stderr.write(`\r\u001B[K${what}: ${histories} of ${all} histories`);
    } else if (Date.now() - toldAt > 30_000) {
      toldAt = Date.now();
      process.stderr.write(`${what}: ${histories} of ${all} histories\n`);
    }
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The histories of different seeds are different ones. */
function seedsOf(seed: number, histories: number): number[] {
  return Array.from({ length: histories }, (_, index) => seed * seedSpan + index);
}

function readCorpus(): CorpusEntry[] {
  return JSON.parse(readFileSync(corpusFile, "utf8"));
}

function keep({ shrunk, violation, text }: Violated, mutant: string, { keepWhy: why }: Options): void {
  if (why === undefined || shrunk === undefined) return;
  const { history, faults } = shrunk;
  const entries = readCorpus().filter((entry) => entry.why !== why);
  entries.push({ why, invariant: violation.invariant, mutant, history, faults });
  writeFileSync(corpusFile, `[\n${entries.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n")}\n]\n`);
  say(text);
}
