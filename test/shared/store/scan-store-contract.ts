import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newBusiness } from "../../../shared/domain/business.ts";
import type { Difference, Finding } from "../../../shared/domain/findings.ts";
import { opened, sighted } from "../../../shared/domain/findings.ts";
import type { FindingStore } from "../../../shared/store/finding-store.ts";
import type { Scan, Transition } from "../../../shared/store/items.ts";
import { keys } from "../../../shared/store/items.ts";
import type { ScanStore, WalkedPage } from "../../../shared/store/scan-store.ts";
import { hasSeen } from "../../../shared/store/scan-store.ts";
import type { StateStore } from "../../../shared/store/state-store.ts";
import { shareRequest } from "../../support/commands.ts";

/** An empty table. */
export type ScanStoreUnderTest = {
  store: StateStore;
  scans: ScanStore;
  findings: FindingStore;
  /** What an item's last write announces, as `publish` reads it. */
  transition(pk: string): Promise<Transition | undefined>;
  /** Takes the due time from an item, as a writer that forgets it would. */
  forgetDue(pk: string): Promise<void>;
  close(): Promise<void>;
};

const at = 1_700_000_000_000;

function scanOf(overrides: Partial<Scan> = {}): Scan {
  return {
    version: 1,
    scanId: 7,
    phase: "allocations",
    startedAt: at,
    movedAt: at,
    leaseUntil: at + 60_000,
    isFirst: true,
    unread: [],
    unshown: [],
    listed: { allocations: 0, wabas: 0, funding: 0 },
    missing: { allocations: 0, wabas: 0, funding: 0 },
    chunks: { allocations: 0, wabas: 0 },
    announced: 0,
    calls: [{ at, count: 25 }],
    ...overrides,
  };
}

