import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CommandType, ParsedBody } from "../../../shared/contracts/commands.ts";
import { parseBody } from "../../../shared/contracts/commands.ts";
import { revokeReasons } from "../../../shared/domain/business.ts";
import { continuationOf } from "../../../shared/queues.ts";
import { businessId, now, otherBusinessId, skewMs, wabaId } from "../factories.ts";
import { validatorOf } from "./validators.ts";

const requestedAt = new Date(now).toISOString();
const common = { version: "1", commandId: "order-42:share", requestedAt, requestedBy: "onboarding" };

const bodies = {
  share: { ...common, type: "share", wabaId, currency: "EUR" },
  verify: { ...common, type: "verify", wabaId },
  revoke: { ...common, type: "revoke", wabaId, reason: "operator" },
} as const;

const types = ["share", "verify", "revoke"] as const;

const validators = {
  share: validatorOf("share-command"),
  verify: validatorOf("verify-command"),
  revoke: validatorOf("revoke-command"),
};

/** Parses, and holds the verdict against the published schema's: what no schema can say is listed here, and only here. */
function parse(type: CommandType, body: unknown, sentAt = now): ParsedBody {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const parsed = parseBody(type, text, { sentAt, clockSkewMs: skewMs });
  const beyondSchemas =
    parsed.kind === "continuation" ||
    (parsed.kind === "invalid" &&
      [
        "body: not JSON",
        "body: too large",
        "requestedAt: later than the message was sent",
        "requestedBy: not well-formed Unicode",
        "body: a key twice",
      ].includes(parsed.detail));
  if (!beyondSchemas) expect(validators[type](JSON.parse(text)), text).toBe(parsed.kind === "command");
  return parsed;
}

function requestOf(parsed: ParsedBody) {
  if (parsed.kind !== "command") throw new Error(`Not a command: ${JSON.stringify(parsed)}`);
  return parsed.request;
}

function detailOf(parsed: ParsedBody): string {
  if (parsed.kind !== "invalid") throw new Error(`Not invalid: ${parsed.kind}`);
  return parsed.detail;
}

describe("a command", () => {
  test.each(types)("of the type %s is read with its time in milliseconds and the hash of its content", (type) => {
    const { version: _version, ...rest } = bodies[type];
    expect(parse(type, bodies[type])).toMatchObject({
      kind: "command",
      request: { ...rest, requestedAt: now, hash: expect.stringMatching(/^[\w-]{43}$/) },
    });
  });

  test("may carry everything that it can carry", () => {
    const share = {
      ...bodies.share,
      businessId,
      method: "share-then-attach",
      businessTokenSecret: "credit-lines/prod/business-token/300000000000001",
      reshareAfterRevocation: true,
      partnerSwitch: true,
    };
    const { version: _version, ...rest } = share;
    expect(requestOf(parse("share", share))).toMatchObject({ ...rest, requestedAt: now });
    expect(parse("verify", { ...bodies.verify, businessTokenSecret: "a/b_c-d.e@f=g+h" }).kind).toBe("command");
    expect(parse("revoke", { ...bodies.revoke, businessId }).kind).toBe("command");
  });

  test("asks for no re-share and no partner switch unless it says so", () => {
    expect(requestOf(parse("share", bodies.share))).toMatchObject({
      reshareAfterRevocation: false,
      partnerSwitch: false,
    });
  });

  test("to revoke may name the WABA, the business or both", () => {
    const { wabaId: _waba, ...unnamed } = bodies.revoke;
    expect(parse("revoke", { ...unnamed, businessId }).kind).toBe("command");
    expect(detailOf(parse("revoke", unnamed))).toBe("wabaId: wabaId or businessId is required");
  });

  test.each(revokeReasons)("to revoke may give the reason %s", (reason) => {
    expect(requestOf(parse("revoke", { ...bodies.revoke, reason }))).toMatchObject({ reason });
  });

  test("may be asked for by a name of 128 characters, however many bytes they have", () => {
    expect(parse("verify", { ...bodies.verify, requestedBy: "😀".repeat(128) }).kind).toBe("command");
    expect(parse("verify", { ...bodies.verify, requestedBy: "😀".repeat(129) }).kind).toBe("invalid");
  });

  test("may have been written by hand, with spaces and line breaks", () => {
    expect(parse("verify", JSON.stringify(bodies.verify, undefined, 2)).kind).toBe("command");
  });
});

