import type {
  AllocationRecord,
  Business,
  Change,
  Conclusion,
  Due,
  Policy,
  Revocation,
  RevokeRequest,
  ShareRequest,
  Waba,
} from "./business.ts";
import {
  dueIn,
  isAutomatic,
  isHeld,
  isSame,
  isShared,
  lookDelayMs,
  reopened,
  resharedAt,
  windowEnd,
} from "./business.ts";
import { recheckAfterSwitch, startOfNextMonth } from "./calendar.ts";
import type { EventDraft } from "./events.ts";
import type { EstateReading, RecordReading } from "./readings.ts";
import { isConfirmedDeleted, withRecords } from "./readings.ts";
import type { OpenReason, RefuseReason } from "./reasons.ts";

export type RevokeDecision =
  | { kind: "join" }
  | { kind: "drive" }
  | { kind: "reused" }
  | { kind: "superseded" }
  | { kind: "later" }
  | { kind: "announce-again" }
  /** An automatic one: `decideRemoval` says what becomes of it. */
  | { kind: "removal" }
  | { kind: "mark" };

/**
 * R2, in its order: an open revocation is always driven, whatever else the command is (H6b).
 * @param fulfilled this very command was concluded before: a redrive of it must not revoke what was shared after it.
 */
export function decideRevoke(
  business: Business,
  request: RevokeRequest,
  fulfilled: boolean,
  policy: Policy,
): RevokeDecision {
  const { revocation } = business;
  if (revocation?.state === "open") {
    // What is held joins by its own look: nothing may be answered twice in the write that ends it.
    const all = [revocation.request, ...revocation.joined, ...(business.held?.requests ?? [])];
    const known = all.find((one) => one.commandId === request.commandId);
    if (known !== undefined) return { kind: isSame(known, request) ? "drive" : "reused" };
    return { kind: "join" };
  }
  const waiting = business.held?.requests.find((one) => one.commandId === request.commandId);
  if (waiting !== undefined && !isSame(waiting, request)) return { kind: "reused" };
  const over = revocation?.state === "done" || revocation?.state === "nothing";
  const answered = fulfilled && revocation !== undefined && request.requestedAt <= revocation.requestedAt;
  const isAnswered = over && (answered || !hasAnythingToRevoke(business));
  if (isAutomatic(request)) return { kind: isAnswered ? "announce-again" : "removal" };
  const reshared = resharedAt(business);
  if (reshared !== undefined && reshared > request.requestedAt + policy.clockSkewMs) {
    // While every newer re-share is in flight, it is not known whether any is accepted: if none is, this revoke stands.
    return { kind: isReshareProven(business, request, policy) ? "superseded" : "later" };
  }
  // Hands may have shared since, which no item tells: who asks after the last look gets one of its own (A7).
  const isLater = !answered && request.requestedAt > (revocation?.doneAt ?? -Infinity);
  return { kind: isAnswered && !isLater ? "announce-again" : "mark" };
}

function isReshareProven(business: Business, request: RevokeRequest, policy: Policy): boolean {
  const settled = Object.entries(business.wabas).filter(([, waba]) => isShared(waba) || waba.status === "allocated");
  const { recordIntent: _inFlight, ...rest } = business;
  const proven = resharedAt({ ...rest, wabas: Object.fromEntries(settled) });
  return proven !== undefined && proven > request.requestedAt + policy.clockSkewMs;
}

/** Anything that is, or may become, a live line of ours. */
function hasAnythingToRevoke(business: Business): boolean {
  const wabas = Object.values(business.wabas).some((waba) => waba.status !== "revoked" || waba.intent !== undefined);
  const records = Object.values(business.records).some(
    (record) => !isConfirmedDeleted(record) && record.foreign !== true,
  );
  return wabas || records || business.recordIntent !== undefined || business.held !== undefined;
}

/** At most this many further commands are answered by one revocation; another one comes back later. */
export const joinedMax = 20;

/**
 * The marker, written before any listing. Intents are kept: what they may still do decides when it is done (R5). What was
 * held is answered by it: an operator's revoke takes along what the sibling rule or the breaker made wait.
 */
