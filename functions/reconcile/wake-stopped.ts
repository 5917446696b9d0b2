import { dueEntries } from "../../shared/domain/business.ts";
import { continuationOf } from "../../shared/queues.ts";
import { ifReadable } from "../../shared/store/unreadable.ts";
import type { SweepDeps } from "./due-sweep.ts";

const wokenAtOnce = 10;

/** The rest of a run's time is the due sweep's; the next run goes on. */
const wakeMs = 20_000;

/** What a function decided just before the resume may be written just after it. */
const lateMs = 60_000;

const dayMs = 24 * 3_600_000;

/**
 * After a person has let automatic revocations go on: everything that the breaker held is asked for a look. It is over when a
 * run finds nothing more to wake; a look that comes twice finds its hold gone. Of a table that no run can read to its end,
 * it is over when each hold has had the look that it is due every day.
 */
export async function wakeStopped(deps: SweepDeps): Promise<number> {
  const { store, log, now } = deps;
  const loaded = await store.loadRemovals();
  if (loaded?.breaker.waking !== true) return 0;
  const startedAt = now();
  let woken = 0;
  let isCut = false;
  for await (const page of store.heldByBreaker()) {
    for (let start = 0; start < page.length; start += wokenAtOnce) {
      woken += await wakeSome(page.slice(start, start + wokenAtOnce), deps);
    }
    isCut = now() > startedAt + wakeMs;
    if (isCut) break;
  }
  log.info("Held revocations are woken", { woken, isCut });
  const { waking: _over, ...awake } = loaded.breaker;
  const isOver = woken === 0 && startedAt > (awake.resumedAt ?? 0) + (isCut ? dayMs : lateMs);
  if (isOver) await store.saveRemovals(loaded, { next: awake, events: [] }, now());
  return woken;
}

async function wakeSome(businessIds: readonly string[], { store, queues, log }: SweepDeps): Promise<number> {
  const woken = businessIds.map(async (businessId): Promise<number> => {
    const business = await ifReadable(store.loadBusiness(businessId));
    if (business === "unreadable") {
      log.error("An item cannot be read; the others are woken", { item: businessId });
      return 0;
    }
    if (business?.held?.reason !== "breaker") return 0;
    const [first] = business.held.requests;
    const entry = dueEntries(business).find(
      ({ work, commandId }) => work === "revoke" && commandId === first?.commandId,
    );
    if (entry === undefined) return 0;
    await queues.wake(continuationOf(entry, businessId), 0);
    return 1;
  });
  return (await Promise.all(woken)).reduce((sum, one) => sum + one, 0);
}
