import type {
  AllocationRecord,
  Business,
  Change,
  Conclusion,
  Due,
  Intent,
  Policy,
  RecordIntent,
  ShareRequest,
  SharedWaba,
  SharingWaba,
  VerifyRequest,
  Waba,
} from "./business.ts";
import {
  dueIn,
  isHeld,
  isRevoked,
  isSame,
  isShared,
  isSharing,
  lookDelayMs,
  lookingAgain,
  withoutWaiting,
  withWaba,
} from "./business.ts";
import { switchWindowEnd } from "./calendar.ts";
import type { DetailType, EventDraft } from "./events.ts";
import type { EstateReading, RecordReading, WabaReading } from "./readings.ts";
import { fundingRecord, isConfirmedDeleted, knownFrom, withRecords } from "./readings.ts";
import type { BlockReason, Failure, RefuseReason } from "./reasons.ts";

/** What a share knows when it decides. What it has not read yet is undefined, and asked for only when it matters. */
export type ShareFacts = {
  now: number;
  request: ShareRequest;
  business: Business;
  waba?: WabaReading;
  estate?: EstateReading;
  /** Another look at an unsettled attempt was made in this invocation. */
  probed?: boolean;
  /** The item is too large for another WABA (T3). */
  full?: boolean;
};

export type ShareDecision =
  | { kind: "probe" }
  /** An E4 of the business is unsettled. */
  | { kind: "probe-record" }
  | { kind: "on-item" }
  | { kind: "wait"; until: number }
  /** Another share of this WABA waits on the item already, until then: this one comes back after it. */
  | { kind: "later"; until: number }
  /** The item holds a command of the same id and other content. */
  | { kind: "reused" }
  | { kind: "refuse"; reason: RefuseReason }
  | { kind: "block"; reason: BlockReason; failure?: Failure }
  | { kind: "conclude" }
  | { kind: "read-waba" }
  | { kind: "read-estate" }
  | { kind: "adopt"; record: RecordReading }
  /** E2: one call. */
  | { kind: "attempt" }
  /** E4: shares the line with the business. */
  | { kind: "allocate" }
  /** E5: attaches it to the WABA, by a record of the business. */
  | { kind: "attach"; allocationId: string };