export function markRevocation(business: Business, request: RevokeRequest, now: number): Change {
  const epoch = business.epoch + 1;
  const { recordIntent } = business;
  const wabas = Object.fromEntries(
    Object.entries(business.wabas).map(([wabaId, waba]): [string, Waba] => {
      const allocating = recordIntent?.request.wabaId === wabaId ? recordIntent.request : undefined;
      return [wabaId, marked(waba, allocating, now)];
    }),
  );
  const { held, ...rest } = business;
  const joined = held?.requests.filter((one) => one.commandId !== request.commandId) ?? [];
  const times = [request, ...joined].map(({ requestedAt }) => requestedAt);
  const revocation: Revocation = {
    request,
    requestedAt: Math.max(...times, business.revocation?.requestedAt ?? 0),
    state: "open",
    epoch,
    startedAt: now,
    joined,
    due: { nextAt: now, looks: 0, sweeps: 0 },
  };
  const next: Business = { ...rest, epoch, wabas, revocation };
  if (recordIntent !== undefined) {
    const { due: _overtaken, ...note } = recordIntent;
    next.recordIntent = note;
  }
  const event: EventDraft = {
    detailType: "Revocation Started",
    commandId: request.commandId,
    businessId: business.businessId,
    reason: request.reason,
    ...wabaIdsOf(business),
  };
  return { business: next, events: [event], conclusions: [] };
}

/** @param allocating the share of this WABA whose E4 is out: its note is the business's. */
function marked(waba: Waba, allocating: ShareRequest | undefined, now: number): Waba {
  if (waba.status === "revoked") return waba;
  const { due, ...rest } = { due: undefined, ...waba };
  // A share whose verification was under way has its answer already.
  const verifying = isShared(waba) && due?.request.type === "share";
  const waiting = allocating ?? (verifying ? undefined : due?.request);
  // A command that waited on the WABA is answered by its own due time, so that this write stays small (I12).
  return { ...rest, status: "revoking", ...(waiting === undefined ? {} : { due: dueIn(waiting, now) }) };
}

export function joinRevocation(business: Business, request: RevokeRequest): Change {
  const { revocation } = business;
  if (revocation === undefined) throw new Error("There is no revocation to join");
  const joined = {
    ...revocation,
    joined: [...revocation.joined, request],
    requestedAt: Math.max(revocation.requestedAt, request.requestedAt),
  };
  return { business: { ...business, revocation: joined }, events: [], conclusions: [] };
}

/** A revocation that was opened again takes along what was held meanwhile. */
export function joinHeld(business: Business): Change {
  const { held, ...rest } = business;
  const unheld = { business: rest, events: [], conclusions: [] };
  return (held?.requests ?? []).reduce((change: Change, one) => joinRevocation(change.business, one), unheld);
}

/** A revocation that is over answers another command too; a later `requestedAt` still moves the bar for re-shares (T1). */
export function announceRevokedAgain(business: Business, request: RevokeRequest): Change {
  const { revocation } = business;
  if (revocation === undefined) throw new Error("There is no revocation to announce");
  const requestedAt = Math.max(revocation.requestedAt, request.requestedAt);
  return {
    business: { ...business, revocation: { ...revocation, requestedAt } },
    events: [],
    conclusions: [concludeRevoke(business, request, revocation.state)],
  };
}

export function refuseRevoke(businessId: string | undefined, request: RevokeRequest, reason: RefuseReason): Conclusion {
  return {
    request,
    outcome: "refused",
    reason,
    event: {
      detailType: "Revoke Refused",
      commandId: request.commandId,
      ...(businessId === undefined ? {} : { businessId }),
      ...(request.wabaId === undefined ? {} : { wabaId: request.wabaId }),
      reason,
    },
  };
}

/** A DELETE is sent only for a record that this run has read and that names this business (I5), whatever its status says (H18). */
export function mayDelete(business: Business, reading: RecordReading): boolean {
  if (reading.receivingBusinessId !== business.businessId) return false;
  const record = business.records[reading.allocationId];
  return record?.deleteAnswered?.epoch !== business.revocation?.epoch || reading.seen !== "deleted";
}

/**
 * What is about to be deleted, but is not on the item or believed to be dead there, is stored first: a run that dies after
 * the DELETE would leave nothing that asks for its confirmation (found by simulation).
 */
export function withDeletions(business: Business, { records: readings }: EstateReading, now: number): Business {
  const news = readings.filter((reading) => {
    const known = business.records[reading.allocationId];
    return (known === undefined || isConfirmedDeleted(known)) && mayDelete(business, reading);
  });
  if (news.length === 0) return business;
  const records = { ...business.records };
  for (const { allocationId, creditLineId, seen, readAt } of news) {
    const state = seen === "deleted" ? "unknown" : "live";
    records[allocationId] = { creditLineId, epoch: business.epoch, state, recordedAt: now, readAt };
  }
  return { ...business, records };
}

/**
 * Whether an answer to a DELETE is definite (R4). `refused` says that nothing was there to delete: while E6 may still show an
 * earlier life of the id, the two together prove nothing (H18; found by simulation).
 */
export function isDeleteAnswer(
  { records }: Business,
  allocationId: string,
  { kind, at }: { kind: "definite" | "refused"; at: number },
  { settleWindowMs }: Policy,
): boolean {
  return kind === "definite" || at > (records[allocationId]?.recordedAt ?? at) + settleWindowMs;
}

