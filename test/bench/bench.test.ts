import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { randomOf } from "../simulation/random.ts";
import { drawPlans, judgePlan, type Plan } from "./load-plans.ts";
import { row, summarize, tableOf, unexplained } from "./rows.ts";
import { runBench, type Suite } from "./run-bench.ts";
import { indexUnits, itemBytes, readUnits, writeUnits } from "./units.ts";

let root: string;
let out: string;
let notes: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "bench-"));
  out = "";
  notes = "";
});
afterEach(() => rmSync(root, { recursive: true }));

function suiteOf(name: string, measure: Suite["run"]): Suite {
  return { name, about: `About ${name}`, run: measure };
}

const light = suiteOf("light", async ({ add, plot }) => {
  add(row("light.calls", 3, "calls", { target: { atMost: 3 } }), row("light.size", 12.3456, "KB", { baseline: 20 }));
  plot({
    name: "light-size",
    title: "Size & more",
    x: { label: "n", isLog: true },
    y: { label: "KB" },
    series: [
      {
        name: "a",
        points: [
          [100, 1],
          [1000, 2],
        ],
      },
    ],
  });
});
const heavy = suiteOf("heavy", async ({ add }) => add(row("heavy.calls", 1, "calls")));

function run(args: string[], suites: Suite[] = [light, heavy], silenceMsMax = 60_000): Promise<number> {
  return runBench(args, suites, { root, out: (text) => (out += text), note: (text) => (notes += text), silenceMsMax });
}

function rowsPrinted(): unknown[] {
  const lines = out.split("\n").filter((line) => line !== "");
  return lines.map((line): unknown => JSON.parse(line));
}

