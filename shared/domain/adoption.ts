import type { Business, Change, ShareRequest, SharedWaba } from "./business.ts";
import { dueIn, withWaba } from "./business.ts";
import type { ListedAllocation, ListedWaba } from "./estate.ts";
import { shareEvent } from "./share.ts";

/**
 * The first day of an existing partner: what is shared at Meta already is entered as if a command had shared it, so that it
 * can be verified and, above all, revoked later. Nothing is adopted of a business that a command has ever touched.
 */

/** Who asks for what a scan sets going. */
export const scanName = "estate-scan";

export function isAdoptable(business: Business | undefined): boolean {
  if (business === undefined) return true;
  const { epoch, listedAt, revocation, recordIntent, waiting, wabas } = business;
  const untouched = epoch === 0 && listedAt === undefined && revocation === undefined && recordIntent === undefined;
  return (
    untouched &&
    Object.keys(waiting).length === 0 &&
    Object.values(wabas).every(({ request }) => request.requestedBy === scanName)
  );
}

/** Enters a record that E8 lists as live. */
export function adoptRecord(
  business: Business,
  { allocationId, credentialId }: ListedAllocation,
  creditLineId: string,
  now: number,
): Change {
  const record = {
    creditLineId,
    epoch: business.epoch,
    state: "live" as const,
    recordedAt: now,
    readAt: now,
    ...(credentialId === undefined ? {} : { credentialId }),
  };
  const records = { ...business.records, [allocationId]: record };
  return { business: { ...business, records }, events: [], conclusions: [] };
}

/**
 * Enters a WABA as shared, when a live record of its business pays for it, and its verification as due.
 * @returns undefined when no adopted record does.
 */
export function adoptWaba(
  business: Business,
  { wabaId, currency, fundingId }: ListedWaba,
  now: number,
  verifyAt: number,
): Change | undefined {
  if (currency === undefined || fundingId === undefined || business.wabas[wabaId] !== undefined) return undefined;
  const found = Object.entries(business.records).find(
    ([, record]) => record.state === "live" && record.credentialId === fundingId && record.foreign !== true,
  );
  if (found === undefined) return undefined;
  const [allocationId, { creditLineId }] = found;
  const request: ShareRequest = {
    type: "share",
    commandId: `adopted:${wabaId}`,
    hash: scanName,
    requestedAt: now,
    requestedBy: scanName,
    wabaId,
    currency,
    reshareAfterRevocation: false,
    partnerSwitch: false,
  };
  const waba: SharedWaba = {
    status: "shared",
    intendedAt: now,
    allocationId,
    currency,
    method: "share-and-attach",
    creditLineId,
    request,
    evidence: { receivingCredentialId: fundingId, primaryFundingId: fundingId, checkedAt: now },
    due: dueIn(request, Math.round(verifyAt)),
  };
  const next = withWaba(business, wabaId, waba);
  return {
    business: next,
    events: [shareEvent("Share Accepted", business.businessId, waba, undefined)],
    conclusions: [],
  };
}
