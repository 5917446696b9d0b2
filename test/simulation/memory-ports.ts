import type { RecordedEvent } from "../../shared/domain/events.ts";
import type { EventBus } from "../../shared/event-bus.ts";
import type { AuditStore } from "../../shared/store/audit-store.ts";
import type { Transition } from "../../shared/store/items.ts";

/** An effect on something outside, by the name of its boundary. */
type Send = <T>(operation: string, request: () => T) => Promise<T>;

/** The models of the bus, the audit and the secrets. They pass the contract suite of the real ones (test/shared/ports-contract.ts). */
export function createMemoryBus(onEvent: (event: RecordedEvent) => void, send: Send): EventBus {
  return {
    async send(events) {
      // As the real one: nothing to say is no call.
      if (events.length > 0) await send("send events", () => events.forEach((event) => onEvent(event)));
    },
  };
}

/** @param rows the ids of the changes that have one. */
export function createMemoryAudit(rows: Set<string>, send: Send) {
  const store: AuditStore = {
    append: ({ transitionId }) => send("audit", () => void rows.add(transitionId)),
    keepPoison: () => Promise.reject(new Error("A change of ours cannot be read")),
  };
  async function unaudited(transitions: Transition[]): Promise<Transition[]> {
    return transitions.filter(({ transitionId }) => !rows.has(transitionId));
  }
  return { store, unaudited };
}

export function createMemorySecrets(values: ReadonlyMap<string, string>, send: Send) {
  return (name: string): Promise<string> =>
    send("secret", () => {
      const value = values.get(name);
      if (value === undefined) throw Object.assign(new Error("No such secret"), { name: "ResourceNotFoundException" });
      return value;
    });
}