describe("a body is no command", () => {
  type Fault = [string, CommandType, Record<string, unknown>, string];
  const faults: Fault[] = [
    ...types.flatMap((type): Fault[] => [
      ["with an unknown key", type, { colour: "green" }, "unknown keys: colour"],
      ["of another version", type, { version: "2" }, "version: invalid_value"],
      ["without a version", type, { version: undefined }, "version: invalid_value"],
      ["with a numeric version", type, { version: 1 }, "version: invalid_value"],
      ["of a type nobody knows", type, { type: "transfer" }, "type: invalid_value"],
      ["without a type", type, { type: undefined }, "type: invalid_value"],
      ["without a command id", type, { commandId: undefined }, "commandId: invalid_type"],
      ["with an empty command id", type, { commandId: "" }, "commandId: invalid_format"],
      ["with a command id of 129 characters", type, { commandId: "c".repeat(129) }, "commandId: invalid_format"],
      ["with a space in its command id", type, { commandId: "a b" }, "commandId: invalid_format"],
      ["with a line break after its command id", type, { commandId: "a\n" }, "commandId: invalid_format"],
      ["without a time", type, { requestedAt: undefined }, "requestedAt: invalid_type"],
      ["with a time that is no ISO 8601", type, { requestedAt: "10 June 2026" }, "requestedAt: invalid_format"],
      ["with a time of no zone", type, { requestedAt: "2026-06-10T12:00:00" }, "requestedAt: invalid_format"],
      [
        "with a time of another zone than UTC",
        type,
        { requestedAt: "2026-06-10T12:00:00+02:00" },
        "requestedAt: invalid_format",
      ],
      ["with a day that does not exist", type, { requestedAt: "2026-02-30T12:00:00Z" }, "requestedAt: invalid_format"],
      ["with a time in milliseconds", type, { requestedAt: now }, "requestedAt: invalid_type"],
      ["of nobody", type, { requestedBy: "" }, "requestedBy: invalid_format"],
      [
        "of somebody with a name of 129 characters",
        type,
        { requestedBy: "b".repeat(129) },
        "requestedBy: invalid_format",
      ],
      ["with a WABA id as a JSON number", type, { wabaId: 300000000000001 }, "wabaId: invalid_type"],
      ["with a WABA id of four digits", type, { wabaId: "1234" }, "wabaId: invalid_format"],
      ["with a WABA id of 21 digits", type, { wabaId: "1".repeat(21) }, "wabaId: invalid_format"],
      ["with a WABA id that is no number", type, { wabaId: "30000000000000a" }, "wabaId: invalid_format"],
      ["with a WABA id in other digits", type, { wabaId: "٣٠٠٠٠٠٠" }, "wabaId: invalid_format"],
    ]),
    ["without a WABA", "share", { wabaId: undefined }, "wabaId: invalid_type"],
    ["without a WABA", "verify", { wabaId: undefined }, "wabaId: invalid_type"],
    ["without a currency", "share", { currency: undefined }, "currency: invalid_type"],
    ["with a currency in small letters", "share", { currency: "eur" }, "currency: invalid_format"],
    ["with a currency of four letters", "share", { currency: "EURO" }, "currency: invalid_format"],
    ["with a business id as a JSON number", "share", { businessId: 200000000000001 }, "businessId: invalid_type"],
    ["with a method nobody knows", "share", { method: "share" }, "method: invalid_value"],
    ["with a flag that is text", "share", { reshareAfterRevocation: "true" }, "reshareAfterRevocation: invalid_type"],
    ["with a flag that is null", "share", { partnerSwitch: null }, "partnerSwitch: invalid_type"],
    [
      "with the ARN of a secret",
      "share",
      { businessTokenSecret: "arn:aws:secretsmanager:eu-west-1:1:secret:x" },
      "businessTokenSecret: invalid_format",
    ],
    [
      "with a secret's name of no characters",
      "verify",
      { businessTokenSecret: "" },
      "businessTokenSecret: invalid_format",
    ],
    [
      "with a secret's name of 257 characters",
      "verify",
      { businessTokenSecret: "s".repeat(257) },
      "businessTokenSecret: invalid_format",
    ],
    ["with a business id as a JSON number", "revoke", { businessId: 200000000000001 }, "businessId: invalid_type"],
    ["with a reason nobody knows", "revoke", { reason: "mood" }, "reason: invalid_value"],
    ["without a reason", "revoke", { reason: undefined }, "reason: invalid_value"],
    ["with the keys of another command", "verify", { currency: "EUR" }, "unknown keys: currency"],
    ["with the keys of another command", "revoke", { currency: "EUR" }, "unknown keys: currency"],
  ];

  test.each(faults)("%s (%s)", (_title, type, change, detail) => {
    expect(detailOf(parse(type, { ...bodies[type], ...change }))).toBe(detail);
  });

  test.each([
    ["empty", ""],
    ["no JSON", "share it, please"],
    ["cut", JSON.stringify(bodies.share).slice(0, -1)],
    ["two of them", JSON.stringify(bodies.share).repeat(2)],
  ])("when it is %s", (_title, body) => {
    expect(detailOf(parse("share", body))).toBe("body: not JSON");
  });

  test.each(["null", "[]", '"share"', "42", "true"])("when it is %s instead of an object", (body) => {
    expect(detailOf(parse("share", body))).toBe("body: invalid_type");
  });

  test("when it is too large, whatever it says, measured in bytes", () => {
    const padded = `${JSON.stringify(bodies.share)}${" ".repeat(17_000)}`;
    expect(detailOf(parse("share", padded))).toBe("body: too large");
    expect(detailOf(parse("share", { ...bodies.share, requestedBy: "é".repeat(9000) }))).toBe("body: too large");
    expect(parse("share", `${JSON.stringify(bodies.share)}${" ".repeat(15_000)}`).kind).toBe("command");
  });

  test("when it was meant for another queue", () => {
    expect(detailOf(parse("revoke", bodies.share))).toContain("type: invalid_value");
  });

  test("when it tries to reach past its own keys", () => {
    const body = JSON.stringify(bodies.verify).replace("{", '{"__proto__":{"reason":"x"},');
    expect(detailOf(parse("verify", body))).toContain("unknown keys: __proto__");
  });

  test.each([
    ["the same", `"wabaId":"${wabaId}"`],
    ["another value", '"wabaId":"999999999999999"'],
    ["another spelling", String.raw`"waba\u0049d" : "999999999999999"`],
  ])("when it names a key twice, with %s", (_title, first) => {
    const text = JSON.stringify(bodies.verify);
    const invalid = parse("verify", text.replace("{", `{${first},`));
    expect(invalid).toMatchObject({ kind: "invalid", detail: "body: a key twice", wabaId });
    expect(detailOf(parse("verify", text.replace(/}$/, `,${first}}`)))).toBe("body: a key twice");
  });

  test("but not for what only looks like a key within a text", () => {
    const requestedBy = String.raw`a "wabaId": "b", \"c\":{}`;
    expect(requestOf(parse("verify", { ...bodies.verify, requestedBy })).requestedBy).toBe(requestedBy);
  });

  test("when the one who asks is half a character: it could not be stored", () => {
    const body = JSON.stringify({ ...bodies.verify, requestedBy: "\ud83d" });
    expect(detailOf(parse("verify", body))).toBe("requestedBy: not well-formed Unicode");
  });

  test("with a fault that is cut in the middle of a character: what is said of it can be stored", () => {
    const keys = { [`${"k".repeat(39)}😀`]: 1, ["\ud83d"]: 2 };
    const detail = detailOf(parse("verify", { ...bodies.verify, ...keys }));
    expect(detail).toBe(`unknown keys: ${"k".repeat(39)}\ufffd, \ufffd`);
  });

  test("with every fault named at once", () => {
    const detail = detailOf(parse("share", { ...bodies.share, wabaId: 1, currency: "eur", colour: "green" }));
    expect(detail.split("; ").toSorted()).toEqual([
      "currency: invalid_format",
      "unknown keys: colour",
      "wabaId: invalid_type",
    ]);
  });

  test("and its faults are told in at most 500 characters", () => {
    const keys = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`key-${index}`.padEnd(60, "x"), 1]));
    expect(detailOf(parse("verify", { ...bodies.verify, ...keys }))).toHaveLength(500);
  });
});

