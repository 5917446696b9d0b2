import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { Item } from "../simulation/memory-store.ts";
import type { SharedWaba } from "../../shared/domain/business.ts";
import { recordLateAnswer } from "../../shared/domain/probe.ts";
import type { Scan } from "../../shared/store/items.ts";
import { keys } from "../../shared/store/items.ts";
import type { Estate } from "../support/estate-harness.ts";
import {
  customerOf,
  hourMs,
  lineId,
  minuteMs,
  partnerId,
  settleIn,
  startEstate,
  verifiedBusiness,
  worldOfCustomers,
} from "../support/estate-harness.ts";

function customers(count: number) {
  return Array.from({ length: count }, (_, index) => customerOf(index + 1));
}

/** An estate in agreement, whose first scan is over. */
async function calmEstate(count: number, options: Parameters<typeof startEstate>[0] = {}): Promise<Estate> {
  const estate = startEstate(options);
  await settleIn(estate, customers(count));
  estate.nextDay();
  await estate.scan();
  estate.nextDay();
  return estate;
}

async function twoScans(estate: Estate): Promise<void> {
  await estate.scan();
  estate.nextDay();
  await estate.scan();
}

function scanOf(estate: Estate): Scan {
  const scan = estate.table.get(keys.scan)?.scan;
  if (scan === undefined) throw new Error("No scan has begun");
  return scan;
}

function found(estate: Estate): string[] {
  return estate.findings("open").map(({ kind, subject }) => `${kind} ${subject}`);
}

function leave(estate: Estate, count: number): void {
  const wabas = customers(count).flatMap(({ businessId, wabaIds }) =>
    wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: false })),
  );
  estate.world({ wabas });
}

