import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import type { EventBus } from "../../shared/event-bus.ts";
import type { AuditStore } from "../../shared/store/audit-store.ts";
import type { Transition } from "../../shared/store/items.ts";

/** The ports that are too small for a suite of their own, and what a test must see behind them. */
export type PortsUnderTest = {
  bus: EventBus;
  /** The ids of the events that the bus took, in their order. */
  announced(): readonly string[];
  audit: AuditStore;
  /** Of these changes, those that have no row. */
  unaudited(transitions: Transition[]): Promise<Transition[]>;
  readSecret(name: string): Promise<string>;
  putSecret(name: string, value: string): Promise<void>;
  close(): Promise<void>;
};

/** What the flows rely on, of the stand-ins and of the simulation's models alike. */
export function describePorts(which: string, start: () => Promise<PortsUnderTest>): void {
  describe(`bus, audit and secrets ${which}`, () => {
    let ports: PortsUnderTest;
    beforeAll(async () => {
      ports = await start();
    });
    afterAll(() => ports?.close());

    function eventOf(eventId: string): RecordedEvent {
      return { detailType: "Share Accepted", eventId, occurredAt: 7, wabaId: "120" };
    }
    function change(pk: string, version: number): Transition {
      return { pk, version, transitionId: `${pk}-${version}`, changedAt: 7, events: [] };
    }

    test("the bus takes more events than one call holds, in their order, and one that comes again", async () => {
      const ids = Array.from({ length: 23 }, (_, number) => `many-${number}`);
      await ports.bus.send(ids.map(eventOf));
      await ports.bus.send([eventOf("many-3")]);
      expect(ports.announced().filter((id) => id.startsWith("many-"))).toEqual([...ids, "many-3"]);
    });

    test("the bus is not asked to take nothing", async () => {
      const before = ports.announced().length;
      await ports.bus.send([]);
      expect(ports.announced()).toHaveLength(before);
    });

    test("the audit has one row of a change, however often it is appended, and tells which have none", async () => {
      await ports.audit.append(change("BUSINESS#1", 1));
      await ports.audit.append(change("BUSINESS#1", 1));
      const asked = [change("BUSINESS#1", 1), change("BUSINESS#1", 2), change("BUSINESS#2", 1)];
      expect((await ports.unaudited(asked)).map(({ transitionId }) => transitionId)).toEqual([
        "BUSINESS#1-2",
        "BUSINESS#2-1",
      ]);
      expect(await ports.unaudited([])).toEqual([]);
    });

    test("a secret is read as it is now; one that is not there is an error of that name", async () => {
      await ports.putSecret("business-tokens/one", "first");
      expect(await ports.readSecret("business-tokens/one")).toBe("first");
      await ports.putSecret("business-tokens/one", "second");
      expect(await ports.readSecret("business-tokens/one")).toBe("second");
      await expect(ports.readSecret("business-tokens/none")).rejects.toMatchObject({
        name: "ResourceNotFoundException",
      });
    });
  });
}
