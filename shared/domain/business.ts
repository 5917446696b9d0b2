import type { EventDraft } from "./events.ts";
import type { Failure, OpenReason, Reason } from "./reasons.ts";

/**
 * The aggregate: one item a customer business, because a revocation removes the line from all its WABAs while a share
 * concerns one (design.md §5). All times are milliseconds since the epoch.
 */
export type Business = {
  businessId: string;
  version: number;
  /** Raised by each revocation: a POST made under an older epoch is not wanted any more. */
  epoch: number;
  changedAt: number;
  name?: string;
  /** When E8 was first read completely for this business: the end of "first contact". */
  listedAt?: number;
  revocation?: Revocation;
  /** Automatic revocations that wait. They stand beside the last revocation, whose word still counts for every share. */
  held?: HeldRevocation;
  /** The latest share with `reshareAfterRevocation` that found its WABA shared; those under way stand on their WABAs. */
  reshare?: { commandId: string; requestedAt: number };
  /** Every allocation id ever answered or listed, by id. */
  records: Record<string, AllocationRecord>;
  /** E4 is per business: its note stands here, and only one may be out at a time (H12). */
  recordIntent?: RecordIntent;
  /**
   * The latest send deadline of the POSTs that were settled by what a probe saw, not by their own answer: each may have
   * made another record than the one it saw, and until its window is over no list is sure to show it (R5).
   */
  unansweredAt?: number;
  wabas: Record<string, Waba>;
  /** Shares that wait for a revocation or for another share of the same WABA, by WABA id. */
  waiting: Record<string, Waiting>;
};

export type ShareMethod = "share-and-attach" | "share-then-attach";

/** What every command says of itself. `hash` covers its whole content (T2). */
export type CommandRef = {
  type: "share" | "verify" | "revoke";
  commandId: string;
  hash: string;
  requestedAt: number;
  requestedBy: string;
};

export type ShareRequest = CommandRef & {
  type: "share";
  wabaId: string;
  currency: string;
  businessId?: string;
  method?: ShareMethod;
  businessTokenSecret?: string;
  reshareAfterRevocation: boolean;
  partnerSwitch: boolean;
};

export type VerifyRequest = CommandRef & { type: "verify"; wabaId: string; businessTokenSecret?: string };

export const revokeReasons = [
  "customer_unshared",
  "partner_removed",
  "non_payment",
  "offboarded",
  "risk",
  "operator",
] as const;

export type RevokeRequest = CommandRef & {
  type: "revoke";
  wabaId?: string;
  businessId?: string;
  reason: (typeof revokeReasons)[number];
};

export type Request = ShareRequest | VerifyRequest | RevokeRequest;

/** When an unsettled entry is looked at again. The item is its queue (T5). */
export type Due = {
  nextAt: number;
  /** Looks that were recorded. A message for an earlier look is stale. */
  looks: number;
  /** How often the sweep served this very look: it grows the delay, so that a look that kills its worker cannot spin. */
  sweeps: number;
};

/** The note, written before a POST, that a POST may be about to happen (S4). */
export type Intent = {
  /** Random per invocation: only the invocation that made it may send, and only it may settle by it. */
  id: string;
  epoch: number;
  attempt: number;
  madeAt: number;
  /** No byte of the POST leaves once the wall clock has reached this. */
  sendDeadline: number;
  /** When the first look began that found nothing. */
  absentAt?: number;
  /** When a look began that found nothing after the window, and could have seen it. */
  clearAt?: number;
  /** Meta's answer, when it left the effect unknown. */
  failure?: Failure;
  /** `Share In Doubt` was announced. */
  inDoubt?: true;
};

/** The note of an E4: the share that made it waits in `sharing`, without an intent of its own. */
export type RecordIntent = Intent & {
  creditLineId: string;
  request: ShareRequest;
  /** Undefined once a revocation has overtaken it: then only its effect still matters (R5). */
  due?: Due;
};