/** What the estate scan asks of the table, whatever it is made of. */
export function describeScanStore(name: string, create: () => Promise<ScanStoreUnderTest>): void {
  let subject: ScanStoreUnderTest;
  beforeAll(async () => {
    subject = await create();
  });
  afterAll(() => subject?.close());

  async function walkAll(since: number): Promise<WalkedPage> {
    const all: WalkedPage = { businesses: [], transitions: [], unreadable: [] };
    for (let cursor: string | undefined; ;) {
      const page = await subject.scans.walk(cursor, since);
      all.businesses.push(...page.businesses);
      all.transitions.push(...page.transitions);
      all.unreadable.push(...page.unreadable);
      if (page.next === undefined) return all;
      cursor = page.next;
    }
  }

  describe(`a scan store ${name}`, () => {
    test("lets one of two slices take the scan on", async () => {
      const { scans } = subject;
      expect(await scans.loadScan()).toBeUndefined();
      const first = scanOf();
      expect(await scans.saveScan(undefined, first)).toBe(true);
      expect(await scans.saveScan(undefined, scanOf({ scanId: 8 }))).toBe(false);
      expect(await scans.loadScan()).toEqual(first);
      const next = scanOf({ version: 2, phase: "wabas", cursor: "c" });
      expect(await scans.saveScan(first, next)).toBe(true);
      expect(await scans.saveScan(first, scanOf({ version: 2, phase: "table" }))).toBe(false);
      expect(await scans.loadScan()).toEqual(next);
    });

    test("keeps the ids that a list named together with the checkpoint, or not at all", async () => {
      const { scans } = subject;
      const loaded = await scans.loadScan();
      const ids = ["18446744073709551615", "5", "910000000000000000", "910000000000000001"];
      const one = scanOf({ version: 3, chunks: { allocations: 1, wabas: 0 } });
      expect(await scans.saveScan(loaded, one, { list: "allocations", ids: ids.slice(0, 2) })).toBe(true);
      expect(await scans.saveScan(loaded, one, { list: "allocations", ids: ["777"] })).toBe(false);
      const two = scanOf({ version: 4, chunks: { allocations: 2, wabas: 0 } });
      expect(await scans.saveScan(one, two, { list: "allocations", ids: ids.slice(2, 3) })).toBe(true);
      const seen = await scans.loadSeen(two, "allocations");
      expect(ids.map((id) => hasSeen(seen, id))).toEqual([true, true, true, false]);
      expect(hasSeen(seen, "777")).toBe(false);
      expect(await scans.loadSeen(two, "wabas")).toHaveLength(0);
      await expect(scans.loadSeen(scanOf({ chunks: { allocations: 3, wabas: 0 } }), "allocations")).rejects.toThrow(
        "gone",
      );
    });

    test("loads many businesses and pointers at once, and misses those that are not there", async () => {
      const { store, scans } = subject;
      const businessIds = Array.from({ length: 130 }, (_, index) => `1100000000${String(index).padStart(5, "0")}`);
      for (const businessId of businessIds) {
        const fresh = newBusiness(businessId, at);
        await store.commit(fresh, { business: { ...fresh, name: "Acme" }, events: [], conclusions: [] }, at);
      }
      await store.claimOwner("120000000000001", "110000000000001", { overPendingRevoke: false });
      const businesses = await scans.loadBusinesses([...businessIds, "119999999999999", businessIds[0] ?? ""]);
      expect([...businesses.keys()].toSorted()).toEqual(businessIds);
      expect(businesses.get(businessIds[0] ?? "")).toEqual(await store.loadBusiness(businessIds[0] ?? ""));
      const pointers = await scans.loadPointers(["120000000000001", "120000000000002"]);
      expect([...pointers]).toMatchObject([["120000000000001", { businessId: "110000000000001" }]]);
      expect(await scans.loadBusinesses([])).toEqual(new Map());
    });

    test("walks over every business, with its due time as the sweep finds it, and over what was recorded since", async () => {
      const { store, scans } = subject;
      const request = shareRequest("120000000000777");
      const fresh = newBusiness("110000000000777", at + 5000);
      const waiting = { [request.wabaId]: { request, due: { nextAt: at + 9000, looks: 0, sweeps: 0 } } };
      const event = { detailType: "Share In Doubt", commandId: "c", businessId: fresh.businessId } as const;
      await store.commit(fresh, { business: { ...fresh, waiting }, events: [event], conclusions: [] }, at + 5000);

      const { businesses, transitions, unreadable } = await walkAll(at + 1000);
      expect(businesses).toHaveLength(131);
      expect(unreadable).toEqual([]);
      const own = businesses.find(({ business }) => business.businessId === fresh.businessId);
      expect(own).toEqual({ business: await store.loadBusiness(fresh.businessId), indexedAt: at + 9000 });
      const recent = transitions.filter(({ pk }) => pk.startsWith("BUSINESS#"));
      expect(recent).toEqual([await subject.transition(keys.business(fresh.businessId))]);
      expect(recent[0]?.events).toMatchObject([event]);

      await subject.forgetDue(keys.business(fresh.businessId));
      const again = (await walkAll(at + 1000)).businesses.find(
        ({ business }) => business.businessId === fresh.businessId,
      );
      expect(again?.indexedAt).toBeUndefined();
      expect(await scans.walk(undefined, at + 1000)).toBeDefined();
    });
  });

  describe(`a finding store ${name}`, () => {
    const difference: Difference = { kind: "waba_left", subject: "120000000000001", wabaId: "120000000000001" };
    function sight(known: Finding | undefined, scanId: number): Finding {
      const next = sighted(difference, known, { scanId, completedId: scanId - 1 }, at + scanId);
      if (next === undefined) throw new Error("Seen already");
      return next;
    }

    test("keeps a finding, guarded by its version, and announces with the write", async () => {
      const { findings } = subject;
      expect(await findings.loadFinding("waba_left", difference.subject)).toBeUndefined();
      const one = sight(undefined, 1);
      expect(await findings.saveFinding(undefined, one, [], at)).toBe(true);
      expect(await findings.saveFinding(undefined, one, [], at)).toBe(false);
      const two = sight(one, 2);
      expect(await findings.saveFinding(one, two, [], at)).toBe(true);
      expect(await findings.saveFinding(one, two, [], at)).toBe(false);
      expect(await findings.loadFinding("waba_left", difference.subject)).toEqual(two);

      const { finding, events } = opened(two, at + 3);
      expect(await findings.saveFinding(two, finding, events, at + 3)).toBe(true);
      const transition = await subject.transition(keys.finding("waba_left", difference.subject));
      expect(transition).toMatchObject({ version: 3, changedAt: at + 3 });
      const { transitionId } = transition ?? {};
      expect(transition?.events).toEqual([{ ...events[0], eventId: `${transitionId}-0`, occurredAt: at + 3 }]);
    });

    test("lists what is not closed, in order, and the sweep does not take it for work", async () => {
      const { findings } = subject;
      const other = { ...sight(undefined, 1), kind: "allocation_gone" as const, subject: "130000000000001" };
      await findings.saveFinding(undefined, other, [], at);
      const known = await findings.loadFinding("waba_left", difference.subject);
      expect(await findings.unclosedFindings()).toEqual([
        { kind: "allocation_gone", subject: "130000000000001" },
        { kind: "waba_left", subject: difference.subject },
      ]);
      if (known === undefined) throw new Error("It was there");
      await findings.saveFinding(known, { ...known, state: "closed", version: known.version + 1 }, [], at);
      expect(await findings.unclosedFindings()).toEqual([{ kind: "allocation_gone", subject: "130000000000001" }]);
    });
  });
}
