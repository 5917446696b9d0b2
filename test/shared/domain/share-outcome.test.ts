import { describe, expect, test } from "vitest";
import type { Business } from "../../../shared/domain/business.ts";
import { dueIn, resharedAt } from "../../../shared/domain/business.ts";
import type { PostOutcome } from "../../../shared/domain/share.ts";
import { intendSecondPost } from "../../../shared/domain/probe.ts";
import {
  adoptShare,
  answerRevoked,
  concludeShare,
  decideShare,
  intendShare,
  parkShare,
  refuse,
  settleShare,
} from "../../../shared/domain/share.ts";
import {
  allocationId,
  business,
  businessId,
  credentialId,
  deletedRecord,
  estate,
  failure,
  intent,
  lineId,
  minuteMs,
  now,
  openRevocation,
  otherAllocationId,
  policy,
  probe,
  record,
  recordReading,
  revokedBusiness,
  revokedWaba,
  settleWindowMs,
  shareFacts,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const fresh = intent({ madeAt: now, sendDeadline: now + 8000 });
const reshare = shareRequest({ commandId: "reshare-1", reshareAfterRevocation: true });

describe("the intent", () => {
  test("stands on the WABA with a due time after the send deadline, and announces nothing yet (S4)", () => {
    const { business: next, events, conclusions } = intendShare(shareFacts(), fresh, policy);
    expect(next.wabas[wabaId]).toEqual({
      status: "sharing",
      currency: "EUR",
      method: "share-and-attach",
      creditLineId: lineId,
      request: shareRequest(),
      intendedAt: now,
      intent: fresh,
      due: { request: shareRequest(), nextAt: now + 8000 + settleWindowMs / 60, looks: 0, sweeps: 0 },
    });
    expect([events, conclusions]).toEqual([[], []]);
  });

  test("takes the share off the waiting ones", () => {
    const waiting = { [wabaId]: { request: shareRequest(), due: { nextAt: now, looks: 0, sweeps: 0 } } };
    expect(intendShare(shareFacts({ business: business({ waiting }) }), fresh, policy).business.waiting).toEqual({});
  });

  test("records what the first list showed, so that a later look can tell it from what the POST made", () => {
    const listed = estate([recordReading()]);
    const { business: next } = intendShare(shareFacts({ estate: listed }), fresh, policy);
    expect(next.records[allocationId]).toMatchObject({ state: "live", recordedAt: now });
    expect(next.listedAt).toBe(now);
  });

  test("of a second POST keeps its command and records what the look showed", () => {
    const stored = business({ wabas: { [wabaId]: sharingWaba() } });
    const second = intent({ id: "intent-2", attempt: 2, madeAt: now, sendDeadline: now + 8000 });
    const seen = recordReading({ seen: "deleted" });
    const listed = estate([seen], { listed: { [allocationId]: { creditLineId: lineId, deleted: true } } });
    const { business: next } = intendSecondPost(stored, wabaId, probe({ estate: listed }), second, now, policy);
    const due = dueIn(shareRequest(), now + 8000 + settleWindowMs / 60);
    expect(next.wabas[wabaId]).toMatchObject({ intent: second, request: shareRequest(), due });
    expect(next.records[allocationId]).toMatchObject({ state: "deleted" });
    const settled = business({ wabas: { [wabaId]: sharedWaba() } });
    expect(() => intendSecondPost(settled, wabaId, probe(), second, now, policy)).toThrow("no attempt");
  });
});

describe("a share that takes the place of another command", () => {
  const request = shareRequest({ commandId: "share-2", requestedAt: now, reshareAfterRevocation: true });
  const acts = [
    ["attempted", (stored: Business) => intendShare(shareFacts({ business: stored, request }), fresh, policy)],
    ["adopted", (stored: Business) => adoptShare(shareFacts({ business: stored, request }), recordReading(), policy)],
  ] as const;

  describe.each(acts)("when it is %s", (_how, act) => {
    function othersAnswered(stored: Business) {
      const { conclusions } = act(stored);
      return conclusions.filter((one) => one.request.commandId !== request.commandId);
    }

    test("answers a share whose attempt was closed, and that nobody else would answer (I3)", () => {
      const closed = sharingWaba({ intent: undefined });
      expect(othersAnswered(business({ wabas: { [wabaId]: closed } }))).toMatchObject([
        { request: shareRequest(), outcome: "refused", reason: "superseded", event: { detailType: "Share Refused" } },
      ]);
    });

    test.each([
      [shareRequest(), "Share Refused"],
      [verifyRequest(), "Verify Refused"],
    ] as const)("answers a command that the revocation overtook (I3): $type", (overtaken, detailType) => {
      const revoked = revokedWaba({ due: dueIn(overtaken, now) });
      expect(othersAnswered(revokedBusiness({ wabas: { [wabaId]: revoked } }))).toMatchObject([
        { request: overtaken, outcome: "refused", reason: "business_revoked", event: { detailType } },
      ]);
    });

    test("leaves another share waiting, and answers nobody for itself", () => {
      const due = { nextAt: now, looks: 0, sweeps: 0 };
      const waiting = { [wabaId]: { request: shareRequest({ commandId: "share-3" }), due } };
      const own = sharingWaba({ request, intent: undefined });
      const stored = business({ wabas: { [wabaId]: own }, waiting });
      expect(act(stored).business.waiting).toEqual(waiting);
      expect(othersAnswered(stored)).toEqual([]);
    });
  });
});

describe("the latest accepted re-share", () => {
  const stored = business({ wabas: { [wabaId]: sharedWaba() } });

  test.each<[string, (stored: Business, request: typeof reshare) => Business]>([
    ["attempted", (found, request) => intendShare(shareFacts({ business: found, request }), fresh, policy).business],
    [
      "adopted",
      (found, request) => adoptShare(shareFacts({ business: found, request }), recordReading(), policy).business,
    ],
  ])(
    "is remembered when it is %s, also before any revocation: an older revoke may still be on its way (H6b)",
    (_how, act) => {
      expect(resharedAt(act(business(), reshare))).toBe(reshare.requestedAt);
      expect(resharedAt(act(business(), shareRequest()))).toBeUndefined();
    },
  );

  test("is remembered when the WABA is shared already (H6b)", () => {
    const { business: next } = concludeShare(shareFacts({ business: stored, request: reshare }));
    expect(next.reshare).toEqual({ commandId: "reshare-1", requestedAt: reshare.requestedAt });
  });

  test.each([
    ["an older one does not", -1, "reshare-1"],
    ["the same moment does not", 0, "reshare-1"],
    ["a newer one does", 1, "reshare-2"],
  ])("is replaced only by a newer one that finds its WABA shared: %s", (_title, offset, expected) => {
    const once = concludeShare(shareFacts({ business: stored, request: reshare })).business;
    const request = { ...reshare, commandId: "reshare-2", requestedAt: reshare.requestedAt + offset };
    const { business: next } = concludeShare(shareFacts({ business: once, request }));
    expect(next.reshare?.commandId).toBe(expected);
    const plain = shareRequest({ commandId: "share-2", requestedAt: now });
    expect(concludeShare(shareFacts({ business: once, request: plain })).business.reshare).toEqual(once.reshare);
  });

  test("H6a: is not replaced by an older one of a sibling", () => {
    const latest = { commandId: "reshare-2", requestedAt: now };
    const request = { ...reshare, wabaId: siblingId };
    const facts = shareFacts({ business: revokedBusiness({ reshare: latest }), request });
    expect(resharedAt(intendShare(facts, fresh, policy).business)).toBe(latest.requestedAt);
  });
});

describe("the answer to a POST", () => {
  const attempted = business({ wabas: { [wabaId]: sharingWaba() } });
  const { request } = sharingWaba();

  function settle(outcome: PostOutcome, made = intent()) {
    const stored = business({ wabas: { [wabaId]: sharingWaba({ intent: made }) } });
    return settleShare(stored, made, request, outcome, now, policy);
  }

  test("that accepts shares the WABA, records the allocation and makes the verification due in one write (S8)", () => {
    const settled = settle({ kind: "accepted", allocationId });
    expect(settled).toMatchObject({ wabaId, intentId: "intent-1", epoch: 0 });
    expect(settled.waba).toEqual(sharedWaba({ due: dueIn(request, now + 30_000) }));
    expect(settled.record).toEqual({
      allocationId,
      record: { creditLineId: lineId, epoch: 0, state: "unknown", recordedAt: now, answered: true },
    });
    expect(settled.change.events).toEqual([]);
    expect(settled.change.conclusions).toEqual([
      {
        request,
        outcome: "done",
        event: {
          detailType: "Share Accepted",
          commandId: "share-1",
          wabaId,
          businessId,
          allocationConfigId: allocationId,
          creditLineId: lineId,
          currency: "EUR",
          status: "shared",
          previousStatus: "sharing",
        },
      },
    ]);
  });

  test.each([
    ["keeps the intent's due time for the verification when it comes soon after the grace", 38_000, 38_000],
    ["keeps it up to twice the grace", 60_000, 60_000],
    ["does not wait for a look that is later than that", 60_001, 30_000],
    ["does not wait for a look that is far away", 300_000, 30_000],
    ["does not shorten the grace", 10_000, 30_000],
  ])("that accepts %s: moving it would be paid for", (_what, intentDueMs, dueMs) => {
    const made = intent();
    const waba = sharingWaba({ intent: made, due: dueIn(request, now + intentDueMs) });
    const outcome = { kind: "accepted", allocationId } as const;
    const settled = settleShare(business({ wabas: { [wabaId]: waba } }), made, request, outcome, now, policy);
    expect(settled.waba.due).toEqual(dueIn(request, now + dueMs));
  });

  test("H18: that names an id which a revocation had confirmed deleted voids that confirmation", () => {
    const { record: kept } = settle({ kind: "accepted", allocationId }, intent({ epoch: 1 }));
    expect(kept?.record).toEqual({
      creditLineId: lineId,
      epoch: 1,
      state: "unknown",
      recordedAt: now,
      answered: true,
    });
  });

  test("that was rejected before any effect closes the intent, and keeps a due time: a duplicate may have left the command to the item", () => {
    const { waba, change } = settle({ kind: "no-effect", failure: failure("token_dead") });
    const due = dueIn(request, now + (16 * settleWindowMs) / 60, 1);
    expect(waba).toEqual(sharingWaba({ intent: undefined, due, lastFailure: failure("token_dead") }));
    expect(change).toMatchObject({ events: [], conclusions: [] });
  });

  test("that was rejected before any effect gives an attempt without a due time one (I9)", () => {
    const stranded = business({ wabas: { [wabaId]: sharingWaba({ due: undefined }) } });
    const outcome = { kind: "no-effect", failure: failure() } as const;
    const { waba } = settleShare(stranded, intent(), request, outcome, now, policy);
    expect(waba.due).toEqual(dueIn(request, now + (16 * settleWindowMs) / 60, 1));
  });

  test("H18: that names an id which was known already begins a new life of that record", () => {
    const records = { [allocationId]: record({ recordedAt: now - settleWindowMs }) };
    const stored = business({ wabas: { [wabaId]: sharingWaba() }, records });
    const { record: kept } = settleShare(stored, intent(), request, { kind: "accepted", allocationId }, now, policy);
    expect(kept?.record).toMatchObject({ state: "unknown", recordedAt: now, answered: true });
  });

  test("that is rejected again and again comes back ever later", () => {
    const { waba } = settle({ kind: "no-effect", failure: failure() });
    const again = intendShare(
      shareFacts({ request, business: business({ wabas: { [wabaId]: waba } }) }),
      intent(),
      policy,
    );
    const next = settleShare(again.business, intent(), request, { kind: "no-effect", failure: failure() }, now, policy);
    expect(next.waba.due).toEqual(dueIn(request, now + (32 * settleWindowMs) / 60, 2));
  });

  test("H11: that rejects a second POST closes nothing: it may be the first one's effect speaking", () => {
    const second = intent({ attempt: 2 });
    const { waba } = settle({ kind: "no-effect", failure: failure("permission_denied") }, second);
    expect(waba).toMatchObject({ status: "sharing", intent: { id: second.id, failure: failure("permission_denied") } });
    expect(waba.due).toEqual(sharingWaba().due);
  });

  test.each(["refused_by_meta", "same_business", "meta_unavailable"] as const)(
    "H11: of the class %s leaves the effect unknown: the WABA stays in sharing and the due time takes over",
    (reason) => {
      const { waba, record: kept, change } = settle({ kind: "unknown", failure: failure(reason) });
      expect(waba).toMatchObject({ status: "sharing", intent: { id: "intent-1", failure: failure(reason) } });
      expect(waba.due).toEqual(sharingWaba().due);
      expect(kept).toBeUndefined();
      expect(change).toMatchObject({ events: [], conclusions: [] });
    },
  );

  test("H27m: that names another WABA is in doubt, and its allocation is recorded all the same", () => {
    const { waba, record: kept } = settle({ kind: "unknown", failure: failure(), allocationId: otherAllocationId });
    expect(waba).toMatchObject({ status: "sharing", intent: { id: "intent-1" } });
    expect(kept).toMatchObject({ allocationId: otherAllocationId, record: { state: "unknown", epoch: 0 } });
  });

  test("cannot be settled where no attempt is", () => {
    const revoked = { ...attempted, wabas: { [wabaId]: revokedWaba() } };
    const outcome = { kind: "accepted", allocationId } as const;
    expect(() => settleShare(revoked, intent(), request, outcome, now, policy)).toThrow("no attempt");
  });
});

describe("an adopted share", () => {
  test("is recorded and announced like an accepted one, with its verification due", () => {
    const facts = shareFacts({ estate: estate([recordReading()]) });
    const { business: next, events, conclusions } = adoptShare(facts, recordReading(), policy);
    expect(events).toEqual([]);
    expect(next.wabas[wabaId]).toEqual(sharedWaba({ intendedAt: now, due: dueIn(facts.request, now + 30_000) }));
    expect(next.records[allocationId]).toMatchObject({ state: "live", creditLineId: lineId });
    expect(conclusions).toMatchObject([
      { outcome: "done", event: { detailType: "Share Accepted", reason: "adopted" } },
    ]);
  });

  test("records all that was listed, and leaves what is known of its record as it is", () => {
    const other = recordReading({ allocationId: otherAllocationId });
    const known = record({ answered: true, recordedAt: now - settleWindowMs, credentialId });
    const stored = business({ records: { [allocationId]: known } });
    const facts = shareFacts({ business: stored, estate: estate([recordReading(), other]) });
    const { business: next } = adoptShare(facts, recordReading(), policy);
    expect(next.records[allocationId]).toEqual(known);
    expect(next.records[otherAllocationId]).toMatchObject({ state: "live", recordedAt: now });
    expect(adoptShare({ ...facts, estate: undefined }, recordReading(), policy).business.records).toEqual(
      stored.records,
    );
  });

  test("H18: by an id that a revocation had confirmed deleted begins a new life of that record", () => {
    const stored = revokedBusiness({ epoch: 2, records: { [allocationId]: deletedRecord() } });
    const facts = shareFacts({ business: stored, request: reshare, estate: estate([recordReading()]) });
    const { business: next } = adoptShare(facts, recordReading(), policy);
    expect(next.records[allocationId]).toEqual(record({ epoch: 2, recordedAt: now }));
  });
});

describe("a share of what is shared", () => {
  test.each([
    ["shared", "Share Accepted"],
    ["verified", "Share Verified"],
    ["pending", "Share Pending"],
    ["mismatched", "Share Mismatched"],
  ] as const)("that is %s is answered with %s in its own name, and changes nothing", (status, detailType) => {
    const stored = business({ wabas: { [wabaId]: sharedWaba({ status }) } });
    const request = shareRequest({ commandId: "share-2" });
    const change = concludeShare(shareFacts({ business: stored, request }));
    expect(change.business).toBe(stored);
    expect(change.events).toEqual([]);
    expect(change.conclusions).toMatchObject([
      { request, outcome: "done", event: { detailType, commandId: "share-2", status } },
    ]);
  });
});

test("a share can be concluded only where its WABA is shared", () => {
  const stored = business({ wabas: { [wabaId]: sharingWaba() } });
  expect(() => concludeShare(shareFacts({ business: stored }))).toThrow("is not shared");
});

describe("a command that a revocation overtook on the item", () => {
  const request = shareRequest();
  const overtaken = revokedWaba({ request, due: dueIn(request, now) });

  test("is answered once, also when a copy of it was parked beside (found by simulation)", () => {
    const due = { nextAt: now, looks: 0, sweeps: 0 };
    const stored = revokedBusiness({ wabas: { [wabaId]: overtaken }, waiting: { [wabaId]: { request, due } } });
    const change = answerRevoked(stored, wabaId);
    expect(change?.conclusions).toMatchObject([{ outcome: "refused", reason: "business_revoked" }]);
    expect(change?.business.wabas[wabaId]?.due).toBeUndefined();
    expect(change?.business.waiting).toEqual({});
  });

  test("gives a copy of it the same answer, and is not parked again", () => {
    const stored = revokedBusiness({ wabas: { [wabaId]: overtaken } });
    const facts = shareFacts({ request, business: stored });
    expect(decideShare(facts, policy)).toEqual({ kind: "refuse", reason: "business_revoked" });
    expect(refuse(stored, request, "business_revoked").business.wabas[wabaId]?.due).toBeUndefined();
  });
});

describe("a share that waits on the item", () => {
  const until = now + minuteMs;
  const first = shareRequest();

  test("has a due time and no outcome yet", () => {
    const { business: next, conclusions } = parkShare(shareFacts({ request: first }), until);
    expect(next.waiting).toEqual({ [wabaId]: { request: first, due: { nextAt: until, looks: 0, sweeps: 0 } } });
    expect(conclusions).toEqual([]);
  });

  test("is never due in the past", () => {
    const { business: next } = parkShare(shareFacts(), now - minuteMs);
    expect(next.waiting[wabaId]?.due.nextAt).toBe(now);
  });

  test("counts its looks, so that an older message for it is stale (H23)", () => {
    const once = parkShare(shareFacts({ request: first }), until).business;
    const twice = parkShare(shareFacts({ business: once, request: first }), until).business;
    expect(twice.waiting[wabaId]?.due.looks).toBe(1);
  });

  test.each([
    ["older than", -minuteMs],
    ["as old as", 0],
    ["newer than", minuteMs],
  ])("keeps its place against a share that is %s it, which comes back after it", (_title, offset) => {
    const parked = parkShare(shareFacts({ request: first }), until).business;
    const stored = { ...parked, epoch: 1, revocation: openRevocation({ requestedAt: now - settleWindowMs }) };
    const request = shareRequest({ commandId: "share-2", requestedAt: first.requestedAt + offset });
    expect(decideShare(shareFacts({ business: stored, request }), policy)).toEqual({ kind: "later", until });
    expect(decideShare(shareFacts({ business: stored, request: first }), policy)).toMatchObject({ kind: "wait" });
  });
});

describe("a command that a revocation overtook", () => {
  test("is answered business_revoked once, and its due time ends", () => {
    const waba = revokedWaba({ status: "revoking", due: dueIn(shareRequest(), now), intent: intent() });
    const stored = revokedBusiness({ wabas: { [wabaId]: waba }, records: { [allocationId]: deletedRecord() } });
    const change = answerRevoked(stored, wabaId);
    expect(change?.events).toEqual([]);
    expect(change?.conclusions).toMatchObject([
      { outcome: "refused", reason: "business_revoked", event: { detailType: "Share Refused" } },
    ]);
    expect(change?.business.wabas[wabaId]).toMatchObject({ status: "revoking", intent: intent() });
    expect(change?.business.wabas[wabaId]?.due).toBeUndefined();
    expect(change && answerRevoked(change.business, wabaId)).toBeUndefined();
  });

  test("is answered as a verification when it was one", () => {
    const due = dueIn(verifyRequest(), now);
    const change = answerRevoked(revokedBusiness({ wabas: { [wabaId]: revokedWaba({ due }) } }), wabaId);
    expect(change?.conclusions).toMatchObject([
      {
        request: verifyRequest(),
        reason: "business_revoked",
        event: { detailType: "Verify Refused", status: "revoked" },
      },
    ]);
  });

  test("is not there on a WABA that is shared", () => {
    expect(answerRevoked(business({ wabas: { [wabaId]: sharedWaba() } }), wabaId)).toBeUndefined();
    expect(answerRevoked(business({ wabas: { [wabaId]: verifiedWaba() } }), wabaId)).toBeUndefined();
  });
});
