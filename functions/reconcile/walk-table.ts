import { announce } from "../../shared/announce.ts";
import type { Business, SharedWaba, Waba } from "../../shared/domain/business.ts";
import { oldestUnshared } from "../../shared/domain/ages.ts";
import { checkedAt, judgeBusiness, withVerificationsDue } from "../../shared/domain/estate.ts";
import type { Transition } from "../../shared/store/items.ts";
import type { SeenList, WalkedPage } from "../../shared/store/scan-store.ts";
import { hasSeen } from "../../shared/store/scan-store.ts";
import type { ScanDeps, Slice } from "./scan-slice.ts";
import { checkpoint, endSlice, enterPhase, moveOn, noteUnshared, sight, viewOf } from "./scan-slice.ts";
import { countMissing, isRead } from "./scan-trust.ts";

/** The table as the third list: what it knows and Meta did not name. */
export async function walkTable(slice: Slice, deps: ScanDeps): Promise<void> {
  const lists = {
    ...(await listedBy(slice, "allocations", "allocationListed", deps)),
    ...(await listedBy(slice, "wabas", "wabaListed", deps)),
  };
  await walk(slice, deps, async ({ businesses, unreadable }) => {
    for (const pk of unreadable) deps.log.error("An item cannot be read; the scan goes on without it", { pk });
    for (const { business, indexedAt } of businesses) await judge(business, indexedAt, lists, slice, deps);
  });
  await enterPhase(slice, "findings", deps);
}

/**
 * What a scan does for the table itself: plans verifications, announces what never was. At the end, since what it writes
 * would look like a change that explains a difference.
 */
export async function keepUp(slice: Slice, deps: ScanDeps): Promise<void> {
  await walk(slice, deps, async ({ businesses, transitions }) => {
    for (const { business } of businesses) {
      noteUnshared(oldestUnshared(business), slice);
      await planVerifications(business, slice, deps);
    }
    await announceGaps(transitions, slice, deps);
  });
}

async function walk(slice: Slice, deps: ScanDeps, take: (page: WalkedPage) => Promise<void>): Promise<void> {
  const { scans, policy, now } = deps;
  const { startedAt, completed } = slice.scan;
  const since = (completed?.startedAt ?? startedAt - policy.verifications.scanEveryMs) - policy.settleWindowMs;
  for (;;) {
    if (now() >= slice.endsAt) await endSlice(slice, "no time is left", deps);
    const page = await scans.walk(slice.scan.cursor, since);
    await take(page);
    if (page.next === undefined) return;
    moveOn(slice, { cursor: page.next }, deps);
    await checkpoint(slice, deps);
  }
}

async function listedBy(
  { scan }: Slice,
  list: SeenList,
  name: "allocationListed" | "wabaListed",
  { scans }: ScanDeps,
): Promise<Record<string, (id: string) => boolean>> {
  if (!isRead(scan, list)) return {};
  const seen = await scans.loadSeen(scan, list);
  return { [name]: (id) => hasSeen(seen, id) };
}

async function judge(
  business: Business,
  indexedAt: number | undefined,
  lists: Parameters<typeof judgeBusiness>[1],
  slice: Slice,
  deps: ScanDeps,
): Promise<void> {
  for (const difference of judgeBusiness(business, lists, indexedAt, viewOf(slice, deps))) {
    const { kind, subject } = difference;
    // What was read to be deleted is missing for a reason, and says nothing of the list.
    const isDeleted = business.records[subject]?.state === "deleted";
    if (kind === "allocation_gone" && !isDeleted && !countMissing(slice, "allocations", deps)) continue;
    if (kind === "waba_left" && !countMissing(slice, "wabas", deps)) continue;
    // Somebody has attached it by hand: that is the difference.
    if (kind === "allocated_unattached" && (await isFunded(subject, slice, deps))) continue;
    await sight(difference, slice, deps);
  }
}

/** The list of WABAs, read before, shows that a record of ours pays for it. */
async function isFunded(wabaId: string, { scan }: Slice, { findings }: ScanDeps): Promise<boolean> {
  const finding = await findings.loadFinding("allocation_unknown", wabaId);
  return finding?.lastScanId === scan.scanId;
}

async function planVerifications(business: Business, slice: Slice, deps: ScanDeps): Promise<void> {
  const { store, policy, now } = deps;
  const funded = Object.values(business.wabas).filter(isBelieved);
  const { oldestCheckedAt = Infinity } = slice.scan;
  const oldest = Math.min(oldestCheckedAt, ...funded.map(checkedAt));
  if (oldest < oldestCheckedAt) slice.scan = { ...slice.scan, oldestCheckedAt: oldest };
  const planned = policy.mayStart.includes("verify")
    ? withVerificationsDue(business, now(), policy.verifications)
    : undefined;
  if (planned === undefined) return;
  // A lost write is a worker's: the WABA's turn comes again with the next scan.
  await store.commit(business, { business: planned, events: [], conclusions: [] }, now());
}

function isBelieved(waba: Waba): waba is SharedWaba {
  return waba.status === "shared" || waba.status === "verified";
}

/**
 * What was recorded and is not in the audit was never announced, or died on the way (H21). The item keeps the events of its
 * last change only: those are announced now. Of a change before, the bucket of undelivered records tells.
 */
async function announceGaps(transitions: Transition[], slice: Slice, deps: ScanDeps): Promise<void> {
  const { now, policy, unaudited, announcing, log } = deps;
  // Publish may still be at what is younger.
  const settled = transitions.filter(({ changedAt }) => changedAt <= now() - policy.settleWindowMs);
  for (const transition of await unaudited(settled)) {
    log.error("A change was never announced; it is announced now", { pk: transition.pk, version: transition.version });
    await announce(transition, announcing);
    slice.scan = { ...slice.scan, announced: slice.scan.announced + 1 };
  }
}
