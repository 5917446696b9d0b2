import type {
  Business,
  Change,
  Conclusion,
  Due,
  Evidence,
  Policy,
  SharedStatus,
  SharedWaba,
  VerifyRequest,
} from "./business.ts";
import { dueIn, isShared, isSharing, lookDelayMs, withWaba } from "./business.ts";
import { startOfNextMonth } from "./calendar.ts";
import type { EventDraft } from "./events.ts";
import type { Funding, RecordReading } from "./readings.ts";
import { fundingRecord, withRecords } from "./readings.ts";
import type { Failure, RefuseReason } from "./reasons.ts";
import { shareEvent, statusEvent } from "./share.ts";

export type VerifyDecision =
  | { kind: "look"; waba: SharedWaba }
  /** A share is under way: its own verification will come; the command comes back later. */
  | { kind: "later" }
  | { kind: "refuse"; reason: RefuseReason };

/** What a verification may do, before anything is asked of Meta. */
export function decideVerify(business: Business | undefined, wabaId: string): VerifyDecision {
  const waba = business?.wabas[wabaId];
  if (isShared(waba)) return { kind: "look", waba };
  const { recordIntent, epoch } = business ?? {};
  const isAllocating = recordIntent?.epoch === epoch && recordIntent?.request.wabaId === wabaId;
  const isUnderWay = waba?.intent !== undefined || waba?.due !== undefined || isAllocating;
  if (isSharing(waba) && isUnderWay) return { kind: "later" };
  if (waba?.status === "revoking" || waba?.status === "revoked") return { kind: "refuse", reason: "business_revoked" };
  return { kind: "refuse", reason: "not_shared" };
}

/** E6 of the WABA's own record and E7, both begun after the load of the version that the result replaces (V1, I4). */
export type Proof = { record: RecordReading; funding: Funding };

export type ProofVerdict = { kind: "equal" } | { kind: "unequal" } | { kind: "unknown"; failure?: Failure };

/** Only two complete readings are a verdict: a failed read or an omitted field proves nothing (V2). */
export function judgeProof(businessId: string, { record, funding }: Proof): ProofVerdict {
  if (!funding.known)
    return { kind: "unknown", ...(funding.failure === undefined ? {} : { failure: funding.failure }) };
  if (fundingRecord(businessId, funding, [record]) !== undefined) return { kind: "equal" };
  if (record.seen === "deleted") return { kind: "unequal" };
  const complete =
    record.seen === "live" && record.receivingBusinessId !== undefined && record.receivingCredentialId !== undefined;
  if (complete) return { kind: "unequal" };
  return { kind: "unknown", ...(record.failure === undefined ? {} : { failure: record.failure }) };
}

export type VerifyOutcome =
  | { kind: "write"; change: Change }
  /** The grace runs for somebody else's command: this one comes back later. */
  | { kind: "write-then-later"; change: Change };

/**
 * V2. `request` is the command at hand, or undefined when the entry's own due time brought us here.
 */
export function recordProof(
  business: Business,
  wabaId: string,
  proof: Proof,
  verdict: { kind: "equal" } | { kind: "unequal" },
  request: VerifyRequest | undefined,
  now: number,
  policy: Policy,
): VerifyOutcome {
  const waba = business.wabas[wabaId];
  if (!isShared(waba)) throw new Error(`WABA ${wabaId} is not shared`);
  const known = withRecords(
    business,
    { startedAt: proof.record.readAt, complete: false, listed: {}, records: [proof.record] },
    now,
  );
  const evidence: Evidence = {
    checkedAt: now,
    ...(proof.record.receivingCredentialId === undefined
      ? {}
      : { receivingCredentialId: proof.record.receivingCredentialId }),
    ...(proof.funding.known && proof.funding.id !== undefined ? { primaryFundingId: proof.funding.id } : {}),
    ...(verdict.kind === "equal" ? { verifiedAt: now } : {}),
    ...(verdict.kind === "unequal" && waba.evidence?.verifiedAt !== undefined
      ? { verifiedAt: waba.evidence.verifiedAt }
      : {}),
  };
  if (verdict.kind === "equal") {
    return { kind: "write", change: become("verified", known, waba, evidence, request) };
  }

  // It is what the table says already, after a grace: another would only make whoever asks wait (history 83007696).
  if (waba.status === "mismatched") {
    return { kind: "write", change: become("mismatched", known, waba, evidence, request) };
  }
  // What was proven once has its switch behind it: unequal now, it has lost its funding.
  const isSwitching = waba.request.partnerSwitch && waba.evidence?.verifiedAt === undefined;
  const switchesAt = waba.pendingUntil ?? (isSwitching ? startOfNextMonth(waba.intendedAt ?? now) : undefined);
  if (waba.status === "pending" && switchesAt !== undefined && now < switchesAt) {
    return {
      kind: "write",
      change: become("pending", known, { ...waba, pendingUntil: switchesAt }, evidence, request),
    };
  }
  // A command's look in the middle of the grace is not one of the grace's own: it must not use them up (V2).
  if (request !== undefined && waba.due !== undefined && isInGrace(waba.due, now, policy)) {
    const own = request.commandId === waba.due.request.commandId;
    const change = { business: withWaba(known, wabaId, { ...waba, evidence }), events: [], conclusions: [] };
    return { kind: own ? "write" : "write-then-later", change };
  }
  const looks = (waba.due?.looks ?? 0) + 1;
  // Taking `verified` back needs two looks, however short the configured grace is.
  const graceLooks = Math.max(policy.verifyGraceMs.length, 2);
  if (looks < graceLooks) {
    const delayMs = policy.verifyGraceMs[Math.min(looks, policy.verifyGraceMs.length - 1)] ?? 0;
    const owner = waba.due?.request ?? request ?? waba.request;
    const next: SharedWaba = { ...waba, evidence, due: dueIn(owner, now + delayMs, looks) };
    const change = { business: withWaba(known, wabaId, next), events: [], conclusions: [] };
    const own = request === undefined || request.commandId === owner.commandId;
    return { kind: own ? "write" : "write-then-later", change };
  }
  if (switchesAt !== undefined && now < switchesAt) {
    return {
      kind: "write",
      change: become("pending", known, { ...waba, pendingUntil: switchesAt }, evidence, request),
    };
  }
  return { kind: "write", change: become("mismatched", known, waba, evidence, request) };
}