export type Evidence = {
  receivingCredentialId?: string;
  primaryFundingId?: string;
  checkedAt: number;
  verifiedAt?: number;
};

type WabaCommon = {
  currency: string;
  method: ShareMethod;
  creditLineId: string;
  /** The last share acted on: an older one never POSTs (T2). */
  request: ShareRequest;
  /** When its last attempt was noted, or it was adopted: a removal that Meta dates earlier is over (W2). */
  intendedAt?: number;
  /** Meta told us that the customer removed us from it. Believed only as far as E3 bears it out. */
  removedAt?: number;
  evidence?: Evidence;
  lastFailure?: Failure;
  /** What is unsettled, and the command that waits for it. On a revoked WABA: a command still to be answered. */
  due?: Due & { request: ShareRequest | VerifyRequest };
};

/** Shared with the business, attachment under way or not proven. Without an intent no POST is outstanding. */
export type SharingWaba = WabaCommon & { status: "sharing" | "allocated"; allocationId?: string; intent?: Intent };

export type SharedStatus = "shared" | "verified" | "pending" | "mismatched";

export type SharedWaba = WabaCommon & {
  status: SharedStatus;
  allocationId: string;
  /** A partner switch takes effect on the 1st of a month: until then a mismatch is `pending`. */
  pendingUntil?: number;
  intent?: undefined;
};

export type RevokedWaba = WabaCommon & {
  status: "revoking" | "revoked";
  allocationId?: string;
  /** It was a partner switch that had not taken effect: it is looked at once more when it would have (R6, H27c). */
  pendingUntil?: number;
  /** Kept by a revocation: what an unanswered POST may still do decides when it is done (R5). */
  intent?: Intent;
};

export type Waba = SharingWaba | SharedWaba | RevokedWaba;
export type WabaStatus = Waba["status"];

export type AllocationRecord = {
  creditLineId: string;
  /** The epoch of the POST that answered it, or the one at which it was first listed. */
  epoch: number;
  /** `live` and `deleted` are proven by E6; an answer of a POST alone leaves `unknown`. */
  state: "unknown" | "live" | "deleted";
  recordedAt: number;
  /** A POST that makes records (E2, E4) was answered with its id; others were found. */
  answered?: true;
  /** First seen when it proved that an E2 had worked, whose answer was lost: that E2 made it, or another POST in doubt. */
  proven?: true;
  readAt?: number;
  /** A definite answer to a DELETE of the revocation with this epoch. */
  deleteAnswered?: { at: number; epoch: number };
  /** Looks after that answer in which neither E8 nor E6 knew the record (H27g). */
  absentLooks?: number;
  /** E6 names another business: never touched (R3). */
  foreign?: true;
  /** What it pays by, as E6 said last, or the list from which a scan adopted it. */
  credentialId?: string;
};

export type Waiting = { request: ShareRequest; due: Due };

export type Revocation = {
  request: RevokeRequest;
  /** The latest `requestedAt` of all the commands it answers. */
  requestedAt: number;
  state: "open" | "done" | "nothing";
  epoch: number;
  startedAt: number;
  doneAt?: number;
  /** Further commands that are answered when it is done; at most 20. */
  joined: RevokeRequest[];
  openReason?: OpenReason;
  incompleteAnnounced?: true;
  due?: Due;
};

/**
 * Why automatic revocations wait: `siblings` of the business are still funded, the stage holds them `by_policy`, E3 still
 * shows the WABA or does not answer clearly, or too many customers left at once.
 */
export const holdReasons = [
  "siblings",
  "unknown_siblings",
  "by_policy",
  "still_visible",
  "cannot_tell",
  "breaker",
] as const;

export type HoldReason = (typeof holdReasons)[number];

/** Commands with an automatic reason that are neither refused nor under way: the item is their queue. */
export type HeldRevocation = {
  /** At least one, at most 20; the oldest first. */
  requests: RevokeRequest[];
  reason: HoldReason;
  /** Since when for this reason. */
  since: number;
  due: Due;
};