describe("the first day of an existing partner", () => {
  test("adopts what is shared at Meta, within two passes of the lists, so that who unshares later can be revoked", async () => {
    const estate = startEstate();
    const existing = customers(1000);
    estate.world(worldOfCustomers(existing));
    estate.world({ wabas: [{ id: "120999999999999", ownerBusinessId: "110999999999999", currency: "EUR" }] });
    await estate.scan();
    expect(estate.calls.length).toBeLessThanOrEqual((2.2 * (1000 + 1251)) / 100);
    const accepted = estate.announced.filter(({ detailType }) => detailType === "Share Accepted");
    expect(new Set(accepted.map(({ wabaId }) => wabaId))).toEqual(new Set(existing.flatMap(({ wabaIds }) => wabaIds)));
    // Nobody funds it yet, but who owns it will be needed one day.
    expect(estate.owner("120999999999999")).toBe("110999999999999");
    expect(estate.findings("suspected")).toEqual([]);

    estate.nextDay();
    leave(estate, 4);
    const [, , , customer = customerOf(4)] = existing;
    const [wabaId = ""] = customer.wabaIds;
    await estate.revoke({ wabaId, reason: "customer_unshared" });
    const business = await estate.business(customer.businessId);
    expect(business.revocation?.state).toBe("done");
    expect(Object.values(business.wabas).map(({ status }) => status)).toEqual(["revoked", "revoked"]);
    expect(estate.model.allocations.get(customer.allocationId)?.spans.at(-1)?.to).toBeDefined();
  });

  test("does not lose a WABA that could not be read, where the lists keep its funding back", async () => {
    const estate = startEstate({ variants: { listFieldExpansions: false, wabaCallsPerHour: 200 } });
    const existing = customers(2);
    estate.world(worldOfCustomers(existing));
    const [busy = ""] = customerOf(1).wabaIds;
    estate.model.usage.set(busy, { used: 1000, at: estate.clock.now });
    await estate.scan();
    expect((await estate.business(customerOf(1).businessId)).wabas[busy]).toBeUndefined();
    for (let day = 0; day < 3; day += 1) {
      estate.nextDay();
      await estate.scan();
    }
    expect(found(estate)).toEqual([`allocation_unknown ${busy}`]);
  });

  test("says so when the list shows nobody's funding", async () => {
    const estate = startEstate({ variants: { fundingVisibleTo: "business" } });
    estate.world(worldOfCustomers(customers(40)));
    await estate.scan();
    expect(scanOf(estate).completed?.cannotTell).toEqual(["funded_elsewhere", "unfunded"]);
  });

  test("comes again when Meta did not give the list", async () => {
    const estate = startEstate();
    estate.world(worldOfCustomers(customers(1)));
    // E14, E8, and the list of WABAs in each of its shapes.
    for (let ahead = 3; ahead <= 7; ahead += 1) estate.fault(ahead, "forbidden");
    await estate.scan();
    expect(scanOf(estate).unread).toContain("wabas");
    estate.nextDay();
    await estate.scan();
    expect(Object.keys((await estate.business(customerOf(1).businessId)).wabas)).toEqual(customerOf(1).wabaIds);
  });

  test("reads one by one, within the budget, what the lists keep back", async () => {
    const policy = { callsPerHour: 60 };
    const estate = startEstate({ variants: { listFieldExpansions: false }, policy });
    estate.world(worldOfCustomers(customers(40)));
    await estate.scan();
    const shared = [...estate.table.items.values()].flatMap(({ business }) => Object.keys(business?.wabas ?? {}));
    expect(shared).toHaveLength(50);
    for (const [index, at] of estate.calls.entries()) {
      expect(estate.calls.slice(index).filter((other) => other < at + hourMs).length).toBeLessThanOrEqual(60);
    }
  });

  test("adopts nothing of a business that a command has touched, and nothing on a later day", async () => {
    const estate = startEstate();
    const [touched, fresh, late] = [customerOf(1), customerOf(2), customerOf(3)];
    await estate.put({ ...verifiedBusiness(touched, estate.clock.now), records: {}, wabas: {} });
    estate.nextDay();
    estate.world(worldOfCustomers([touched, fresh]));
    await estate.scan();
    expect((await estate.business(touched.businessId)).records).toEqual({});
    expect(Object.keys((await estate.business(fresh.businessId)).wabas)).toEqual(fresh.wabaIds);
    estate.nextDay();
    estate.world(worldOfCustomers([late]));
    await twoScans(estate);
    expect(found(estate)).toEqual([
      `allocation_unknown ${touched.allocationId}`,
      `allocation_unknown ${late.allocationId}`,
    ]);
  });
});

describe("what a list alone does not tell", () => {
  test("a record that hands deleted is told to who relies on it, though a sibling's share has noted it on the item", async () => {
    const estate = await calmEstate(30);
    const customer = customerOf(1);
    const { businessId, allocationId: id, wabaIds } = customer;
    estate.world({ allocations: [{ id, lineId, receivingBusinessId: businessId, status: "deleted" }] });
    const business = await estate.business(businessId);
    const [record] = Object.values(business.records);
    if (record === undefined) throw new Error("No record");
    await estate.put({ ...business, records: { [id]: { ...record, state: "deleted" } } });
    estate.nextDay();
    await twoScans(estate);
    expect(found(estate)).toEqual([`allocation_gone ${id}`]);
    expect(estate.commands).toMatchObject([{ type: "verify", wabaId: wabaIds[0] }]);
  });

  test("a finding that is over is closed by a look of its own while its list has shrunk", async () => {
    const estate = await calmEstate(30);
    const customer = customerOf(1);
    const { businessId, allocationId } = customer;
    const spare = `99${allocationId}`;
    estate.world({ allocations: [{ id: spare, lineId, receivingBusinessId: businessId }] });
    const business = await estate.business(businessId);
    const [record] = Object.values(business.records);
    if (record === undefined) throw new Error("No record");
    await estate.put({ ...business, records: { ...business.records, [spare]: record } });
    estate.nextDay();
    await twoScans(estate);
    expect(found(estate)).toEqual([`record_duplicate ${spare}`]);

    const gone = customers(10).slice(1);
    estate.world({
      allocations: [
        { id: spare, lineId, receivingBusinessId: businessId, status: "deleted" as const },
        ...gone.map((one) => ({
          id: one.allocationId,
          lineId,
          receivingBusinessId: one.businessId,
          status: "deleted" as const,
        })),
      ],
    });
    estate.nextDay();
    await estate.scan();
    expect(scanOf(estate).completed?.cannotTell).toContain("allocation_gone");
    expect(found(estate)).toEqual([]);
  });
});

