import { describe, expect, test } from "vitest";
import { dueEntries, dueIn, type Business, type Waba } from "../../../shared/domain/business.ts";
import { recheckAfterSwitch, switchWindowEnd } from "../../../shared/domain/calendar.ts";
import { markRevocation, recordRecheck, recordRun } from "../../../shared/domain/revoke.ts";
import { decideShare } from "../../../shared/domain/share.ts";
import { recordProof } from "../../../shared/domain/verify.ts";
import {
  allocationId,
  business,
  businessId,
  deletedRecord,
  estate,
  policy,
  record,
  recordReading,
  revokeRequest,
  shareRequest,
  sharedWaba,
  sharingWaba,
  wabaId,
} from "../factories.ts";

const at = Date.parse;
const day = 86_400_000;
const request = shareRequest({ partnerSwitch: true, requestedAt: at("2026-06-01T00:00:00Z") });

describe("the closed window of partner switches, with a day more on each side,", () => {
  test.each([
    ["2026-06-26T23:59:59.999Z", undefined],
    ["2026-06-27T00:00:00.000Z", "2026-07-06T00:00:00.000Z"],
    ["2026-06-30T12:00:00.000Z", "2026-07-06T00:00:00.000Z"],
    ["2026-07-01T00:00:00.000Z", "2026-07-06T00:00:00.000Z"],
    ["2026-07-05T23:59:59.999Z", "2026-07-06T00:00:00.000Z"],
    ["2026-07-06T00:00:00.000Z", undefined],
    ["2026-12-30T00:00:00.000Z", "2027-01-06T00:00:00.000Z"],
    ["2027-02-25T00:00:00.000Z", "2027-03-06T00:00:00.000Z"],
  ])("at %s ends at %s", (now, end) => {
    const found = switchWindowEnd(at(now));
    expect(found === undefined ? undefined : new Date(found).toISOString()).toBe(end);
  });
});

describe("a share that switches partners", () => {
  const funded = {
    startedAt: 1,
    ownerBusinessId: businessId,
    currency: "EUR",
    funding: { known: true, id: "990000000000001" },
  } as const;
  function decide(now: string, asked = request) {
    const reading = estate([], { startedAt: at(now) });
    return decideShare({ now: at(now), request: asked, business: business(), waba: funded, estate: reading }, policy);
  }

  test("is sent in the middle of a month", () => {
    expect(decide("2026-06-10T12:00:00Z")).toEqual({ kind: "attempt" });
  });

  test("waits on the item while Meta's window is closed", () => {
    expect(decide("2026-06-29T12:00:00Z")).toEqual({ kind: "wait", until: at("2026-07-06T00:00:00Z") });
  });

  test("must be asked for: another share of a WABA that somebody else funds is refused, window or not", () => {
    const plain = shareRequest({ requestedAt: request.requestedAt });
    expect(decide("2026-06-10T12:00:00Z", plain)).toEqual({ kind: "refuse", reason: "funded_elsewhere" });
    expect(decide("2026-06-29T12:00:00Z", plain)).toEqual({ kind: "refuse", reason: "funded_elsewhere" });
  });
});

const first = at("2026-07-01T00:00:00Z");
const otherFunding = { known: true, id: "990000000000001" } as const;

/** Shared on 10 June, and looked at until the grace is over. */
function pendingBusiness(): Business {
  const now = at("2026-06-10T12:00:00Z");
  const due = { request, nextAt: now, looks: 3, sweeps: 0 };
  const stored = business({ records: { [allocationId]: record() }, wabas: { [wabaId]: sharedWaba({ request, due }) } });
  const proof = { record: recordReading({ readAt: now }), funding: otherFunding };
  return recordProof(stored, wabaId, proof, { kind: "unequal" }, undefined, now, policy).change.business;
}