/** How a command ended, and the event that says so. */
export type Conclusion = {
  request: Request;
  outcome: "done" | "refused";
  reason?: Reason;
  failure?: Failure;
  event: EventDraft;
};

/** What a decision writes: the next state, what it announces, and the commands it concludes. */
export type Change = {
  business: Business;
  events: EventDraft[];
  conclusions: Conclusion[];
};

/** Settings of the stage that decisions rest on. Times in milliseconds. */
export type Policy = {
  /** Given the task to manage a WABA before a one-call share (E10). */
  systemUserId?: string;
  partnerBusinessId: string;
  creditLineId: string;
  currencies: string[];
  shareMethod: ShareMethod;
  settleWindowMs: number;
  clockSkewMs: number;
  secondPost: "auto" | "person";
  verifyGraceMs: number[];
  onPartnerRemoved: "revoke-unless-siblings" | "revoke" | "hold";
  /** More automatic revocations than this within the window stop all further ones. */
  breaker: { removals: number; windowMs: number };
};

/** The state chart: which status may follow which. `none` is a WABA the item does not hold yet. */
export const transitions = {
  none: ["sharing", "allocated", "shared"],
  sharing: ["sharing", "allocated", "shared", "revoking"],
  allocated: ["allocated", "shared", "revoking"],
  shared: ["shared", "verified", "pending", "mismatched", "revoking"],
  verified: ["verified", "mismatched", "revoking"],
  pending: ["pending", "verified", "mismatched", "revoking"],
  mismatched: ["mismatched", "verified", "revoking"],
  revoking: ["revoking", "revoked"],
  revoked: ["revoked", "sharing", "allocated", "shared", "revoking"],
} as const satisfies Record<WabaStatus | "none", readonly WabaStatus[]>;

export function newBusiness(businessId: string, now: number): Business {
  return { businessId, version: 0, epoch: 0, changedAt: now, records: {}, wabas: {}, waiting: {} };
}

/** The business with one WABA replaced. Throws on a transition that the chart does not have: that is a defect of ours. */
export function withWaba(business: Business, wabaId: string, next: Waba): Business {
  const from = business.wabas[wabaId]?.status ?? "none";
  const allowed: readonly WabaStatus[] = transitions[from];
  if (!allowed.includes(next.status)) throw new Error(`No transition from ${from} to ${next.status} (WABA ${wabaId})`);
  return { ...business, wabas: { ...business.wabas, [wabaId]: next } };
}

export function withoutWaiting(business: Business, wabaId: string): Business {
  const { [wabaId]: _gone, ...waiting } = business.waiting;
  return { ...business, waiting };
}

const sharedStatuses: ReadonlySet<WabaStatus> = new Set<SharedStatus>(["shared", "verified", "pending", "mismatched"]);

export function isShared(waba: Waba | undefined): waba is SharedWaba {
  return waba !== undefined && sharedStatuses.has(waba.status);
}

export function isSharing(waba: Waba | undefined): waba is SharingWaba {
  return waba?.status === "sharing" || waba?.status === "allocated";
}

/** Every unsettled entry of the item, with what a message to serve it needs. */
export type DueEntry = {
  work: "share" | "verify" | "revoke";
  wabaId?: string;
  commandId: string;
  requestedAt: number;
  due: Due;
};

