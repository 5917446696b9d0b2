import type { AllocationRecord, Business, SharedWaba, Waba } from "./business.ts";
import { dueAt, dueIn, isRevoked, isShared, isSharing } from "./business.ts";
import type { Difference } from "./findings.ts";
import { isConfirmedDeleted } from "./readings.ts";

/** C2: what Meta's lists show, held against the table. Nothing here is a finding yet: that takes two scans in a row. */

export type ScanView = {
  /** When the scan began, ms. */
  startedAt: number;
  creditLineId: string;
  settleWindowMs: number;
  clockSkewMs: number;
};

/** A row of E8. Without `businessId` the list did not say whose it is. */
export type ListedAllocation = { allocationId: string; businessId?: string; credentialId?: string; deleted: boolean };

/** A row of E13. */
export type ListedWaba = { wabaId: string; currency?: string; ownerBusinessId?: string; fundingId?: string };

/**
 * Nothing is in flight that explains a difference: no attempt whose effect may not show yet, and no change since the scan
 * began, less the settle window (H16). Of an item that is not calm, neither a difference nor agreement is concluded.
 *
 * A share that only waits, however long, explains nothing at Meta. Nor does a doubt that waits for a person: its window is
 * over, and for weeks it would hide what becomes of its siblings (found by simulation).
 */
export function isCalm(business: Business, { startedAt, settleWindowMs }: ScanView): boolean {
  const { changedAt, unansweredAt = -Infinity, recordIntent, revocation } = business;
  const since = startedAt - settleWindowMs;
  if (Math.max(changedAt, unansweredAt, recordIntent?.sendDeadline ?? -Infinity) > since) return false;
  if (revocation?.state === "open") return false;
  return Object.values(business.wabas).every((waba) => {
    if (waba.status === "revoking") return false;
    if (waba.intent !== undefined) return waba.intent.sendDeadline <= since;
    // One that has its record is about to be attached; unless that was tried long ago, and is tried again day by day.
    return waba.status !== "allocated" || waba.due === undefined || (waba.intendedAt ?? Infinity) <= since;
  });
}

/** @param statusShown the list tells deleted records from live ones. */
export function judgeAllocation(
  { allocationId, businessId, deleted }: ListedAllocation,
  business: Business | undefined,
  statusShown: boolean,
  view: ScanView,
): Difference | undefined {
  if (deleted || businessId === undefined) return undefined;
  const unknown: Difference = { kind: "allocation_unknown", subject: allocationId, businessId, allocationId };
  if (business === undefined) return unknown;
  const record = business.records[allocationId];
  if (!isCalm(business, view) || record?.foreign === true) return undefined;
  // A list that does not tell them apart may name what is deleted (unknown 3); that it stays deleted is A5.
  if (record !== undefined && isConfirmedDeleted(record) && !statusShown) return undefined;
  if (isRevoked(business, view.clockSkewMs)) return { ...unknown, kind: "revoked_but_live" };
  return record === undefined || isConfirmedDeleted(record) ? unknown : undefined;
}

/**
 * @param isListed whether E8 named a record as live, or as live a record of this business; undefined when it cannot be relied on.
 * @param fundingShown the list tells which funding a WABA has: only then its absence means something.
 * @returns `funded`: the table says mismatched, and Meta shows the line at work: a verification sets it right.
 */
