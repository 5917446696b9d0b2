import * as z from "zod";
import type { RecordedEvent } from "../../shared/domain/events.ts";

/** A recorded event, as `tail` and the history of `explain` print it. */
export const eventShape = z.object({
  at: z.iso.datetime(),
  event: z.string(),
  eventId: z.string(),
  businessId: z.string().optional(),
  wabaId: z.string().optional(),
  commandId: z.string().optional(),
  status: z.string().optional(),
  reason: z.string().optional(),
  by: z.string().optional().describe("of what a person did: who"),
  note: z.string().optional().describe("and why"),
});

export function shownEvent({ occurredAt, detailType, ...event }: RecordedEvent): z.output<typeof eventShape> {
  return eventShape.parse({ ...event, at: new Date(occurredAt).toISOString(), event: detailType });
}
