import { createHash } from "node:crypto";
import * as z from "zod/mini";
import type { Request } from "../domain/business.ts";
import { revokeReasons } from "../domain/business.ts";

/**
 * Commands in (design.md §3): JSON, one command a message, unknown keys refused. Ids are strings of 5-20 digits: they can
 * exceed 2^53, so a JSON number is refused instead of rounded.
 */
const metaId = z.string().check(z.regex(/^\d{5,20}$/));
const secretName = z.string().check(z.regex(/^(?!arn:)[A-Za-z0-9/_+=.@-]{1,256}$/));

const common = {
  version: z.literal("1"),
  commandId: z.string().check(z.regex(/^[A-Za-z0-9._:-]{1,128}$/)),
  /** ISO 8601, UTC. Orders the commands of a business (T1). */
  requestedAt: z.iso.datetime(),
  requestedBy: z.string().check(z.minLength(1), z.maxLength(128)),
};

export const shareCommandSchema = z.strictObject({
  ...common,
  type: z.literal("share"),
  wabaId: metaId,
  currency: z.string().check(z.regex(/^[A-Z]{3}$/)),
  /** A claim: it must equal what Meta says. */
  businessId: z.optional(metaId),
  method: z.optional(z.enum(["share-and-attach", "share-then-attach"])),
  businessTokenSecret: z.optional(secretName),
  reshareAfterRevocation: z._default(z.boolean(), false),
  partnerSwitch: z._default(z.boolean(), false),
});

export const verifyCommandSchema = z.strictObject({
  ...common,
  type: z.literal("verify"),
  wabaId: metaId,
  businessTokenSecret: z.optional(secretName),
});

export const revokeCommandSchema = z
  .strictObject({
    ...common,
    type: z.literal("revoke"),
    wabaId: z.optional(metaId),
    businessId: z.optional(metaId),
    reason: z.enum(revokeReasons),
  })
  .check(
    z.refine((command) => command.wabaId !== undefined || command.businessId !== undefined, {
      path: ["wabaId"],
      message: "wabaId or businessId is required",
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

export type ParsedBody =
  | { kind: "command"; request: Request }
  | { kind: "continuation"; continuation: Continuation }
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

  const continuation = continuationSchema.safeParse(value);
  if (continuation.success && continuation.data.work === type) {
    return { kind: "continuation", continuation: continuation.data };
  }
  const named = subjectOf(value);
  const parsed = commandSchemas[type].safeParse(value);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(describeIssue);
    return { kind: "invalid", detail: faults.join("; ").slice(0, 500), hash: bodyHash, ...named };
  }
  const { version: _version, requestedAt: requestedAtText, ...rest } = parsed.data;
  const requestedAt = Date.parse(requestedAtText);
  if (requestedAt > sentAt + clockSkewMs) {
    return { kind: "invalid", detail: "requestedAt: later than the message was sent", hash: bodyHash, ...named };
  }
  return { kind: "command", request: { ...rest, requestedAt, hash: sha256(canonical(parsed.data)) } };
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

/** The same content gives the same text, whatever the order of the keys. */
function canonical(value: Record<string, unknown>): string {
  return JSON.stringify(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
