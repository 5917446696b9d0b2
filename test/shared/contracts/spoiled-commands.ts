import * as fc from "fast-check";
import { contractSchemas } from "../../../infra/contracts.ts";
import type { CommandType } from "../../../shared/contracts/commands.ts";

/**
 * Commands as producers may send them, and every way to spoil one. The ways come from the JSON Schema itself: a rule that is
 * added to it is broken here, or the tests that count the rules fail.
 */
export type Command = Record<string, unknown>;

type KeySchema = {
  type: string;
  description?: string;
  pattern?: string;
  const?: string;
  enum?: string[];
  format?: string;
};
export type CommandSchema = {
  properties: Record<string, KeySchema>;
  required: string[];
  anyOf?: unknown;
  examples: Command[];
};

export function commandSchemaOf(type: CommandType): CommandSchema {
  return contractSchemas()[`${type}-command.schema.json`] as CommandSchema;
}

const metaId = fc.stringMatching(/^[0-9]{5,20}$/);
const moment = fc
  .date({ min: new Date("0000-01-01T00:00:00Z"), max: new Date("2026-06-10T11:59:59Z"), noInvalidDate: true })
  .chain((date) =>
    fc.constantFrom("Z", ".5Z", ".123Z", ".123456789Z").map((end) => date.toISOString().slice(0, 19) + end),
  );
const secretName = fc.stringMatching(/^[A-Za-z0-9/_+=.@-]{1,256}$/);

const common = {
  version: fc.constant("1"),
  commandId: fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/),
  requestedAt: moment,
  requestedBy: fc.oneof(
    fc.string({ minLength: 1, maxLength: 128, unit: "binary" }),
    // Twice as long for whoever counts UTF-16 units.
    fc.integer({ min: 1, max: 128 }).map((count) => "𝄞".repeat(count)),
  ),
};

const goodByType = {
  share: fc.record(
    {
      ...common,
      type: fc.constant("share"),
      wabaId: metaId,
      currency: fc.stringMatching(/^[A-Z]{3}$/),
      businessId: metaId,
      method: fc.constantFrom("share-and-attach", "share-then-attach"),
      businessTokenSecret: secretName,
      reshareAfterRevocation: fc.boolean(),
      partnerSwitch: fc.boolean(),
    },
    { requiredKeys: ["version", "type", "commandId", "requestedAt", "requestedBy", "wabaId", "currency"] },
  ),
  verify: fc.record(
    { ...common, type: fc.constant("verify"), wabaId: metaId, businessTokenSecret: secretName },
    { requiredKeys: ["version", "type", "commandId", "requestedAt", "requestedBy", "wabaId"] },
  ),
  revoke: fc
    .record({
      ...common,
      type: fc.constant("revoke"),
      wabaId: metaId,
      businessId: metaId,
      reason: fc.constantFrom(...(commandSchemaOf("revoke").properties["reason"]?.enum ?? [])),
    })
    .chain((command) => fc.constantFrom([], ["wabaId"], ["businessId"]).map((without) => omit(command, without))),
} satisfies Record<CommandType, fc.Arbitrary<Command>>;

export function goodCommands(type: CommandType): fc.Arbitrary<Command> {
  return goodByType[type];
}

/** Texts that look almost right, by what they stand for. */
const nearMisses: Record<string, string[]> = {
  id: [
    "",
    "1234",
    "1".repeat(21),
    " 12345",
    "12345 ",
    "12345\n",
    "1234a",
    "-12345",
    "12345.0",
    "1e10",
    "٣٤٥٦٧",
    "0x12345",
  ],
  commandId: ["", "c".repeat(129), "a b", "a\n", "a/b", "ä", "a,b", "😀", "{}"],
  requestedBy: ["", "b".repeat(129), "😀".repeat(129), "b".repeat(1000)],
  currency: ["", "eur", "EURO", "EU", "EUR ", "€€€", "E1R"],
  businessTokenSecret: [
    "",
    "s".repeat(257),
    "arn:aws:secretsmanager:eu-west-1:1:secret:x",
    "a b",
    "a\\b",
    "tokén",
    "*",
  ],
  /** No times at all. */
  format: [
    "",
    "now",
    "10 June 2026",
    "2026-06-10",
    "12:00:00Z",
    "1781092800000",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
  ],
  /** Times, but not as they must be written. */
  requestedAt: [
    "2026-06-10T12:00:00+02:00",
    "2026-06-10T12:00:00+00:00",
    "2026-06-10T12:00:00-00:00",
    "2026-06-10t12:00:00z",
    "2026-06-10 12:00:00Z",
    "2016-12-31T23:59:60Z",
  ],
};

