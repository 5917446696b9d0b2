import type { AllocationRecord, Business, Change, Due, Intent, Policy, ShareRequest, Waba } from "./business.ts";
import {
  dueIn,
  isHeld,
  isShared,
  isSharing,
  lookDelayMs,
  reopened,
  windowEnd,
  windowsEnd,
  withWaba,
} from "./business.ts";
import type { EventDraft } from "./events.ts";
import type { EstateReading, Funding, RecordReading } from "./readings.ts";
import { fundingRecord, knownFrom, withRecords } from "./readings.ts";
import type { Failure, RefuseReason } from "./reasons.ts";
import {
  acceptShare,
  allocate,
  changeTo,
  isRefusal,
  isUnread,
  refuse,
  shareEvent,
  unanswered,
  withLive,
} from "./share.ts";

/** What a look at an unsettled attempt found (S6). */
export type ProbeFinding =
  | { kind: "applied"; record: RecordReading }
  | { kind: "absent" }
  | { kind: "second-post" }
  | { kind: "refused"; reason: RefuseReason; failure: Failure }
  | { kind: "cannot-tell" }
  | { kind: "in-doubt" };

export type Probe = { funding: Funding; estate: EstateReading; startedAt: number };

export function judgeProbe(business: Business, wabaId: string, probe: Probe, policy: Policy): ProbeFinding {
  const waba = business.wabas[wabaId];
  if (!isSharing(waba) || waba.intent === undefined) throw new Error(`WABA ${wabaId} has no attempt to look at`);
  const { intent } = waba;
  // A record of another line of ours is not what this POST made (H27m).
  const sameLine = probe.estate.records.filter((one) => one.creditLineId === waba.creditLineId);
  const record = fundingRecord(business.businessId, probe.funding, sameLine);
  if (record !== undefined) return { kind: "applied", record };

  const afterWindow = probe.startedAt > windowsEnd(business, intent, policy.settleWindowMs);
  const finding = judgeAbsence(intent, isAbsent(business, intent, probe, afterWindow), afterWindow, policy);
  // A live record may explain itself, and not whether the lost POST attached this WABA to it (found by simulation).
  return finding.kind === "second-post" && isUnseen(probe) ? { kind: "in-doubt" } : finding;
}

/** Something could pay, and only one token was there to say that it does not. */
export function isUnseen({ funding, estate }: Probe): boolean {
  return funding.known && funding.blind === true && estate.records.some(({ seen }) => seen === "live");
}

/** S6 of E4: what a look at the line's records says of the note on the business. */
export function judgeRecordProbe(business: Business, probe: Probe, policy: Policy): ProbeFinding {
  const { recordIntent: intent } = business;
  if (intent === undefined) throw new Error("The business has no E4 to look at");
  const { estate } = probe;
  const own = estate.records.filter(
    ({ receivingBusinessId, creditLineId }) =>
      creditLineId === intent.creditLineId && receivingBusinessId === business.businessId,
  );
  // No record was live when the note was written: one that is now is this POST's, or as good as it.
  const record = own.find(({ seen }) => seen === "live");
  if (record !== undefined) return { kind: "applied", record };
  const absent = estate.complete && !estate.records.some(isUnread);
  const afterWindow = probe.startedAt > windowEnd(intent, policy.settleWindowMs);
  return judgeAbsence(intent, absent, afterWindow, policy);
}

/** S6: two absences, the later one begun after the window, end the doubt of a first attempt; all else is a person's. */
function judgeAbsence(intent: Intent, absent: boolean, afterWindow: boolean, policy: Policy): ProbeFinding {
  if (!absent) return { kind: afterWindow ? "in-doubt" : "cannot-tell" };
  if (!afterWindow || intent.absentAt === undefined) return { kind: "absent" };
  if (intent.attempt > 1) return { kind: "in-doubt" };
  // Meta's error named a fault of the command, and two looks say that nothing came of it: that is a refusal, not a doubt.
  const { failure } = intent;
  if (isRefusal(failure)) return { kind: "refused", reason: failure.reason, failure };
  return { kind: policy.secondPost === "auto" ? "second-post" : "in-doubt" };
}

/** E7 readable and empty, and no live record at Meta that nothing but the lost POST would explain. */
function isAbsent(business: Business, intent: Intent, probe: Probe, afterWindow: boolean): boolean {
  const { funding, estate } = probe;
  if (!funding.known || funding.id !== undefined || !estate.complete) return false;
  return Object.keys(estate.listed).every((allocationId) => {
    const seen = estate.records.find((reading) => reading.allocationId === allocationId);
    if (seen === undefined || seen.seen === "unreadable" || seen.seen === "strange") return false;
    if (seen.seen !== "live") return true;
    if (seen.receivingBusinessId !== business.businessId) return seen.receivingBusinessId !== undefined;
    return isExplained(business, intent, allocationId, probe, afterWindow);
  });
}