describe("the run", () => {
  test("prints one object a row with --json, and nothing else on the standard output", async () => {
    expect(await run(["--json"])).toBe(0);
    expect(rowsPrinted()).toEqual([
      { name: "light.calls", value: 3, unit: "calls", target: "≤ 3", held: true },
      { name: "light.size", value: 12.35, unit: "KB", baseline: 20 },
      { name: "heavy.calls", value: 1, unit: "calls" },
      { name: "bench.minutes", value: expect.any(Number), unit: "min", target: "≤ 15", held: true },
    ]);
  });

  test("runs only the suites whose rows can begin with the prefix, and prints only such rows", async () => {
    expect(
      await run(["--json", "--only", "light.c"], [light, suiteOf("heavy", () => Promise.reject(new Error()))]),
    ).toBe(0);
    expect(rowsPrinted()).toMatchObject([{ name: "light.calls" }]);
  });

  test("writes the report and its plots, but nothing of a suite that was run in part", async () => {
    await run(["--only", "light.c"]);
    expect(readdirSync(root)).toEqual([]);
    await run([]);
    const report = readFileSync(join(root, "BENCHMARKS.md"), "utf8");
    for (const text of ["npm run bench", "## light", "heavy.calls", "light-size.svg"]) {
      expect(report).toContain(text);
    }
    expect(readFileSync(join(root, "test/bench/plots/light-size.svg"), "utf8")).toMatch(
      /^<svg .*Size &amp; more.*<\/svg>\n$/s,
    );
  });

  test("leaves the parts of the report as they were whose suites are not run", async () => {
    await run([]);
    const other = suiteOf("heavy", async ({ add }) => add(row("heavy.calls", 77, "calls")));
    await run(["--only", "heavy"], [light, other]);
    const report = readFileSync(join(root, "BENCHMARKS.md"), "utf8");
    expect(report.match(/^# .*|^## .*|\| (?:light|heavy)\.calls +\| \d+/gm)?.slice(0, -1)).toEqual([
      "# Benchmarks",
      "## light",
      "| light.calls | 3",
      "## heavy",
      "| heavy.calls | 77",
    ]);
  });

  test("ends with an error when no row has such a name, or the one that was asked for could not be measured", async () => {
    expect(await run(["--only", "light.colour"])).toBe(2);
    expect(notes).toContain("No row's name begins with light.colour");
    const broken = suiteOf("broken", () => Promise.reject(new Error("no such stack")));
    expect(await run(["--only", "broken.part"], [broken, heavy])).toBe(1);
  });

  test("goes on after a suite that fails, and ends with an error that names it", async () => {
    const broken = suiteOf("broken", () => Promise.reject(new Error("no such stack")));
    expect(await run(["--json"], [broken, heavy])).toBe(1);
    expect(rowsPrinted()).toMatchObject([
      { name: "broken.failed", held: false, reason: "no such stack" },
      { name: "heavy.calls" },
      { name: "bench.minutes" },
    ]);
  });

  test("gives a suite up that tells nothing any more, and goes on", async () => {
    const hanging = suiteOf("hanging", async ({ add, progress }) => {
      add(row("hanging.first", 1, "calls"));
      for (let step = 0; step < 5; step += 1) {
        await sleep(20);
        progress(`hanging: step ${step}`);
      }
      await new Promise(() => {});
    });
    expect(await run(["--json"], [hanging, heavy], 60)).toBe(1);
    expect(notes).toContain("hanging: step 4");
    expect(rowsPrinted()).toMatchObject([
      { name: "hanging.first" },
      { name: "hanging.failed", held: false, reason: expect.stringContaining("Nothing was told") },
      { name: "heavy.calls" },
      { name: "bench.minutes" },
    ]);
  });

  test("says at the end of a complete run, and only there, what it took and in which size suites ran", async () => {
    const sizes: boolean[] = [];
    const sized = suiteOf("sized", async ({ isComplete }) => void sizes.push(isComplete));
    await run([], [sized]);
    const report = readFileSync(join(root, "BENCHMARKS.md"), "utf8");
    expect(report).toMatch(/## bench\n[^]*`npm run bench`[^]*\| bench\.minutes +\| /);
    out = "";
    await run(["--json", "--only", "sized"], [sized]);
    expect([sizes, rowsPrinted()]).toEqual([[true, false], []]);
    expect(readFileSync(join(root, "BENCHMARKS.md"), "utf8")).toContain("bench.minutes");
  });

  test("ends well with a missed target that has its reason, and with an error when nobody has given one", async () => {
    const known = suiteOf("known", async ({ add }) => {
      add(row("known.calls", 5, "calls", { target: { atMost: 4 }, ifMissed: "one read too many" }));
    });
    const unknown = suiteOf("unknown", async ({ add }) =>
      add(row("unknown.share", 80, "%", { target: { atLeast: 95 } })),
    );
    expect(await run(["--json"], [known])).toBe(0);
    expect(await run(["--json"], [unknown])).toBe(1);
    expect(rowsPrinted()).toMatchObject([
      { name: "known.calls", held: false, reason: "one read too many" },
      { name: "bench.minutes" },
      { name: "unknown.share", held: false, reason: unexplained },
      { name: "bench.minutes" },
    ]);
  });

  test.each([["--nonsense"], ["--only", "nothing"]])("refuses %s with the help and exit code 2", async (...args) => {
    expect(await run(args)).toBe(2);
    expect(out).toBe("");
    expect(notes).toContain("--only PREFIX");
  });

  test("tells with --help what can be measured, and measures nothing", async () => {
    expect(await run(["--help"], [suiteOf("light", () => Promise.reject(new Error()))])).toBe(0);
    expect(out).toContain("About light");
  });
});

describe("a row", () => {
  test("does not hold its target when nothing could be measured", () => {
    expect(row("a", Number.NaN, "ms", { target: { atMost: 1 } }).held).toBe(false);
    expect(row("a", Number.NaN, "ms", { target: { atLeast: 1 } }).held).toBe(false);
  });

  test("shows its reason under the table", () => {
    const table = tableOf([row("a.b", 2, "×", { target: { atMost: 1 }, spread: [1, 3], ifMissed: "why" })]);
    expect(table).toMatch(/\| a\.b +\| 2 +\| × +\| +\| 1 – 3 +\| ≤ 1 +\| NO +\|/);
    expect(table).toMatch(/- `a\.b`: why$/);
  });

  test("is a median with its quartiles", () => {
    expect(summarize([5, 1, 4, 2, 3])).toEqual({ median: 3, spread: [2, 4] });
  });
});

describe("DynamoDB's units", () => {
  test("count an item's names and values as its guide says", () => {
    expect(itemBytes({ pk: { S: "é" }, n: { N: "-1200.5" }, b: { BOOL: true } })).toBe(2 + 2 + (1 + 4) + (1 + 1));
    expect(itemBytes({ m: { M: { a: { S: "xy" } } }, l: { L: [{ N: "7" }] } })).toBe(
      1 + 3 + (1 + 2 + 1) + 1 + 3 + (2 + 1),
    );
  });

  test("bill the larger image by the KB, and a strong read by 4 KB", () => {
    const small = { pk: { S: "x".repeat(1000) } };
    const large = { pk: { S: "x".repeat(4095) } };
    expect(writeUnits(undefined, small)).toBe(1);
    expect(writeUnits(large, small)).toBe(5);
    expect(readUnits(undefined)).toBe(1);
    expect(readUnits(large)).toBe(2);
  });

  test("bill an index entry that comes, goes, or moves, and none that stays", () => {
    const keys = ["shard", "at"];
    const due = { shard: { S: "a" }, at: { N: "1" } };
    const later = { shard: { S: "a" }, at: { N: "2" } };
    expect(indexUnits(undefined, due, keys)).toBe(1);
    expect(indexUnits(due, { shard: { S: "a" } }, keys)).toBe(1);
    expect(indexUnits(due, later, keys)).toBe(2);
    expect(indexUnits(due, { ...due, other: { S: "x" } }, keys)).toBe(0);
  });
});

describe("the load's judge", () => {
  const customer = { businessId: "11000000000000001", wabaIds: ["1200000000000001"], secret: "of-nobody" };
  const about = { wabaId: "1200000000000001" };
  const plan: Plan = {
    customer,
    steps: [
      { type: "share", about, copies: 1, outcome: "done", ends: "Share Verified" },
      { type: "revoke", about, copies: 1, outcome: "done", ends: "Credit Line Revoked" },
    ],
    status: "revoked",
    isLive: false,
    commandIds: ["first", "second"],
  };
  function recordOf(id: string) {
    return {
      outcome: "done" as const,
      event: { eventId: `${id}-0`, occurredAt: 0, detailType: "Share Accepted" as const },
    };
  }
  const told = {
    status: "revoked",
    made: 1,
    live: 0,
    records: [recordOf("first"), recordOf("second")],
    announced: new Set(["first-0", "second-0"]),
  };

  test("finds nothing where all is as the seed told", () => {
    expect(judgePlan(plan, told)).toEqual([]);
  });

  test.each([
    ["has another outcome", { records: [recordOf("first"), { ...recordOf("second"), outcome: "refused" as const }] }],
    ["has another reason", { records: [recordOf("first"), { ...recordOf("second"), reason: "superseded" as const }] }],
    ["has no record", { records: [recordOf("first"), undefined] }],
    ["was never announced", { announced: new Set(["first-0"]) }],
  ])("names the command that %s", (_what, changed) => {
    expect(judgePlan(plan, { ...told, ...changed })).toEqual([expect.stringMatching(/^second is .*, expected done/)]);
  });

  test.each([
    ["the WABA has another status", { status: "shared" }],
    ["the line was shared twice", { made: 2 }],
    ["the line was never shared", { made: 0 }],
    ["the line is still shared", { live: 1 }],
  ])("names all commands of the customer when %s", (_what, changed) => {
    expect(judgePlan(plan, { ...told, ...changed })).toEqual([
      expect.stringContaining("first is done"),
      expect.stringContaining("second is done"),
    ]);
  });

  test("is told by the seed: as many commands as wanted, 2 % with a fault, 1 % sent twice", () => {
    const customers = Array.from({ length: 20_000 }, (_, index) => ({ ...customer, businessId: `11${index}` }));
    const steps = drawPlans(randomOf("load"), customers).flatMap((one) => one.steps);
    expect(steps).toHaveLength(20_000);
    expect(steps.filter(({ fault }) => fault !== undefined).length / 20_000).toBeCloseTo(0.02, 2);
    expect(steps.filter(({ copies }) => copies === 2).length / 20_000).toBeCloseTo(0.01, 2);
    expect(drawPlans(randomOf("load"), customers).flatMap((one) => one.steps)).toEqual(steps);
  });
});
