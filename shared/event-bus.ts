import type { EventBridgeClient } from "@aws-sdk/client-eventbridge";
import { eventSource, toDetail } from "./contracts/events.ts";
import type { RecordedEvent } from "./domain/events.ts";

/** Sends events to the partner's bus; rejects unless the bus took every one of them. */
export type EventBus = { send(events: readonly RecordedEvent[], aggregateVersion?: number): Promise<void> };

/** EventBridge's limit for one call. */
const entriesMax = 10;

/** @param client made when the first event is sent: a command that is not a repetition announces nothing itself. */
export function createEventBus(
  client: () => EventBridgeClient | Promise<EventBridgeClient>,
  busName: string,
): EventBus {
  let made: EventBridgeClient | undefined;
  return {
    async send(events, aggregateVersion) {
      const { PutEventsCommand } = await import("@aws-sdk/client-eventbridge");
      made ??= await client();
      for (let start = 0; start < events.length; start += entriesMax) {
        const Entries = events.slice(start, start + entriesMax).map((event) => ({
          EventBusName: busName,
          Source: eventSource,
          DetailType: event.detailType,
          Time: new Date(event.occurredAt),
          Detail: JSON.stringify(toDetail(event, aggregateVersion)),
        }));
        const answer = await made.send(new PutEventsCommand({ Entries }));
        if ((answer.FailedEntryCount ?? 0) > 0) {
          const code = answer.Entries?.find((entry) => entry.ErrorCode !== undefined)?.ErrorCode;
          throw new Error(
            `EventBridge refused ${answer.FailedEntryCount} of ${Entries.length} events (${code ?? "no code"})`,
          );
        }
      }
    },
  };
}
