import * as z from "zod/mini";
import type { RecordedEvent } from "../domain/events.ts";
import { detailTypes } from "../domain/events.ts";

/** The source of every event on the partner's bus (design.md §4). */
export const eventSource = "credit-lines";

const text = z.string();

/** The `detail` of an event as consumers read it. New keys may come without a new `schemaVersion`; none goes or changes its meaning. */
const detailSchema = z.object({
  schemaVersion: z.literal("1"),
  /** The same event, however often it comes, has the same id. */
  eventId: text,
  occurredAt: z.iso.datetime(),
  commandId: z.optional(text),
  wabaId: z.optional(text),
  /** `Credit Line Revoked`, `Revocation Started`, `Revocation Incomplete`: the WABAs of the business, at most 100. */
  wabaIds: z.optional(z.array(text)),
  businessId: z.optional(text),
  allocationConfigId: z.optional(text),
  creditLineId: z.optional(text),
  currency: z.optional(text),
  status: z.optional(text),
  previousStatus: z.optional(text),
  reason: z.optional(text),
  /** Orders the events of one business. */
  aggregateVersion: z.optional(z.int()),
});

/** An event as EventBridge delivers it, less what EventBridge itself adds. */
export const eventSchema = z.object({
  source: z.literal(eventSource),
  "detail-type": z.enum(detailTypes),
  detail: detailSchema,
});

export function toDetail(event: RecordedEvent, aggregateVersion: number | undefined): z.output<typeof detailSchema> {
  const { detailType: _stands, occurredAt, ...rest } = event;
  return {
    schemaVersion: "1",
    ...rest,
    occurredAt: new Date(occurredAt).toISOString(),
    ...(aggregateVersion === undefined ? {} : { aggregateVersion }),
  };
}
