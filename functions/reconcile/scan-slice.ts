import type { AnnounceDeps } from "../../shared/announce.ts";
import type { Unshared } from "../../shared/domain/ages.ts";
import type { RevokeRequest } from "../../shared/domain/business.ts";
import type { ScanView, VerificationPlan } from "../../shared/domain/estate.ts";
import { askRecheck } from "../../shared/domain/estate.ts";
import type { Difference } from "../../shared/domain/findings.ts";
import { sighted } from "../../shared/domain/findings.ts";
import type { Graph } from "../../shared/graph/client.ts";
import type { Portfolio } from "../../shared/graph/portfolio.ts";
import type { Logger } from "../../shared/logging.ts";
import type { FindingStore } from "../../shared/store/finding-store.ts";
import type { Scan, Transition } from "../../shared/store/items.ts";
import type { ScanStore, SeenList } from "../../shared/store/scan-store.ts";
import type { StateStore } from "../../shared/store/state-store.ts";
import type { MayStart } from "./environment.ts";

export type ScanPolicy = Omit<ScanView, "startedAt"> & {
  partnerBusinessId: string;
  /** The scan's share of the hour's calls to Meta. */
  callsPerHour: number;
  /** The used fraction of the hour's calls, of all functions, from which on the scan waits. */
  stopAt: number;
  shrinkLimit: number;
  verifications: VerificationPlan;
  mayStart: readonly MayStart[];
};

export type DriftCommand =
  | { type: "verify"; commandId: string; requestedAt: number; wabaId: string }
  | { type: "revoke"; commandId: string; requestedAt: number; wabaId: string; reason: RevokeRequest["reason"] };

export type ScanDeps = {
  store: StateStore;
  scans: ScanStore;
  findings: FindingStore;
  portfolio: Pick<Portfolio, "pageAllocations" | "pageWabas" | "readLine">;
  graph: Pick<Graph, "readWaba" | "readFunding" | "readAllocation">;
  /** Sends a command to its queue. Its id is the same whenever the same difference asks for it. */
  command: (command: DriftCommand) => Promise<void>;
  /** Which of these changes the audit does not hold: they were never announced. */
  unaudited: (transitions: Transition[]) => Promise<Transition[]>;
  announcing: AnnounceDeps;
  log: Logger;
  now: () => number;
  policy: ScanPolicy;
};

/** One invocation's work on the scan. `scan` runs ahead of what is stored, until the next checkpoint. */
export type Slice = {
  scan: Scan;
  /** Ids that came in since the last checkpoint. */
  fresh: string[];
  stored: Scan;
  signal: AbortSignal;
  /** No new step begins after this (ms, wall clock). */
  endsAt: number;
  /** Counted by the transport itself, repeats included. */
  graph: { calls: number };
  /** How many calls the checkpoint allows this slice in all. */
  granted: number;
  /** Calls of earlier slices. */
  earlier: Scan["calls"];
};

/** Why a slice ends before the scan does. */
export class SliceOverError extends Error {
  override readonly name = "SliceOverError";
}

/** Set aside at a time, so that a slice that dies has counted what it may have used. */
const grantSize = 25;
/** The most calls that one step makes: a page that is refused in each shape, each tried twice. */
const stepCallsMax = 10;
const hourMs = 3_600_000;

/**
 * Before each step that asks Meta: time and budget are left, and the budget is set aside on the checkpoint.
 * @throws SliceOverError when they are not; everything done so far is stored then.
 */
export async function beforeCall(slice: Slice, deps: ScanDeps): Promise<void> {
  if (deps.now() >= slice.endsAt) await endSlice(slice, "no time is left", deps);
  if (slice.granted - slice.graph.calls >= stepCallsMax) return;
  const used = slice.earlier.filter(({ at }) => at > deps.now() - hourMs).reduce((sum, { count }) => sum + count, 0);
  const room = deps.policy.callsPerHour - used - slice.graph.calls;
  if (room < Math.min(stepCallsMax, deps.policy.callsPerHour)) {
    // To wait for its own share is not to stand still.
    moveOn(slice, {}, deps);
    await endSlice(slice, "the hour's share is used", deps);
  }
  slice.granted = slice.graph.calls + Math.min(grantSize, room);
  await checkpoint(slice, deps);
}

