import { execFile } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

/** CI gives each state of the tree a seed of its own, so that the histories are new ones and a failure can be repeated. */
const seed = process.env["SIMULATION_SEED"] ?? "8";

const simulateFile = fileURLToPath(new URL("simulate.ts", import.meta.url));

/** As `npm run simulate` does it; the flows run as they are deployed, not as the test runner loads modules. */
async function simulate(...options: string[]): Promise<{ code: unknown; output: string; errors: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [simulateFile, ...options]);
    return { code: 0, output: stdout, errors: stderr };
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error) || !("stdout" in error) || !("stderr" in error)) throw error;
    return { code: error.code, output: String(error.stdout), errors: String(error.stderr) };
  }
}

test(
  "no kept history and none of 2,000 new ones breaks an invariant, and all that can happen happened",
  {
    timeout: 900_000,
  },
  async () => {
    const { code, output } = await simulate("--corpus", "--histories", "2000", "--seed", seed);
    expect(output, `seed ${seed}`).toContain("No violation\n");
    expect(code, output).toBe(0);
  },
);

test("each kept history fails again where what was mended is undone", { timeout: 600_000 }, async () => {
  const { code, output } = await simulate("--mutant", "all", "--corpus");
  expect(output).toMatch(/^([1-9]\d*) of \1 mutants caught$/m);
  expect(code, output).toBe(0);
});

test("the same seed is the same history", { timeout: 120_000 }, async () => {
  const [one, other] = await Promise.all([1, 2].map(() => simulate("--history", "8000001", "--verbose")));
  expect(one?.output).toContain("SENDS");
  expect(withoutTimes(one?.output)).toBe(withoutTimes(other?.output));
});

test("a product that lacks a rule ends in 1, with the history that shows it", { timeout: 120_000 }, async () => {
  const undoing = fileURLToPath(new URL("no-due-times.ts", import.meta.url));
  const { code, output } = await simulate("--histories", "50", "--with", undoing);
  expect(code).toBe(1);
  expect(output).toMatch(/^I9 is broken in the history \d+: /m);
  expect(output).toMatch(/\d+ messages, \d+ hands, \d+ faults:/);
});

test.each([
  [["--histories", "many"], '--histories: "many" is no whole number of at most 9 digits'],
  [["--mutant", "nobody"], "--mutant: there are all, no-intent,"],
  [["--histroies", "5"], "Unknown option '--histroies'"],
])("options that make no sense end in 2 with the reason: %s", async (options, reason) => {
  const { code, errors } = await simulate(...options);
  expect(code).toBe(2);
  expect(errors).toContain(reason);
});

function withoutTimes(output = ""): string {
  return output.replace(/^\d+ histories in .*$/m, "");
}