describe("what is no finding", () => {
  test("H16: a share that settles while the scan is between its lists", async () => {
    const estate = await calmEstate(30);
    const newcomer = customerOf(31);
    estate.during(3, () => {
      estate.world(worldOfCustomers([newcomer]));
      void estate.put(verifiedBusiness(newcomer, estate.clock.now));
    });
    await estate.scan();
    expect(estate.findings("suspected")).toEqual([]);
    estate.nextDay();
    await estate.scan();
    expect([...estate.findings("suspected"), ...estate.findings("open")]).toEqual([]);
  });

  test("what is missing from a list that has shrunk by more than the limit", async () => {
    const estate = await calmEstate(100);
    leave(estate, 30);
    await twoScans(estate);
    expect(found(estate)).toEqual([]);
    expect(estate.findings("suspected")).toEqual([]);
    expect(scanOf(estate).completed?.cannotTell).toContain("waba_left");
    expect(estate.commands).toEqual([]);
  });

  test("what is missing from a list that is empty", async () => {
    const estate = await calmEstate(1);
    leave(estate, 1);
    await twoScans(estate);
    expect(found(estate)).toEqual([]);
    expect(scanOf(estate).completed?.cannotTell).toContain("waba_left");
  });

  test("a WABA whose own budget is used up: it stops neither the scan nor the app, and is said when it can be read", async () => {
    const estate = await calmEstate(30, { variants: { wabaCallsPerHour: 200 } });
    const [busy = ""] = customerOf(1).wabaIds;
    const { businessId } = customerOf(1);
    estate.world({
      wabas: [{ id: busy, ownerBusinessId: businessId, currency: "EUR", primaryFundingId: "990000000000001" }],
    });
    await estate.scan();
    estate.nextDay();
    estate.model.usage.set(busy, { used: 1000, at: estate.clock.now });
    expect(await estate.scan()).toBe(1);
    expect(estate.table.get(keys.quota())).toBeUndefined();
    expect(found(estate)).toEqual([]);
    expect(estate.findings("suspected")).toMatchObject([{ kind: "funded_elsewhere", subject: busy }]);
    estate.nextDay();
    await estate.scan();
    expect(found(estate)).toEqual([`funded_elsewhere ${busy}`]);
  });

  test("funding that the system token may not see", async () => {
    const estate = await calmEstate(50);
    estate.model.variants = { ...estate.model.variants, fundingVisibleTo: "business" };
    await twoScans(estate);
    expect(found(estate)).toEqual([]);
    expect(scanOf(estate).completed?.cannotTell).toContain("unfunded");
  });

  test("a WABA that the list lacks and Meta still shows", async () => {
    const estate = await calmEstate(60);
    leave(estate, 1);
    await estate.scan();
    estate.nextDay();
    const [{ businessId, wabaIds } = customerOf(1)] = customers(1);
    // The list was read by then: 2 pages, and E8's, and E14.
    estate.during(4, () =>
      estate.world({
        wabas: wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: true })),
      }),
    );
    await estate.scan();
    expect(found(estate)).toEqual([]);
    expect(estate.commands).toEqual([]);
  });

  test("a difference that two scans saw, but not in a row", async () => {
    const estate = await calmEstate(60);
    for (const isGone of [true, false, true]) {
      const { businessId, wabaIds } = customerOf(1);
      estate.world({
        wabas: wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: !isGone })),
      });
      await estate.scan();
      estate.nextDay();
    }
    expect(found(estate)).toEqual([]);
  });
});

