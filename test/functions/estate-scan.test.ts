import { expect, test } from "vitest";
import type { FindingKind } from "../../shared/domain/findings.ts";
import type { Business } from "../../shared/domain/business.ts";
import type { Customer, Estate } from "../support/estate-harness.ts";
import { customerOf, hourMs, lineId, settleIn, startEstate, verifiedBusiness } from "../support/estate-harness.ts";

/** ESTATE_BUSINESSES=20000 is the size that design.md speaks of; it takes minutes. */
const businessCount = Number(process.env["ESTATE_BUSINESSES"] ?? 1200);
const pageLimit = 100;

type Drift = {
  kind: FindingKind;
  subject: string;
  make: (estate: Estate) => Promise<void>;
  heal: (estate: Estate) => Promise<void>;
};

/** Something that hands did at Meta, or a fault of ours left on the table, and what undoes it. */
const drifts: ((customer: Customer) => Drift)[] = [
  ({ businessId, allocationId }) => {
    const subject = `99${allocationId}`;
    const allocation = { id: subject, lineId, receivingBusinessId: `99${businessId}` };
    return {
      kind: "allocation_unknown",
      subject,
      make: async ({ world }) => world({ allocations: [allocation] }),
      heal: async ({ world }) => world({ allocations: [{ ...allocation, status: "deleted" }] }),
    };
  },
  ({ businessId, allocationId, wabaIds }) => {
    const allocation = { id: allocationId, lineId, receivingBusinessId: businessId };
    return {
      kind: "allocation_gone",
      subject: allocationId,
      make: async ({ world }) => world({ allocations: [{ ...allocation, status: "deleted" }] }),
      heal: async ({ world }) => world({ allocations: [{ ...allocation, status: "live", wabaIds }] }),
    };
  },
  ({ businessId, allocationId, wabaIds: [wabaId = "", ...others] }) => {
    const allocation = { id: allocationId, lineId, receivingBusinessId: businessId };
    return {
      kind: "funded_elsewhere",
      subject: wabaId,
      make: async ({ world }) =>
        world({ wabas: [wabaOf(wabaId, businessId, { primaryFundingId: "990000000000099" })] }),
      heal: async ({ world }) => {
        world({ wabas: [wabaOf(wabaId, businessId)] });
        world({ allocations: [{ ...allocation, wabaIds: [wabaId, ...others] }] });
      },
    };
  },
  ({ businessId, allocationId, wabaIds: [wabaId = "", ...others] }) => {
    const allocation = { id: allocationId, lineId, receivingBusinessId: businessId };
    return {
      kind: "unfunded",
      subject: wabaId,
      make: async ({ world }) => world({ allocations: [{ ...allocation, wabaIds: others }] }),
      heal: async ({ world }) => world({ allocations: [{ ...allocation, wabaIds: [wabaId, ...others] }] }),
    };
  },
  ({ businessId, wabaIds: [wabaId = ""] }) => ({
    kind: "waba_left",
    subject: wabaId,
    make: async ({ world }) => world({ wabas: [wabaOf(wabaId, businessId, { sharedWithPartner: false })] }),
    heal: async ({ world }) => world({ wabas: [wabaOf(wabaId, businessId)] }),
  }),
  (customer) => ({
    kind: "allocated_unattached",
    subject: customer.wabaIds[0] ?? "",
    make: async (estate) => {
      const { businessId, allocationId, wabaIds } = customer;
      estate.world({ allocations: [{ id: allocationId, lineId, receivingBusinessId: businessId, wabaIds: [] }] });
      const business = await estate.business(businessId);
      const wabas = wabaIds.map((wabaId) => {
        const { evidence: _none, ...waba } = business.wabas[wabaId] as Business["wabas"][string];
        return [wabaId, { ...waba, status: "allocated" }];
      });
      await estate.put({ ...business, wabas: Object.fromEntries(wabas.slice(0, 1)) });
    },
    heal: (estate) => agreeAgain(estate, customer),
  }),
  (customer) => {
    const { businessId, allocationId, wabaIds } = customer;
    const subject = `99${allocationId}`;
    return {
      kind: "record_duplicate",
      subject,
      make: async (estate) => {
        estate.world({ allocations: [{ id: subject, lineId, receivingBusinessId: businessId }] });
        const business = await estate.business(businessId);
        const record = business.records[allocationId] as Business["records"][string];
        await estate.put({ ...business, records: { ...business.records, [subject]: record } });
      },
      heal: async (estate) => {
        estate.world({ allocations: [{ id: subject, lineId, receivingBusinessId: businessId, status: "deleted" }] });
        expect(wabaIds.length).toBeGreaterThan(0);
      },
    };
  },
  (customer) => ({
    kind: "revoked_but_live",
    subject: customer.allocationId,
    make: async (estate) => estate.put(revoked(await estate.business(customer.businessId), estate.clock.now)),
    heal: async ({ world }) => {
      const { allocationId: id, businessId: receivingBusinessId } = customer;
      world({ allocations: [{ id, lineId, receivingBusinessId, status: "deleted" }] });
    },
  }),
  (customer) => ({
    kind: "unsettled_without_due",
    subject: customer.businessId,
    make: async (estate) => {
      const business = await estate.business(customer.businessId);
      const [wabaId = ""] = customer.wabaIds;
      const { evidence: _none, allocationId: _id, ...waba } = business.wabas[wabaId] as Business["wabas"][string];
      const intent = { id: "lost", epoch: 0, attempt: 1, madeAt: estate.clock.now, sendDeadline: estate.clock.now };
      const stranded = { ...waba, status: "sharing" as const, intent } as Business["wabas"][string];
      await estate.put({ ...business, wabas: { ...business.wabas, [wabaId]: stranded } });
    },
    heal: (estate) => agreeAgain(estate, customer),
  }),
  ({ businessId, wabaIds: [wabaId = ""] }) => ({
    kind: "owner_changed",
    subject: wabaId,
    make: async ({ world }) => world({ wabas: [wabaOf(wabaId, `98${businessId}`)] }),
    heal: async ({ world }) => world({ wabas: [wabaOf(wabaId, businessId)] }),
  }),
];

