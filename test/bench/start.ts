import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import * as z from "zod";
import { ratios, row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";
import { type Deployed, deploy } from "./stage.ts";

const rounds = 15;

const run = promisify(execFile);
const importer = join(import.meta.dirname, "import-once.ts");
const taken = z.object({ wallMs: z.number(), cpuMs: z.number() });

/** Cold starts: from the first import of a built bundle until its handler is there, in a fresh process of Node. */
export const startSuite: Suite = {
  name: "start",
  about: "Import to ready of each built bundle, beside the baselines (CPU: user and system time of the process)",
  run: measureStarts,
};

async function measureStarts({ add, progress }: Bench): Promise<void> {
  const { functions, baselines } = await deploy();
  const all = [...functions, ...Object.values(baselines)];
  const times = new Map<string, { wallMs: number[]; cpuMs: number[] }>(
    all.map(({ name }) => [name, { wallMs: [], cpuMs: [] }]),
  );
  // The first round only fills the disk's cache.
  for (let round = 0; round <= rounds; round += 1) {
    const turned = [...all.slice(round % all.length), ...all.slice(0, round % all.length)];
    for (const one of turned) {
      const { wallMs, cpuMs } = await importOnce(one);
      if (round === 0) continue;
      times.get(one.name)?.wallMs.push(wallMs);
      times.get(one.name)?.cpuMs.push(cpuMs);
    }
    if (round % 5 === 0) progress(`start: round ${round} of ${rounds}`);
  }

  function timesOf(name: string) {
    return times.get(name) ?? { wallMs: [], cpuMs: [] };
  }
  for (const { name } of Object.values(baselines)) {
    const { median, spread } = summarize(timesOf(name).wallMs);
    add(row(`start.baseline.${name}`, median, "ms", { spread }));
    const cpu = summarize(timesOf(name).cpuMs);
    add(row(`start.baseline.${name}.cpu`, cpu.median, "ms", { spread: cpu.spread }));
  }
  const usual = timesOf("middy-powertools");
  for (const { name } of functions) {
    for (const [suffix, kind] of [
      ["", "wallMs"],
      [".cpu", "cpuMs"],
    ] as const) {
      const own = timesOf(name)[kind];
      const { median, spread } = summarize(own);
      add(row(`start.${name}${suffix}`, median, "ms", { spread, baseline: summarize(usual[kind]).median }));
      const ratio = summarize(ratios(own, usual[kind]));
      add(
        row(`start.${name}${suffix}.ratio`, ratio.median, "×", {
          spread: ratio.spread,
          target: { atMost: 0.6 },
          ifMissed:
            suffix === ""
              ? "milliseconds on a clock; the row of the CPU has less of the machine's noise, and a quiet machine would show it here"
              : "two thirds are the SDK's client of DynamoDB, which no function does without, so it stays near 0.55 on a quiet " +
                "machine; only a slimmer client would change it: our own code",
        }),
      );
    }
  }
}

async function importOnce({ file, environment }: Deployed): Promise<z.output<typeof taken>> {
  const { stdout } = await run(process.execPath, [importer, file], { env: environment });
  return taken.parse(JSON.parse(stdout));
}
