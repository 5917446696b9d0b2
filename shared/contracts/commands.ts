import * as z from "zod/mini";
import type { AccountNotice } from "../domain/account.ts";
import { accountEvents } from "../domain/account.ts";
import type { Request } from "../domain/business.ts";
import { revokeReasons } from "../domain/business.ts";
import { contentHash, sha256 } from "./content-hash.ts";

/**
 * Commands in (design.md §3): JSON, one command a message, unknown keys refused. Ids are strings of 5-20 digits: they can
 * exceed 2^53, so a JSON number is refused instead of rounded.
 *
 * These schemas parse, and the build makes JSON Schemas of them for producers. So a pattern here stays within what the regular
 * expressions of other languages know (`[0-9]`, no look-around), and a rule that is code to zod stands beside it as `z.meta`.
 */
const metaId = z.string().check(z.regex(/^[0-9]{5,20}$/));
const wabaIdText = metaId.check(
  z.describe("The WhatsApp Business Account, by its id at Meta. A string: it can exceed 2^53."),
);
const secretName = z
  .string()
  .check(
    z.regex(/^[A-Za-z0-9/_+=.@-]{1,256}$/),
    z.describe(
      "Name of the secret with the customer's business token, under the stage's prefix. Never an ARN, never the token itself.",
    ),
  );

const common = {
  version: z.literal("1").check(z.describe("Version of this contract.")),
  commandId: z
    .string()
    .check(
      z.regex(/^[A-Za-z0-9._:-]{1,128}$/),
      z.describe(
        "Made by the producer, unique over all commands. Sent again with the same content: the same answer. With other content: rejected.",
      ),
    ),
  requestedAt: z.iso
    .datetime()
    .check(
      z.describe(
        "When the producer decided this: ISO 8601 in UTC, ending in Z. Orders the commands of a business, so it may not be later than the time of sending by more than the stage's clock skew (300 s unless configured).",
      ),
    ),
  requestedBy: z.string().check(
    // Of characters, as JSON Schema counts them: zod's own lengths count UTF-16 units.
    z.regex(/^[\s\S]{1,128}$/u),
    z.refine((text) => text.isWellFormed(), "not well-formed Unicode"),
    z.describe("Who asks, for the audit: a service or a person. 1 to 128 characters."),
  ),
};

const moment = { requestedAt: "2026-01-31T09:30:00Z", requestedBy: "onboarding" };

export const shareCommandSchema = z
  .strictObject({
    ...common,
    type: z.literal("share"),
    wabaId: wabaIdText,
    currency: z
      .string()
      .check(
        z.regex(/^[A-Z]{3}$/),
        z.describe(
          "ISO 4217 code; must be the WABA's own, which is fixed at its creation, and one that the stage allows.",
        ),
      ),
    businessId: z.optional(
      metaId.check(z.describe("The customer's business, as a claim: refused when Meta names another owner.")),
    ),
    method: z.optional(
      z
        .enum(["share-and-attach", "share-then-attach"])
        .check(z.describe("Meta's one-call or two-call way. Absent: as the stage is configured.")),
    ),
    businessTokenSecret: z.optional(secretName),
    reshareAfterRevocation: z
      ._default(z.boolean(), false)
      .check(
        z.describe("Shares with a business from which the line was revoked. Without it, such a share is refused."),
      ),
    partnerSwitch: z
      ._default(z.boolean(), false)
      .check(
        z.describe(
          "The customer comes from another partner, whose line still funds the WABA until the end of the month.",
        ),
      ),
  })
  .check(
    z.meta({
      title: "Share command",
      description: "Shares the partner's credit line with a WABA, at most once.",
      examples: [
        { version: "1", type: "share", commandId: "order-4711", ...moment, wabaId: "120000000000021", currency: "USD" },
      ],
    }),
  );

export const verifyCommandSchema = z
  .strictObject({
    ...common,
    type: z.literal("verify"),
    wabaId: wabaIdText,
    businessTokenSecret: z.optional(secretName),
  })
  .check(
    z.meta({
      title: "Verify command",
      description: "Proves at Meta that the shared line funds the WABA. A share is verified without being asked.",
      examples: [{ version: "1", type: "verify", commandId: "check-4711", ...moment, wabaId: "120000000000021" }],
    }),
  );

// Strict validators want to see a required key described in the same place.
const revokeSubjects = ["wabaId", "businessId"].map((key) => ({ properties: { [key]: {} }, required: [key] }));

export const revokeCommandSchema = z
  .strictObject({
    ...common,
    type: z.literal("revoke"),
    wabaId: z.optional(wabaIdText),
    businessId: z.optional(
      metaId.check(
        z.describe("The customer's business. Together with a WABA: must be the owner that was stored for it."),
      ),
    ),
    reason: z.enum(revokeReasons).check(z.describe("Why the line is taken back.")),
  })
  .check(
    z.refine((command) => command.wabaId !== undefined || command.businessId !== undefined, {
      path: ["wabaId"],
      message: "wabaId or businessId is required",
    }),
    z.meta({
      title: "Revoke command",
      description: "Takes the line back from a business: from every WABA of it, because that is what Meta's call does.",
      examples: [
        {
          version: "1",
          type: "revoke",
          commandId: "leave-4711",
          ...moment,
          wabaId: "120000000000021",
          reason: "offboarded",
        },
      ],
      anyOf: revokeSubjects,
    }),
  );

