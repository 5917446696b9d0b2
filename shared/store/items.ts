import * as z from "zod/mini";
import type {
  AllocationRecord,
  Business,
  Revocation,
  RevokeRequest,
  ShareRequest,
  VerifyRequest,
  Waba,
} from "../domain/business.ts";
import { holdReasons, isSame, revokeReasons } from "../domain/business.ts";
import { detailTypes, type RecordedEvent } from "../domain/events.ts";
import { findingKinds, type Finding } from "../domain/findings.ts";
import type { RemovalBreaker } from "../domain/removal-breaker.ts";
import { reasonClasses, type Failure, type Reason } from "../domain/reasons.ts";

/** The items of the State table as they are stored (design.md §5). What is read back is parsed, so that a bad item is seen, not guessed at. */

/**
 * An object of an item that is written anew, whole. Fields that this release does not know are a newer one's: after a
 * rollback they must not be lost (infra/deploy.md). The types do not tell of them.
 */
function kept<Shape extends z.core.$ZodLooseShape>(shape: Shape): z.ZodMiniObject<Shape> {
  return z.looseObject(shape);
}

/** An item without what its next write sets anew: of that, nothing may be kept. */
function storedItem<Schema extends z.ZodMiniType>(schema: Schema, setAnew: readonly string[] = []) {
  const dropped = new Set(["pk", "dueShard", "dueAt", "transitionId", "events", ...setAnew]);
  function withoutDropped(stored: unknown): unknown {
    if (typeof stored !== "object" || stored === null) return stored;
    return Object.fromEntries(Object.entries(stored).filter(([name]) => !dropped.has(name)));
  }
  return z.pipe(z.transform(withoutDropped), schema);
}

const text = z.string();
const time = z.number();

export function isReason(value: string): value is Reason {
  return Object.hasOwn(reasonClasses, value);
}

const reason = z.custom<Reason>((value) => typeof value === "string" && isReason(value));

const failureSchema = kept({
  at: time,
  reason,
  code: z.optional(z.number()),
  subcode: z.optional(z.number()),
  fbtraceId: z.optional(text),
  message: z.optional(text),
}) satisfies z.ZodMiniType<Failure>;

const refFields = { commandId: text, hash: text, requestedAt: time, requestedBy: text };
const methodSchema = z.enum(["share-and-attach", "share-then-attach"]);

const shareRequestSchema = kept({
  ...refFields,
  type: z.literal("share"),
  wabaId: text,
  currency: text,
  businessId: z.optional(text),
  method: z.optional(methodSchema),
  businessTokenSecret: z.optional(text),
  reshareAfterRevocation: z.boolean(),
  partnerSwitch: z.boolean(),
}) satisfies z.ZodMiniType<ShareRequest>;

/** What a share's request says that its WABA's entry tells anyway, or that is so in nearly all cases, is not stored with it. */
function impliedRequest(wabaId: string, currency: string) {
  return { type: "share", wabaId, currency, reshareAfterRevocation: false, partnerSwitch: false } as const;
}
const impliedKeys = {
  type: true,
  wabaId: true,
  currency: true,
  reshareAfterRevocation: true,
  partnerSwitch: true,
} as const satisfies Record<keyof ReturnType<typeof impliedRequest>, true>;

const verifyRequestSchema = kept({
  ...refFields,
  type: z.literal("verify"),
  wabaId: text,
  businessTokenSecret: z.optional(text),
}) satisfies z.ZodMiniType<VerifyRequest>;

const revokeRequestSchema = kept({
  ...refFields,
  type: z.literal("revoke"),
  wabaId: z.optional(text),
  businessId: z.optional(text),
  reason: z.enum(revokeReasons),
}) satisfies z.ZodMiniType<RevokeRequest>;

const dueFields = { nextAt: time, looks: z.number(), sweeps: z.number() };
const dueSchema = kept(dueFields);

const intentFields = {
  id: text,
  epoch: z.number(),
  attempt: z.number(),
  madeAt: time,
  sendDeadline: time,
  absentAt: z.optional(time),
  clearAt: z.optional(time),
  failure: z.optional(failureSchema),
  inDoubt: z.optional(z.literal(true)),
};
const intentSchema = kept(intentFields);