export async function endSlice(slice: Slice, why: string, deps: ScanDeps): Promise<never> {
  await release(slice, deps);
  throw new SliceOverError(why);
}

/** Stores everything, and lets the next slice begin. */
export async function release(slice: Slice, deps: ScanDeps): Promise<void> {
  slice.granted = slice.graph.calls;
  slice.scan = { ...slice.scan, leaseUntil: deps.now() };
  await checkpoint(slice, deps);
}

/**
 * Stores how far the scan has come.
 * @throws SliceOverError when another slice has taken over: what this one did since is done again.
 */
export async function checkpoint(slice: Slice, deps: ScanDeps): Promise<void> {
  const { scan, stored, fresh, graph, granted } = slice;
  const now = deps.now();
  const calls = slice.earlier.filter(({ at }) => at > now - hourMs);
  if (graph.calls > 0) calls.push({ at: now, count: graph.calls });
  // What is set aside may be used until this slice must be over.
  if (granted > graph.calls) calls.push({ at: scan.leaseUntil, count: granted - graph.calls });
  const list: SeenList | undefined = scan.phase === "allocations" || scan.phase === "wabas" ? scan.phase : undefined;
  const seen = list === undefined || fresh.length === 0 ? undefined : { list, ids: fresh };
  const chunks = seen === undefined ? scan.chunks : { ...scan.chunks, [seen.list]: scan.chunks[seen.list] + 1 };
  const next: Scan = { ...scan, version: stored.version + 1, calls, chunks };
  if (!(await deps.scans.saveScan(stored, next, seen))) throw new SliceOverError("another slice has taken over");
  slice.stored = next;
  slice.scan = next;
  slice.fresh = [];
}

/** The scan has come forward. */
export function moveOn(slice: Slice, changes: Partial<Scan>, { now }: Pick<ScanDeps, "now">): void {
  slice.scan = { ...slice.scan, ...changes, movedAt: now() };
}

export async function enterPhase(slice: Slice, phase: Scan["phase"], deps: ScanDeps): Promise<void> {
  // What came in belongs to the phase that is over.
  await checkpoint(slice, deps);
  const { cursor: _over, ...rest } = slice.scan;
  slice.scan = rest;
  moveOn(slice, { phase }, deps);
  await checkpoint(slice, deps);
  deps.log.info("Estate scan", { scanId: rest.scanId, phase, listed: rest.listed, missing: rest.missing });
}

export function viewOf({ scan }: Slice, { policy }: ScanDeps): ScanView {
  return { ...policy, startedAt: scan.startedAt };
}

/** Records that this scan has seen the difference. Not a finding yet, but for one that is open already. */
export async function sight(difference: Difference, slice: Slice, deps: ScanDeps): Promise<void> {
  const { findings, now } = deps;
  const { scanId, completed } = slice.scan;
  for (let tries = 0; tries < sightTriesMax; tries += 1) {
    const known = await findings.loadFinding(difference.kind, difference.subject);
    const next = sighted(difference, known, { scanId, completedId: completed?.scanId ?? 0 }, now());
    if (next === undefined || (await findings.saveFinding(known, next, [], now()))) return;
  }
  throw new Error(`The finding ${difference.kind} of ${difference.subject} changes too often`);
}

const sightTriesMax = 3;

/** The longest time counts that a customer who left is still on our line. */
export function noteUnshared(unshared: Unshared | undefined, slice: Slice): void {
  if (unshared === undefined) return;
  const { siblings, since } = unshared;
  const { unsharedSince = {} } = slice.scan;
  const earliest = Math.min(since, unsharedSince[siblings] ?? Infinity);
  slice.scan = { ...slice.scan, unsharedSince: { ...unsharedSince, [siblings]: earliest } };
}

/** C3. The revoke flow looks itself, and opens the revocation again only for what it finds live. */
export async function askForRecheck(businessId: string, deps: ScanDeps): Promise<void> {
  if (!deps.policy.mayStart.includes("probe")) return;
  const business = await deps.store.loadBusiness(businessId);
  const next = business === undefined ? undefined : askRecheck(business, deps.now());
  if (business === undefined || next === undefined) return;
  // A lost write is a worker's that was quicker; the next scan asks again.
  await deps.store.commit(business, { business: next, events: [], conclusions: [] }, deps.now());
}
