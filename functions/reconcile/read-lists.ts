import { adoptRecord, adoptWaba, isAdoptable } from "../../shared/domain/adoption.ts";
import type { Business, Change } from "../../shared/domain/business.ts";
import { newBusiness } from "../../shared/domain/business.ts";
import type { ListedAllocation, ListedWaba } from "../../shared/domain/estate.ts";
import { judgeAllocation, judgeWaba } from "../../shared/domain/estate.ts";
import type { Page, Read } from "../../shared/graph/caller.ts";
import type { Scan } from "../../shared/store/items.ts";
import { hasSeen } from "../../shared/store/scan-store.ts";
import { isFull } from "../../shared/store/state-store.ts";
import type { ScanDeps, Slice } from "./scan-slice.ts";
import { beforeCall, endSlice, enterPhase, moveOn, sight, viewOf } from "./scan-slice.ts";
import { countMissing, isRead } from "./scan-trust.ts";

/** E14: whether the line may still be shared at all. */
export async function readLine(slice: Slice, deps: ScanDeps): Promise<void> {
  const { creditLineId } = deps.policy;
  await beforeCall(slice, deps);
  const reply = await deps.portfolio.readLine(creditLineId, slice.signal);
  if (!reply.ok && isPassing(reply)) await endSlice(slice, "the line cannot be read", deps);
  const revoked = reply.ok ? reply.value.accessRevoked : undefined;
  if (revoked === undefined) slice.scan = { ...slice.scan, unread: [...slice.scan.unread, "line"] };
  if (revoked === true) await sight({ kind: "line_access_revoked", subject: creditLineId }, slice, deps);
  await enterPhase(slice, "allocations", deps);
}

/** E8, page by page, against the businesses that its rows name. */
export async function readAllocations(slice: Slice, deps: ScanDeps): Promise<void> {
  const { creditLineId } = deps.policy;
  await readPages(
    slice,
    (after) => deps.portfolio.pageAllocations(creditLineId, after, slice.signal),
    async (rows, fieldsMissing) => {
      const live = rows.filter(({ deleted }) => !deleted);
      const { readable, unreadable } = await loadBusinesses(
        live.flatMap(({ businessId }) => businessId ?? []),
        deps,
      );
      const known = live.filter(({ businessId = "" }) => !unreadable.has(businessId));
      if (slice.scan.isFirst) await adoptRecords(known, readable, fieldsMissing, slice, deps);
      // From here on nothing is asked of Meta: a page that is broken off has counted nothing, and is read again.
      for (const { allocationId, businessId } of live) {
        slice.fresh.push(allocationId);
        if (businessId !== undefined) slice.fresh.push(businessId);
      }
      count(slice, "allocations", live.length);
      await judgeAllocations(known, readable, !fieldsMissing.includes("request_status"), slice, deps);
    },
    deps,
  );
  await enterPhase(slice, "wabas", deps);
}

/** An item that cannot be read is no reason to stop, and none to conclude anything of what Meta shows of its business. */
async function loadBusinesses(
  businessIds: readonly string[],
  { scans, log }: ScanDeps,
): Promise<{ readable: Map<string, Business>; unreadable: Set<string> }> {
  const readable = new Map<string, Business>();
  const unreadable = new Set<string>();
  for (const [businessId, business] of await scans.loadBusinesses(businessIds)) {
    if (business !== "unreadable") readable.set(businessId, business);
    else unreadable.add(businessId);
  }
  for (const item of unreadable) log.error("An item cannot be read; the scan goes on without it", { item });
  return { readable, unreadable };
}

async function adoptRecords(
  rows: ListedAllocation[],
  businesses: Map<string, Business>,
  fieldsMissing: readonly string[],
  slice: Slice,
  deps: ScanDeps,
): Promise<void> {
  for (const row of rows) {
    const { businessId = "", allocationId } = row;
    const business = businesses.get(businessId);
    if (businessId === "" || !isAdoptable(business) || business?.records[allocationId] !== undefined) continue;
    // What the list keeps back, or may show of a deleted record, is read by itself (E6).
    const full = fieldsMissing.length === 0 ? row : await readRecord(row, slice, deps);
    if (full === undefined) continue;
    const loaded = business ?? newBusiness(businessId, deps.now());
    const adopted = await commitOver(loaded, adoptRecord(loaded, full, deps.policy.creditLineId, deps.now()), deps);
    // Lost to a command: then the business is its, and the next scan judges.
    if (adopted !== undefined) businesses.set(businessId, adopted);
  }
}

async function readRecord(row: ListedAllocation, slice: Slice, deps: ScanDeps): Promise<ListedAllocation | undefined> {
  await beforeCall(slice, deps);
  const reading = await deps.graph.readAllocation(row.allocationId, deps.policy.creditLineId, slice.signal);
  const { seen, receivingBusinessId, receivingCredentialId: credentialId } = reading;
  if (seen !== "live" || receivingBusinessId !== row.businessId || credentialId === undefined) return undefined;
  return { ...row, credentialId };
}