const wabaFields = {
  currency: text,
  method: methodSchema,
  creditLineId: text,
  request: z.partial(shareRequestSchema, impliedKeys),
  intendedAt: z.optional(time),
  removedAt: z.optional(time),
  evidence: z.optional(
    kept({
      receivingCredentialId: z.optional(text),
      primaryFundingId: z.optional(text),
      checkedAt: time,
      verifiedAt: z.optional(time),
    }),
  ),
  lastFailure: z.optional(failureSchema),
  due: z.optional(
    kept({
      ...dueFields,
      request: z.optional(z.discriminatedUnion("type", [shareRequestSchema, verifyRequestSchema])),
    }),
  ),
};

const storedWabaSchema = z.discriminatedUnion("status", [
  kept({
    ...wabaFields,
    status: z.enum(["sharing", "allocated"]),
    allocationId: z.optional(text),
    intent: z.optional(intentSchema),
  }),
  kept({
    ...wabaFields,
    status: z.enum(["shared", "verified", "pending", "mismatched"]),
    allocationId: text,
    pendingUntil: z.optional(time),
  }),
  kept({
    ...wabaFields,
    status: z.enum(["revoking", "revoked"]),
    allocationId: z.optional(text),
    pendingUntil: z.optional(time),
    intent: z.optional(intentSchema),
  }),
]);

/** Short, because DynamoDB bills each write of the whole item by the KB: a WABA's share does not stand on it twice. */
const wabasSchema = z.pipe(z.record(text, storedWabaSchema), z.transform(restoredWabas));

function restoredWabas(stored: Record<string, z.output<typeof storedWabaSchema>>): Record<string, Waba> {
  const wabas = Object.entries(stored).map(([wabaId, { due, ...rest }]): [string, Waba] => {
    const waba = { ...rest, request: { ...impliedRequest(wabaId, rest.currency), ...rest.request } };
    return [wabaId, due === undefined ? waba : { ...waba, due: { ...due, request: due.request ?? waba.request } }];
  });
  return Object.fromEntries(wabas);
}

/** A WABA as the item of its business holds it. */
export function storedWaba(wabaId: string, { request, due, ...rest }: Waba): Record<string, unknown> {
  const implied: Record<string, unknown> = impliedRequest(wabaId, rest.currency);
  const told = Object.entries(request).filter(([name, value]) => implied[name] !== value);
  const ofIt = due !== undefined && isSame(due.request, request);
  return { ...rest, request: Object.fromEntries(told), due: ofIt ? { ...due, request: undefined } : due };
}

const recordSchema = kept({
  creditLineId: text,
  epoch: z.number(),
  state: z.enum(["unknown", "live", "deleted"]),
  recordedAt: time,
  answered: z.optional(z.literal(true)),
  proven: z.optional(z.literal(true)),
  readAt: z.optional(time),
  deleteAnswered: z.optional(kept({ at: time, epoch: z.number() })),
  absentLooks: z.optional(z.number()),
  foreign: z.optional(z.literal(true)),
  credentialId: z.optional(text),
}) satisfies z.ZodMiniType<AllocationRecord>;

const revocationSchema = kept({
  request: revokeRequestSchema,
  requestedAt: time,
  state: z.enum(["open", "done", "nothing"]),
  epoch: z.number(),
  startedAt: time,
  doneAt: z.optional(time),
  joined: z.array(revokeRequestSchema),
  openReason: z.optional(z.custom<NonNullable<Revocation["openReason"]>>((value) => typeof value === "string")),
  incompleteAnnounced: z.optional(z.literal(true)),
  due: z.optional(dueSchema),
}) satisfies z.ZodMiniType<Revocation>;