export function dueEntries(business: Business): DueEntry[] {
  const entries: DueEntry[] = [];
  for (const [wabaId, { status, due }] of Object.entries(business.wabas)) {
    if (due === undefined) continue;
    const { commandId, requestedAt, type } = due.request;
    const work = type === "share" && !sharedStatuses.has(status) ? "share" : "verify";
    entries.push({ work, wabaId, commandId, requestedAt, due });
  }
  for (const [wabaId, { request, due }] of Object.entries(business.waiting)) {
    entries.push({ work: "share", wabaId, commandId: request.commandId, requestedAt: request.requestedAt, due });
  }
  const { revocation, recordIntent, held } = business;
  if (recordIntent?.due !== undefined) {
    const { wabaId, commandId, requestedAt } = recordIntent.request;
    entries.push({ work: "share", wabaId, commandId, requestedAt, due: recordIntent.due });
  }
  if (revocation?.due !== undefined) {
    const { commandId } = revocation.request;
    entries.push({ work: "revoke", commandId, requestedAt: revocation.requestedAt, due: revocation.due });
  }
  const [first] = held?.requests ?? [];
  if (held !== undefined && first !== undefined) {
    const { commandId, requestedAt } = first;
    // Whichever change took the last sibling away: what waited for it is due at once (W1, H14).
    const isFree = held.reason === "siblings" && siblingsOf(business, removedWabas(business)).length === 0;
    const due = isFree ? { ...held.due, nextAt: Math.min(held.due.nextAt, held.since) } : held.due;
    entries.push({ work: "revoke", commandId, requestedAt, due });
  }
  return entries;
}

/** The item's due time: the earliest of its entries', or undefined when nothing is unsettled (T5). */
export function dueAt(business: Business): number | undefined {
  const times = dueEntries(business).map((entry) => entry.due.nextAt);
  return times.length === 0 ? undefined : Math.min(...times);
}

/** The delay before look number `looks` + 1: doubling from a sixtieth of the settle window up to 48 windows (30 s and a day by default). */
export function lookDelayMs(looks: number, settleWindowMs: number): number {
  return Math.min((settleWindowMs / 60) * 2 ** Math.min(looks, 20), 48 * settleWindowMs);
}

/** An entry's due time after a sweep has served it: later each time that no look followed. */
function afterSweep(due: Due, now: number, settleWindowMs: number): Due {
  return { ...due, sweeps: due.sweeps + 1, nextAt: now + lookDelayMs(due.sweeps + 4, settleWindowMs) };
}

/** A new due time; the work begins anew. */
export function dueIn(request: ShareRequest | VerifyRequest, nextAt: number, looks = 0): NonNullable<Waba["due"]> {
  return { request, nextAt, looks, sweeps: 0 };
}

/**
 * The item after a sweep has served those entries that were due.
 * @param served what the sweep could serve: the due time of an entry that must wait stays where it is.
 */
export function swept(
  business: Business,
  now: number,
  settleWindowMs: number,
  served: readonly DueEntry[] = dueEntries(business),
): Business {
  // An automatic revocation that is free to go has another due time among the entries; it never has to wait.
  const dues = new Set([...served.map(({ due }) => due), business.held?.due]);
  function later<D extends Due>(due: D): D {
    return due.nextAt <= now && dues.has(due) ? { ...due, ...afterSweep(due, now, settleWindowMs) } : due;
  }
  const wabas = Object.fromEntries(
    Object.entries(business.wabas).map(([wabaId, waba]): [string, Waba] => {
      if (waba.due === undefined) return [wabaId, waba];
      return [wabaId, { ...waba, due: later(waba.due) }];
    }),
  );
  const waiting = Object.fromEntries(
    Object.entries(business.waiting).map(([wabaId, entry]) => [wabaId, { ...entry, due: later(entry.due) }]),
  );
  const next: Business = { ...business, wabas, waiting };
  const { revocation, recordIntent, held } = business;
  if (held !== undefined) next.held = { ...held, due: later(held.due) };
  if (revocation?.due !== undefined) next.revocation = { ...revocation, due: later(revocation.due) };
  if (recordIntent?.due !== undefined) next.recordIntent = { ...recordIntent, due: later(recordIntent.due) };
  return next;
}

/** When neither a POST in doubt nor those that a probe has settled can have an effect any more that we have not seen. */
export function windowsEnd({ unansweredAt }: Business, intent: Intent, settleWindowMs: number): number {
  const own = windowEnd(intent, settleWindowMs);
  return unansweredAt === undefined ? own : Math.max(own, unansweredAt + settleWindowMs);
}