/** S3, in its order. A refusal never changes a WABA that is shared, being shared or revoked. */
export function decideShare(facts: ShareFacts, policy: Policy): ShareDecision {
  const { now, request, business, waba: reading, estate } = facts;
  const waba = business.wabas[request.wabaId];

  const held = [waba?.request, business.waiting[request.wabaId]?.request];
  if (held.some((one) => one?.commandId === request.commandId && !isSame(one, request))) return { kind: "reused" };
  // A revocation overtook this very command while it was on the item: a copy of it gets the answer that waits there.
  if (waba !== undefined && isOvertaken(waba) && isSame(waba.due.request, request)) {
    return { kind: "refuse", reason: "business_revoked" };
  }

  // The unsettled attempt comes first: whatever Meta shows meanwhile may be its effect (H2).
  if (isSharing(waba) && waba.intent !== undefined) {
    if (looksNow(facts, waba.request, waba.due) || lendsToken(facts, waba)) return { kind: "probe" };
    if (isSame(waba.request, request)) return { kind: "on-item" };
    return waitUntil(facts, waba.due?.nextAt ?? now + lookDelayMs(0, policy.settleWindowMs));
  }

  const { recordIntent } = business;
  if (recordIntent !== undefined && recordIntent.epoch === business.epoch) {
    if (looksNow(facts, recordIntent.request, recordIntent.due)) return { kind: "probe-record" };
    if (isSame(recordIntent.request, request)) return { kind: "on-item" };
    return waitUntil(facts, recordIntent.due?.nextAt ?? now + lookDelayMs(0, policy.settleWindowMs));
  }

  const revoked = decideAgainstRevocation(facts, policy);
  if (revoked !== undefined) return revoked;

  // What was once shared keeps its line and currency, also after a revocation: Meta cannot change either on a WABA.
  if (waba?.allocationId !== undefined) {
    if (waba.creditLineId !== policy.creditLineId) return { kind: "refuse", reason: "line_conflict" };
    if (waba.currency !== request.currency) return { kind: "refuse", reason: "currency_conflict" };
  }
  if (isShared(waba)) return { kind: "conclude" };
  // A look has answered this very command with what Meta said of it: only a new command tries anew (T2).
  if (isSharing(waba) && waba.request.commandId === request.commandId && isRefusal(waba.lastFailure)) {
    return { kind: "refuse", reason: waba.lastFailure.reason };
  }

  if (request.businessId !== undefined && request.businessId !== business.businessId) {
    return { kind: "refuse", reason: "owner_mismatch" };
  }
  if (business.businessId === policy.partnerBusinessId) return { kind: "refuse", reason: "same_business" };
  if (!policy.currencies.includes(request.currency)) return { kind: "refuse", reason: "currency_unsupported" };
  if (waba !== undefined && waba.request.commandId !== request.commandId) {
    if (request.requestedAt <= waba.request.requestedAt) return { kind: "refuse", reason: "superseded" };
  }

  if (reading === undefined) return { kind: "read-waba" };
  if (reading.ownerBusinessId !== undefined && reading.ownerBusinessId !== business.businessId) {
    return { kind: "refuse", reason: "owner_mismatch" };
  }
  if (reading.currency !== undefined && reading.currency !== request.currency) {
    return { kind: "refuse", reason: "currency_conflict" };
  }
  if (!reading.funding.known) {
    return { kind: "block", reason: "meta_unavailable", ...failureOf(reading.funding.failure) };
  }

  const method = request.method ?? policy.shareMethod;
  // In two calls, a record of the business that is live is used instead of making another one.
  const seeksRecord = method === "share-then-attach" && waba?.status !== "allocated";
  const firstContact = business.listedAt === undefined;
  if (estate === undefined && (firstContact || seeksRecord || reading.funding.id !== undefined)) {
    return { kind: "read-estate" };
  }
  if (estate !== undefined && !estate.complete) {
    return { kind: "block", reason: "meta_unavailable", ...failureOf(estate.failure) };
  }
  if (reading.funding.id !== undefined) {
    const record = fundingRecord(business.businessId, reading.funding, estate?.records ?? []);
    if (record !== undefined) {
      return record.creditLineId === policy.creditLineId
        ? { kind: "adopt", record }
        : { kind: "refuse", reason: "line_conflict" };
    }
    const unread = estate?.records.find(isUnread);
    if (unread !== undefined) return { kind: "block", reason: "meta_unavailable", ...failureOf(unread.failure) };
    if (!request.partnerSwitch) return { kind: "refuse", reason: "funded_elsewhere" };
    const closedUntil = switchWindowEnd(now);
    if (closedUntil !== undefined) return waitUntil(facts, closedUntil);
  }
  if (waba === undefined && facts.full === true) return { kind: "block", reason: "business_full" };
  if (waba?.status === "allocated" && waba.allocationId !== undefined) {
    return attachBy(request, waba.allocationId, now);
  }
  if (method === "share-and-attach") return { kind: "attempt" };
  return decideRecord(facts, estate?.records ?? [], policy);
}

/**
 * The attempt's own command looks at it at once; others leave it to its due time, or a doubt that waits for a person would
 * be looked at for each of them, and use up Meta's quota (found by simulation).
 */
function looksNow({ probed, request, now }: ShareFacts, attempting: ShareRequest, due: Due | undefined): boolean {
  return probed !== true && (isSame(attempting, request) || due === undefined || due.nextAt <= now);
}

/** What an attempt was not given may end its doubt: the customer's token. No look of both has seen through it yet. */
function lendsToken({ probed, request }: ShareFacts, { request: attempting, intent }: Waba): boolean {
  const lends = attempting.businessTokenSecret === undefined && request.businessTokenSecret !== undefined;
  return probed !== true && lends && intent?.inDoubt === true && intent.clearAt === undefined;
}