export const businessSchema = storedItem(
  kept({
    businessId: text,
    version: z.number(),
    epoch: z.number(),
    changedAt: time,
    name: z.optional(text),
    listedAt: z.optional(time),
    revocation: z.optional(revocationSchema),
    held: z.optional(
      kept({ requests: z.array(revokeRequestSchema), reason: z.enum(holdReasons), since: time, due: dueSchema }),
    ),
    reshare: z.optional(kept({ commandId: text, requestedAt: time })),
    records: z.record(text, recordSchema),
    recordIntent: z.optional(
      kept({ ...intentFields, creditLineId: text, request: shareRequestSchema, due: z.optional(dueSchema) }),
    ),
    unansweredAt: z.optional(time),
    wabas: wabasSchema,
    waiting: z._default(z.record(text, kept({ request: shareRequestSchema, due: dueSchema })), {}),
  }),
) satisfies z.ZodMiniType<Business>;

export const eventSchema = z.object({
  detailType: z.enum(detailTypes),
  eventId: text,
  occurredAt: time,
  commandId: z.optional(text),
  wabaId: z.optional(text),
  wabaIds: z.optional(z.array(text)),
  businessId: z.optional(text),
  allocationConfigId: z.optional(text),
  creditLineId: z.optional(text),
  currency: z.optional(text),
  status: z.optional(text),
  previousStatus: z.optional(text),
  reason: z.optional(text),
  by: z.optional(text),
  note: z.optional(text),
}) satisfies z.ZodMiniType<RecordedEvent>;

/** `WABA#<id>`: the owner, written once; when Meta told us that it was added; and revokes that came before the owner was known. */
export const pointerSchema = storedItem(
  kept({
    wabaId: text,
    businessId: z.optional(text),
    addedAt: z.optional(time),
    /** The owner as Meta's news of that named it. It says only which state to load first, never who the owner is. */
    hintedOwner: z.optional(text),
    version: z.number(),
    pendingRevoke: z.optional(kept({ requests: z.array(revokeRequestSchema), since: time, due: dueSchema })),
  }),
);

export type Pointer = z.output<typeof pointerSchema>;

/** `COMMAND#<commandId>`: how a command ended, or what blocked it last. Unreadable bodies stand under their hash. */
export const commandSchema = z.object({
  type: text,
  commandId: z.optional(text),
  hash: text,
  outcome: z.optional(z.enum(["done", "refused", "rejected"])),
  reason: z.optional(text),
  failure: z.optional(failureSchema),
  attempts: z.number(),
  version: z.number(),
  wabaId: z.optional(text),
  businessId: z.optional(text),
  changedAt: time,
  blockedAnnounced: z.optional(z.literal(true)),
  /** The event that ended the command: sent again, whole, when the command is repeated (P3). */
  event: z.optional(eventSchema),
});

export type CommandRecord = z.output<typeof commandSchema>;

/**
 * `QUOTA#graph`: until when Meta blocks the app, and what it last told of the hour's budget. `QUOTA#<WABA id>`: until when it
 * blocks what is asked about that WABA.
 */
export const quotaSchema = z.object({
  blockedUntil: z.optional(time),
  used: z.optional(z.number()),
  readAt: z.optional(time),
});

/** `used`: a fraction, 1 being the whole of the hour's calls. */
export type Reading = { used: number; readAt: number };

/**
 * `BREAKER#system-token`. `open`: the token is dead and commands wait. `mended`: it works again, but the event sources may
 * still be paused. `closed`: all is well. It is never deleted, so that it tells when the last time was.
 */
export const breakerSchema = z.object({ state: z.enum(["open", "mended", "closed"]), since: time });

export type Breaker = z.output<typeof breakerSchema>;

/** `FINDING#<kind>#<subject>`. */
export const findingSchema = storedItem(
  kept({
    kind: z.enum(findingKinds),
    subject: text,
    businessId: z.optional(text),
    wabaId: z.optional(text),
    allocationId: z.optional(text),
    state: z.enum(["suspected", "open", "closed"]),
    version: z.number(),
    firstScanId: z.number(),
    firstSeenAt: time,
    lastScanId: z.number(),
    lastSeenAt: time,
    openedAt: z.optional(time),
    closedAt: z.optional(time),
  }),
  ["command", "changedAt"],
) satisfies z.ZodMiniType<Finding>;

/** Since when the WABA that left first is still on our line, with siblings that stay, and without. */
const unsharedSchema = z.optional(kept({ none: z.optional(time), funded: z.optional(time) }));

