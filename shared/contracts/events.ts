import type { RecordedEvent } from "../domain/events.ts";

/** The source of every event on the partner's bus (design.md §4). */
export const eventSource = "credit-lines";

/** The `detail` of an event as consumers read it. Times are ISO 8601, UTC. */
export function toDetail(event: RecordedEvent, aggregateVersion: number | undefined): Record<string, unknown> {
  const { detailType: _stands, occurredAt, ...rest } = event;
  return {
    schemaVersion: "1",
    ...rest,
    occurredAt: new Date(occurredAt).toISOString(),
    ...(aggregateVersion === undefined ? {} : { aggregateVersion }),
  };
}
