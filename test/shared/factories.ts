import type {
  AllocationRecord,
  Business,
  Intent,
  Policy,
  Revocation,
  RevokedWaba,
  RevokeRequest,
  SharedWaba,
  ShareRequest,
  SharingWaba,
  VerifyRequest,
  Waba,
} from "../../shared/domain/business.ts";
import { dueIn, newBusiness } from "../../shared/domain/business.ts";
import type { EstateReading, RecordReading, WabaReading } from "../../shared/domain/readings.ts";
import type { Failure, Reason } from "../../shared/domain/reasons.ts";
import type { Probe } from "../../shared/domain/probe.ts";
import type { ShareFacts } from "../../shared/domain/share.ts";

/** What the tests of the domain are about, unless they say otherwise: one business, two of its WABAs, two allocations. */
export const businessId = "200000000000001";
export const otherBusinessId = "200000000000002";
export const wabaId = "300000000000001";
export const siblingId = "300000000000002";
export const lineId = "400000000000001";
export const otherLineId = "400000000000002";
export const allocationId = "500000000000001";
export const otherAllocationId = "500000000000002";
export const credentialId = "600000000000001";

/** 10 June 2026, 12:00 UTC. */
export const now = 1_781_092_800_000;
export const settleWindowMs = 1_800_000;
export const skewMs = 300_000;
export const minuteMs = 60_000;

export const policy: Policy = {
  partnerBusinessId: "100000000000001",
  creditLineId: lineId,
  currencies: ["EUR", "USD"],
  shareMethod: "share-and-attach",
  settleWindowMs,
  clockSkewMs: skewMs,
  secondPost: "auto",
  verifyGraceMs: [30_000, 120_000, 600_000, 3_600_000],
  onPartnerRemoved: "revoke-unless-siblings",
  breaker: { removals: 20, windowMs: 600_000 },
};

export function shareRequest(overrides: Partial<ShareRequest> = {}): ShareRequest {
  return {
    type: "share",
    commandId: "share-1",
    hash: "hash-of-share-1",
    requestedAt: now - minuteMs,
    requestedBy: "tests",
    wabaId,
    currency: "EUR",
    reshareAfterRevocation: false,
    partnerSwitch: false,
    ...overrides,
  };
}

export function verifyRequest(overrides: Partial<VerifyRequest> = {}): VerifyRequest {
  return {
    type: "verify",
    commandId: "verify-1",
    hash: "hash-of-verify-1",
    requestedAt: now - minuteMs,
    requestedBy: "tests",
    wabaId,
    ...overrides,
  };
}

export function revokeRequest(overrides: Partial<RevokeRequest> = {}): RevokeRequest {
  return {
    type: "revoke",
    commandId: "revoke-1",
    hash: "hash-of-revoke-1",
    requestedAt: now - minuteMs,
    requestedBy: "tests",
    businessId,
    reason: "operator",
    ...overrides,
  };
}

export function failure(reason: Reason = "meta_unavailable"): Failure {
  return { at: now, reason };
}

export function business(overrides: Partial<Business> = {}): Business {
  return { ...newBusiness(businessId, now - settleWindowMs), version: 1, listedAt: now - settleWindowMs, ...overrides };
}

/** An attempt that was made a minute ago and whose send deadline has just passed. */
export function intent(overrides: Partial<Intent> = {}): Intent {
  return { id: "intent-1", epoch: 0, attempt: 1, madeAt: now - minuteMs, sendDeadline: now - 52_000, ...overrides };
}

const wabaCommon = { currency: "EUR", method: "share-and-attach", creditLineId: lineId } as const;

/** Being shared; the attempt is unsettled unless `intent` is undefined. */
export function sharingWaba(overrides: Partial<SharingWaba> = {}): SharingWaba {
  const request = overrides.request ?? shareRequest();
  const waba: SharingWaba = {
    ...wabaCommon,
    status: "sharing",
    request,
    intent: intent(),
    due: dueIn(request, now - 22_000),
    ...overrides,
  };
  return withoutUndefined(waba);
}

/** Shared a minute ago, its verification due. */
export function sharedWaba(overrides: Partial<SharedWaba> = {}): SharedWaba {
  const request = overrides.request ?? shareRequest();
  const waba: SharedWaba = {
    ...wabaCommon,
    status: "shared",
    request,
    allocationId,
    due: dueIn(request, now),
    ...overrides,
  };
  return withoutUndefined(waba);
}