/** What one run of a revocation did and saw. */
export type RevocationRun = {
  /** The list that the DELETEs were drawn from, with E6 of each record before its DELETE. */
  estate: EstateReading;
  /** Definite answers to DELETEs, by allocation id: when. */
  deleted: Record<string, number>;
  /** E6 after the DELETEs. */
  confirmed: RecordReading[];
  /** A complete list begun after the last DELETE (the first one, when nothing was deleted). */
  fresh: EstateReading;
  /** A readable WABA of the business is still paid for by a record of ours; `unread` when that could not be found out. */
  stillFunded: boolean | "unread";
};

/** R4, R5 and R6: what the run proves, and whether the word "done" may be said. */
export function recordRun(business: Business, run: RevocationRun, now: number, policy: Policy): Change {
  const { revocation } = business;
  if (revocation?.state !== "open") throw new Error("There is no open revocation to record a run of");
  const listed = withRecords(withRecords(business, run.estate, now), run.fresh, now);
  const records = { ...listed.records };
  for (const [allocationId, at] of Object.entries(run.deleted)) {
    const record = records[allocationId];
    if (record !== undefined) records[allocationId] = { ...record, deleteAnswered: { at, epoch: revocation.epoch } };
  }
  for (const reading of run.confirmed) {
    const record = records[reading.allocationId];
    if (record !== undefined) records[reading.allocationId] = afterDelete(record, reading, run.fresh, policy);
  }

  const openReason = whyOpen({ ...listed, records }, revocation, run, policy);
  const recorded: Business = { ...listed, records };
  return openReason === undefined
    ? finish(recorded, revocation, now)
    : stayOpen(recorded, revocation, openReason, now, policy);
}

function afterDelete(
  record: AllocationRecord,
  reading: RecordReading,
  fresh: EstateReading,
  policy: Policy,
): AllocationRecord {
  const { deleteAnswered } = record;
  if (deleteAnswered === undefined) return record;
  if (reading.seen === "live" || reading.seen === "deleted") {
    return { ...record, state: reading.seen, readAt: reading.readAt, absentLooks: 0 };
  }
  // A deleted record may become unreadable: after the window, gone from E8 and E6 twice is a confirmation too (H27g).
  const unlisted = fresh.complete && fresh.listed[reading.allocationId] === undefined;
  if (reading.seen !== "missing" || !unlisted || reading.readAt <= deleteAnswered.at + policy.settleWindowMs)
    return record;
  const absentLooks = (record.absentLooks ?? 0) + 1;
  return absentLooks < 2
    ? { ...record, absentLooks }
    : { ...record, absentLooks, state: "deleted", readAt: reading.readAt };
}

function whyOpen(
  business: Business,
  revocation: Revocation,
  run: RevocationRun,
  policy: Policy,
): OpenReason | undefined {
  const intents = [business.recordIntent, ...Object.values(business.wabas).map(({ intent }) => intent)];
  // The whole run, not its last list alone: where a POST revives what this revocation has deleted, only E6 tells, and a
  // worker may freeze between the two.
  const { startedAt } = run.estate;
  const unanswered = intents.some(
    (intent) =>
      intent !== undefined && intent.epoch < revocation.epoch && startedAt <= windowEnd(intent, policy.settleWindowMs),
  );
  const settledUnseen = (business.unansweredAt ?? -Infinity) + policy.settleWindowMs;
  if (unanswered || startedAt <= settledUnseen) return "share_in_flight";
  if (!run.estate.complete || !run.fresh.complete) {
    const failure = run.fresh.failure ?? run.estate.failure;
    if (failure?.reason === "token_dead" || failure?.reason === "permission_denied") return failure.reason;
    return "unreadable";
  }
  const own = Object.entries(business.records).filter(([, record]) => record.foreign !== true);
  const open = own.filter(([, record]) => !isConfirmedDeleted(record));
  if (open.length > 0) {
    const unread = open.some(([id]) =>
      run.estate.records.some((one) => one.allocationId === id && one.seen !== "live" && one.seen !== "deleted"),
    );
    return unread ? "unreadable" : "not_confirmed";
  }
  // All of ours is confirmed deleted; what the fresh list still names must be so in this very revocation.
  const stillListed = Object.entries(run.fresh.listed).some(([id, { deleted }]) => {
    const record = business.records[id];
    if (record?.foreign === true || deleted) return false;
    return record?.deleteAnswered?.epoch !== revocation.epoch;
  });
  if (stillListed) return "not_confirmed";
  if (run.stillFunded === "unread") return "unreadable";
  return run.stillFunded ? "still_funded" : undefined;
}