export function judgeWaba(
  row: ListedWaba,
  storedOwner: string | undefined,
  business: Business | undefined,
  isListed: ((allocationId: string) => boolean) | undefined,
  fundingShown: boolean,
  view: ScanView,
): Difference | "funded" | undefined {
  const { wabaId, ownerBusinessId, fundingId } = row;
  if (storedOwner !== undefined && ownerBusinessId !== undefined && storedOwner !== ownerBusinessId) {
    return { kind: "owner_changed", subject: wabaId, businessId: storedOwner, wabaId };
  }
  if (business === undefined || !fundingShown || !isCalm(business, view)) return undefined;
  const { businessId, wabas } = business;
  const waba = wabas[wabaId];
  const about = { subject: wabaId, businessId, wabaId };
  const credentials = credentialsOf(business);
  // A WABA that was away when its record was deleted may have stayed attached (H27f), and a switch may take effect after it
  // (H27c): of one that was revoked that counts, also when a sibling was shared anew.
  const revoked = isRevoked(business, view.clockSkewMs);
  const countsDead = revoked || waba?.status === "revoked";
  const payers = credentials.filter(({ id, dead }) => id === fundingId && (countsDead || !dead));
  // Records may share a credential (unknown 4): one that E8 names is the likelier payer.
  const paying = (payers.find(({ allocationId }) => isListed?.(allocationId)) ?? payers[0])?.allocationId;

  if (!isShared(waba)) {
    if (paying === undefined) return undefined;
    // A record that E8 names is the finding itself: this one, or another of the business in place of a dead one. Once a sibling
    // was shared anew, the ones we know are none.
    const isNamed = revoked && isListed?.(paying) === true;
    const isExpected = !revoked && Object.keys(business.records).some((id) => isListed?.(id));
    const isOther = isListed?.(paying) === false && isListed(businessId) && !isExpected;
    if (isNamed || isOther) return undefined;
    return { kind: revoked ? "revoked_but_live" : "allocation_unknown", ...about, allocationId: paying };
  }
  if (waba.status === "pending") return undefined;
  const { allocationId } = waba;
  const own = credentials.find((one) => one.allocationId === allocationId && !one.dead)?.id;
  if (fundingId !== undefined && fundingId === own) return waba.status === "mismatched" ? "funded" : undefined;
  // The table knows already; or the record itself is gone, which is the finding that names it.
  if (waba.status === "mismatched" || (isListed?.(allocationId) === false && isOnLine(waba, view))) return undefined;
  if (fundingId === undefined) return { kind: "unfunded", ...about, allocationId };
  // By another record of ours: that there are two is the finding. Unproven: the verification decides.
  if (paying !== undefined || own === undefined) return undefined;
  return { kind: "funded_elsewhere", ...about, allocationId };
}

/**
 * What the table says and Meta's lists do not show, and what is wrong with the item itself.
 * @param allocationListed undefined when E8 cannot be relied on; `wabaListed` likewise of E13.
 * @param indexedAt the due time by which the sweep finds the item.
 */
export function judgeBusiness(
  business: Business,
  lists: { allocationListed?: (id: string) => boolean; wabaListed?: (id: string) => boolean },
  indexedAt: number | undefined,
  view: ScanView,
): Difference[] {
  const { businessId, changedAt } = business;
  if (changedAt > view.startedAt - view.settleWindowMs) return [];
  if (isStranded(business, indexedAt)) return [{ kind: "unsettled_without_due", subject: businessId, businessId }];
  if (!isCalm(business, view)) return [];

  const { allocationListed, wabaListed } = lists;
  const wabas = Object.entries(business.wabas);
  const used = new Set(wabas.flatMap(([, waba]) => (isInUse(waba) ? (waba.allocationId ?? []) : [])));
  const differences: Difference[] = [];
  const live: string[] = [];
  for (const [allocationId, record] of Object.entries(business.records)) {
    if (!isOurs(record, view) || allocationListed === undefined) continue;
    // Another flow may have read that it is deleted: to those who rely on it, that is news.
    const isThere = record.state !== "deleted" && allocationListed(allocationId);
    if (isThere) live.push(allocationId);
    // One that no WABA is believed to be paid by may go. Of one only allocated, that it was never attached is the finding.
    const [wabaId] = wabas.find(([, waba]) => isBelieved(waba) && waba.allocationId === allocationId) ?? [];
    if (isThere || wabaId === undefined) continue;
    differences.push({ kind: "allocation_gone", subject: allocationId, businessId, allocationId, wabaId });
  }
  const [, ...spare] = [...live.filter((id) => used.has(id)), ...live.filter((id) => !used.has(id))];
  for (const allocationId of spare.filter((id) => !used.has(id))) {
    if (isRevoked(business, view.clockSkewMs)) continue;
    differences.push({ kind: "record_duplicate", subject: allocationId, businessId, allocationId });
  }
  for (const [wabaId, waba] of wabas) {
    const about = { subject: wabaId, businessId, wabaId };
    // Of one in doubt a person was told.
    if (waba.status === "allocated" && waba.intent === undefined)
      differences.push({ kind: "allocated_unattached", ...about });
    if (!isShared(waba) || waba.removedAt !== undefined || wabaListed?.(wabaId) !== false) continue;
    const isGone = allocationListed?.(waba.allocationId) === false && isOnLine(waba, view);
    if (!isGone) differences.push({ kind: "waba_left", ...about });
  }
  return differences;
}

/** An attempt or a revocation that no due time leads to, or a due time by which the sweep cannot find the item (I9, H27b). */
function isStranded(business: Business, indexedAt: number | undefined): boolean {
  const { recordIntent, revocation, epoch, wabas } = business;
  const undue =
    (recordIntent !== undefined && recordIntent.epoch === epoch && recordIntent.due === undefined) ||
    (revocation?.state === "open" && revocation.due === undefined) ||
    Object.values(wabas).some((waba) => isSharing(waba) && waba.intent !== undefined && waba.due === undefined);
  const due = dueAt(business);
  return undue || (due !== undefined && (indexedAt === undefined || indexedAt > due));
}