describe("the time of a command (T1, H6d)", () => {
  test("may be later than the message was sent by the skew of clocks", () => {
    expect(parse("share", bodies.share, now - skewMs).kind).toBe("command");
  });

  test("may not be later than that, or it would win every comparison for ever", () => {
    const later = parse("revoke", bodies.revoke, now - skewMs - 1);
    expect(detailOf(later)).toBe("requestedAt: later than the message was sent");
    const eternal = parse("revoke", { ...bodies.revoke, requestedAt: "2099-01-01T00:00:00Z" });
    expect(detailOf(eternal)).toBe("requestedAt: later than the message was sent");
  });

  test("may be as old as it likes: redrives are normal", () => {
    expect(parse("share", { ...bodies.share, requestedAt: "2020-01-01T00:00:00Z" }).kind).toBe("command");
  });
});

describe("what is said of an invalid body", () => {
  test("names the command and the WABA, where they are readable", () => {
    const about = parse("share", { ...bodies.share, currency: "eur" });
    expect(about).toMatchObject({ kind: "invalid", commandId: "order-42:share", wabaId });
    expect(parse("share", bodies.share, now - 2 * skewMs)).toMatchObject({ commandId: "order-42:share", wabaId });
    const unreadable = parse("share", { ...bodies.share, commandId: "a b", wabaId: 300000000000001 });
    expect(Object.keys(unreadable).toSorted()).toEqual(["detail", "hash", "kind"]);
  });

  test("has a hash by which the same body is known again", () => {
    const [once, again, other] = ["{", "{", "["].map((body) => parse("share", body));
    expect(once).toEqual(again);
    expect(once).not.toEqual(other);
    expect(once).toMatchObject({ hash: expect.stringMatching(/^[\w-]{43}$/) });
  });

  test("I7: repeats no value of it: a token in the wrong place stays there", () => {
    const secret = "EAAsecretsecretsecret";
    const keys = ["version", "type", "requestedAt", "requestedBy", "currency", "businessId", "method"];
    for (const key of [...keys, "businessTokenSecret", "partnerSwitch", "token", "wabaId", "commandId"]) {
      for (const value of [`${secret} ${secret}`, [secret], { secret }, { [secret]: 1 }]) {
        const parsed = parse("share", { ...bodies.share, [key]: value });
        expect(parsed.kind === "invalid" || key === "requestedBy", key).toBe(true);
        if (parsed.kind === "invalid") expect(JSON.stringify(parsed), key).not.toContain(secret);
      }
    }
    expect(JSON.stringify(parse("share", `{"token":"${secret}"`))).not.toContain(secret);
    expect(JSON.stringify(parse("share", `"${secret}"`))).not.toContain(secret);
  });

  test("never becomes an exception, whatever the body is", () => {
    const anything = fc.oneof(
      fc.string(),
      fc.json(),
      fc.json().map((text) => text.slice(1)),
    );
    fc.assert(
      fc.property(anything, fc.constantFrom(...types), (body, type) => {
        expect(parse(type, body)).toMatchObject({ kind: "invalid", hash: expect.any(String) });
      }),
      { seed: 20_260_610, numRuns: 300 },
    );
  });
});