/**
 * A live record is explained by having been known before the intent, or as what another POST made. That a sibling uses it
 * explains nothing: it may have attached itself to what the lost POST made (found by simulation).
 * @param afterWindow the probe began after all windows: by then each POST in doubt has shown whatever record it made.
 */
export function isExplained(
  { records }: Business,
  intent: Intent,
  allocationId: string,
  probe: Probe,
  afterWindow: boolean,
): boolean {
  const record = records[allocationId];
  // An id that came back to life is not explained by its earlier one.
  if (record === undefined || record.state === "deleted") return false;
  if (record.recordedAt <= intent.madeAt || record.answered === true) return true;
  return record.proven === true && afterWindow && isOnlyPayer(allocationId, probe);
}

/** Of several records that pay by one credential (unknown 4), a proof may have meant any. */
function isOnlyPayer(allocationId: string, { estate }: Probe): boolean {
  const credential = estate.records.find((one) => one.allocationId === allocationId)?.receivingCredentialId;
  const payers = estate.records.filter((one) => one.seen === "live" && one.receivingCredentialId === credential);
  return credential !== undefined && payers.length === 1;
}

export function intendSecondPost(
  business: Business,
  wabaId: string,
  probe: Probe,
  intent: Intent,
  now: number,
  policy: Policy,
): Change {
  const known = withRecords(business, probe.estate, now);
  const waba = known.wabas[wabaId];
  if (!isSharing(waba)) throw new Error(`WABA ${wabaId} has no attempt to repeat`);
  const due = dueIn(waba.request, intent.sendDeadline + lookDelayMs(0, policy.settleWindowMs));
  return changeTo(withWaba(known, wabaId, { ...waba, intent, due }));
}

/** The second and last E4. */
export function intendSecondRecord(
  business: Business,
  probe: Probe,
  intent: Intent,
  now: number,
  policy: Policy,
): Change {
  const known = withRecords(business, probe.estate, now);
  const { recordIntent } = known;
  if (recordIntent === undefined) throw new Error("The business has no E4 to repeat");
  const due = { nextAt: intent.sendDeadline + lookDelayMs(0, policy.settleWindowMs), looks: 0, sweeps: 0 };
  const { creditLineId, request } = recordIntent;
  return changeTo({ ...known, recordIntent: { ...intent, creditLineId, request, due } });
}

/** Records a look at the E4's note. Applied: the share goes on at E5 by its due time, whoever looked. */
export function recordRecordProbe(
  business: Business,
  probe: Probe,
  finding: Exclude<ProbeFinding, { kind: "second-post" }>,
  now: number,
  policy: Policy,
): Change {
  const known = withRecords(business, probe.estate, now);
  const { recordIntent, ...settled } = known;
  if (recordIntent === undefined) throw new Error("The business has no E4 to look at");
  const { request } = recordIntent;
  const waba = known.wabas[request.wabaId];
  if (!isSharing(waba)) throw new Error(`WABA ${request.wabaId} has no share to look at`);
  if (finding.kind === "applied") {
    const allocated = allocate(waba, finding.record.allocationId, now);
    const live = withLive(unanswered(settled, recordIntent), finding.record, now);
    return changeTo(withWaba(live, request.wabaId, allocated));
  }
  if (finding.kind === "refused") return refuse(settled, request, finding.reason, finding.failure);
  const end = windowEnd(recordIntent, policy.settleWindowMs);
  const { intent, due, announce } = afterLook(recordIntent, recordIntent.due, finding, probe, end, now, policy);
  const next = { ...known, recordIntent: { ...recordIntent, ...intent, due } };
  return { business: next, events: announce ? [inDoubt(business, waba, recordIntent)] : [], conclusions: [] };
}

/** The note after a look that did not settle it: the next look comes later, but never steps over the end of the window. */
function afterLook(
  intent: Intent,
  due: Due | undefined,
  finding: { kind: "absent" | "cannot-tell" | "in-doubt" },
  probe: Probe,
  end: number,
  now: number,
  policy: Policy,
): { intent: Intent; due: Due; announce: boolean } {
  const looks = (due?.looks ?? 0) + 1;
  const later = now + lookDelayMs(looks, policy.settleWindowMs);
  return {
    intent: {
      ...intent,
      ...(finding.kind === "absent" && intent.absentAt === undefined ? { absentAt: probe.startedAt } : {}),
      ...(finding.kind === "in-doubt" ? { inDoubt: true } : {}),
    },
    due: { nextAt: now <= end ? Math.min(later, end + 1) : later, looks, sweeps: 0 },
    announce: finding.kind === "in-doubt" && intent.inDoubt !== true,
  };
}

