import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Chart, svgOf } from "./plot.ts";
import { type Row, row, tableOf, unexplained, unmeasured } from "./rows.ts";

/** One family of rows: all their names begin with its own and a dot. */
export type Suite = {
  name: string;
  /** One line for `--help` and the report. */
  about: string;
  run: (bench: Bench) => Promise<void>;
};

export type Bench = {
  /** Takes a row as soon as it is known. */
  add: (...rows: Row[]) => void;
  plot: (chart: Chart) => void;
  /** Tells a person who waits what goes on. */
  progress: (text: string) => void;
  /** What somebody asked for: a suite may leave out what is not it. */
  wants: (prefix: string) => boolean;
  /** Everything is run: what takes long is done in a smaller size. */
  isComplete: boolean;
};

/** Where the report goes, and the standard outputs. */
export type Surroundings = {
  root: string;
  out: (text: string) => void;
  note: (text: string) => void;
  /** A suite that tells nothing for so long hangs. */
  silenceMsMax?: number;
};

const plotFolder = "test/bench/plots";

/**
 * Runs the suites as the arguments say. A suite that fails or hangs costs its own rows only; what a hanging one has started
 * is left to the end of the process.
 * @returns the exit code: 0 when all was measured and each missed target has its reason, 1 when not, 2 on wrong usage.
 */
export async function runBench(
  args: readonly string[],
  suites: readonly Suite[],
  { root, out, note, silenceMsMax = 5 * 60_000 }: Surroundings,
): Promise<number> {
  const options = optionsOf(args);
  const chosen = suites.filter(({ name }) => overlaps(options?.only ?? "", `${name}.`));
  if (options === undefined || chosen.length === 0) {
    note(`There are no such options or rows: ${args.join(" ")}\n\n${helpOf(suites)}\n`);
    return 2;
  }
  const { only, json, help } = options;
  if (help) {
    out(`${helpOf(suites)}\n`);
    return 0;
  }
  const rows: Row[] = [];
  const startedAt = Date.now();
  function progress(text: string): void {
    note(`${((Date.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);
  }
  function keep(one: Row): void {
    rows.push(one);
    if (json) out(`${JSON.stringify(one)}\n`);
  }
  function add(...some: Row[]): void {
    for (const one of some) if (one.name.startsWith(only)) keep(one);
  }
  for (const suite of chosen) {
    const { name, about, run } = suite;
    const charts: Chart[] = [];
    progress(`${name}: ${about}`);
    const silence = watchSilence(silenceMsMax);
    try {
      const bench: Bench = {
        add,
        progress(text) {
          silence.broken();
          progress(text);
        },
        isComplete: only === "",
        plot: (chart) => charts.push(chart),
        wants: (prefix) => overlaps(only, prefix),
      };
      await Promise.race([run(bench), silence.lasted]);
    } catch (error) {
      note(`${error instanceof Error ? error.stack : String(error)}\n`);
      // Whatever was asked for of it: a part that could not be measured must not end as if there were none.
      keep(unmeasured(`${name}.failed`, "", error instanceof Error ? error.message : String(error)));
    } finally {
      silence.end();
    }
    const own = rows.filter((one) => one.name.startsWith(`${name}.`));
    if (`${name}.`.startsWith(only)) writeSection(root, suites, suite, own, charts);
  }
  if (only === "") {
    const minutes = (Date.now() - startedAt) / 60_000;
    const ifMissed = "measured beside other work, or on fewer than two processors";
    const taken = row("bench.minutes", minutes, "min", { target: { atMost: 15 }, ifMissed });
    add(taken);
    writeSection(root, suites, completeRun, [taken], []);
  }
  if (rows.length === 0) {
    note(`No row's name begins with ${only}\n`);
    return 2;
  }
  if (!json) out(`${tableOf(rows)}\n`);
  const broken = rows.filter(({ reason, value }) => reason === unexplained || Number.isNaN(value));
  for (const { name, reason } of broken) note(`${name}: ${reason}\n`);
  return broken.length === 0 ? 0 : 1;
}

/** `lasted` is rejected when there was silence for so long. */
function watchSilence(ms: number): { lasted: Promise<never>; broken: () => void; end: () => void } {
  const { promise: lasted, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`Nothing was told for ${ms / 1000} seconds`)), ms);
  return { lasted, broken: () => timer.refresh(), end: () => clearTimeout(timer) };
}

