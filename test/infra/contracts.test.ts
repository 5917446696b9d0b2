import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { contractSchemas } from "../../infra/contracts.ts";
import { parseBody, type CommandType } from "../../shared/contracts/commands.ts";
import { transitions } from "../../shared/domain/business.ts";
import { commandSchemaOf, goodCommands, rulesOf } from "../shared/contracts/spoiled-commands.ts";
import { ruleOf, validatorOf } from "../shared/contracts/validators.ts";

const types = ["share", "verify", "revoke"] as const;
const fixed = { seed: 20_260_610 };
const now = Date.parse("2026-06-10T12:00:00Z");

function parserAccepts(type: CommandType, text: string): boolean {
  return parseBody(type, text, { sentAt: now, clockSkewMs: 0 }).kind === "command";
}

describe("the published schemas", () => {
  test("are written by the build, beside the functions", () => {
    const outdir = execFileSync("node", ["infra/contracts.ts"], { encoding: "utf8" }).trim();
    for (const [name, schema] of Object.entries(contractSchemas())) {
      expect(JSON.parse(readFileSync(join(outdir, name), "utf8"))).toEqual(schema);
    }
  });

  test.each(["share-command", "verify-command", "revoke-command", "event"] as const)(
    "say in which dialect, and for what, they are written (%s)",
    (name) => {
      expect(contractSchemas()[`${name}.schema.json`]).toMatchObject({
        $schema: "https://json-schema.org/draft/2020-12/schema",
        title: expect.any(String),
        description: expect.any(String),
      });
    },
  );

  test.each(types)("describe every key that a producer fills in, and give an example that is obeyed (%s)", (type) => {
    const { properties, examples } = commandSchemaOf(type);
    const undescribed = Object.keys(properties).filter((key) => properties[key]?.description === undefined);
    expect(undescribed).toEqual(["type"]);
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) expect(parserAccepts(type, JSON.stringify(example))).toBe(true);
  });

  test("use regular expressions that other languages know", () => {
    const patterns = JSON.stringify(contractSchemas()).match(/"pattern":"(?:[^"\\]|\\.)*"/g) ?? [];
    expect(patterns.length).toBeGreaterThan(10);
    expect(patterns.filter((pattern) => /\(\?[^:]|\\[pPu]/.test(pattern))).toEqual([]);
  });

  test("name every status that a WABA can have", () => {
    const { properties } = contractSchemas()["event.schema.json"] as {
      properties: { detail: { properties: Record<string, { enum: string[] }> } };
    };
    const { status, previousStatus } = properties.detail.properties;
    const all = Object.keys(transitions).filter((name) => name !== "none");
    expect(status?.enum.toSorted()).toEqual(all.toSorted());
    expect(previousStatus?.enum).toEqual(status?.enum);
  });
});

describe.each(types)("schema and parser of %s", (type) => {
  const validate = validatorOf(`${type}-command`);
  const rules = rulesOf(type);

  test("both accept every good command", () => {
    fc.assert(
      fc.property(goodCommands(type), (command) => {
        const text = JSON.stringify(command);
        expect([validate(command), parserAccepts(type, text)]).toEqual([true, true]);
      }),
      { ...fixed, numRuns: 1000 },
    );
  });

  test.each(rules)("both refuse a command that breaks $name", ({ name, spoil }) => {
    fc.assert(
      fc.property(goodCommands(type), spoil, (command, change) => {
        const text = JSON.stringify(change(command));
        expect(validate(JSON.parse(text)), text).toBe(false);
        expect(validate.errors?.map(ruleOf)).toContain(name);
        expect(parserAccepts(type, text), text).toBe(false);
      }),
      { ...fixed, numRuns: 60 },
    );
  });

  test("agree on whatever the keys hold", () => {
    const keys = Object.keys(commandSchemaOf(type).properties);
    const text = fc.oneof(
      fc.string({ maxLength: 300, unit: "binary" }),
      fc.stringMatching(/^[0-9]{3,22}$/),
      fc.stringMatching(/^[A-Za-z]{2,4}$/),
      fc.stringMatching(/^[A-Za-z0-9._:@ -]{120,260}$/),
      fc.stringMatching(/^[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?Z?$/),
    );
    const value = fc.oneof(text, text, fc.jsonValue({ maxDepth: 1 }));
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(goodCommands(type), fc.constantFrom(...keys), value, (command, key, put) => {
        // A time that has not come yet is refused by the parser alone.
        fc.pre(!(key === "requestedAt" && typeof put === "string" && Date.parse(put) > now));
        const body = JSON.stringify({ ...command, [key]: put });
        const verdict = parserAccepts(type, body);
        expect(validate(JSON.parse(body)), body).toBe(verdict);
        if (verdict) accepted += 1;
        else refused += 1;
      }),
      { ...fixed, numRuns: 3000 },
    );
    expect(Math.min(accepted, refused)).toBeGreaterThan(100);
  });
});

describe("what no schema can say", () => {
  const [good] = commandSchemaOf("verify").examples;

  test.each([
    ["that a body is too large", `${JSON.stringify(good)}${" ".repeat(17_000)}`],
    ["that a time has not come yet", JSON.stringify({ ...(good as object), requestedAt: "2099-01-01T00:00:00Z" })],
    ["that a text ends in half a character", JSON.stringify({ ...(good as object), requestedBy: "\ud83d" })],
  ])("%s: the schema accepts it, the parser does not", (_title, text) => {
    expect(validatorOf("verify-command")(JSON.parse(text))).toBe(true);
    expect(parserAccepts("verify", text)).toBe(false);
  });
});