/** Two calls: E5 by a live record of the business on this line, or E4 first. A record that cannot be read may be one. */
function decideRecord({ now, request, business }: ShareFacts, records: RecordReading[], policy: Policy): ShareDecision {
  const unread = records.find(isUnread);
  if (unread !== undefined) return { kind: "block", reason: "meta_unavailable", ...failureOf(unread.failure) };
  const live = records.find(
    ({ seen, receivingBusinessId, creditLineId }) =>
      seen === "live" && receivingBusinessId === business.businessId && creditLineId === policy.creditLineId,
  );
  if (live !== undefined) return attachBy(request, live.allocationId, now);
  // Answered a moment ago, and not shown yet, or shown as it was in an earlier life (H18): another E4 would make a second
  // record (found by simulation).
  const young = Object.entries(business.records).find(
    ([, record]) =>
      !isConfirmedDeleted(record) &&
      record.epoch === business.epoch &&
      record.foreign !== true &&
      record.creditLineId === policy.creditLineId &&
      now <= record.recordedAt + policy.settleWindowMs,
  );
  if (young !== undefined) return attachBy(request, young[0], now);
  // Without the customer's token nothing could be attached: then nothing is shared either.
  const attachable = attachBy(request, "", now);
  return attachable.kind === "attach" ? { kind: "allocate" } : attachable;
}

/** E5 is made with the customer's business token. */
function attachBy({ businessTokenSecret }: ShareRequest, allocationId: string, now: number): ShareDecision {
  if (businessTokenSecret !== undefined) return { kind: "attach", allocationId };
  const failure: Failure = {
    at: now,
    reason: "permission_denied",
    message: "share-then-attach needs businessTokenSecret",
  };
  return { kind: "block", reason: "permission_denied", failure };
}

function decideAgainstRevocation(facts: ShareFacts, policy: Policy): ShareDecision | undefined {
  const { now, request, business } = facts;
  const { revocation } = business;
  if (revocation === undefined) return undefined;
  const settledAt = (revocation.doneAt ?? now) + policy.settleWindowMs;
  // Also after `nothing`: until the window is over, a slow worker of that revocation may still DELETE what it lists.
  const unsettled = revocation.state === "open" || now < settledAt;

  // Within the skew the revocation wins (T1). Nothing that may still happen makes such a share acceptable: no need to wait.
  if (request.requestedAt <= revocation.requestedAt + policy.clockSkewMs) {
    const demandsFlag = isLastWord(business, policy) && !request.reshareAfterRevocation;
    return { kind: "refuse", reason: demandsFlag ? "business_revoked" : "superseded" };
  }
  if (unsettled) {
    const openUntil = now + lookDelayMs(business.waiting[request.wabaId]?.due.looks ?? 0, policy.settleWindowMs);
    return waitUntil(facts, revocation.state === "open" ? openUntil : settledAt);
  }
  if (isRevoked(business, policy.clockSkewMs) && !request.reshareAfterRevocation) {
    return { kind: "refuse", reason: "business_revoked" };
  }
  return undefined;
}

/** One share of a WABA waits on the item at a time. A full item takes no new entry, so that a revocation can always be written (I12). */
function waitUntil({ request, business, full }: ShareFacts, until: number): ShareDecision {
  const parked = business.waiting[request.wabaId];
  if (parked !== undefined)
    return isSame(parked.request, request) ? { kind: "wait", until } : { kind: "later", until: parked.due.nextAt };
  return full === true ? { kind: "block", reason: "business_full" } : { kind: "wait", until };
}

function isLastWord(business: Business, policy: Policy): boolean {
  return business.revocation?.state === "open" || isRevoked(business, policy.clockSkewMs);
}

export function isRefusal(
  failure: Failure | undefined,
): failure is Failure & { reason: "refused_by_meta" | "same_business" } {
  return failure?.reason === "refused_by_meta" || failure?.reason === "same_business";
}

export function isUnread(record: RecordReading): boolean {
  return record.seen === "unreadable" || record.seen === "strange";
}

function failureOf(failure: Failure | undefined): { failure?: Failure } {
  return failure === undefined ? {} : { failure };
}

/**
 * S4: the state that must be stored before E2, or before E5 by the record that `allocationId` names.
 */
export function intendShare(facts: ShareFacts, intent: Intent, policy: Policy, allocationId?: string): Change {
  const { business, request } = facts;
  const listed = facts.estate === undefined ? business : withRecords(business, facts.estate, facts.now);
  const attaches =
    allocationId === undefined ? { status: "sharing" as const } : { status: "allocated" as const, allocationId };
  const waba: Waba = {
    ...attaches,
    ...beginning(request, intent.madeAt, policy),
    intent,
    due: dueIn(request, intent.sendDeadline + lookDelayMs(0, policy.settleWindowMs), triesOf(business, request)),
  };
  const next = withWaba(succeeding(listed, request), request.wabaId, waba);
  return {
    business: lookingAgain(next, request.wabaId, facts.now),
    events: [],
    conclusions: displaced(business, request),
  };
}

