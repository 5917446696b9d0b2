import { metricDefinitions } from "./contracts/metrics.ts";
import type { EventBus } from "./event-bus.ts";
import type { Logger } from "./logging.ts";
import type { Metrics } from "./metrics.ts";
import type { AuditStore } from "./store/audit-store.ts";
import type { Transition } from "./store/items.ts";

export type AnnounceDeps = { events: EventBus; audit: AuditStore; log: Logger; metrics?: Metrics };

/**
 * Announces what a write recorded, then audits it. In that order, so that an audit row means "announced", and a gap in the
 * rows is what reconcile has to announce (design.md §4). Both steps may repeat.
 */
export async function announce(transition: Transition, { events, audit, log, metrics }: AnnounceDeps): Promise<void> {
  const isBusiness = transition.pk.startsWith("BUSINESS#");
  await events.send(transition.events, isBusiness ? transition.version : undefined);
  await audit.append(transition);
  for (const { detailType, eventId, commandId, wabaId, businessId, reason } of transition.events) {
    log.info("Announced", { detailType, eventId, commandId, wabaId, businessId, reason });
    metrics?.add(metricDefinitions.outcomes, 1, { outcome: detailType, reason: reason ?? "none" });
  }
}
