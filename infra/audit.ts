import { spawnSync } from "node:child_process";
import * as z from "zod";

/**
 * Known vulnerabilities in what is shipped. Ends with 0: asked, and none that is high or critical; 1: there are some;
 * 3: the registry could not be asked, which says nothing.
 */
const answerSchema = z.object({
  vulnerabilities: z.record(z.string(), z.object({ severity: z.string(), range: z.string() })),
});

/** @param text what `npm audit --json` printed. */
export function judgeAudit(text: string): { exitCode: 0 | 1 | 3; words: string } {
  const parsed = answerSchema.safeParse(parseJson(text));
  if (!parsed.success) {
    return {
      exitCode: 3,
      words: "AUDIT NOT MADE: the registry did not answer. This is no all-clear; ask again elsewhere.",
    };
  }
  const grave = Object.entries(parsed.data.vulnerabilities).filter(([, { severity }]) =>
    ["high", "critical"].includes(severity),
  );
  if (grave.length === 0) return { exitCode: 0, words: "No known vulnerability that is high or critical" };
  return { exitCode: 1, words: grave.map(([name, { severity, range }]) => `${name} ${range}: ${severity}`).join("\n") };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  const { stdout } = spawnSync("npm", ["audit", "--json", "--omit=dev"], { encoding: "utf8" });
  const { exitCode, words } = judgeAudit(stdout);
  console.log(words);
  process.exitCode = exitCode;
}