describe("the hash of a command (T2, H24)", () => {
  const full = {
    ...bodies.share,
    businessId,
    method: "share-and-attach",
    businessTokenSecret: "a",
    partnerSwitch: true,
  };

  function hashOf(type: CommandType, body: unknown): string {
    return requestOf(parse(type, body)).hash;
  }

  test("is the same whatever the order of the keys and the white space", () => {
    const entries = Object.entries(full);
    const shuffled = fc.shuffledSubarray(entries, { minLength: entries.length, maxLength: entries.length });
    fc.assert(
      fc.property(shuffled, fc.constantFrom(0, 2), (order, indent) => {
        const body = JSON.stringify(Object.fromEntries(order), undefined, indent);
        expect(hashOf("share", body)).toBe(hashOf("share", full));
      }),
      { seed: 20_260_610, numRuns: 50 },
    );
  });

  test("is the same whether a default is said or not", () => {
    expect(hashOf("share", { ...bodies.share, reshareAfterRevocation: false, partnerSwitch: false })).toBe(
      hashOf("share", bodies.share),
    );
  });

  test("differs with every single part of the content", () => {
    const variants = [
      full,
      { ...full, commandId: "order-43" },
      { ...full, requestedAt: new Date(now - 1).toISOString() },
      { ...full, requestedBy: "billing" },
      { ...full, wabaId: "300000000000009" },
      { ...full, currency: "USD" },
      { ...full, businessId: otherBusinessId },
      { ...full, businessId: undefined },
      { ...full, method: "share-then-attach" },
      { ...full, method: undefined },
      { ...full, businessTokenSecret: "b" },
      { ...full, reshareAfterRevocation: true },
      { ...full, partnerSwitch: false },
    ];
    const hashes = variants.map((body) => hashOf("share", body));
    expect(new Set(hashes).size).toBe(variants.length);
  });

  test("differs between a verification and a revocation of the same id", () => {
    expect(hashOf("verify", bodies.verify)).not.toBe(hashOf("revoke", bodies.revoke));
  });
});