/** A look that is further away than the grace's own was planned by the estate scan: nothing is in doubt yet. */
function isInGrace({ nextAt, looks }: Due, now: number, { verifyGraceMs }: Policy): boolean {
  return now < nextAt && nextAt - now <= Math.max(...verifyGraceMs.slice(0, looks + 1));
}

/** The verdict is reached: the status, and an answer for everyone who waited for it. */
function become(
  status: Exclude<SharedStatus, "shared">,
  business: Business,
  waba: SharedWaba,
  evidence: Evidence,
  request: VerifyRequest | undefined,
): Change {
  const { due, lastFailure: _healed, pendingUntil: switchesAt, ...rest } = waba;
  const { wabaId } = waba.request;
  // A switch that failed stays known: it must not be pending for another month.
  const pendingUntil = status === "verified" ? undefined : switchesAt;
  const next: SharedWaba = {
    ...rest,
    status,
    evidence,
    ...(pendingUntil === undefined ? {} : { pendingUntil }),
    ...(status === "pending" && pendingUntil !== undefined ? { due: dueIn(waba.request, pendingUntil) } : {}),
  };
  const event = shareEvent(statusEvent(status), business.businessId, next, waba.status);
  const conclusions: Conclusion[] = [];
  const events: EventDraft[] = [];
  if (due?.request.type === "share" && waba.status !== status)
    events.push({ ...event, commandId: due.request.commandId });
  for (const verify of verifiesOf(due?.request, request)) {
    conclusions.push({ request: verify, outcome: "done", event: { ...event, commandId: verify.commandId } });
  }
  // A status that changed with nobody waiting is announced in the name of the share that made it.
  if (events.length === 0 && conclusions.length === 0 && waba.status !== status) events.push(event);
  return { business: withWaba(business, wabaId, next), events, conclusions };
}

function verifiesOf(waiting: { type: string } | undefined, request: VerifyRequest | undefined): VerifyRequest[] {
  const verifies = [waiting, request].filter((one): one is VerifyRequest => one?.type === "verify");
  return verifies.filter((one, index) => verifies.findIndex((other) => other.commandId === one.commandId) === index);
}

/** A look that could not see: nothing but the due time changes, and why. */
export function postponeLook(
  business: Business,
  wabaId: string,
  failure: Failure | undefined,
  now: number,
  policy: Policy,
): Change {
  const waba = business.wabas[wabaId];
  if (!isShared(waba) || waba.due === undefined) throw new Error(`WABA ${wabaId} has no look to postpone`);
  const due = {
    ...waba.due,
    sweeps: waba.due.sweeps + 1,
    nextAt: now + lookDelayMs(waba.due.sweeps + 4, policy.settleWindowMs),
  };
  const next: SharedWaba = { ...waba, due, ...(failure === undefined ? {} : { lastFailure: failure }) };
  return { business: withWaba(business, wabaId, next), events: [], conclusions: [] };
}

export function refuseVerify(business: Business | undefined, request: VerifyRequest, reason: RefuseReason): Conclusion {
  const waba = business?.wabas[request.wabaId];
  return {
    request,
    outcome: "refused",
    reason,
    event: {
      detailType: "Verify Refused",
      commandId: request.commandId,
      wabaId: request.wabaId,
      ...(business === undefined ? {} : { businessId: business.businessId }),
      ...(waba === undefined ? {} : { status: waba.status }),
      reason,
    },
  };
}
