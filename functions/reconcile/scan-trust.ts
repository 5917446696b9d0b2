import { missingMax } from "../../shared/domain/estate.ts";
import type { Difference, FindingKind, Trust } from "../../shared/domain/findings.ts";
import { findingKinds } from "../../shared/domain/findings.ts";
import type { Scan } from "../../shared/store/items.ts";
import type { ScanDeps, ScanPolicy, Slice } from "./scan-slice.ts";

/** What a scan's lists are worth: "not listed" is not "gone" when the list was cut short, blind, or has shrunk (C2, H16). */

export function isRead(scan: Scan, list: string): boolean {
  return !scan.unread.includes(list);
}

/** Counts what a list lacks; false once it lacks so much that it need not be recorded one by one. */
export function countMissing(slice: Slice, what: keyof Scan["missing"], { policy }: ScanDeps): boolean {
  const { missing, listed } = slice.scan;
  slice.scan = { ...slice.scan, missing: { ...missing, [what]: missing[what] + 1 } };
  // While E13 is read, its own count has only begun: the records of E8 tell how many are funded, about.
  const rows = what === "funding" ? listed.allocations : listed[what];
  return missing[what] < missingMax(rows, policy.shrinkLimit);
}

function hasShrunk({ missing, listed }: Scan, what: keyof Scan["missing"], { shrinkLimit }: ScanPolicy): boolean {
  const rows = what === "funding" ? Math.min(listed.funding, listed.allocations) : listed[what];
  return missing[what] > missingMax(rows, shrinkLimit);
}

/** What this scan can say of findings of this kind. */
export function trustIn({ kind, wabaId }: Pick<Difference, "kind" | "wabaId">, scan: Scan, policy: ScanPolicy): Trust {
  const allocations = isRead(scan, "allocations");
  const wabas = isRead(scan, "wabas");
  // A list that shows nobody's funding, without an error, is one that this token does not see (unknown 10).
  const isBlind = scan.listed.funding === 0 && scan.listed.allocations > 2;
  const funding = wabas && !scan.unshown.includes("primary_funding_id") && !isBlind;
  const allocationsShrunk = !allocations || hasShrunk(scan, "allocations", policy);
  const wabasShrunk = !wabas || hasShrunk(scan, "wabas", policy);
  switch (kind) {
    case "line_access_revoked":
      return isRead(scan, "line") ? "full" : "sightings";
    case "allocation_gone":
      return allocationsShrunk ? "none" : "full";
    case "waba_left":
      return wabasShrunk ? "none" : "full";
    case "unfunded":
      return !funding || hasShrunk(scan, "funding", policy) || wabasShrunk || allocationsShrunk ? "none" : "full";
    case "funded_elsewhere":
      return !funding || wabasShrunk ? "sightings" : "full";
    case "owner_changed":
      return wabasShrunk || scan.unshown.includes("owner_business_info") ? "sightings" : "full";
    case "record_duplicate":
      return allocationsShrunk ? "sightings" : "full";
    case "allocation_unknown":
    case "revoked_but_live":
      if (wabaId !== undefined) return !funding || wabasShrunk ? "sightings" : "full";
      return allocationsShrunk ? "sightings" : "full";
    case "allocated_unattached":
    case "unsettled_without_due":
    default:
      return "full";
  }
}

/** Kinds about which the scan could not say everything. */
export function cannotTell(scan: Scan, policy: ScanPolicy): FindingKind[] {
  return findingKinds.filter((kind) => trustIn({ kind }, scan, policy) !== "full");
}