describe("a switched WABA", () => {
  test("is pending until the 1st of the next month, and due then", () => {
    expect(pendingBusiness().wabas[wabaId]).toMatchObject({ status: "pending", pendingUntil: first });
    expect(dueEntries(pendingBusiness())).toMatchObject([{ work: "verify", due: { nextAt: first } }]);
  });

  test("is verified when the line pays from the 1st, and no longer pending", () => {
    const proof = {
      record: recordReading({ readAt: first }),
      funding: { known: true, id: recordReading().receivingCredentialId ?? "" },
    } as const;
    const { change } = recordProof(pendingBusiness(), wabaId, proof, { kind: "equal" }, undefined, first, policy);
    expect(change.business.wabas[wabaId]).toMatchObject({ status: "verified" });
    expect(change.business.wabas[wabaId]).not.toHaveProperty("pendingUntil");
  });

  test("is mismatched when it does not, after the grace", () => {
    let stored = pendingBusiness();
    let now = first;
    for (let look = 0; look < 6 && stored.wabas[wabaId]?.status === "pending"; look += 1) {
      const proof = { record: recordReading({ readAt: now }), funding: otherFunding };
      stored = recordProof(stored, wabaId, proof, { kind: "unequal" }, undefined, now, policy).change.business;
      now = dueEntries(stored)[0]?.due.nextAt ?? now;
    }
    expect(stored.wabas[wabaId]?.status).toBe("mismatched");
    expect(now).toBeGreaterThan(first);
  });
});

test("a switch that was proven is behind a WABA: unequal later, it is mismatched, not pending for another month", () => {
  const later = at("2026-09-10T00:00:00Z");
  const evidence = { checkedAt: first, verifiedAt: first };
  const due = dueIn(request, later, policy.verifyGraceMs.length - 1);
  const waba: Waba = { ...sharedWaba({ request, due, evidence }), status: "verified" };
  const stored = business({ records: { [allocationId]: record() }, wabas: { [wabaId]: waba } });
  const proof = { record: recordReading({ readAt: later }), funding: otherFunding };
  const { change } = recordProof(stored, wabaId, proof, { kind: "unequal" }, undefined, later, policy);
  expect(change.business.wabas[wabaId]?.status).toBe("mismatched");
});

describe("H27c: a switch that was revoked before the 1st", () => {
  function revoked(): Business {
    const now = at("2026-06-20T00:00:00Z");
    const marked = markRevocation(pendingBusiness(), revokeRequest({ requestedAt: now }), now).business;
    marked.records = { [allocationId]: { ...deletedRecord(1, now) } };
    const list = estate([], { startedAt: now });
    return recordRun(marked, { estate: list, deleted: {}, confirmed: [], fresh: list, stillFunded: false }, now, policy)
      .business;
  }
  const fifth = recheckAfterSwitch(first);

  test("is looked at once more on the 5th", () => {
    expect(fifth).toBe(first + 4 * day);
    expect(revoked().revocation?.state).toBe("done");
    expect(dueEntries(revoked())).toMatchObject([{ work: "revoke", due: { nextAt: fifth } }]);
  });

  test("is over when nothing of ours is at work then", () => {
    const list = estate([], { startedAt: fifth });
    const { business: next, events } = recordRecheck(revoked(), list, false, fifth);
    expect(next.revocation?.state).toBe("done");
    expect(dueEntries(next)).toEqual([]);
    expect(events).toEqual([]);
  });

  test.each([
    ["the line pays for the WABA", estate([], { startedAt: fifth }), true],
    ["a record of the business is live", estate([recordReading()], { startedAt: fifth }), false],
  ])("re-opens when %s", (_title, reading, stillFunded) => {
    const { business: next, events } = recordRecheck(revoked(), reading, stillFunded, fifth);
    expect(next.revocation?.state).toBe("open");
    expect(events).toMatchObject([{ detailType: "Revocation Started", reason: "late_record" }]);
  });

  test("takes along an attempt since then that came to nothing, when it re-opens", () => {
    const { intent: _closed, ...closed } = sharingWaba();
    const since = { ...revoked(), wabas: { [wabaId]: closed } };
    const list = estate([recordReading()], { startedAt: fifth });
    const { business: next } = recordRecheck(since, list, false, fifth);
    expect(next.wabas[wabaId]).toMatchObject({ status: "revoking", due: closed.due });
  });
});
