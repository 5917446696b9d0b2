import type { EventDraft } from "./events.ts";

export const findingKinds = [
  "allocation_unknown",
  "allocation_gone",
  "funded_elsewhere",
  "unfunded",
  "waba_left",
  "allocated_unattached",
  "record_duplicate",
  "revoked_but_live",
  "unsettled_without_due",
  "owner_changed",
  "line_access_revoked",
] as const;

export type FindingKind = (typeof findingKinds)[number];

/** What a scan saw otherwise at Meta than on the table. The subject is the allocation, WABA, business or line it is about. */
export type Difference = {
  kind: FindingKind;
  subject: string;
  businessId?: string;
  wabaId?: string;
  allocationId?: string;
};

/**
 * A difference as it is recorded. `suspected` after one scan, `open` (and announced) after the same difference in two scans in
 * a row and a look of its own, `closed` once a scan finds agreement.
 */
export type Finding = Difference & {
  state: "suspected" | "open" | "closed";
  version: number;
  /** Of the present run of sightings. Scan ids grow, so that a late scan cannot overwrite what a newer one saw (C4). */
  firstScanId: number;
  firstSeenAt: number;
  lastScanId: number;
  lastSeenAt: number;
  openedAt?: number;
  closedAt?: number;
};

export type ScanTimes = {
  scanId: number;
  /** The last scan that came to its end; 0 when none has. */
  completedId: number;
};

/** The finding after a scan has seen its difference; undefined when a newer scan, or this one, has seen it already. */
export function sighted(
  difference: Difference,
  known: Finding | undefined,
  { scanId, completedId }: ScanTimes,
  now: number,
): Finding | undefined {
  if (known !== undefined && known.lastScanId > scanId) return undefined;
  const version = (known?.version ?? 0) + 1;
  const seen = { lastScanId: scanId, lastSeenAt: now };
  // A scan that came to its end in between and did not see it breaks the row.
  const inARow =
    known !== undefined && (known.state === "open" || (known.state === "suspected" && known.lastScanId >= completedId));
  if (!inARow) {
    return { ...difference, state: "suspected", version, firstScanId: scanId, firstSeenAt: now, ...seen };
  }
  if (known.lastScanId === scanId) return undefined;
  return { ...known, ...difference, version, ...seen };
}

/** `none`: neither that it was seen nor that it was not means anything; `sightings`: only the latter does not. */
export type Trust = "full" | "sightings" | "none";

/**
 * @returns what the end of a scan asks of a finding that is not closed. `look`: the list does not tell that it is over; what
 * it names is read by itself, or a finding would stay open for as long as the list cannot be relied on.
 */
export function atScanEnd(finding: Finding, scanId: number, trust: Trust): "nothing" | "confirm" | "close" | "look" {
  const { state, lastScanId, firstScanId } = finding;
  if (lastScanId > scanId) return "nothing";
  const isSeen = lastScanId === scanId;
  // Where nothing can be told, this sighting is not one of two in a row.
  if (trust === "none") return isSeen && state === "suspected" ? "close" : "nothing";
  if (!isSeen) return trust === "full" ? "close" : state === "open" ? "look" : "nothing";
  return state === "suspected" && firstScanId < scanId ? "confirm" : "nothing";
}

export function opened(finding: Finding, now: number): { finding: Finding; events: EventDraft[] } {
  const next: Finding = { ...finding, state: "open", version: finding.version + 1, openedAt: now };
  return { finding: next, events: [eventOf("Drift Found", next)] };
}

/** Announced only when its beginning was. */
export function closed(finding: Finding, now: number): { finding: Finding; events: EventDraft[] } {
  const next: Finding = { ...finding, state: "closed", version: finding.version + 1, closedAt: now };
  return { finding: next, events: finding.state === "open" ? [eventOf("Drift Closed", next)] : [] };
}

function eventOf(detailType: "Drift Found" | "Drift Closed", finding: Finding): EventDraft {
  const { kind, subject, businessId, wabaId, allocationId } = finding;
  return {
    detailType,
    reason: kind,
    ...(businessId === undefined ? {} : { businessId }),
    ...(wabaId === undefined ? {} : { wabaId }),
    ...(allocationId === undefined ? {} : { allocationConfigId: allocationId }),
    ...(kind === "line_access_revoked" ? { creditLineId: subject } : {}),
  };
}

/** A command, but for what every command says of itself. */
export type SuggestedCommand =
  | { type: "verify"; wabaId: string }
  | { type: "revoke"; wabaId: string; reason: "partner_removed" }
  | { type: "revoke"; businessId: string; reason: "operator" }
  | { type: "share"; wabaId: string };

/** The command that sets the difference right; undefined: a person must look, at Meta or here. */
export function commandFor({ kind, businessId, wabaId }: Difference): SuggestedCommand | undefined {
  switch (kind) {
    case "unfunded":
    case "funded_elsewhere":
    case "allocation_gone":
      return wabaId === undefined ? undefined : { type: "verify", wabaId };
    case "waba_left":
      return wabaId === undefined ? undefined : { type: "revoke", wabaId, reason: "partner_removed" };
    case "allocated_unattached":
      return wabaId === undefined ? undefined : { type: "share", wabaId };
    case "allocation_unknown":
      if (wabaId !== undefined) return { type: "share", wabaId };
      return businessId === undefined ? undefined : { type: "revoke", businessId, reason: "operator" };
    case "revoked_but_live":
      return businessId === undefined ? undefined : { type: "revoke", businessId, reason: "operator" };
    case "record_duplicate":
    case "unsettled_without_due":
    case "owner_changed":
    case "line_access_revoked":
    default:
      return undefined;
  }
}