describe("what a scan sets going", () => {
  test("a WABA that left is revoked by one command, after two scans and a look of its own", async () => {
    const estate = await calmEstate(60);
    leave(estate, 1);
    await estate.scan();
    expect(estate.commands).toEqual([]);
    const [suspected] = estate.findings("suspected");
    estate.nextDay();
    await estate.scan();
    const [wabaId = ""] = customerOf(1).wabaIds;
    const commandId = `drift:waba_left:${wabaId}:2`;
    const requestedAt = suspected?.firstSeenAt;
    expect(estate.commands).toEqual([{ type: "revoke", commandId, requestedAt, wabaId, reason: "partner_removed" }]);
    estate.nextDay();
    await estate.scan();
    expect(estate.commands).toHaveLength(1);
    expect(found(estate)).toEqual([`waba_left ${wabaId}`]);
  });

  test("only what the stage lets start by itself", async () => {
    const estate = await calmEstate(60, { policy: { mayStart: [] } });
    leave(estate, 1);
    await twoScans(estate);
    expect(found(estate)).toHaveLength(1);
    expect(estate.commands).toEqual([]);
  });

  test("what a late answer entered after a person had given the share up is a finding", async () => {
    const estate = await calmEstate(30);
    const { businessId, allocationId, credentialId, wabaIds } = customerOf(31);
    const [wabaId = ""] = wabaIds;
    const verified = verifiedBusiness(customerOf(31), estate.clock.now);
    const { allocationId: _none, evidence: _never, ...waba } = verified.wabas[wabaId] as SharedWaba;
    // As `credit-lines settle` leaves it: nothing under way.
    const closed = { ...verified, records: {}, wabas: { [wabaId]: { ...waba, status: "sharing" as const } } };
    const answer = {
      allocationId,
      creditLineId: lineId,
      epoch: 0,
      seen: "live",
      receivingCredentialId: credentialId,
    } as const;
    await estate.put(recordLateAnswer(closed, waba.request, answer, estate.clock.now).business);
    await estate.deps.store.claimOwner(wabaId, businessId, { overPendingRevoke: false });
    estate.world(worldOfCustomers([customerOf(31)]));
    estate.nextDay();
    await twoScans(estate);
    expect(found(estate)).toEqual([`allocation_unknown ${wabaId}`]);
  });

  test("one that was allocated, and that a hand has attached, is told of once", async () => {
    const estate = await calmEstate(30);
    const { businessId, wabaIds, credentialId } = customerOf(1);
    const [wabaId = ""] = wabaIds;
    const business = await estate.business(businessId);
    const { evidence: _never, ...waba } = business.wabas[wabaId] as SharedWaba;
    const records = Object.fromEntries(
      Object.entries(business.records).map(([id, record]) => [id, { ...record, credentialId }]),
    );
    await estate.put({ ...business, records, wabas: { [wabaId]: { ...waba, status: "allocated" } } });
    estate.nextDay();
    await twoScans(estate);
    expect(found(estate)).toEqual([`allocation_unknown ${wabaId}`]);
  });

  test("a mismatch that Meta shows healed is verified", async () => {
    const estate = await calmEstate(30);
    const { businessId, wabaIds } = customerOf(1);
    const [wabaId = ""] = wabaIds;
    const business = await estate.business(businessId);
    const waba = business.wabas[wabaId];
    if (waba?.status !== "verified") throw new Error("It was verified");
    await estate.put({ ...business, wabas: { [wabaId]: { ...waba, status: "mismatched" } } });
    estate.nextDay();
    await estate.scan();
    expect(estate.commands).toEqual([
      { type: "verify", commandId: `scan:2:${wabaId}`, requestedAt: scanOf(estate).startedAt, wabaId },
    ]);
  });

  test("a live record of a revoked business is looked at again at its first sight, and announced at its second (C3)", async () => {
    const estate = await calmEstate(30);
    const { businessId, allocationId, wabaIds } = customerOf(1);
    await estate.revoke({ businessId });
    estate.nextDay();
    const allocation = { id: allocationId, lineId, receivingBusinessId: businessId, wabaIds };
    estate.world({ allocations: [{ ...allocation, status: "live" }] });
    await estate.scan();
    const { revocation } = await estate.business(businessId);
    expect(revocation).toMatchObject({ state: "done", due: { nextAt: expect.any(Number), looks: 0 } });
    estate.nextDay();
    await estate.scan();
    expect(found(estate)).toEqual([`revoked_but_live ${allocationId}`]);
  });

  test("a change that was never announced is, under the id it would have had", async () => {
    const estate = await calmEstate(30);
    const business = await estate.business(customerOf(1).businessId);
    const pk = keys.business(business.businessId);
    const doubt = { detailType: "Share In Doubt", commandId: "lost", businessId: business.businessId } as const;
    const change = { business: { ...business, name: "Renamed" }, events: [doubt], conclusions: [] };
    estate.unheard.add(pk);
    await estate.deps.store.commit(business, change, estate.clock.now);
    // Publish may still be at it.
    await estate.scan();
    expect(estate.announced.filter(({ commandId }) => commandId === "lost")).toEqual([]);
    estate.nextDay();
    await estate.scan();
    const { transition } = estate.table.get(pk) ?? {};
    expect(estate.announced.filter(({ commandId }) => commandId === "lost")).toEqual(transition?.events);
    expect(scanOf(estate).completed?.announced).toBe(1);
    estate.nextDay();
    await estate.scan();
    expect(scanOf(estate).completed?.announced).toBe(0);
  });
});