const notText = fc.constantFrom<unknown>(0, 12_345, 1.5, -1, true, false, null, [], ["12345"], {}, { value: "12345" });
const notBoolean = fc.constantFrom<unknown>("true", "false", "", 0, 1, null, [], {});
const notObject = fc.oneof(
  fc.integer(),
  fc.string({ unit: "grapheme-ascii" }),
  fc.array(fc.integer(), { maxLength: 3 }),
  fc.constantFrom(null, true, false),
);
/** Keys that are none of these commands': misspelt, of other versions, or names that every JavaScript object knows. */
const unknownKeys = [
  "token",
  "WabaId",
  "wabaID",
  "waba_id",
  "commandid",
  " version",
  "",
  "__proto__",
  "constructor",
  "toString",
  "é",
  // Half a character, and one that is halved when the key is cut: neither could be stored as it is.
  "\ud83d",
  `${"k".repeat(39)}😀`,
];

export type Rule = {
  /** Its path in the schema, as `ruleOf` names it. */
  name: string;
  spoil: fc.Arbitrary<(command: Command) => unknown>;
};

/** Every rule of the command's JSON Schema, each with ways to break it; other rules may break with it. */
export function rulesOf(type: CommandType): Rule[] {
  const { properties, required, anyOf } = commandSchemaOf(type);
  const foreign = ["creditLineId", "currency", "reason", "businessId"].filter((key) => !(key in properties));
  return [
    { name: "#/type", spoil: notObject.map((value) => () => value) },
    {
      name: "#/additionalProperties",
      spoil: fc
        .tuple(fc.constantFrom(...unknownKeys, ...foreign), fc.constantFrom("x", 1, null))
        .map(([key, value]) => (command) => ({ ...command, [key]: value })),
    },
    ...required.map((key) => ({
      name: `#/required/${key}`,
      spoil: fc.constant((command: Command) => omit(command, [key])),
    })),
    ...Object.entries(properties).flatMap(([key, schema]) =>
      Object.keys(schema)
        .filter((keyword) => !["description", "default"].includes(keyword))
        .map((keyword) => ({
          name: `#/properties/${key}/${keyword}`,
          spoil: wrongValues(key, keyword, schema).map((value) => (command: Command) => ({ ...command, [key]: value })),
        })),
    ),
    ...(anyOf === undefined
      ? []
      : [{ name: "#/anyOf", spoil: fc.constant((command: Command) => omit(command, ["wabaId", "businessId"])) }]),
  ];
}

function wrongValues(key: string, keyword: string, schema: KeySchema): fc.Arbitrary<unknown> {
  if (keyword === "type") return schema.type === "boolean" ? notBoolean : notText;
  if (keyword === "const" || keyword === "enum") {
    const [right = ""] = schema.enum ?? [schema.const ?? ""];
    return fc.constantFrom("", "2", right.toUpperCase() + right, ` ${right}`, `${right}\n`, "mood", "continue");
  }
  const texts =
    nearMisses[keyword === "format" ? "format" : key] ?? (key.endsWith("Id") ? nearMisses["id"] : undefined);
  if (texts === undefined) throw new Error(`Nothing breaks ${key}/${keyword}: tell here what does`);
  return fc.constantFrom(...texts);
}

function omit(command: Command, keys: readonly string[]): Command {
  return Object.fromEntries(Object.entries(command).filter(([key]) => !keys.includes(key)));
}