function finish(business: Business, revocation: Revocation, now: number): Change {
  const { openReason: _closed, due: _due, incompleteAnnounced: _said, ...rest } = revocation;
  const { recordIntent: _over, unansweredAt: _listed, ...settled } = business;
  const own = Object.values(business.records).filter((record) => record.foreign !== true);
  const state = own.length === 0 ? "nothing" : "done";
  const wabas = Object.fromEntries(
    Object.entries(business.wabas).map(([wabaId, waba]): [string, Waba] => {
      const { intent: _settled, ...revoked } = { intent: undefined, ...waba };
      return [wabaId, { ...revoked, status: "revoked" }];
    }),
  );
  const next: Business = {
    ...settled,
    wabas,
    revocation: { ...rest, joined: [], state, doneAt: now, ...recheck(business, now) },
  };
  const conclusions = [revocation.request, ...revocation.joined].map((request) => concludeRevoke(next, request, state));
  return { business: next, events: [], conclusions };
}

/** A partner switch that was revoked before the 1st may still take effect then: it is looked at once more (R6, H27c). */
function recheck(business: Business, now: number): { due?: Due } {
  const switches = Object.values(business.wabas).flatMap((waba) => switchesAt(waba) ?? []);
  const times = switches.map(recheckAfterSwitch).filter((time) => time > now);
  return times.length === 0 ? {} : { due: { nextAt: Math.max(...times), looks: 0, sweeps: 0 } };
}

/** One that no verification has found pending yet takes effect in the month after its attempt, like any other. */
function switchesAt(waba: Waba): number | undefined {
  if ("pendingUntil" in waba && waba.pendingUntil !== undefined) return waba.pendingUntil;
  const isUnproven = waba.request.partnerSwitch && waba.evidence?.verifiedAt === undefined;
  return isUnproven && waba.intendedAt !== undefined ? startOfNextMonth(waba.intendedAt) : undefined;
}

/** What that look found: nothing, and it is over; or a line of ours at work, and the revocation is open again (C3). */
export function recordRecheck(business: Business, estate: EstateReading, stillFunded: boolean, now: number): Change {
  const { revocation } = business;
  if (revocation === undefined || revocation.state === "open")
    throw new Error("There is no revocation to look at once more");
  const known = withRecords(business, estate, now);
  const live = estate.records.some(
    ({ seen, receivingBusinessId }) => seen === "live" && receivingBusinessId === business.businessId,
  );
  const { due: _looked, ...rest } = revocation;
  // Re-opening would take along what was shared since (H7c).
  const sharedSince = business.recordIntent !== undefined || Object.values(business.wabas).some(isHeld);
  if (sharedSince || (!live && !stillFunded))
    // A scan may have asked for it: the look after the 1st is still to come.
    return { business: { ...known, revocation: { ...rest, ...recheck(known, now) } }, events: [], conclusions: [] };
  const event: EventDraft = {
    detailType: "Revocation Started",
    commandId: revocation.request.commandId,
    businessId: business.businessId,
    reason: "late_record",
    ...wabaIdsOf(business),
  };
  const due = { nextAt: now, looks: 0, sweeps: 0 };
  return { business: reopened(known, rest, due), events: [event], conclusions: [] };
}

function concludeRevoke(business: Business, request: RevokeRequest, state: Revocation["state"]): Conclusion {
  return {
    request,
    outcome: "done",
    event: {
      detailType: "Credit Line Revoked",
      commandId: request.commandId,
      businessId: business.businessId,
      ...(request.wabaId === undefined ? {} : { wabaId: request.wabaId }),
      ...wabaIdsOf(business),
      status: "revoked",
      reason: state === "nothing" ? "nothing_to_revoke" : request.reason,
    },
  };
}

function stayOpen(
  business: Business,
  revocation: Revocation,
  openReason: OpenReason,
  now: number,
  policy: Policy,
): Change {
  const looks = (revocation.due?.looks ?? 0) + 1;
  // A run before its time, by a command that joined, does not put off the look that is due (found by simulation).
  const isEarly = revocation.due !== undefined && now < revocation.due.nextAt;
  const later = { nextAt: now + lookDelayMs(looks, policy.settleWindowMs), looks, sweeps: 0 };
  const due = isEarly ? revocation.due : later;
  const next: Business = { ...business, revocation: { ...revocation, openReason, due, incompleteAnnounced: true } };
  const event: EventDraft = {
    detailType: "Revocation Incomplete",
    commandId: revocation.request.commandId,
    businessId: business.businessId,
    reason: openReason,
    ...wabaIdsOf(business),
  };
  return { business: next, events: revocation.incompleteAnnounced === true ? [] : [event], conclusions: [] };
}

function wabaIdsOf(business: Business): { wabaIds?: string[] } {
  const wabaIds = Object.keys(business.wabas).slice(0, 100);
  return wabaIds.length === 0 ? {} : { wabaIds };
}