async function judgeAllocations(
  rows: ListedAllocation[],
  businesses: ReadonlyMap<string, Business>,
  statusShown: boolean,
  slice: Slice,
  deps: ScanDeps,
): Promise<void> {
  const view = viewOf(slice, deps);
  for (const row of rows) {
    const business = businesses.get(row.businessId ?? "");
    if (slice.scan.isFirst && isAdoptable(business)) continue;
    const difference = judgeAllocation(row, business, statusShown, view);
    if (difference !== undefined) await sight(difference, slice, deps);
  }
}

/** E13, page by page: stores the owners it names, and holds the funding against the table. */
export async function readWabas(slice: Slice, deps: ScanDeps): Promise<void> {
  const { partnerBusinessId } = deps.policy;
  const seen = isRead(slice.scan, "allocations") ? await deps.scans.loadSeen(slice.scan, "allocations") : undefined;
  const isListed = seen === undefined ? undefined : (id: string) => hasSeen(seen, id);
  await readPages(
    slice,
    (after) => deps.portfolio.pageWabas(partnerBusinessId, after, slice.signal),
    async (rows, fieldsMissing) => {
      const pointers = await deps.scans.loadPointers(rows.map(({ wabaId }) => wabaId));
      const isHidden = fieldsMissing.includes("primary_funding_id");
      const known = isHidden ? await businessesOf(pointers, deps) : undefined;
      const owners = new Map<string, string>();
      const full: ListedWaba[] = [];
      for (const listed of rows) {
        const pointer = pointers.get(listed.wabaId);
        if (pointer === "unreadable") {
          deps.log.error("An item cannot be read; the scan goes on without it", { item: listed.wabaId });
          continue;
        }
        const stored = pointer?.businessId;
        const row = await completed(listed, stored, known?.get(stored ?? ""), fieldsMissing, slice, deps);
        full.push(row);
        const owner = stored ?? (await storeOwner(row, deps));
        if (owner !== undefined) owners.set(row.wabaId, owner);
      }
      if (slice.scan.isFirst) await adoptWabas(full, owners, deps);
      // From here on nothing is asked of Meta: a page that is broken off has counted nothing, and is read again.
      slice.fresh.push(...rows.map(({ wabaId }) => wabaId));
      count(slice, "wabas", rows.length);
      count(slice, "funding", full.filter(({ fundingId }) => fundingId !== undefined).length);
      await judgeWabas(full, owners, isListed, !isHidden, slice, deps);
    },
    deps,
  );
  await enterPhase(slice, "table", deps);
}

/** Where the list keeps a field back, a WABA that nobody knows yet is read by itself. Of the others, the verifications tell. */
async function completed(
  row: ListedWaba,
  storedOwner: string | undefined,
  business: Business | undefined,
  fieldsMissing: readonly string[],
  slice: Slice,
  deps: ScanDeps,
): Promise<ListedWaba> {
  const ownerHidden = fieldsMissing.includes("owner_business_info") && storedOwner === undefined;
  // It is on no item, as after a first day on which it could not be read, and a live record of its business may pay for it.
  const isStranger = business !== undefined && business.wabas[row.wabaId] === undefined && hasLive(business);
  const fundingHidden = fieldsMissing.includes("primary_funding_id") && (slice.scan.isFirst || isStranger);
  if (!ownerHidden && !fundingHidden) return row;
  await beforeCall(slice, deps);
  const reply = await deps.graph.readWaba(row.wabaId, undefined, slice.signal);
  if (!reply.ok) return row;
  const { ownerBusinessId, currency = row.currency, funding } = reply.value;
  return {
    wabaId: row.wabaId,
    ...(currency === undefined ? {} : { currency }),
    ...(ownerBusinessId === undefined ? {} : { ownerBusinessId }),
    ...(funding.known && funding.id !== undefined ? { fundingId: funding.id } : {}),
  };
}

async function businessesOf(
  pointers: Awaited<ReturnType<ScanDeps["scans"]["loadPointers"]>>,
  deps: ScanDeps,
): Promise<ReadonlyMap<string, Business>> {
  const ids = [...pointers.values()].flatMap((one) => (one === "unreadable" ? [] : (one.businessId ?? [])));
  return (await loadBusinesses([...new Set(ids)], deps)).readable;
}

function hasLive({ records }: Business): boolean {
  return Object.values(records).some(({ state, foreign }) => state === "live" && foreign !== true);
}

/** Once, and for good: after an unshare it is the only way to revoke. */
async function storeOwner({ wabaId, ownerBusinessId }: ListedWaba, deps: ScanDeps): Promise<string | undefined> {
  if (ownerBusinessId === undefined || ownerBusinessId === deps.policy.partnerBusinessId) return undefined;
  const pointer = await deps.store.claimOwner(wabaId, ownerBusinessId, { overPendingRevoke: true });
  return pointer.businessId;
}