describe("a continuation", () => {
  const entry = { work: "share", wabaId, commandId: "order-42:share", requestedAt: now } as const;
  const due = { nextAt: now, looks: 3, sweeps: 0 };
  const continuation = continuationOf({ ...entry, due }, businessId);

  test.each(types)("is read as the sweep wrote it, on the queue of its work (%s)", (work) => {
    const own = continuationOf({ ...entry, work, due }, businessId);
    expect(parse(work, own)).toEqual({ kind: "continuation", continuation: own });
    expect(own).toMatchObject({ looks: 3, requestedAt, commandId: "order-42:share" });
  });

  test("is invalid on any other queue", () => {
    expect(parse("verify", continuation).kind).toBe("invalid");
    expect(parse("revoke", continuation)).toMatchObject({ kind: "invalid", commandId: "order-42:share", wabaId });
  });

  test("may be without a business, as a revoke whose owner is not known", () => {
    const pending = continuationOf({ ...entry, work: "revoke", due }, undefined);
    expect(parse("revoke", pending)).toEqual({ kind: "continuation", continuation: pending });
  });

  test("is no command in disguise: an unknown key or a missing one is refused", () => {
    expect(parse("share", { ...continuation, currency: "EUR" }).kind).toBe("invalid");
    expect(parse("share", { ...continuation, looks: undefined }).kind).toBe("invalid");
    expect(parse("share", { ...continuation, looks: 1.5 }).kind).toBe("invalid");
  });
});