function wabaOf(
  id: string,
  ownerBusinessId: string,
  others: { primaryFundingId?: string; sharedWithPartner?: boolean } = {},
) {
  return { id, ownerBusinessId, currency: "EUR", primaryFundingId: null, sharedWithPartner: true, ...others };
}

async function agreeAgain(estate: Estate, customer: Customer): Promise<void> {
  const { businessId, allocationId, wabaIds } = customer;
  await estate.put(verifiedBusiness(customer, estate.clock.now));
  estate.world({ allocations: [{ id: allocationId, lineId, receivingBusinessId: businessId, wabaIds }] });
}

function revoked(business: Business, now: number): Business {
  const request = {
    type: "revoke" as const,
    commandId: `revoke-${business.businessId}`,
    hash: "hash",
    requestedAt: now,
    requestedBy: "tests",
    reason: "operator" as const,
  };
  const records = Object.entries(business.records).map(([id, record]) => {
    const deleteAnswered = { at: now - 1, epoch: 1 };
    return [id, { ...record, state: "deleted" as const, deleteAnswered, readAt: now }];
  });
  const wabas = Object.entries(business.wabas).map(([id, waba]) => [id, { ...waba, status: "revoked" as const }]);
  return {
    ...business,
    epoch: 1,
    records: Object.fromEntries(records),
    wabas: Object.fromEntries(wabas),
    revocation: { request, requestedAt: now, state: "done", epoch: 1, startedAt: now, doneAt: now, joined: [] },
  };
}

function keysOf(found: readonly { kind: string; subject: string }[]): string[] {
  return found.map(({ kind, subject }) => `${kind} ${subject}`).toSorted();
}

/** The most calls that fell within one hour. */
function busiestHour(calls: readonly number[]): number {
  let first = 0;
  let most = 0;
  for (const [index, at] of calls.entries()) {
    while ((calls[first] ?? 0) <= at - hourMs) first += 1;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

test(
  "finds every drift of a large estate, those made while it runs included, invents none, and closes what heals",
  { timeout: 600_000 },
  async () => {
    const estate = startEstate();
    const customers = Array.from({ length: businessCount }, (_, index) => customerOf(index + 1));
    await settleIn(estate, customers);
    estate.nextDay();
    await estate.scan();
    expect(estate.findings("suspected")).toEqual([]);
    estate.nextDay();

    // 199 customers drift, and the line's access is revoked; a quarter of it all while the scan is on its way.
    const share = Math.min(200, Math.floor(businessCount / 6));
    const drifting = Array.from({ length: share - 1 }, (_, index) => {
      const place = 1 + Math.floor((index * businessCount) / share);
      const make = drifts[index % drifts.length] as (typeof drifts)[number];
      return make(customerOf(place));
    });
    const early = drifting.filter((_, index) => index % 4 !== 0);
    const late = drifting.filter((_, index) => index % 4 === 0);
    for (const drift of early) await drift.make(estate);
    estate.world({
      lines: [
        {
          id: lineId,
          ownerBusinessId: customerOf(0).businessId.length > 0 ? "100000000000001" : "",
          accessRevoked: true,
        },
      ],
    });

    estate.nextDay();
    const pages = Math.ceil((businessCount * 2.25) / pageLimit);
    const made: Promise<void>[] = [];
    for (const [index, drift] of late.entries()) {
      estate.during(1 + Math.floor((index * pages) / late.length), () => made.push(drift.make(estate)));
    }
    estate.fault(Math.floor(pages / 4), "crash");
    estate.fault(Math.floor(pages / 2), "time-out");
    estate.fault(Math.floor((pages * 3) / 4), "throttle");
    const expected = keysOf([...drifting, { kind: "line_access_revoked", subject: lineId }]);
    for (let scans = 0; scans < 3; scans += 1) {
      const before = estate.calls.length;
      await estate.scan();
      await Promise.all(made);
      expect(estate.calls.length - before).toBeLessThanOrEqual(2.2 * pages + share);
      estate.nextDay();
    }
    expect(keysOf(estate.findings("open"))).toEqual(expected);
    expect(keysOf(estate.findings("suspected"))).toEqual([]);
    expect(busiestHour(estate.calls)).toBeLessThanOrEqual(1000);
    const said = estate.announced.filter(({ detailType }) => detailType === "Drift Found");
    expect(said).toHaveLength(expected.length);

    for (const drift of drifting) await drift.heal(estate);
    estate.world({ lines: [{ id: lineId, ownerBusinessId: "100000000000001", accessRevoked: false }] });
    estate.nextDay();
    await estate.scan();
    expect(keysOf(estate.findings("open"))).toEqual([]);
    expect(estate.announced.filter(({ detailType }) => detailType === "Drift Closed")).toHaveLength(expected.length);
  },
);