async function adoptWabas(rows: ListedWaba[], owners: ReadonlyMap<string, string>, deps: ScanDeps): Promise<void> {
  const { readable } = await loadBusinesses([...new Set(owners.values())], deps);
  for (const row of rows) {
    const business = readable.get(owners.get(row.wabaId) ?? "");
    if (business === undefined || !isAdoptable(business)) continue;
    const adopted = await adopt(business, row, deps);
    if (adopted !== undefined) readable.set(adopted.businessId, adopted);
  }
}

async function judgeWabas(
  rows: ListedWaba[],
  owners: ReadonlyMap<string, string>,
  isListed: ((id: string) => boolean) | undefined,
  fundingListed: boolean,
  slice: Slice,
  deps: ScanDeps,
): Promise<void> {
  const { policy, command } = deps;
  const view = viewOf(slice, deps);
  const { readable, unreadable } = await loadBusinesses([...new Set(owners.values())], deps);
  for (const row of rows) {
    const { wabaId } = row;
    const owner = owners.get(wabaId);
    if (owner !== undefined && unreadable.has(owner)) continue;
    const business = owner === undefined ? undefined : readable.get(owner);
    if (slice.scan.isFirst && isAdoptable(business)) continue;
    // One that was read by itself shows it all the same.
    const fundingShown = fundingListed || row.fundingId !== undefined;
    const difference = judgeWaba(row, owner, business, isListed, fundingShown, view);
    if (difference === undefined) continue;
    if (difference === "funded") {
      const { scanId, startedAt } = slice.scan;
      const commandId = `scan:${scanId}:${wabaId}`;
      if (policy.mayStart.includes("verify"))
        await command({ type: "verify", commandId, requestedAt: startedAt, wabaId });
      continue;
    }
    if (difference.kind === "unfunded" && !countMissing(slice, "funding", deps)) continue;
    await sight(difference, slice, deps);
  }
}

/** The business with the WABA on it; undefined when nothing of ours pays for it, or somebody was quicker. */
async function adopt(business: Business, row: ListedWaba, deps: ScanDeps): Promise<Business | undefined> {
  const { now, policy, log } = deps;
  if (row.fundingId === undefined) return undefined;
  if (isFull(business)) {
    log.error("A WABA is not adopted: its business holds too many", { wabaId: row.wabaId });
    return undefined;
  }
  // Those that must be proven come one after another, not all at once.
  const { spreadMs } = policy.verifications;
  const verifyAt = now() + spreadMs * ((Number(row.wabaId.slice(-6)) % 1000) / 1000);
  const change = adoptWaba(business, row, now(), verifyAt);
  return change === undefined ? undefined : commitOver(business, change, deps);
}

async function commitOver(loaded: Business, change: Change, { store, now }: ScanDeps): Promise<Business | undefined> {
  const written = await store.commit(loaded, change, now());
  return written.saved ? written.business : undefined;
}

/** Walks a list from where the scan stands to its end, or to where it cannot be read. */
async function readPages<T>(
  slice: Slice,
  read: (after: string | undefined) => Promise<Read<Page<T>>>,
  take: (rows: T[], fieldsMissing: string[]) => Promise<void>,
  deps: ScanDeps,
): Promise<void> {
  const cursors = new Set<string>();
  for (;;) {
    await beforeCall(slice, deps);
    const { phase, cursor } = slice.scan;
    const reply = await read(cursor);
    if (!reply.ok && isPassing(reply)) await endSlice(slice, `${phase} cannot be read now`, deps);
    const next = reply.ok ? reply.value.next : undefined;
    if (!reply.ok || (next !== undefined && cursors.has(next))) {
      deps.log.error("A list cannot be read to its end: what it lacks says nothing", {
        phase,
        reason: reply.ok ? "its paging repeats itself" : reply.failure.reason,
      });
      slice.scan = { ...slice.scan, unread: [...slice.scan.unread, phase] };
      return;
    }
    const { items, fieldsMissing } = reply.value;
    const unshown = [...new Set([...slice.scan.unshown, ...fieldsMissing])];
    await take(items, fieldsMissing);
    slice.scan = { ...slice.scan, unshown };
    if (next === undefined) return;
    cursors.add(next);
    moveOn(slice, { cursor: next }, deps);
  }
}

/** It may go better in a few minutes; anything else is Meta's word on this list. */
function isPassing(reply: Read<unknown>): boolean {
  return !reply.ok && (reply.failure.class === "transient" || reply.failure.class === "token_dead");
}

function count(slice: Slice, what: keyof Scan["listed"], by: number): void {
  const { listed } = slice.scan;
  slice.scan = { ...slice.scan, listed: { ...listed, [what]: listed[what] + by } };
}