describe("a table that was restored from a backup", () => {
  const [left, came] = [customerOf(1), customerOf(31)];

  /** The backup knows neither who came since nor who was revoked. */
  async function restored(without: readonly string[] = []): Promise<Estate> {
    const estate = await calmEstate(30);
    const backup = [...estate.table.items].filter(([pk]) => !without.includes(pk));
    await settleIn(estate, [came]);
    await estate.revoke({ businessId: left.businessId });
    expect(await estate.business(left.businessId)).toMatchObject({ revocation: { state: "done" } });
    estate.nextDay();
    const items = estate.table.items as Map<string, Item>;
    items.clear();
    for (const [pk, item] of backup) items.set(pk, item);
    return estate;
  }

  test("has what came since, and what went, found by two scans, and every owner again; Meta is only asked", async () => {
    const estate = await restored();
    const { length: before } = estate.model.calls;
    await twoScans(estate);
    expect(found(estate).toSorted()).toEqual([
      `allocation_gone ${left.allocationId}`,
      `allocation_unknown ${came.allocationId}`,
    ]);
    // So that it can be revoked, whatever a person decides; and what no longer pays is looked at, not believed.
    expect(estate.owner(came.wabaIds[0] ?? "")).toBe(came.businessId);
    expect(estate.commands.map(({ type, wabaId }) => `${type} ${wabaId}`)).toEqual([`verify ${left.wabaIds[0]}`]);
    expect(new Set(estate.model.calls.slice(before).map(({ method }) => method))).toEqual(new Set(["GET"]));

    await estate.revoke({ businessId: left.businessId });
    estate.nextDay();
    await twoScans(estate);
    expect(found(estate)).toEqual([`allocation_unknown ${came.allocationId}`]);
  });

  test("takes its next scan for the first, and adopts what it should report, when the checkpoint was left behind", async () => {
    const estate = await restored([keys.scan]);
    await twoScans(estate);
    expect(found(estate)).toEqual([`allocation_gone ${left.allocationId}`]);
    expect(await estate.business(came.businessId)).toMatchObject({ records: { [came.allocationId]: {} } });
  });
});