const commandSchemas = {
  share: shareCommandSchema,
  verify: verifyCommandSchema,
  revoke: revokeCommandSchema,
} as const;

export type CommandType = keyof typeof commandSchemas;

/**
 * What the due sweep and a function's own delayed message send: "look at this entry of the item again" (C1). It carries the
 * original `commandId` and `requestedAt`; a look that was recorded meanwhile makes it stale. Producers never send it.
 */
export const continuationSchema = z.strictObject({
  version: z.literal("1"),
  type: z.literal("continue"),
  work: z.enum(["share", "verify", "revoke"]),
  commandId: z.string(),
  requestedAt: z.iso.datetime(),
  businessId: z.optional(metaId),
  wabaId: z.optional(metaId),
  looks: z.int(),
});

export type Continuation = z.output<typeof continuationSchema>;

/**
 * What the webhook function sends beside commands, on the revoke queue: Meta told of an account, and the owner of the item
 * must note it. Its id is deterministic, so that a repeated delivery repeats it. Producers may send to this queue, too, and a
 * notice is believed as Meta's own word is: so it carries a proof that its sender knows the app secret.
 */
const noticeSchema = z.strictObject({
  version: z.literal("1"),
  type: z.literal("account"),
  commandId: common.commandId,
  requestedAt: z.iso.datetime(),
  event: z.enum(accountEvents),
  wabaId: metaId,
  businessId: z.optional(metaId),
  proof: z.string(),
});

export type ParsedBody =
  | { kind: "command"; request: Request }
  | { kind: "continuation"; continuation: Continuation }
  | { kind: "notice"; notice: AccountNotice; proof: string }
  | {
      kind: "invalid";
      /** What is wrong, by key; never a value of the body. */
      detail: string;
      hash: string;
      commandId?: string;
      wabaId?: string;
    };

/** SQS's own limit is 1 MiB; a command needs a thousandth of it. */
const bodyBytesMax = 16 * 1024;

/**
 * Reads a message of one queue. Never throws: what is no command comes back as `invalid` with its reason.
 * @param sentAt SQS's `SentTimestamp` (ms): a command from later than that plus the skew is invalid, or it would win every
 *   comparison for ever (T1, H6d).
 */
export function parseBody(
  type: CommandType,
  body: string,
  { sentAt, clockSkewMs }: { sentAt: number; clockSkewMs: number },
): ParsedBody {
  const bodyHash = sha256(body);
  if (Buffer.byteLength(body) > bodyBytesMax) return { kind: "invalid", detail: "body: too large", hash: bodyHash };
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return { kind: "invalid", detail: "body: not JSON", hash: bodyHash };
  }

  const parsed = commandSchemas[type].safeParse(value);
  if (!parsed.success) {
    const continuation = continuationSchema.safeParse(value);
    if (continuation.success && continuation.data.work === type) {
      return { kind: "continuation", continuation: continuation.data };
    }
    const notice = type === "revoke" ? noticeSchema.safeParse(value) : undefined;
    if (notice?.success === true) {
      const { proof, ...told } = notice.data;
      const { version: _first, requestedAt, ...rest } = told;
      const at = Date.parse(requestedAt);
      return { kind: "notice", proof, notice: { ...rest, at, hash: contentHash(told) } };
    }
    const faults = parsed.error.issues.map(describeIssue);
    // Cut, or sent, in the middle of a character it could not be stored.
    const detail = faults.join("; ").slice(0, 500).toWellFormed();
    return { kind: "invalid", detail, hash: bodyHash, ...subjectOf(value) };
  }
  if (namesKeyTwice(body, value)) {
    return { kind: "invalid", detail: "body: a key twice", hash: bodyHash, ...subjectOf(value) };
  }
  const { version: _version, requestedAt: requestedAtText, ...rest } = parsed.data;
  const requestedAt = Date.parse(requestedAtText);
  if (requestedAt > sentAt + clockSkewMs) {
    return {
      kind: "invalid",
      detail: "requestedAt: later than the message was sent",
      hash: bodyHash,
      ...subjectOf(value),
    };
  }
  return { kind: "command", request: { ...rest, requestedAt, hash: contentHash(parsed.data) } };
}

/**
 * Of two values under one key, readers of JSON take this one or that: what a gate before the queue has let pass might not be
 * what is done. A command has no object within it, so its text has as many keys as it.
 */
function namesKeyTwice(body: string, command: unknown): boolean {
  const keys = [...body.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter(([, colon]) => colon !== undefined);
  return keys.length > Object.keys(Object(command)).length;
}

function describeIssue(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys")
    return `unknown keys: ${issue.keys.map((key) => key.slice(0, 40)).join(", ")}`;
  const path = issue.path.join(".") || "body";
  return issue.code === "custom" ? `${path}: ${issue.message}` : `${path}: ${issue.code}`;
}

/** The ids of an invalid body, where they are readable, so that its producer recognizes it. */
function subjectOf(value: unknown): { commandId?: string; wabaId?: string } {
  const commandId = z.object({ commandId: common.commandId }).safeParse(value);
  const wabaId = z.object({ wabaId: metaId }).safeParse(value);
  return { ...commandId.data, ...wabaId.data };
}