/** The last part of the report: what all others took together. */
const completeRun = { name: "bench", about: "A complete run, one part after the other" };

/** Whether one begins with the other: the rows may be asked for by less or by more than the prefix. */
function overlaps(one: string, other: string): boolean {
  return one.startsWith(other) || other.startsWith(one);
}

function optionsOf(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: "string", default: "" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch {
    return undefined;
  }
}

function helpOf(suites: readonly Suite[]): string {
  return `Measures how near we come to Meta's quota, Lambda's cold start and the bill, beside what one would build otherwise.

npm run bench                     everything; writes BENCHMARKS.md and its plots, a family of rows at a time
npm run bench -- --only PREFIX    the rows whose names begin so; only families that are run whole are written
npm run -s bench -- --json        one JSON object a row: name, value, unit, baseline?, spread?, target?, held?, reason?;
                                  -s keeps npm's own lines from the standard output

${suites.map(({ name, about }) => `  ${`${name}.*`.padEnd(12)} ${about}`).join("\n")}

Ends with 0 when all was measured and each target that is missed has its reason, with 1 when not, with 2 on wrong usage.`;
}

/** Puts one suite's part into the report; the others stay as they were when they were last run. */
function writeSection(
  root: string,
  suites: readonly Suite[],
  { name, about }: Pick<Suite, "name" | "about">,
  rows: readonly Row[],
  charts: readonly Chart[],
): void {
  const folder = join(root, plotFolder);
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(folder)) if (file.startsWith(`${name}-`)) rmSync(join(folder, file));
  for (const chart of charts) writeFileSync(join(folder, `${chart.name}.svg`), svgOf(chart));

  const [cpu] = cpus();
  const machine = `${availableParallelism()} × ${cpu?.model ?? "unknown"}, ${Math.round(totalmem() / 1024 ** 3)} GB, ${process.platform} ${process.arch}`;
  const busy = loadavg()[0]?.toFixed(1);
  const section = [
    `## ${name}`,
    `${about}.`,
    `\`${commandOf(name)}\`, ${new Date().toISOString().slice(0, 10)}, Node ${process.version}, ${machine}, load ${busy}`,
    tableOf(rows),
    ...charts.map((chart) => `![${chart.title}](${plotFolder}/${chart.name}.svg)`),
  ].join("\n\n");

  const file = join(root, "BENCHMARKS.md");
  const known = existsSync(file)
    ? readFileSync(file, "utf8")
        .split(/^(?=## )/m)
        .slice(1)
    : [];
  const sections = [...suites, completeRun].map((suite) =>
    suite.name === name ? section : known.find((text) => text.startsWith(`## ${suite.name}\n`))?.trim(),
  );
  const parts = [preamble, ...sections.filter((text) => text !== undefined)];
  writeFileSync(file, `${parts.join("\n\n")}\n`);
}

function commandOf(name: string): string {
  return name === completeRun.name ? "npm run bench" : `npm run bench -- --only ${name}`;
}

const preamble = `# Benchmarks

Written by \`npm run bench\`, each part when it was last run. \`spread\` is the 25th and 75th percentile of interleaved runs, \`value\`
their median. Ratios are made within a round, so that what slows the whole machine down falls out of them. Baseline (a) is
middy with Powertools batch, parser, idempotency and logger, and \`fetch\`, bundled as CDK's \`NodejsFunction\` does by default; (b)
is the same with Meta's own SDK; (c) is an empty handler. What a row means stands beside the code that makes it, in \`test/bench\`.`;