export function verifiedWaba(overrides: Partial<SharedWaba> = {}): SharedWaba {
  const evidence = {
    receivingCredentialId: credentialId,
    primaryFundingId: credentialId,
    checkedAt: now,
    verifiedAt: now,
  };
  return sharedWaba({ status: "verified", evidence, due: undefined, ...overrides });
}

/** Its share was older than the revocation of `doneRevocation`. */
export function revokedWaba(overrides: Partial<RevokedWaba> = {}): RevokedWaba {
  const request = shareRequest({ requestedAt: now - 5 * settleWindowMs });
  return withoutUndefined({ ...wabaCommon, status: "revoked", request, allocationId, ...overrides });
}

/** Without the keys whose value is undefined: what is stored and read again has none. */
function withoutUndefined<Value extends Waba>(waba: Value): Value {
  return Object.fromEntries(Object.entries(waba).filter(([, value]) => value !== undefined)) as Value;
}

export function record(overrides: Partial<AllocationRecord> = {}): AllocationRecord {
  return { creditLineId: lineId, epoch: 0, state: "live", recordedAt: now - settleWindowMs, readAt: now, ...overrides };
}

/** A record whose deletion the revocation of `epoch` has confirmed. */
export function deletedRecord(epoch = 1, at = now - settleWindowMs): AllocationRecord {
  return record({ state: "deleted", deleteAnswered: { at, epoch }, readAt: at + 1000 });
}

export function openRevocation(overrides: Partial<Revocation> = {}): Revocation {
  const request = overrides.request ?? revokeRequest();
  return {
    request,
    requestedAt: request.requestedAt,
    state: "open",
    epoch: 1,
    startedAt: now - minuteMs,
    joined: [],
    due: { nextAt: now, looks: 0, sweeps: 0 },
    ...overrides,
  };
}

/** Over for longer than the settle window, requested before that. */
export function doneRevocation(overrides: Partial<Revocation> = {}): Revocation {
  const requestedAt = now - 3 * settleWindowMs;
  const { due: _none, ...open } = openRevocation({ request: revokeRequest({ requestedAt }), requestedAt });
  return { ...open, state: "done", startedAt: requestedAt, doneAt: now - 2 * settleWindowMs, ...overrides };
}

/** A business that was revoked and over with, its WABA and its record among it. */
export function revokedBusiness(overrides: Partial<Business> = {}): Business {
  return business({
    epoch: 1,
    revocation: doneRevocation(),
    wabas: { [wabaId]: revokedWaba() },
    records: { [allocationId]: deletedRecord() },
    ...overrides,
  });
}

/** E6 of our allocation: live, of this business. */
export function recordReading(overrides: Partial<RecordReading> = {}): RecordReading {
  return {
    allocationId,
    creditLineId: lineId,
    readAt: now,
    seen: "live",
    receivingBusinessId: businessId,
    receivingCredentialId: credentialId,
    ...overrides,
  };
}

/** E8 read to its end, listing the records that E6 shows live (and none of those it shows deleted). */
export function estate(records: RecordReading[] = [], overrides: Partial<EstateReading> = {}): EstateReading {
  const live = records.filter(({ seen }) => seen !== "deleted" && seen !== "missing");
  const listed = live.map((one) => [one.allocationId, { creditLineId: one.creditLineId, deleted: false }]);
  return { startedAt: now, complete: true, listed: Object.fromEntries(listed), records, ...overrides };
}

/** E3 and E7: of this business, in EUR, funded by nobody. */
export function wabaReading(overrides: Partial<WabaReading> = {}): WabaReading {
  return { startedAt: now, ownerBusinessId: businessId, currency: "EUR", funding: { known: true }, ...overrides };
}

/** A look that finds nothing, unless told otherwise. */
export function probe(overrides: Partial<Probe> = {}): Probe {
  return { startedAt: now, funding: { known: true }, estate: estate(), ...overrides };
}

/** A share of a WABA of a business that was met before, with Meta read and nothing funding the WABA. */
export function shareFacts(overrides: Partial<ShareFacts> = {}): ShareFacts {
  return { now, request: shareRequest(), business: business(), waba: wabaReading(), ...overrides };
}