/** How often this very command was tried in vain: its due time comes ever later. */
function triesOf(business: Business, request: ShareRequest): number {
  const due = business.wabas[request.wabaId]?.due;
  return due !== undefined && isSame(due.request, request) ? due.looks : 0;
}

/** What a WABA's entry holds of the share that begins it. */
function beginning(request: ShareRequest, intendedAt: number, policy: Policy) {
  const { currency } = request;
  const method = request.method ?? policy.shareMethod;
  return { currency, method, creditLineId: policy.creditLineId, request, intendedAt };
}

/** S4 of E4: the note stands on the business, the share waits in `sharing`. */
export function intendRecord(facts: ShareFacts, intent: Intent, policy: Policy): Change {
  const { business, request } = facts;
  const listed = facts.estate === undefined ? business : withRecords(business, facts.estate, facts.now);
  const nextAt = intent.sendDeadline + lookDelayMs(0, policy.settleWindowMs);
  const due = { nextAt, looks: triesOf(business, request), sweeps: 0 };
  const recordIntent = { ...intent, creditLineId: policy.creditLineId, request, due };
  const waba: Waba = { status: "sharing", ...beginning(request, intent.madeAt, policy) };
  const begun = withWaba(succeeding(listed, request), request.wabaId, waba);
  const next = lookingAgain(begun, request.wabaId, facts.now);
  return { business: { ...next, recordIntent }, events: [], conclusions: displaced(business, request) };
}

/** The answer to another command that the WABA still held, and whose place this one takes: nothing on an item is lost (I3). */
function displaced(business: Business, request: ShareRequest): Conclusion[] {
  const waba = business.wabas[request.wabaId];
  if (waba?.due === undefined || isShared(waba) || isSame(waba.due.request, request)) return [];
  return [refuseWaiting(business, waba.due.request, isSharing(waba) ? "superseded" : "business_revoked")];
}

/** The refusal of a command that waited on the item. */
function refuseWaiting(business: Business, request: ShareRequest | VerifyRequest, reason: RefuseReason): Conclusion {
  if (request.type === "share") return refusal(request, reason, business);
  const event: EventDraft = {
    detailType: "Verify Refused",
    commandId: request.commandId,
    wabaId: request.wabaId,
    businessId: business.businessId,
    reason,
    ...statusOf(business.wabas[request.wabaId]),
  };
  return { request, outcome: "refused", reason, event };
}

/** What became of the POST, as the sender knows it. */
export type PostOutcome =
  | { kind: "accepted"; allocationId: string }
  /** No byte left, or Meta rejected it before any effect (throttled, token, permission, policy). */
  | { kind: "no-effect"; failure: Failure; throttledUntil?: number }
  /** Anything else. The id is set when an answer named one but cannot be trusted for this WABA (H27m). */
  | { kind: "unknown"; failure: Failure; allocationId?: string; throttledUntil?: number };

/** The part of the item that a settle writes: guarded by the intent and its epoch, never by the version (T4, H26). */
export type Settlement = {
  /** Whose intent guards the write: the WABA's (E2, E5) or the business's (E4). */
  guard: "waba" | "record";
  wabaId: string;
  intentId: string;
  epoch: number;
  waba: Waba;
  /**
   * The effect is not known, and why: that alone is noted on the intent and the WABA. What a look wrote there meanwhile
   * (an absence, that the doubt was announced) is newer than what the sender knows.
   */
  doubt?: Failure;
  record?: { allocationId: string; record: AllocationRecord };
  change: Change;
};

/**
 * S5. A closed intent keeps a due time: a duplicate of the message that made it may have found the intent, and left the
 * command to the item (found by simulation).
 */