/** What was known before the attempt is not its work: E2 may have attached its WABA to it (found by simulation). */
function mayHaveMade({ madeAt }: Intent, { recordedAt }: AllocationRecord): boolean {
  return recordedAt > madeAt;
}

function inDoubt(business: Business, waba: Waba, intent: Intent): EventDraft {
  const event = shareEvent("Share In Doubt", business.businessId, waba, waba.status);
  return { ...event, reason: intent.failure?.reason ?? "no_answer" };
}

/** Records a look at an attempt. */
export function recordProbe(
  business: Business,
  wabaId: string,
  probe: Probe,
  finding: Exclude<ProbeFinding, { kind: "second-post" }>,
  now: number,
  policy: Policy,
): Change {
  const known = withRecords(business, probe.estate, now);
  const waba = known.wabas[wabaId];
  if (!isSharing(waba) || waba.intent === undefined) throw new Error(`WABA ${wabaId} has no attempt to look at`);
  if (finding.kind === "applied") {
    const { allocationId } = finding.record;
    const live = withLive(unanswered(known, waba.intent), finding.record, now);
    const record = live.records[allocationId];
    // E5 only attaches to what it is told to.
    const isOwn = waba.status === "sharing" && record !== undefined && mayHaveMade(waba.intent, record);
    const records = isOwn ? { ...live.records, [allocationId]: { ...record, proven: true as const } } : live.records;
    return acceptShare({ ...live, records }, wabaId, allocationId, now, policy);
  }
  if (finding.kind === "refused") {
    const { intent: _closed, due: _due, ...rest } = waba;
    return refuse(withWaba(known, wabaId, rest), waba.request, finding.reason, finding.failure);
  }

  const end = windowsEnd(business, waba.intent, policy.settleWindowMs);
  const { intent: looked, due, announce } = afterLook(waba.intent, waba.due, finding, probe, end, now, policy);
  const isOver = probe.startedAt > end;
  const isClear = isOver && isAbsent(business, waba.intent, probe, isOver) && !isUnseen(probe);
  const intent: Intent = isClear ? { ...looked, clearAt: probe.startedAt } : looked;
  const next: Waba = { ...waba, intent, due: { ...due, request: waba.request } };
  const events = announce ? [inDoubt(business, next, intent)] : [];
  return { business: withWaba(known, wabaId, next), events, conclusions: [] };
}

/** S7: an answer whose intent is gone or of an older epoch. It deletes nothing; what it may do depends on the revocation. */
export function recordLateAnswer(
  business: Business,
  request: ShareRequest,
  answer: { allocationId: string; creditLineId: string; epoch: number } & Pick<
    RecordReading,
    "seen" | "receivingCredentialId"
  >,
  now: number,
): Change {
  const { allocationId, creditLineId, epoch, receivingCredentialId: credentialId } = answer;
  const waba = business.wabas[request.wabaId];
  // Naming an id voids what we believed of it (A5): a record we confirmed deleted may live again.
  const record: AllocationRecord = {
    creditLineId,
    epoch,
    state: "unknown",
    recordedAt: knownFrom(business, now),
    ...(credentialId === undefined || credentialId === "" ? {} : { credentialId }),
  };
  const next: Business = { ...business, records: { ...business.records, [allocationId]: record } };
  const isKnown = isShared(waba) || waba?.status === "allocated";
  if (isKnown && waba.allocationId === allocationId && epoch === business.epoch) {
    // A look was quicker, and what it has recorded of this very record is more than the answer tells.
    return changeTo(business.records[allocationId]?.state === "live" ? business : next);
  }

  const { revocation } = business;
  const base = {
    wabaId: request.wabaId,
    businessId: business.businessId,
    commandId: request.commandId,
    allocationConfigId: allocationId,
    creditLineId,
  };
  if (revocation !== undefined && epoch < business.epoch) {
    const due = { nextAt: now, looks: revocation.due?.looks ?? 0, sweeps: 0 };
    if (revocation.state === "open") {
      return changeTo({ ...next, revocation: { ...revocation, due } });
    }
    if (answer.seen === "deleted") return changeTo(next);
    // A later share, flagged or after a revocation of nothing: re-opening would take it along (H7c).
    const sharedSince = business.recordIntent !== undefined || Object.values(business.wabas).some(isHeld);
    if (!sharedSince) {
      const open = reopened(next, revocation, due);
      const marked =
        waba?.status === "revoked" ? withWaba(open, request.wabaId, { ...waba, status: "revoking" }) : open;
      return { ...changeTo(marked), events: [{ ...base, detailType: "Revocation Started", reason: "late_record" }] };
    }
  }
  return { ...changeTo(next), events: [{ ...base, detailType: "Drift Found", reason: "record_duplicate" }] };
}
