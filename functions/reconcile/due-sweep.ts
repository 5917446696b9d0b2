import type { Business, DueEntry } from "../../shared/domain/business.ts";
import { agesOf } from "../../shared/domain/ages.ts";
import { dueEntries, lookDelayMs, swept } from "../../shared/domain/business.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import type { Logger } from "../../shared/logging.ts";
import type { Metrics } from "../../shared/metrics.ts";
import type { Queues } from "../../shared/queues.ts";
import { continuationOf } from "../../shared/queues.ts";
import { judgeLimits } from "../../shared/quota.ts";
import type { DueIndex } from "../../shared/store/due-index.ts";
import type { StateStore } from "../../shared/store/state-store.ts";

export type SweepDeps = {
  store: StateStore;
  dueIndex: DueIndex;
  queues: Queues;
  log: Logger;
  metrics?: Metrics;
  now: () => number;
  settleWindowMs: number;
  /** The used fractions of the hour's calls from which on a kind of work waits. */
  stopAt?: Partial<Record<DueEntry["work"], number>>;
};

type Admit = (work: DueEntry["work"]) => boolean;

/**
 * C1: serves every entry that is due by a message that asks for its next look, then moves its due time, later each time
 * that no look followed. In that order: a crash in between repeats a message, which its look count makes stale; it never loses one.
 */
export async function dueSweep(deps: SweepDeps): Promise<{ served: number; items: number }> {
  const { store, dueIndex, log, metrics, now, stopAt = {} } = deps;
  const limits = await store.loadLimits();
  const hold = judgeLimits(limits, undefined, now());
  if (typeof hold === "object") {
    log.info("The sweep waits", { why: hold.why });
    return { served: 0, items: 0 };
  }
  let readsAnew = false;
  /** What must wait is not even asked for: a look that does not follow would only put the next one off. */
  function admit(work: DueEntry["work"]): boolean {
    const verdict = judgeLimits(limits, stopAt[work], now());
    if (verdict !== "stale") return verdict === undefined;
    const first = !readsAnew;
    readsAnew = true;
    return first;
  }
  let served = 0;
  let items = 0;
  for await (const due of dueIndex.dueItems(now())) {
    items += 1;
    // One bad item must not keep the others from being served.
    try {
      served += due.kind === "business" ? await serveBusiness(due.id, admit, deps) : await servePending(due.id, deps);
    } catch (error) {
      metrics?.add(metricDefinitions.unserved, 1);
      log.error("A due item could not be served", {
        item: due.id,
        error: error instanceof Error ? `${error.name}: ${error.message}` : "unknown error",
      });
    }
  }
  log.info("Due sweep", { served, items });
  return { served, items };
}

async function serveBusiness(businessId: string, admit: Admit, deps: SweepDeps): Promise<number> {
  const { store, queues, now, settleWindowMs } = deps;
  const business = await store.loadBusiness(businessId);
  if (business === undefined) return 0;
  tellAges(business, deps);
  const due = dueEntries(business).filter((entry) => entry.due.nextAt <= now());
  const admitted = due.filter(({ work }) => admit(work));
  if (due.length > 0 && admitted.length === 0) return 0;
  for (const entry of admitted) await queues.wake(continuationOf(entry, businessId), 0);
  // A lost write is a worker's that was quicker: it has set the due time itself.
  await store.commit(
    business,
    { business: swept(business, now(), settleWindowMs, admitted), events: [], conclusions: [] },
    now(),
  );
  return admitted.length;
}

function tellAges(business: Business, { metrics, now }: SweepDeps): void {
  const { intentMs, unverifiedMs, revocationMs } = agesOf(business, now());
  for (const [metric, ageMs] of [
    [metricDefinitions.oldestIntent, intentMs],
    [metricDefinitions.oldestUnverified, unverifiedMs],
    [metricDefinitions.oldestRevocation, revocationMs],
  ] as const) {
    if (ageMs !== undefined) metrics?.add(metric, ageMs / 1000);
  }
}

/** A revoke that waits for its owner. */
async function servePending(wabaId: string, deps: SweepDeps): Promise<number> {
  const { store, queues, now, settleWindowMs } = deps;
  const pointer = await store.loadPointer(wabaId);
  const pending = pointer?.pendingRevoke;
  const [request] = pending?.requests ?? [];
  if (pending === undefined || request === undefined || pending.due.nextAt > now()) return 0;
  const { commandId, requestedAt } = request;
  await queues.wake(continuationOf({ work: "revoke", wabaId, commandId, requestedAt, due: pending.due }, undefined), 0);
  const sweeps = pending.due.sweeps + 1;
  const due = { ...pending.due, sweeps, nextAt: now() + lookDelayMs(sweeps + 3, settleWindowMs) };
  await store.savePendingRevoke(wabaId, pointer, { ...pending, due });
  return 1;
}