export function settleShare(
  business: Business,
  intent: Intent,
  request: ShareRequest,
  outcome: PostOutcome,
  now: number,
  policy: Policy,
): Settlement {
  const { wabaId } = request;
  const waba = business.wabas[wabaId];
  if (!isSharing(waba)) throw new Error(`WABA ${wabaId} has no attempt to settle`);
  const base = { guard: "waba" as const, wabaId, intentId: intent.id, epoch: intent.epoch };

  if (outcome.kind === "accepted") {
    const { allocationId } = outcome;
    const change = acceptShare(business, wabaId, allocationId, now, policy);
    const accepted = change.business.wabas[wabaId];
    if (accepted === undefined) throw new Error(`WABA ${wabaId} is gone`);
    const known = business.records[allocationId];
    // E5 makes no record: what is known of the one that it names stays.
    const isAttached = waba.status === "allocated";
    if (isAttached && known !== undefined && !isConfirmedDeleted(known)) return { ...base, waba: accepted, change };
    const { creditLineId } = waba;
    const found: AllocationRecord = { creditLineId, epoch: intent.epoch, state: "unknown", recordedAt: now };
    const record = isAttached ? found : { ...found, answered: true as const };
    return { ...base, waba: accepted, record: { allocationId, record }, change };
  }

  // An error on a second attempt may be the first one's effect speaking (H11): it closes nothing.
  if (outcome.kind === "no-effect" && intent.attempt === 1) {
    const { intent: _closed, due, ...rest } = waba;
    const closed: Waba = { ...rest, lastFailure: outcome.failure, due: tryAgain(request, due, now, policy) };
    return { ...base, waba: closed, change: changeTo(withWaba(business, wabaId, closed)) };
  }

  const doubtful: Waba = { ...waba, intent: { ...intent, failure: outcome.failure }, lastFailure: outcome.failure };
  const named = outcome.kind === "unknown" ? outcome.allocationId : undefined;
  return {
    ...base,
    waba: doubtful,
    doubt: outcome.failure,
    ...(named === undefined
      ? {}
      : {
          record: {
            allocationId: named,
            record: { creditLineId: waba.creditLineId, epoch: intent.epoch, state: "unknown", recordedAt: now },
          },
        }),
    change: changeTo(withWaba(business, wabaId, doubtful)),
  };
}

function tryAgain(request: ShareRequest, due: Due | undefined, now: number, policy: Policy): SharingWaba["due"] {
  const looks = (due?.looks ?? 0) + 1;
  return dueIn(request, now + lookDelayMs(looks + 3, policy.settleWindowMs), looks);
}

/** S5 of E4. Accepted: the allocation is recorded before E5 is even thought of. */
export function settleRecord(
  business: Business,
  intent: RecordIntent,
  outcome: PostOutcome,
  now: number,
  policy: Policy,
): Settlement {
  const { request, creditLineId } = intent;
  const { wabaId } = request;
  const waba = business.wabas[wabaId];
  if (!isSharing(waba)) throw new Error(`WABA ${wabaId} has no share to settle`);
  const { recordIntent: _settled, ...settled } = business;
  const base = { guard: "record" as const, wabaId, intentId: intent.id, epoch: intent.epoch };

  if (outcome.kind === "accepted") {
    const { allocationId } = outcome;
    const record = {
      creditLineId,
      epoch: intent.epoch,
      state: "unknown",
      recordedAt: now,
      answered: true,
    } as const;
    const allocated = allocate(waba, allocationId, now);
    return {
      ...base,
      waba: allocated,
      record: { allocationId, record },
      change: changeTo(withWaba(settled, wabaId, allocated)),
    };
  }
  if (outcome.kind === "no-effect" && intent.attempt === 1) {
    const closed: Waba = { ...waba, lastFailure: outcome.failure, due: tryAgain(request, intent.due, now, policy) };
    return { ...base, waba: closed, change: changeTo(withWaba(settled, wabaId, closed)) };
  }
  const recordIntent = { ...intent, failure: outcome.failure };
  const doubtful: Waba = { ...waba, lastFailure: outcome.failure };
  const next = { ...withWaba(business, wabaId, doubtful), recordIntent };
  return { ...base, waba: doubtful, doubt: outcome.failure, change: changeTo(next) };
}

/** Shared with the business; the attachment falls due in the same write. */
export function allocate(waba: SharingWaba, allocationId: string, now: number): Waba {
  const { lastFailure: _healed, ...rest } = waba;
  return { ...rest, status: "allocated", allocationId, due: dueIn(waba.request, now) };
}

