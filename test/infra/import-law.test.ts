import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "./stages.ts";

const repository = join(import.meta.dirname, "../..");
const house = temporaryFolder();

/** Each file holds one statement; the law either refuses it, by a rule, or lets it be. */
const statements = [
  ["shared/store/a.ts", `import "../../functions/share/handler.ts";`, "no-restricted-imports"],
  ["shared/store/b.ts", `import "../../infra/config.ts";`, "no-restricted-imports"],
  ["shared/c.ts", `export * as config from "../infra/config.ts";`, "no-restricted-imports"],
  ["shared/d.ts", `import "../test/fakes/clock.ts";`, "no-restricted-imports"],
  ["shared/store/e.ts", `import "../domain/share.ts";`, undefined],
  ["shared/store/f.ts", `import "@aws-sdk/client-dynamodb";`, undefined],

  ["functions/share/a.ts", `import "../../infra/config.ts";`, "no-restricted-imports"],
  ["functions/share/b.ts", `import "../../infra/local/start.ts";`, "no-restricted-imports"],
  ["functions/share/c.ts", `import "../../shared/store/table.ts";`, undefined],

  ["infra/a.ts", `import "../shared/domain/share.ts";`, "no-restricted-imports"],
  ["infra/b.ts", `import "./local/start.ts";`, "no-restricted-imports"],
  ["infra/constructs/a.ts", `import "../../functions/share/handler.ts";`, "no-restricted-imports"],
  ["infra/constructs/b.ts", `import "../local/start.ts";`, "no-restricted-imports"],
  ["infra/constructs/c.ts", `import "../ops/replay.ts";`, "no-restricted-imports"],
  ["infra/constructs/d.ts", `import "../../functions/share/environment.ts";`, undefined],
  ["infra/constructs/e.ts", `import "../../shared/environment.ts";`, undefined],
  ["infra/constructs/f.ts", `import "../../shared/contracts/events.ts";`, undefined],
  ["infra/constructs/g.ts", `import "../config.ts";`, undefined],
  ["infra/local/a.ts", `import "../../shared/domain/share.ts";`, undefined],
  ["infra/local/aws/b.ts", `import "../meta/server.ts";`, undefined],

  ["shared/domain/a.ts", `import "zod";`, "no-restricted-imports"],
  ["shared/domain/b.ts", `import "node:crypto";`, "no-restricted-imports"],
  ["shared/domain/c.ts", `import "../contracts/events.ts";`, "no-restricted-imports"],
  [
    "shared/domain/d.ts",
    `import type { Table } from "../store/table.ts"; export type T = Table;`,
    "no-restricted-imports",
  ],
  ["shared/domain/e.ts", `export const later = import("../errors.ts");`, "no-restricted-imports"],
  ["shared/domain/f.ts", `import "./business.ts";`, undefined],
  ["shared/domain/g.ts", `export const at = Date.now();`, "no-restricted-globals"],
  ["shared/domain/h.ts", `export const at = globalThis.Date.now();`, "no-restricted-globals"],
  ["shared/domain/i.ts", `export const stage = process.env.STAGE;`, "no-restricted-globals"],
  ["shared/domain/j.ts", `export const answer = fetch("http://127.0.0.1");`, "no-restricted-globals"],
  ["shared/domain/k.ts", `export const chance = Math.random();`, "no-restricted-properties"],
  ["shared/domain/l.ts", `export const larger = Math.max(1, 2);`, undefined],
  ["functions/share/d.ts", `export const at = Date.now();`, undefined],
] as const;

const refusals = lint();

for (const [file, statement, rule] of statements) {
  test(`${rule === undefined ? "allows" : "refuses"} ${statement} in ${file}`, () => {
    expect(refusals.get(file)).toBe(rule);
  });
}

/** Which restriction refuses each file, by the linter and the configuration that `npm run lint` uses. */
function lint(): Map<string, string> {
  cpSync(join(repository, ".oxlintrc.json"), join(house, ".oxlintrc.json"));
  for (const [file, statement] of statements) {
    mkdirSync(join(house, dirname(file)), { recursive: true });
    writeFileSync(join(house, file), `${statement}\n`);
  }
  const report = runLinter();
  const found = report.diagnostics.flatMap(({ code, filename }) => {
    const rule = /\((no-restricted-[a-z]+)\)/.exec(code)?.[1];
    return rule === undefined ? [] : [[filename, rule] as const];
  });
  return new Map(found);
}

function runLinter(): { diagnostics: { code: string; filename: string }[] } {
  const linter = join(repository, "node_modules/oxlint/bin/oxlint");
  try {
    return JSON.parse(execFileSync(process.execPath, [linter, "-f", "json"], { cwd: house, encoding: "utf8" }));
  } catch (error) {
    return JSON.parse((error as { stdout: string }).stdout);
  }
}