function isInUse(waba: Waba): boolean {
  return isShared(waba) || waba.status === "allocated";
}

/** The table says that this WABA is paid for, or will be. */
function isBelieved(waba: Waba): waba is SharedWaba {
  return isShared(waba) && waba.status !== "mismatched";
}

/** On the line that the scan lists, and not deleted by us. */
function isOurs(record: AllocationRecord, view: ScanView): boolean {
  const { foreign, deleteAnswered } = record;
  return isOnLine(record, view) && foreign !== true && deleteAnswered === undefined;
}

/** Of another line, as before the configuration changed, the list of records says nothing. */
function isOnLine({ creditLineId }: { creditLineId: string }, view: ScanView): boolean {
  return creditLineId === view.creditLineId;
}

/** Which credential each record of the business is known to pay by, proven by a verification or shown by a list. */
function credentialsOf({ records, wabas }: Business): { allocationId: string; id: string; dead: boolean }[] {
  const proven = Object.values(wabas).map(({ allocationId, evidence }) => ({
    allocationId,
    id: evidence?.receivingCredentialId,
  }));
  const listed = Object.entries(records).map(([allocationId, { credentialId: id }]) => ({ allocationId, id }));
  return [...proven, ...listed].flatMap(({ allocationId, id }) => {
    if (allocationId === undefined || id === undefined || id === "") return [];
    return [{ allocationId, id, dead: records[allocationId]?.state === "deleted" }];
  });
}

/** Above this, what is missing from a list of so many rows says more about the list than about the customers (H16). */
export function missingMax(listed: number, shrinkLimit: number): number {
  if (listed === 0) return 0;
  const share = shrinkLimit >= 1 ? Infinity : Math.floor((listed * shrinkLimit) / (1 - shrinkLimit));
  return Math.max(share, 2);
}

/** C3: asks the revoke flow to look at a finished revocation once more; it alone decides whether to open it again. */
export function askRecheck(business: Business, now: number): Business | undefined {
  const { revocation } = business;
  // The look that is planned after a partner switch may be weeks away.
  if (revocation?.state !== "done" || (revocation.due !== undefined && revocation.due.nextAt <= now)) return undefined;
  return { ...business, revocation: { ...revocation, due: { nextAt: now, looks: 0, sweeps: 0 } } };
}

export type VerificationPlan = {
  /** Within this, every funded WABA is looked at again. */
  ageMs: number;
  /** Until the next scan plans again. */
  scanEveryMs: number;
  /** What is late is spread over this. */
  spreadMs: number;
};

/** When the funding was last read, both sides of it; a look that failed does not count. */
export function checkedAt(waba: SharedWaba): number {
  return waba.evidence?.checkedAt ?? waba.request.requestedAt;
}

/**
 * Gives each WABA whose turn comes before the next scan the due time of its next verification; undefined when none has. The turn
 * is between a half and nine tenths of the age, by the WABA's id, so that what was verified in one hour spreads out. It is now
 * when the record that it relies on is known to be deleted.
 */
export function withVerificationsDue(business: Business, now: number, plan: VerificationPlan): Business | undefined {
  const planned: [string, Waba][] = [];
  for (const [wabaId, waba] of Object.entries(business.wabas)) {
    if (!isShared(waba) || waba.status === "pending" || waba.due !== undefined) continue;
    const place = placeOf(wabaId);
    // Its finding has one WABA verified; the others that believed in the same record follow.
    const isGone = isBelieved(waba) && business.records[waba.allocationId]?.state === "deleted";
    const turn = isGone ? now : checkedAt(waba) + plan.ageMs * (0.5 + 0.4 * place);
    if (turn > now + plan.scanEveryMs) continue;
    const nextAt = turn > now ? turn : now + plan.spreadMs * place;
    planned.push([wabaId, { ...waba, due: dueIn(waba.request, Math.round(nextAt)) }]);
  }
  return planned.length === 0
    ? undefined
    : { ...business, wabas: { ...business.wabas, ...Object.fromEntries(planned) } };
}

/** A place from 0 to 1 for each id, the same every time, evenly spread (FNV-1a). */
function placeOf(id: string): number {
  let hash = 2_166_136_261;
  for (const character of id) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619);
  return (hash >>> 0) / 2 ** 32;
}