/** The WABA is shared: its verification falls due in the same write (S8). */
export function acceptShare(
  business: Business,
  wabaId: string,
  allocationId: string,
  now: number,
  policy: Policy,
): Change {
  const waba = business.wabas[wabaId];
  if (waba === undefined) throw new Error(`WABA ${wabaId} is unknown`);
  const { intent: _settled, due, lastFailure: _healed, ...rest } = { intent: undefined, ...waba };
  const { request } = waba;
  const graceMs = policy.verifyGraceMs[0] ?? 0;
  // A due time that stands in the index and comes soon enough stays: to move it would cost two writes there.
  const isSoon = due !== undefined && due.nextAt >= now + graceMs && due.nextAt <= now + 2 * graceMs;
  const shared: SharedWaba = {
    ...rest,
    status: "shared",
    allocationId,
    due: dueIn(request, isSoon ? due.nextAt : now + graceMs),
  };
  const event = shareEvent("Share Accepted", business.businessId, shared, waba.status);
  return {
    business: withWaba(business, wabaId, shared),
    events: [],
    conclusions: [{ request, outcome: "done", event }],
  };
}

/** A record that funds a WABA begins a life: whatever was confirmed of an earlier one under the same id is void (A5, H18). */
export function withLive(
  business: Business,
  { allocationId, creditLineId, readAt }: RecordReading,
  now: number,
): Business {
  const known = business.records[allocationId];
  if (known !== undefined && known.deleteAnswered === undefined) return business;
  const recordedAt = knownFrom(business, now);
  const record: AllocationRecord = { creditLineId, epoch: business.epoch, state: "live", recordedAt, readAt };
  return { ...business, records: { ...business.records, [allocationId]: record } };
}

/** What a probe saw may be a sibling's record: what the POST itself made is not known before its window is over. */
export function unanswered(business: Business, { sendDeadline }: Intent): Business {
  return { ...business, unansweredAt: Math.max(sendDeadline, business.unansweredAt ?? 0) };
}

/** S3 "adopt": the line already funds this WABA by a live record of ours; nothing is sent. */
export function adoptShare(facts: ShareFacts, record: RecordReading, policy: Policy): Change {
  const { business, request, now } = facts;
  const listed = withLive(
    facts.estate === undefined ? business : withRecords(business, facts.estate, now),
    record,
    now,
  );
  const shared: SharedWaba = {
    status: "shared",
    ...beginning(request, now, policy),
    creditLineId: record.creditLineId,
    allocationId: record.allocationId,
    due: dueIn(request, now + (policy.verifyGraceMs[0] ?? 0)),
  };
  const adopted = withWaba(succeeding(listed, request), request.wabaId, shared);
  const next = lookingAgain(adopted, request.wabaId, now);
  const event: EventDraft = {
    ...shareEvent("Share Accepted", business.businessId, shared, business.wabas[request.wabaId]?.status),
    reason: "adopted",
  };
  return {
    business: next,
    events: [],
    conclusions: [{ request, outcome: "done", event }, ...displaced(business, request)],
  };
}

/** Remembers the newest flagged share that found its WABA shared: an older revoke that arrives later yields to it (R2, H6b). */
function withReshare(business: Business, { commandId, requestedAt, reshareAfterRevocation }: ShareRequest): Business {
  const newest = business.reshare === undefined || requestedAt > business.reshare.requestedAt;
  return reshareAfterRevocation && newest ? { ...business, reshare: { commandId, requestedAt } } : business;
}

/**
 * The item as another share takes the WABA's entry over. What a re-share has begun there stays one: an older revoke yields to
 * it, and no scan takes its record for one that was left behind, though the share that goes on with it carries no flag.
 */
function succeeding(business: Business, request: ShareRequest): Business {
  const before = business.wabas[request.wabaId];
  const goesOn = before !== undefined && isHeld(before);
  return withoutOwn(goesOn ? withReshare(business, before.request) : business, request);
}

/** Parks a share on the item until the revocation or the attempt before it is settled. */
export function parkShare({ business, request, now }: ShareFacts, until: number): Change {
  const parked = business.waiting[request.wabaId];
  const due = { nextAt: Math.max(until, now), looks: parked === undefined ? 0 : parked.due.looks + 1, sweeps: 0 };
  // An attempt of its own that was closed leaves the WABA: a command stands on the item once.
  const own = withoutOwn(business, request);
  return changeTo({ ...own, waiting: { ...own.waiting, [request.wabaId]: { request, due } } });
}