/** `SCAN#estate`: how far the estate scan has come; the next slice goes on from here, whoever runs it. */
export const scanSchema = storedItem(
  kept({
    version: z.number(),
    /** Grows with each scan that begins. */
    scanId: z.number(),
    phase: z.enum(["line", "allocations", "wabas", "table", "findings", "upkeep", "done"]),
    /** Where the phase goes on: Meta's cursor, the table's, or the last finding served. */
    cursor: z.optional(text),
    startedAt: time,
    /** When a slice last came forward. */
    movedAt: time,
    /** Until then only the slice that wrote it works on the scan (C4). */
    leaseUntil: time,
    /** No scan has come to its end before: what is shared already is adopted. */
    isFirst: z.boolean(),
    /** Lists that could not be read to their end, and fields that they would not show: of these, absence says nothing. */
    unread: z.array(text),
    unshown: z.array(text),
    /** Rows that count: live allocations, WABAs, WABAs with funding. */
    listed: kept({ allocations: z.number(), wabas: z.number(), funding: z.number() }),
    /** What the table expects and the lists do not show. */
    missing: kept({ allocations: z.number(), wabas: z.number(), funding: z.number() }),
    /** How many items hold the ids that were listed. */
    chunks: kept({ allocations: z.number(), wabas: z.number() }),
    /** Changes that were never announced before. */
    announced: z.number(),
    /** When the WABA was last verified that has waited longest. */
    oldestCheckedAt: z.optional(time),
    unsharedSince: unsharedSchema,
    /** Calls to Meta of the last hour, those set aside for a slice that may have died included. */
    calls: z.array(kept({ at: time, count: z.number() })),
    completed: z.optional(
      kept({
        scanId: z.number(),
        startedAt: time,
        finishedAt: time,
        cannotTell: z.array(z.enum(findingKinds)),
        announced: z.number(),
        oldestCheckedAt: z.optional(time),
        unsharedSince: unsharedSchema,
      }),
    ),
  }),
);

export type Scan = z.output<typeof scanSchema>;
/** `BREAKER#paused-queues`: the command queues that a person keeps from feeding their functions, and why. */
export const pausesSchema = z.partial(z.object({ share: pauseSchema(), verify: pauseSchema(), revoke: pauseSchema() }));

function pauseSchema() {
  return z.object({ by: text, why: text, since: time });
}

export type Pauses = z.output<typeof pausesSchema>;

/** `BREAKER#removals`. */
export const removalBreakerSchema = z.object({
  state: z.enum(["closed", "stopped"]),
  recent: z.record(text, time),
  resumedAt: z.optional(time),
  waking: z.optional(z.literal(true)),
}) satisfies z.ZodMiniType<RemovalBreaker>;

/** What every announced write carries, and what `publish` reads from the stream. */
export const transitionSchema = z.object({
  pk: text,
  transitionId: text,
  version: z.number(),
  changedAt: time,
  events: z.array(eventSchema),
});

export type Transition = z.output<typeof transitionSchema>;

export const keys = {
  business: (businessId: string): string => `BUSINESS#${businessId}`,
  waba: (wabaId: string): string => `WABA#${wabaId}`,
  command: (commandId: string): string => `COMMAND#${commandId}`,
  quota: (wabaId = "graph"): string => `QUOTA#${wabaId}`,
  tokenBreaker: "BREAKER#system-token",
  finding: (kind: string, subject: string): string => `FINDING#${kind}#${subject}`,
  scan: "SCAN#estate",
  /** The ids that a list named to a scan, some thousands an item. */
  seen: (scanId: number, list: string, index: number): string => `SCAN#${scanId}#${list}#${index}`,
  pauses: "BREAKER#paused-queues",
  removalBreaker: "BREAKER#removals",
} as const;

/** The partition of the due index in which findings stand until they are closed. The sweep does not read it. */
export const findingShard = "findings";

/** The sparse due index is spread over a few partitions; the sweep reads them all. */
export const dueShards = ["due-0", "due-1", "due-2", "due-3"] as const;

export function dueShardOf(pk: string): (typeof dueShards)[number] {
  let sum = 0;
  for (const character of pk) sum += character.codePointAt(0) ?? 0;
  return dueShards[sum % dueShards.length] ?? dueShards[0];
}