describe("a scan over many invocations", () => {
  test("H27l: of two schedules at once, one slice works", async () => {
    const estate = await calmEstate(250);
    const [one, two] = await Promise.all([estate.slice(true), estate.slice(true)]);
    const states = [one, two].map((report) => (report === "died" ? report : report.state));
    expect(states.toSorted()).toEqual(["done", "waits"]);
    expect(scanOf(estate).scanId).toBe(2);
  });

  test("a slice that comes back to life after another took over changes nothing", async () => {
    const estate = await calmEstate(250);
    const stale = scanOf(estate);
    estate.nextDay();
    const ended = estate.scan();
    await ended;
    expect(await estate.deps.scans.saveScan(stale, { ...stale, phase: "line", version: stale.version + 1 })).toBe(
      false,
    );
    expect(scanOf(estate).phase).toBe("done");
  });

  test("begins again when it stood still for over an hour, and not while it waits for its share of the calls", async () => {
    const estate = await calmEstate(600, { policy: { callsPerHour: 12 } });
    await estate.scan();
    expect(scanOf(estate)).toMatchObject({ scanId: 2, phase: "done" });
    estate.nextDay();
    estate.fault(2, "crash");
    expect(await estate.slice(true)).toBe("died");
    expect(scanOf(estate).scanId).toBe(3);
    estate.clock.now += 61 * minuteMs;
    await estate.slice(false);
    expect(scanOf(estate).scanId).toBe(4);
  });

  test("waits until a slice that died must be over, and counts as used what that one had set aside", async () => {
    const estate = await calmEstate(600, { policy: { callsPerHour: 20 } });
    estate.nextDay();
    estate.fault(3, "crash");
    expect(await estate.slice(true)).toBe("died");
    const { length } = estate.calls;
    expect(await estate.slice(false)).toMatchObject({ state: "idle" });
    estate.clock.now += 2 * minuteMs;
    expect(await estate.slice(false)).toMatchObject({ state: "waits", why: "the hour's share is used" });
    expect(estate.calls.length).toBe(length);
  });

  test("goes on where it stood when its time is over", async () => {
    const estate = await calmEstate(600);
    const before = estate.calls.length;
    const slices = [];
    for (let begins = true; scanOf(estate).completed?.scanId !== 2; begins = false) {
      slices.push(await estate.slice(begins, 800));
      estate.clock.now += 5 * minuteMs;
    }
    expect(slices.length).toBeGreaterThan(2);
    expect(estate.calls.length - before).toBe(1 + 6 + 8);
    expect(found(estate)).toEqual([]);
  });

  test("asks nothing while Meta blocks the app, and does not begin again within a settle window", async () => {
    const estate = await calmEstate(30);
    const before = estate.calls.length;
    await estate.deps.store.saveBlockedUntil(estate.clock.now + minuteMs);
    expect(await estate.slice(true)).toMatchObject({ state: "waits", why: "Meta has throttled us" });
    expect(estate.calls.length).toBe(before);
    estate.clock.now += 2 * minuteMs;
    await estate.scan();
    expect(await estate.slice(true)).toMatchObject({ state: "idle" });
    expect(await estate.slice(false)).toMatchObject({ state: "idle" });
  });

  test("a list that Meta refuses says nothing, and the others are read all the same", async () => {
    const estate = await calmEstate(60);
    leave(estate, 1);
    estate.world({ lines: [{ id: lineId, ownerBusinessId: "100000000000777" }] });
    await twoScans(estate);
    expect(scanOf(estate).unread).toContain("allocations");
    expect(scanOf(estate).completed?.cannotTell).toContain("allocation_gone");
    expect(found(estate)).toEqual([`waba_left ${customerOf(1).wabaIds[0] ?? ""}`]);
    expect(partnerId).not.toBe("100000000000777");
  });
});

