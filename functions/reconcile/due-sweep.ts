import { dueEntries, swept } from "../../shared/domain/business.ts";
import { lookDelayMs } from "../../shared/domain/business.ts";
import type { Logger } from "../../shared/logging.ts";
import type { Queues } from "../../shared/queues.ts";
import { continuationOf } from "../../shared/queues.ts";
import type { DueIndex } from "../../shared/store/due-index.ts";
import type { StateStore } from "../../shared/store/state-store.ts";

export type SweepDeps = {
  store: StateStore;
  dueIndex: DueIndex;
  queues: Queues;
  log: Logger;
  now: () => number;
  settleWindowMs: number;
};

/**
 * C1: serves every entry that is due by a message that asks for its next look, then moves its due time, later each time
 * that no look followed. In that order: a crash in between repeats a message, which its look count makes stale; it never loses one.
 */
export async function dueSweep(deps: SweepDeps): Promise<{ served: number; items: number }> {
  const { store, dueIndex, log, now } = deps;
  const blockedUntil = await store.loadBlockedUntil();
  if (blockedUntil !== undefined && blockedUntil > now()) {
    log.info("Throttled by Meta: the sweep waits", { until: new Date(blockedUntil).toISOString() });
    return { served: 0, items: 0 };
  }
  let served = 0;
  let items = 0;
  for await (const due of dueIndex.dueItems(now())) {
    items += 1;
    // One bad item must not keep the others from being served.
    try {
      served += due.kind === "business" ? await serveBusiness(due.id, deps) : await servePending(due.id, deps);
    } catch (error) {
      log.error("A due item could not be served", {
        item: due.id,
        error: error instanceof Error ? `${error.name}: ${error.message}` : "unknown error",
      });
    }
  }
  log.info("Due sweep", { served, items });
  return { served, items };
}

async function serveBusiness(businessId: string, deps: SweepDeps): Promise<number> {
  const { store, queues, now, settleWindowMs } = deps;
  const business = await store.loadBusiness(businessId);
  if (business === undefined) return 0;
  const due = dueEntries(business).filter((entry) => entry.due.nextAt <= now());
  for (const entry of due) await queues.wake(continuationOf(entry, businessId), 0);
  // A lost write is a worker's that was quicker: it has set the due time itself.
  await store.commit(
    business,
    { business: swept(business, now(), settleWindowMs), events: [], conclusions: [] },
    now(),
  );
  return due.length;
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