/** Answers a share that is already true, with the event of the state it asked for. */
export function concludeShare({ business, request, now }: ShareFacts): Change {
  const waba = business.wabas[request.wabaId];
  if (!isShared(waba)) throw new Error(`WABA ${request.wabaId} is not shared`);
  const event = {
    ...shareEvent(statusEvents[waba.status], business.businessId, waba, waba.status),
    commandId: request.commandId,
  };
  return {
    // Where Meta said that it left, this share says that it is back: E3 must decide between them.
    business: lookingAgain(withReshare(withoutOwn(business, request), request), request.wabaId, now),
    events: [],
    conclusions: [{ request, outcome: "done", event }],
  };
}

/**
 * Refuses the command. The WABA's status is not touched (I11). The item is written even so, also where there was none: a
 * duplicate that judges by the same state must lose its write, or it would share what was refused (found by simulation).
 */
export function refuse(business: Business, request: ShareRequest, reason: RefuseReason, failure?: Failure): Change {
  return {
    business: { ...withoutOwn(business, request) },
    events: [],
    conclusions: [refusal(request, reason, business, failure)],
  };
}

/** @param business undefined while the owner is not known. */
export function refusal(
  request: ShareRequest,
  reason: RefuseReason,
  business?: Business,
  failure?: Failure,
): Conclusion {
  return {
    request,
    outcome: "refused",
    reason,
    ...failureOf(failure),
    event: {
      detailType: "Share Refused",
      commandId: request.commandId,
      wabaId: request.wabaId,
      currency: request.currency,
      reason,
      ...(business === undefined ? {} : { businessId: business.businessId }),
      ...statusOf(business?.wabas[request.wabaId]),
    },
  };
}

/** A command that a revocation overtook while it was on the item is answered, and its due time ends. */
export function answerRevoked(business: Business, wabaId: string): Change | undefined {
  const waba = business.wabas[wabaId];
  if (waba === undefined || !isOvertaken(waba)) return undefined;
  const { request } = waba.due;
  const next = withoutOwn(business, request);
  return { business: next, events: [], conclusions: [refuseWaiting(business, request, "business_revoked")] };
}

function isOvertaken(waba: Waba): waba is Waba & { due: NonNullable<Waba["due"]> } {
  return waba.due !== undefined && (waba.status === "revoking" || waba.status === "revoked");
}

/** The item without what it held for this very command: its place among the waiting, and the due time of an entry it has left. */
export function withoutOwn(business: Business, request: ShareRequest | VerifyRequest): Business {
  const { wabaId } = request;
  const parked = business.waiting[wabaId];
  const unparked =
    parked !== undefined && isSame(parked.request, request) ? withoutWaiting(business, wabaId) : business;
  const waba = unparked.wabas[wabaId];
  if (waba?.due === undefined || !isSame(waba.due.request, request)) return unparked;
  const isLeft = isOvertaken(waba) || (isSharing(waba) && waba.intent === undefined);
  if (!isLeft) return unparked;
  const { due: _answered, ...rest } = { due: undefined, ...waba };
  return withWaba(unparked, wabaId, rest);
}

const statusEvents = {
  shared: "Share Accepted",
  verified: "Share Verified",
  pending: "Share Pending",
  mismatched: "Share Mismatched",
} as const satisfies Record<SharedWaba["status"], DetailType>;

/** The event that says a WABA's status, in the name of the share that made it. */
export function shareEvent(
  detailType: DetailType,
  businessId: string,
  waba: Waba,
  previousStatus: Waba["status"] | undefined,
): EventDraft {
  return {
    detailType,
    commandId: waba.request.commandId,
    wabaId: waba.request.wabaId,
    businessId,
    creditLineId: waba.creditLineId,
    currency: waba.currency,
    status: waba.status,
    ...(waba.allocationId === undefined ? {} : { allocationConfigId: waba.allocationId }),
    ...(previousStatus === undefined ? {} : { previousStatus }),
  };
}

export function statusEvent(status: SharedWaba["status"]): DetailType {
  return statusEvents[status];
}

function statusOf(waba: Waba | undefined): { status?: string } {
  return waba === undefined ? {} : { status: waba.status };
}

export function changeTo(business: Business): Change {
  return { business, events: [], conclusions: [] };
}