test("every funded WABA is verified again within the age, some every day", async () => {
  const estate = await calmEstate(200);
  const ageMs = 7 * 24 * hourMs;
  const perDay: number[] = [];
  for (let day = 0; day < 30; day += 1) {
    await estate.scan();
    const tomorrow = estate.clock.now + 24 * hourMs;
    let verified = 0;
    for (const { businessId } of customers(200)) {
      const business = await estate.business(businessId);
      const wabas = Object.entries(business.wabas).map(([wabaId, waba]) => {
        const { due, ...rest } = waba;
        if (due === undefined || due.nextAt > tomorrow || waba.evidence === undefined) return [wabaId, waba];
        expect(due.nextAt - waba.evidence.checkedAt).toBeLessThanOrEqual(ageMs);
        verified += 1;
        return [wabaId, { ...rest, evidence: { ...waba.evidence, checkedAt: due.nextAt, verifiedAt: due.nextAt } }];
      });
      if (verified > 0) await estate.put({ ...business, wabas: Object.fromEntries(wabas) });
    }
    perDay.push(verified);
    estate.nextDay();
  }
  // 250 WABAs, each every five days or so: about fifty a day once those verified in one hour have spread.
  const settled = perDay.slice(15);
  expect(Math.max(...settled)).toBeLessThan(100);
  expect(Math.min(...settled)).toBeGreaterThan(15);
});

test("a scan of 20,000 businesses holds hardly more in memory than one of 1,000", async () => {
  const [small, large] = await Promise.all([1000, 20_000].map(memoryOfScan));
  expect(large).toMatchObject({ state: "done", listed: { allocations: 20_000, wabas: 25_000 }, differences: 0 });
  expect((large?.most ?? Infinity) / (small?.most ?? 1)).toBeLessThanOrEqual(1.3);
}, 120_000);

async function memoryOfScan(
  count: number,
): Promise<{ state: string; most: number; listed: object; differences: number }> {
  const script = ["--expose-gc", "test/support/generated-estate.ts", String(count)];
  const { stdout } = await promisify(execFile)("node", script);
  return JSON.parse(stdout);
}

describe("who left and is still on the line", () => {
  function unshared(estate: Estate) {
    return scanOf(estate).completed?.unsharedSince;
  }

  test("is told since the scan that first missed it, until its revocation is done", async () => {
    const estate = await calmEstate(30);
    leave(estate, 1);
    const leftBy = estate.clock.now;
    await twoScans(estate);
    const { none = 0, funded } = unshared(estate) ?? {};
    expect(none).toBeGreaterThanOrEqual(leftBy);
    expect(none).toBeLessThan(leftBy + hourMs);
    expect(funded).toBeUndefined();

    const [{ type: _revoke, requestedAt, ...command } = { type: "revoke", requestedAt: 0 }] = estate.commands;
    await estate.revoke({ ...command, requestedAt: new Date(requestedAt).toISOString() });
    estate.nextDay();
    await estate.scan();
    expect(unshared(estate)).toBeUndefined();
  });

  test("is told apart when it waits for its siblings", async () => {
    const estate = await calmEstate(30);
    const { businessId, wabaIds } = customerOf(4);
    const [id = ""] = wabaIds;
    estate.world({ wabas: [{ id, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: false }] });
    const leftAt = estate.clock.now;
    await estate.revoke({ wabaId: id, reason: "partner_removed" });
    await estate.scan();
    expect(unshared(estate)).toEqual({ funded: leftAt });
  });
});

test("a removal that finds no place among what is held asks Meta little each time it comes back", async () => {
  const estate = startEstate({ variants: { listFieldExpansions: false } });
  const wabaIds = Array.from({ length: 44 }, (_, n) => String(120_000_000_000_000 + n));
  const customer = { ...customerOf(1), wabaIds };
  await settleIn(estate, [customer]);
  estate.nextDay();
  const left = { ownerBusinessId: customer.businessId, currency: "EUR", sharedWithPartner: false };
  estate.world({ wabas: wabaIds.map((id) => ({ id, ...left })) });
  const about = { reason: "partner_removed", requestedAt: new Date(estate.clock.now).toISOString() };
  const removals = wabaIds.map((wabaId) => ({ ...about, wabaId, commandId: `removed:${wabaId}` }));
  for (const one of removals) await estate.revoke(one);
  const { held } = await estate.business(customer.businessId);
  expect([held?.requests.length, held?.reason]).toEqual([20, "cannot_tell"]);
  // Each of the other 24 comes back about twice an hour, for three days.
  const { length: before } = estate.calls;
  for (const one of removals.slice(20)) await estate.revoke(one);
  expect(estate.calls.length).toBe(before);
});