/** When an unanswered POST can have no effect any more that we have not seen (A1-A3). */
export function windowEnd(intent: Intent, settleWindowMs: number): number {
  return intent.sendDeadline + settleWindowMs;
}

/** A share of this WABA has taken effect, or may yet. */
export function isHeld(waba: Waba): boolean {
  return isShared(waba) || (isSharing(waba) && (waba.intent !== undefined || waba.allocationId !== undefined));
}

/** The WABAs that Meta said the business removed us from, as far as the item tells. */
export function removedWabas({ wabas, held }: Business): Set<string> {
  const noted = Object.entries(wabas).filter(([, waba]) => waba.removedAt !== undefined);
  const named = held?.requests.flatMap(({ wabaId }) => wabaId ?? []) ?? [];
  return new Set([...noted.map(([wabaId]) => wabaId), ...named]);
}

/** The WABAs that a revocation would take the line from although they were not removed: funded, or perhaps being funded (W1). */
export function siblingsOf(business: Business, removed: ReadonlySet<string>): string[] {
  const held = Object.entries(business.wabas).filter(([, waba]) => isHeld(waba));
  const allocating = business.recordIntent?.request.wabaId;
  const funded = new Set([...held.map(([wabaId]) => wabaId), ...(allocating === undefined ? [] : [allocating])]);
  return [...funded].filter((wabaId) => !removed.has(wabaId));
}

/** What is held is looked at again at once: something happened to a WABA that it is about. */
export function lookingAgain(business: Business, wabaId: string, now: number): Business {
  const { held } = business;
  if (held?.requests.some((request) => request.wabaId === wabaId) !== true) return business;
  return { ...business, held: { ...held, due: { ...held.due, nextAt: Math.min(held.due.nextAt, now) } } };
}

/**
 * When the latest accepted re-share was requested. It is read from the WABAs: an attempt that Meta turned down must not go
 * on superseding revocations.
 */
export function resharedAt(business: Business): number | undefined {
  const accepted = Object.values(business.wabas).filter((waba) => waba.request.reshareAfterRevocation && isHeld(waba));
  const times = accepted.map((waba) => waba.request.requestedAt);
  const allocating = business.recordIntent?.request;
  if (allocating?.reshareAfterRevocation === true) times.push(allocating.requestedAt);
  if (business.reshare !== undefined) times.push(business.reshare.requestedAt);
  return times.length === 0 ? undefined : Math.max(...times);
}

/**
 * A revocation that was over goes on, because something of before it lives (C3). An attempt since then that came to nothing
 * is taken along; whoever calls this has made sure that nothing was shared since.
 */
export function reopened(business: Business, revocation: Revocation, due: Due): Business {
  const { doneAt: _over, incompleteAnnounced: _said, ...rest } = revocation;
  const wabas = Object.fromEntries(
    Object.entries(business.wabas).map(([wabaId, waba]): [string, Waba] => [
      wabaId,
      isSharing(waba) ? { ...waba, status: "revoking" } : waba,
    ]),
  );
  return { ...business, wabas, revocation: { ...rest, state: "open", due } };
}

/** The last word on the business is a revocation: no line of ours may be live. */
export function isRevoked(business: Business, clockSkewMs: number): boolean {
  const { revocation } = business;
  if (revocation?.state !== "done") return false;
  const reshared = resharedAt(business);
  return reshared === undefined || reshared <= revocation.requestedAt + clockSkewMs;
}

/** Nobody asked for it by name: it passes the sibling rule, the breaker and one E3 before anything is taken back (R2). */
export function isAutomatic(request: RevokeRequest): boolean {
  return request.reason === "partner_removed";
}

/** The very same command: its id and its whole content (T2). */
export function isSame(one: CommandRef, other: CommandRef): boolean {
  return one.commandId === other.commandId && one.hash === other.hash;
}
