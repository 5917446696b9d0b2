import { ThrottledError } from "../../shared/errors.ts";
import { countingGraphCalls } from "../../shared/graph/call-count.ts";
import { judgeLimits } from "../../shared/quota.ts";
import type { Scan } from "../../shared/store/items.ts";
import { readAllocations, readLine, readWabas } from "./read-lists.ts";
import type { ScanDeps, Slice } from "./scan-slice.ts";
import { release, SliceOverError } from "./scan-slice.ts";
import { cannotTell } from "./scan-trust.ts";
import { settleFindings } from "./settle-findings.ts";
import { keepUp, walkTable } from "./walk-table.ts";

/** A scan that nobody moved on for so long begins anew: what it has read is too old to be compared. */
const stoodStillMsMax = 3_600_000;

/** In the last part of its time a slice begins no new step, so that it stores what it has. */
const lastPart = 0.2;

export type ScanReport = {
  /** `idle`: there is nothing to do; `waits`: later; `done`: the scan has come to its end. */
  state: "idle" | "waits" | "done";
  why?: string;
  scan?: Scan | undefined;
};

/**
 * C2: one slice of the estate scan, which compares everything at Meta with the table, over as many invocations as it needs.
 * Never asks Meta to change anything.
 * @param mayStart whether a new scan begins when none is under way.
 * @param endsAt when the invocation must be over, ms.
 */
export async function scanEstate(
  mayStart: boolean,
  { endsAt, signal }: { endsAt: number; signal: AbortSignal },
  deps: ScanDeps,
): Promise<ScanReport> {
  const { store, scans, policy, log, now } = deps;
  const stored = await scans.loadScan();
  const next = nextScan(stored, mayStart, deps);
  if (next === undefined) return { state: "idle", scan: stored };
  const hold = judgeLimits(await store.loadLimits(), policy.stopAt, now());
  if (typeof hold === "object") return { state: "waits", why: hold.why, scan: stored };
  // Taken with one conditional write: of two schedules at once, one goes on (H27l).
  const leased: Scan = { ...next, version: (stored?.version ?? 0) + 1, leaseUntil: endsAt };
  if (!(await scans.saveScan(stored, leased))) return { state: "waits", why: "another slice is at work", scan: stored };
  const slice: Slice = {
    scan: leased,
    stored: leased,
    fresh: [],
    signal,
    endsAt: endsAt - lastPart * (endsAt - now()),
    graph: { calls: 0 },
    granted: 0,
    earlier: leased.calls,
  };
  try {
    await countingGraphCalls(slice.graph, () => runPhases(slice, deps));
    log.info("Estate scan done", { scanId: leased.scanId, ...slice.scan.listed, calls: slice.graph.calls });
    return { state: "done", scan: slice.scan };
  } catch (error) {
    const why = await ending(error, slice, deps);
    log.info("Estate scan goes on later", { why, phase: slice.scan.phase, calls: slice.graph.calls });
    return { state: "waits", why, scan: slice.scan };
  }
}

/** The scan to work on, or undefined: none is due, or another slice is at it. */
function nextScan(stored: Scan | undefined, mayStart: boolean, { now, policy }: ScanDeps): Scan | undefined {
  const isOver = stored === undefined || stored.phase === "done";
  if (!isOver) {
    if (stored.leaseUntil > now()) return undefined;
    return now() - stored.movedAt > stoodStillMsMax ? newScan(stored, now()) : stored;
  }
  // Two looks within one settle window would be one look.
  const isTooSoon = stored !== undefined && now() < stored.startedAt + policy.settleWindowMs;
  return mayStart && !isTooSoon ? newScan(stored, now()) : undefined;
}

function newScan(stored: Scan | undefined, now: number): Scan {
  const { scanId = 0, version = 0, calls = [], completed, isFirst = true, unread = [] } = stored ?? {};
  return {
    version,
    scanId: scanId + 1,
    phase: "line",
    startedAt: now,
    movedAt: now,
    leaseUntil: now,
    // Until one has read both lists: what is adopted on the first day is adopted on no other.
    isFirst: completed === undefined || (isFirst && unread.length > 0),
    unread: [],
    unshown: [],
    listed: { allocations: 0, wabas: 0, funding: 0 },
    missing: { allocations: 0, wabas: 0, funding: 0 },
    chunks: { allocations: 0, wabas: 0 },
    announced: 0,
    calls,
    ...(completed === undefined ? {} : { completed }),
  };
}

async function runPhases(slice: Slice, deps: ScanDeps): Promise<void> {
  if (slice.scan.phase === "line") await readLine(slice, deps);
  if (slice.scan.phase === "allocations") await readAllocations(slice, deps);
  if (slice.scan.phase === "wabas") await readWabas(slice, deps);
  if (slice.scan.phase === "table") await walkTable(slice, deps);
  if (slice.scan.phase === "findings") await settleFindings(slice, deps);
  if (slice.scan.phase === "upkeep") await keepUp(slice, deps);
  await finish(slice, deps);
}

async function finish(slice: Slice, deps: ScanDeps): Promise<void> {
  const { cursor: _over, ...rest } = slice.scan;
  const { scanId, startedAt, oldestCheckedAt, unsharedSince } = rest;
  const completed = {
    scanId,
    startedAt,
    finishedAt: deps.now(),
    cannotTell: cannotTell(rest, deps.policy),
    announced: rest.announced,
    ...(oldestCheckedAt === undefined ? {} : { oldestCheckedAt }),
    ...(unsharedSince === undefined ? {} : { unsharedSince }),
  };
  slice.scan = { ...rest, phase: "done", completed };
  await release(slice, deps);
}

/** What an error means for the slice: a reason to go on later, or a fault of ours, which is thrown on. */
async function ending(error: unknown, slice: Slice, deps: ScanDeps): Promise<string> {
  if (error instanceof SliceOverError) return error.message;
  if (!(error instanceof ThrottledError)) throw error;
  await deps.store.saveBlockedUntil(error.until);
  try {
    await release(slice, deps);
  } catch (over) {
    if (over instanceof SliceOverError) return over.message;
    throw over;
  }
  return "Meta has throttled us";
}
