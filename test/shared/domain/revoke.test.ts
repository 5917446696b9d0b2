import { describe, expect, test } from "vitest";
import type { Business, Change, RevokedWaba, Waba } from "../../../shared/domain/business.ts";
import { dueEntries, dueIn, isRevoked, windowEnd } from "../../../shared/domain/business.ts";
import { isConfirmedDeleted } from "../../../shared/domain/readings.ts";
import type { RevocationRun } from "../../../shared/domain/revoke.ts";
import {
  announceRevokedAgain,
  decideRevoke,
  isDeleteAnswer,
  joinHeld,
  joinRevocation,
  markRevocation,
  mayDelete,
  recordRecheck,
  recordRun,
  withDeletions,
  refuseRevoke,
} from "../../../shared/domain/revoke.ts";
import { recordLateAnswer } from "../../../shared/domain/probe.ts";
import { intendShare } from "../../../shared/domain/share.ts";
import {
  allocationId,
  business,
  businessId,
  deletedRecord,
  doneRevocation,
  estate,
  failure,
  intent,
  lineId,
  minuteMs,
  now,
  openRevocation,
  otherAllocationId,
  otherBusinessId,
  otherLineId,
  policy,
  record,
  recordReading,
  revokedBusiness,
  revokedWaba,
  revokeRequest,
  settleWindowMs,
  shareFacts,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  skewMs,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const newRevoke = revokeRequest({ commandId: "revoke-2", requestedAt: now });

function decide(stored: Business, request = newRevoke, fulfilled = false): string {
  return decideRevoke(stored, request, fulfilled, policy).kind;
}

/** Marked a minute ago; the record was live and its WABA verified. */
function revoking(overrides: Partial<Business> = {}): Business {
  return business({
    epoch: 1,
    revocation: openRevocation(),
    wabas: { [wabaId]: revokedWaba({ status: "revoking" }) },
    records: { [allocationId]: record() },
    ...overrides,
  });
}

const deletedReading = recordReading({ seen: "deleted", readAt: now + 2000 });

/** A run that deletes the one record and sees it deleted, unless told otherwise. */
function run(overrides: Partial<RevocationRun> = {}): RevocationRun {
  return {
    estate: estate([recordReading()]),
    deleted: { [allocationId]: now + 1000 },
    confirmed: [deletedReading],
    fresh: estate([], { startedAt: now + 3000 }),
    stillFunded: false,
    ...overrides,
  };
}

function recorded(overrides: Partial<RevocationRun> = {}, stored = revoking()): Change {
  return recordRun(stored, run(overrides), now + 4000, policy);
}

describe("what a revoke does", () => {
  test("marks a business that shares anything", () => {
    expect(decide(business({ wabas: { [wabaId]: verifiedWaba() } }))).toBe("mark");
    expect(decide(business({ wabas: { [wabaId]: sharingWaba() } }))).toBe("mark");
    expect(decide(business({ records: { [allocationId]: record({ state: "unknown" }) } }))).toBe("mark");
  });

  test("marks a business that it knows nothing of: a list may show what nobody recorded", () => {
    expect(decide(business())).toBe("mark");
  });

  test("H6b: drives an open revocation first, whatever re-share there is", () => {
    const reshare = { commandId: "reshare-1", requestedAt: now + 10 * skewMs };
    expect(decide(revoking({ reshare }), revokeRequest())).toBe("drive");
    expect(decide(revoking({ reshare }))).toBe("join");
  });

  test("H23: drives an open revocation again when its command is redelivered, concluded or not", () => {
    const joined = revoking({ revocation: openRevocation({ joined: [newRevoke] }) });
    expect(decide(joined, newRevoke)).toBe("drive");
    expect(decide(joined, newRevoke, true)).toBe("drive");
  });

  test("H24: is reused when the open revocation holds its id with other content", () => {
    const joined = revoking({ revocation: openRevocation({ joined: [newRevoke] }) });
    for (const held of [revokeRequest(), newRevoke]) {
      expect(decide(joined, { ...held, reason: "risk", hash: "another content" })).toBe("reused");
    }
  });

  test("H6a: yields to a re-share that is newer by more than the skew", () => {
    const requestedAt = newRevoke.requestedAt + skewMs + 1;
    const reshared = revokedBusiness({
      reshare: { commandId: "reshare-1", requestedAt },
      wabas: { [wabaId]: sharedWaba() },
    });
    expect(decide(reshared)).toBe("superseded");
    expect(decide(reshared, newRevoke, true)).toBe("superseded");
  });

  test("H6b: yields to a re-share that was handled before it, also when nothing was ever revoked before", () => {
    const request = shareRequest({ reshareAfterRevocation: true, requestedAt: now });
    const { business: reshared } = intendShare(shareFacts({ request }), intent(), policy);
    // In flight, nobody knows yet whether it is accepted; once it is, it stands.
    expect(decide(reshared, revokeRequest({ requestedAt: now - skewMs - 1 }))).toBe("later");
    const accepted = { ...reshared, wabas: { [wabaId]: sharedWaba({ request }) } };
    expect(decide(accepted, revokeRequest({ requestedAt: now - skewMs - 1 }))).toBe("superseded");
    expect(decide(reshared, revokeRequest({ requestedAt: now - skewMs }))).toBe("mark");
  });

  test("yields to a re-share in two calls as soon as the line is shared with the business", () => {
    const request = shareRequest({ reshareAfterRevocation: true, requestedAt: now });
    const allocated = sharingWaba({ status: "allocated", allocationId, request });
    const stored = business({ wabas: { [wabaId]: allocated } });
    expect(decide(stored, revokeRequest({ requestedAt: now - skewMs - 1 }))).toBe("superseded");
  });

  test("waits for a re-share in flight where the accepted one is newer only within the skew", () => {
    const request = shareRequest({ reshareAfterRevocation: true, requestedAt: now });
    const inFlight = sharingWaba({ request: { ...request, requestedAt: now + 1 } });
    const stored = business({ wabas: { [wabaId]: sharedWaba({ request }), [siblingId]: inFlight } });
    expect(decide(stored, revokeRequest({ requestedAt: now - skewMs }))).toBe("later");
  });

  test("is not superseded by a re-share that came to nothing", () => {
    const request = shareRequest({ reshareAfterRevocation: true, requestedAt: now, wabaId: siblingId });
    const failed = sharingWaba({ request, intent: undefined, due: undefined });
    const stored = business({ wabas: { [wabaId]: verifiedWaba(), [siblingId]: failed } });
    expect(decide(stored, revokeRequest({ requestedAt: now - skewMs - 1 }))).toBe("mark");
  });

  test("H6c: wins over a re-share that is newer only within the skew", () => {
    const reshare = { commandId: "reshare-1", requestedAt: newRevoke.requestedAt + skewMs };
    expect(decide(revokedBusiness({ reshare, wabas: { [wabaId]: sharedWaba() } }))).toBe("mark");
  });

  test("wins over an ordinary share, however much newer that is", () => {
    const request = shareRequest({ requestedAt: newRevoke.requestedAt + 10 * skewMs });
    expect(decide(business({ wabas: { [wabaId]: sharedWaba({ request }) } }))).toBe("mark");
  });

  const { doneAt = now } = doneRevocation();
  const asked = revokeRequest({ commandId: "revoke-2", requestedAt: doneAt });

  test("announces again when it was asked for before it was over, and nothing was shared since", () => {
    expect(decide(revokedBusiness(), asked)).toBe("announce-again");
    const nothing = business({ epoch: 1, revocation: doneRevocation({ state: "nothing" }) });
    expect(decide(nothing, asked)).toBe("announce-again");
  });

  test("A7: looks again when it is asked for after it was over: hands may have shared since", () => {
    const later = { ...asked, requestedAt: doneAt + 1 };
    expect(decide(revokedBusiness(), later)).toBe("mark");
    const nothing = business({ epoch: 1, revocation: doneRevocation({ state: "nothing" }) });
    expect(decide(nothing, later)).toBe("mark");
    // Meta itself tells of every WABA that leaves: the scan looks for what hands did.
    expect(decide(revokedBusiness(), { ...later, reason: "partner_removed" })).toBe("announce-again");
    expect(decide(revokedBusiness({ revocation: doneRevocation({ requestedAt: now }) }), later, true)).toBe(
      "announce-again",
    );
  });

  test("H6a: announces again, and revokes nothing, when it is a redrive of one that was fulfilled", () => {
    const revocation = doneRevocation();
    const shared = revokedBusiness({ revocation, wabas: { [wabaId]: sharedWaba() } });
    expect(decide(shared, revocation.request, true)).toBe("announce-again");
    expect(decide(shared, revocation.request, false)).toBe("mark");
  });

  test("T2: is judged by the state, not by its id: fulfilled, and newer than the revocation that is on the item", () => {
    const restored = revokedBusiness({ wabas: { [wabaId]: sharedWaba() } });
    expect(decide(restored, newRevoke, true)).toBe("mark");
  });

  test("of Meta's telling is weighed even where nothing is known: there is no word yet that could be said again", () => {
    expect(decide(business(), { ...newRevoke, reason: "partner_removed" })).toBe("removal");
  });

  const held = {
    requests: [revokeRequest({ commandId: "removed-1", hash: "hash-of-removed-1", reason: "partner_removed" })],
    reason: "siblings" as const,
    since: now,
    due: { nextAt: now, looks: 0, sweeps: 0 },
  };

  test("is not mistaken for another command that is held", () => {
    expect(decide(business({ held }), newRevoke)).toBe("mark");
  });

  test.each<[string, Partial<Business>]>([
    ["an automatic revocation is held", { held }],
    ["a WABA was shared since", { wabas: { [wabaId]: revokedWaba(), [siblingId]: sharedWaba() } }],
    ["a POST is unanswered", { wabas: { [wabaId]: revokedWaba({ intent: intent() }) } }],
    ["a late answer named an id again", { records: { [allocationId]: record({ state: "unknown" }) } }],
    [
      "H18: a record was read deleted but never by a DELETE of ours",
      { records: { [allocationId]: record({ state: "deleted" }) } },
    ],
  ])("marks anew after a revocation that is over when %s", (_title, overrides) => {
    expect(decide(revokedBusiness(overrides), asked)).toBe("mark");
  });

  test("leaves a record that names another business out of what there is to revoke", () => {
    const records = { [allocationId]: deletedRecord(), [otherAllocationId]: record({ foreign: true }) };
    expect(decide(revokedBusiness({ records }), asked)).toBe("announce-again");
  });
});

describe("the marker", () => {
  const wabas = { [wabaId]: sharingWaba(), [siblingId]: verifiedWaba() };

  test("raises the epoch, marks every WABA and is due at once", () => {
    const { business: next } = markRevocation(business({ wabas }), newRevoke, now);
    expect(next.epoch).toBe(1);
    expect(Object.values(next.wabas).map(({ status }) => status)).toEqual(["revoking", "revoking"]);
    expect(next.revocation).toEqual({
      request: newRevoke,
      requestedAt: now,
      state: "open",
      epoch: 1,
      startedAt: now,
      joined: [],
      due: { nextAt: now, looks: 0, sweeps: 0 },
    });
  });

  test("H1: keeps the intents, because what they may still do decides when it is done", () => {
    const { business: next } = markRevocation(business({ wabas }), newRevoke, now);
    expect((next.wabas[wabaId] as RevokedWaba).intent).toEqual(intent());
  });

  test("makes the commands that waited on a WABA due at once, to be answered", () => {
    const { business: next, conclusions } = markRevocation(business({ wabas }), newRevoke, now);
    expect(next.wabas[wabaId]?.due).toEqual({ request: shareRequest(), nextAt: now, looks: 0, sweeps: 0 });
    expect(conclusions).toEqual([]);
  });

  test("ends the verification of an accepted share: that share has its answer", () => {
    const { business: next } = markRevocation(business({ wabas: { [wabaId]: sharedWaba() } }), newRevoke, now);
    expect(next.wabas[wabaId]?.status).toBe("revoking");
    expect(next.wabas[wabaId]?.due).toBeUndefined();
  });

  test("keeps a verification that a command waits for, to be answered", () => {
    const waiting = verifiedWaba({ due: dueIn(verifyRequest(), now + minuteMs) });
    const { business: next } = markRevocation(business({ wabas: { [wabaId]: waiting } }), newRevoke, now);
    expect(next.wabas[wabaId]?.due).toEqual(dueIn(verifyRequest(), now));
  });

  test("leaves a WABA that is revoked as it is", () => {
    const { business: next } = markRevocation(business({ wabas: { [wabaId]: revokedWaba() } }), newRevoke, now);
    expect(next.wabas[wabaId]).toEqual(revokedWaba());
  });

  test("never moves the bar for re-shares back", () => {
    const revocation = doneRevocation({ requestedAt: now + minuteMs });
    const { business: next } = markRevocation(business({ epoch: 1, revocation }), newRevoke, now);
    expect(next.revocation).toMatchObject({ requestedAt: now + minuteMs, epoch: 2 });
  });

  test("answers what was held with it, and itself only once", () => {
    const own = { ...newRevoke, reason: "partner_removed" as const };
    const other = revokeRequest({ commandId: "removed-1", reason: "partner_removed", requestedAt: now + 1 });
    const due = { nextAt: now, looks: 0, sweeps: 0 };
    const held = { requests: [own, other], reason: "siblings" as const, since: now, due };
    const { business: next } = markRevocation(business({ wabas, held }), own, now);
    expect(next.held).toBeUndefined();
    expect(next.revocation).toMatchObject({ request: own, joined: [other], requestedAt: now + 1 });
  });

  test("names no WABAs where none is known", () => {
    expect(markRevocation(business(), newRevoke, now).events).toEqual([
      { detailType: "Revocation Started", commandId: "revoke-2", businessId, reason: "operator" },
    ]);
  });

  test("is announced with its reason and its WABAs, at most 100 of them", () => {
    const many = Object.fromEntries(
      Array.from({ length: 120 }, (_, index) => [`3${index}`.padEnd(15, "0"), verifiedWaba()]),
    );
    const { events } = markRevocation(business({ wabas: many }), revokeRequest({ reason: "non_payment" }), now);
    expect(events).toMatchObject([
      { detailType: "Revocation Started", commandId: "revoke-1", businessId, reason: "non_payment" },
    ]);
    expect(events[0]?.wabaIds).toHaveLength(100);
  });
});

describe("another revoke", () => {
  test("joins the open revocation, is answered with it and moves the bar for re-shares", () => {
    const joined = joinRevocation(revoking(), newRevoke);
    expect([joined.events, joined.conclusions]).toEqual([[], []]);
    expect(joined.business.revocation).toMatchObject({
      requestedAt: now,
      joined: [newRevoke],
      request: revokeRequest(),
    });
    const { conclusions } = recorded({}, joined.business);
    expect(conclusions.map(({ request, outcome }) => [request.commandId, outcome])).toEqual([
      ["revoke-1", "done"],
      ["revoke-2", "done"],
    ]);
  });

  test("that was held joins the revocation that is open again, in its order", () => {
    const first = revokeRequest({ commandId: "removed-1", reason: "partner_removed", requestedAt: now + 1 });
    const second = revokeRequest({ commandId: "removed-2", reason: "partner_removed" });
    const due = { nextAt: now, looks: 0, sweeps: 0 };
    const held = { requests: [first, second], reason: "siblings" as const, since: now, due };
    const { business: next, events, conclusions } = joinHeld(revoking({ held }));
    expect(next.held).toBeUndefined();
    expect(next.revocation).toMatchObject({ requestedAt: now + 1, joined: [first, second] });
    expect([events, conclusions]).toEqual([[], []]);
    expect(joinHeld(revoking())).toEqual({ business: revoking(), events: [], conclusions: [] });
  });

  test("is answered with the WABA that it named, and the reason that it gave", () => {
    const named = revokeRequest({ commandId: "revoke-2", wabaId: siblingId, reason: "risk" });
    expect(recorded({}, joinRevocation(revoking(), named).business).conclusions).toMatchObject([
      { event: { commandId: "revoke-1", reason: "operator" } },
      { event: { commandId: "revoke-2", wabaId: siblingId, reason: "risk" } },
    ]);
    const { conclusions } = announceRevokedAgain(revokedBusiness(), named);
    expect(conclusions).toMatchObject([{ event: { wabaId: siblingId, wabaIds: [wabaId] } }]);
  });

  test("does not move the bar back when it is older", () => {
    const older = revokeRequest({ commandId: "revoke-0", requestedAt: now - 10 * minuteMs });
    expect(joinRevocation(revoking(), older).business.revocation?.requestedAt).toBe(now - minuteMs);
  });

  test("of what is over is answered with the same word and moves the bar for re-shares", () => {
    const { business: next, conclusions, events } = announceRevokedAgain(revokedBusiness(), newRevoke);
    expect(next.revocation).toMatchObject({ state: "done", requestedAt: now });
    expect(conclusions).toMatchObject([
      { request: newRevoke, outcome: "done", event: { detailType: "Credit Line Revoked", commandId: "revoke-2" } },
    ]);
    expect(events).toEqual([]);
  });

  test("needs a revocation to join or to announce", () => {
    expect(() => joinRevocation(business(), newRevoke)).toThrow("no revocation");
    expect(() => announceRevokedAgain(business(), newRevoke)).toThrow("no revocation");
  });

  test("H5: that is refused is announced as an open debt, and touches nothing", () => {
    expect(refuseRevoke(businessId, revokeRequest({ wabaId }), "owner_mismatch")).toMatchObject({
      outcome: "refused",
      event: { detailType: "Revoke Refused", businessId, wabaId, reason: "owner_mismatch" },
    });
    const unknown = refuseRevoke(undefined, revokeRequest(), "owner_mismatch");
    expect(unknown.event).not.toHaveProperty("businessId");
    expect(unknown.event).not.toHaveProperty("wabaId");
  });
});

describe("a DELETE", () => {
  test("is sent only for a record that names this business (I5)", () => {
    expect(mayDelete(revoking(), recordReading())).toBe(true);
    expect(mayDelete(revoking(), recordReading({ receivingBusinessId: otherBusinessId }))).toBe(false);
    const { receivingBusinessId: _unread, ...unnamed } = recordReading({ seen: "unreadable" });
    expect(mayDelete(revoking(), unnamed)).toBe(false);
  });

  test("H18: is sent although E6 says deleted, when this revocation has not deleted the record yet", () => {
    const seen = recordReading({ seen: "deleted" });
    expect(mayDelete(revoking(), seen)).toBe(true);
    expect(mayDelete(revoking({ records: { [allocationId]: deletedRecord(0) } }), seen)).toBe(true);
  });

  test("is not repeated once this revocation has a definite answer, unless the record lives", () => {
    const stored = revoking({ records: { [allocationId]: deletedRecord(1) } });
    expect(mayDelete(stored, recordReading({ seen: "deleted" }))).toBe(false);
    expect(mayDelete(stored, recordReading())).toBe(true);
  });

  test("is sent for a record that the list shows and nobody recorded (H1)", () => {
    expect(mayDelete(revoking({ records: {} }), recordReading())).toBe(true);
  });
});

describe("H18: the answer to a DELETE that there is nothing to delete", () => {
  test("counts only when E6 can no longer show an earlier life of the id", () => {
    const item = revoking();
    const recordedAt = item.records[allocationId]?.recordedAt ?? NaN;
    function counts(kind: "definite" | "refused", at: number, id = allocationId): boolean {
      return isDeleteAnswer(item, id, { kind, at }, policy);
    }
    expect(counts("definite", recordedAt)).toBe(true);
    expect(counts("refused", recordedAt + settleWindowMs)).toBe(false);
    expect(counts("refused", recordedAt + settleWindowMs + 1)).toBe(true);
    expect(counts("refused", now, "9100000000009999")).toBe(false);
  });
});

describe("a run of a revocation that proves everything", () => {
  test("says done, revokes every WABA in the same write and answers the command (R6)", () => {
    const { business: next, events, conclusions } = recorded();
    expect(next.revocation).toEqual({
      request: revokeRequest(),
      requestedAt: now - minuteMs,
      state: "done",
      epoch: 1,
      startedAt: now - minuteMs,
      joined: [],
      doneAt: now + 4000,
    });
    expect(next.wabas[wabaId]).toEqual(revokedWaba());
    expect(isRevoked(next, skewMs)).toBe(true);
    expect(events).toEqual([]);
    expect(conclusions).toEqual([
      {
        request: revokeRequest(),
        outcome: "done",
        event: {
          detailType: "Credit Line Revoked",
          commandId: "revoke-1",
          businessId,
          wabaIds: [wabaId],
          status: "revoked",
          reason: "operator",
        },
      },
    ]);
  });

  test("forgets the intents, whose window is over", () => {
    const wabas = { [wabaId]: revokedWaba({ status: "revoking", intent: intent() }) };
    const seen = estate([recordReading()], { startedAt: windowEnd(intent(), settleWindowMs) + 1 });
    const { business: next } = recorded({ estate: seen }, revoking({ wabas }));
    expect(next.wabas[wabaId]).toEqual(revokedWaba());
  });

  test("H27d: says nothing, which needs no flag later, when nothing was recorded and nothing listed", () => {
    const empty = revoking({ records: {}, wabas: {} });
    const { business: next, conclusions } = recorded({ estate: estate(), deleted: {}, confirmed: [] }, empty);
    expect(next.revocation?.state).toBe("nothing");
    expect(isRevoked(next, skewMs)).toBe(false);
    expect(conclusions).toMatchObject([{ event: { detailType: "Credit Line Revoked", reason: "nothing_to_revoke" } }]);
  });

  test("says nothing where all that is listed names another business, and leaves it alone", () => {
    const foreign = recordReading({ receivingBusinessId: otherBusinessId });
    const seen = { estate: estate([foreign]), deleted: {}, confirmed: [], fresh: estate([foreign]) };
    const { business: next } = recorded(seen, revoking({ records: {}, wabas: {} }));
    expect(next.revocation?.state).toBe("nothing");
    expect(next.records[allocationId]).toMatchObject({ foreign: true });
  });

  test("says done, not nothing, when the list showed what nobody had recorded", () => {
    const { business: next } = recorded({}, revoking({ records: {}, wabas: {} }));
    expect(next.revocation?.state).toBe("done");
    expect(next.records[allocationId]).toMatchObject({
      state: "deleted",
      deleteAnswered: { at: now + 1000, epoch: 1 },
    });
  });

  test("says done beside a record that names another business, and remembers whose it is not", () => {
    const foreign = recordReading({ allocationId: otherAllocationId, receivingBusinessId: otherBusinessId });
    const seen = estate([recordReading(), foreign]);
    const { business: next } = recorded({ estate: seen, fresh: estate([foreign], { startedAt: now + 3000 }) });
    expect(next.revocation?.state).toBe("done");
    expect(next.records[otherAllocationId]?.foreign).toBe(true);
  });
});

describe("a run of a revocation stays open", () => {
  function openBecause(overrides: Partial<RevocationRun>, stored?: Business): string | undefined {
    const { business: next, conclusions } = recorded(overrides, stored);
    expect([next.revocation?.state, conclusions]).toEqual(["open", []]);
    expect(next.revocation?.due?.nextAt).toBeGreaterThan(now + 4000);
    expect(Object.values(next.wabas).every(({ status }) => status === "revoking")).toBe(true);
    return next.revocation?.openReason;
  }

  const inFlight = { [wabaId]: revokedWaba({ status: "revoking", intent: intent() }) };
  const end = windowEnd(intent(), settleWindowMs);

  test.each([now + 3000, end])(
    "H1: while a POST of an older epoch is unanswered and its window not over (run begun at %d)",
    (startedAt) => {
      const empty = revoking({ records: {}, wabas: inFlight });
      const looked = { estate: estate([], { startedAt }), deleted: {}, confirmed: [] };
      expect(openBecause(looked, empty)).toBe("share_in_flight");
    },
  );

  test("while a POST that a probe settled may still have made another record", () => {
    const { sendDeadline } = intent();
    function runFrom(startedAt: number) {
      const looked = run({ estate: estate([recordReading()], { startedAt }) });
      return recordRun(revoking({ unansweredAt: sendDeadline }), looked, end + minuteMs, policy).business;
    }
    expect(runFrom(end).revocation).toMatchObject({ state: "open", openReason: "share_in_flight" });
    const done = runFrom(end + 1);
    expect(done.revocation?.state).toBe("done");
    expect(done.unansweredAt).toBeUndefined();
  });

  test("H1: when the run began before the window's end, although its last list began after", () => {
    const empty = revoking({ records: {}, wabas: inFlight });
    const fresh = estate([], { startedAt: end + 1 });
    const looked = run({ estate: estate([], { startedAt: end }), deleted: {}, confirmed: [], fresh });
    expect(recordRun(empty, looked, end + minuteMs, policy).business.revocation?.state).toBe("open");
  });

  test.each<[string, Partial<RevocationRun>, string]>([
    ["the DELETE was not answered", { deleted: {}, confirmed: [recordReading()] }, "not_confirmed"],
    ["H18: the DELETE was not answered, although E6 says deleted", { deleted: {} }, "not_confirmed"],
    [
      "the DELETE was answered but E6 still says live",
      { confirmed: [recordReading({ readAt: now + 2000 })] },
      "not_confirmed",
    ],
    [
      "E6 was read before the DELETE was answered",
      { confirmed: [{ ...deletedReading, readAt: now + 999 }] },
      "not_confirmed",
    ],
    ["E6 was not read again", { confirmed: [] }, "not_confirmed"],
    ["the first list was cut", { estate: estate([recordReading()], { complete: false }) }, "unreadable"],
    ["the last list was cut", { fresh: estate([], { startedAt: now + 3000, complete: false }) }, "unreadable"],
    ["a readable WABA is still funded by us", { stillFunded: true }, "still_funded"],
    ["it could not be read whether a WABA is still funded", { stillFunded: "unread" }, "unreadable"],
  ])("when %s", (_title, overrides, reason) => {
    expect(openBecause(overrides)).toBe(reason);
  });

  test.each(["token_dead", "permission_denied"] as const)("when the list fails by %s, and says so", (reason) => {
    expect(openBecause({ fresh: estate([], { complete: false, failure: failure(reason) }) })).toBe(reason);
  });

  test("when a record cannot be read, without touching it", () => {
    const { receivingBusinessId: _unread, ...unreadable } = recordReading({ seen: "unreadable" });
    const overrides = {
      estate: estate([unreadable]),
      deleted: {},
      confirmed: [unreadable],
      fresh: estate([unreadable]),
    };
    expect(openBecause(overrides)).toBe("unreadable");
  });

  test("when one record of two cannot be read, and says so rather than that it is not confirmed", () => {
    const { receivingBusinessId: _unread, ...unreadable } = recordReading({ seen: "unreadable" });
    const other = recordReading({ allocationId: otherAllocationId });
    const records = { [allocationId]: record(), [otherAllocationId]: record() };
    for (const listed of [
      [unreadable, other],
      [other, unreadable],
    ]) {
      const seen = { estate: estate(listed), deleted: {}, confirmed: listed, fresh: estate(listed) };
      expect(openBecause(seen, revoking({ records }))).toBe("unreadable");
    }
  });

  test("when a record of two is unconfirmed, whatever cannot be read of somebody else's", () => {
    const strange = recordReading({
      allocationId: otherAllocationId,
      seen: "strange",
      receivingBusinessId: otherBusinessId,
    });
    const listed = [recordReading(), strange];
    const seen = { estate: estate(listed), deleted: {}, confirmed: listed, fresh: estate(listed) };
    expect(openBecause(seen)).toBe("not_confirmed");
  });

  test("H18: when E6 says deleted of a record whose DELETE was not answered, beside what is live", () => {
    const other = recordReading({ allocationId: otherAllocationId });
    const listed = [recordReading({ seen: "deleted" }), other];
    expect(openBecause({ estate: estate(listed), deleted: {}, confirmed: listed, fresh: estate(listed) })).toBe(
      "not_confirmed",
    );
  });

  test("H19: when the first list showed one record of two and the fresh one shows the other", () => {
    const other = recordReading({ allocationId: otherAllocationId });
    expect(openBecause({ fresh: estate([other], { startedAt: now + 3000 }) })).toBe("not_confirmed");
  });

  test("H18: when the fresh list still names a record that an earlier revocation had deleted", () => {
    const stored = revoking({ records: { [allocationId]: deletedRecord(0, now - settleWindowMs) } });
    const lagging = { ...run(), deleted: {}, confirmed: [], estate: estate() };
    expect(openBecause({ ...lagging, fresh: estate([recordReading()], { startedAt: now + 3000 }) }, stored)).toBe(
      "not_confirmed",
    );
  });

  test("but is done when the fresh list lags, and still names a record that this very revocation has confirmed", () => {
    const { business: next } = recorded({ fresh: estate([recordReading()], { startedAt: now + 3000, records: [] }) });
    expect(next.revocation?.state).toBe("done");
  });

  test("but is done when the fresh list names the deleted record as deleted", () => {
    const listed = { [allocationId]: { creditLineId: lineId, deleted: true } };
    const { business: next } = recorded({ fresh: estate([], { startedAt: now + 3000, listed }) });
    expect(next.revocation?.state).toBe("done");
  });

  test("and is announced incomplete once, with its reason, while the next look comes later each time", () => {
    const first = recorded({ confirmed: [] });
    expect(first.events).toMatchObject([
      { detailType: "Revocation Incomplete", commandId: "revoke-1", reason: "not_confirmed" },
    ]);
    const dueAt = now + 4000 + minuteMs;
    expect(first.business.revocation?.due).toEqual({ nextAt: dueAt, looks: 1, sweeps: 0 });
    const second = recordRun(first.business, run({ confirmed: [], stillFunded: true }), dueAt, policy);
    expect(second.events).toEqual([]);
    expect(second.business.revocation?.due).toEqual({ nextAt: dueAt + 2 * minuteMs, looks: 2, sweeps: 0 });
  });

  test("and a run before its time, by a command that joined, does not put the next look off", () => {
    const first = recorded({ confirmed: [] });
    const early = recordRun(first.business, run({ confirmed: [] }), now + 5000, policy);
    expect(early.business.revocation?.due).toEqual(first.business.revocation?.due);
  });

  test("and has a next look, also where none was planned: nothing else would ever end it (I9)", () => {
    const { due: _none, ...stranded } = openRevocation();
    const { business: next } = recorded({ confirmed: [] }, revoking({ revocation: stranded }));
    expect(next.revocation?.due).toEqual({ nextAt: now + 4000 + minuteMs, looks: 1, sweeps: 0 });
  });

  test("and can end in a later run, whose DELETE is not repeated", () => {
    const first = recorded({ confirmed: [recordReading({ readAt: now + 2000 })] });
    const later = recordReading({ seen: "deleted", readAt: now + minuteMs });
    const second = run({
      estate: estate([later]),
      deleted: {},
      confirmed: [later],
      fresh: estate([], { startedAt: now + minuteMs }),
    });
    expect(recordRun(first.business, second, now + 2 * minuteMs, policy).business.revocation?.state).toBe("done");
  });

  test("is the only state that a run can be recorded of", () => {
    expect(() => recordRun(revokedBusiness(), run(), now, policy)).toThrow("no open revocation");
    expect(() => recordRun(business(), run(), now, policy)).toThrow("no open revocation");
  });
});

describe("H27g: a record that cannot be found after its DELETE", () => {
  const gone = recordReading({ seen: "missing" });

  /** A run that finds the record in neither list nor E6, at a time after the DELETE. */
  function looked(stored: Business, at: number): Business {
    const reading = { ...gone, readAt: at };
    const nothing = estate([], { startedAt: at });
    const seen = {
      estate: { ...nothing, records: [reading] },
      deleted: {},
      confirmed: [reading],
      fresh: nothing,
      stillFunded: false,
    };
    return recordRun(stored, seen, at, policy).business;
  }

  const deleted = recorded({ confirmed: [gone] }).business;
  const afterWindow = now + 1000 + settleWindowMs + 1;

  test("is confirmed by two absences after the settle window", () => {
    const once = looked(deleted, afterWindow);
    expect(once.revocation?.state).toBe("open");
    expect(looked(once, afterWindow + minuteMs).revocation?.state).toBe("done");
  });

  test("is not confirmed by absences within the window", () => {
    const often = [1, 2, 3].reduce((stored, index) => looked(stored, now + index * minuteMs), deleted);
    expect(often.revocation?.state).toBe("open");
    expect(often.records[allocationId]?.absentLooks).toBeUndefined();
  });

  test("is not confirmed by absences up to the very end of the window", () => {
    const once = looked(deleted, afterWindow - 1);
    expect(looked(once, afterWindow).revocation?.state).toBe("open");
  });

  test.each<[string, Partial<RevocationRun>]>([
    ["E6 cannot be read", { confirmed: [recordReading({ seen: "unreadable", readAt: afterWindow })] }],
    ["E8 still lists it", { fresh: estate([recordReading()], { startedAt: afterWindow }) }],
    ["E8 was not read to its end", { fresh: estate([], { startedAt: afterWindow, complete: false }) }],
  ])("is not confirmed, however often, while %s", (_title, overrides) => {
    const reading = { ...gone, readAt: afterWindow };
    const nothing = estate([], { startedAt: afterWindow });
    const seen = { estate: { ...nothing, records: [reading] }, deleted: {}, confirmed: [reading], fresh: nothing };
    const often = [1, 2, 3].reduce(
      (stored, index) => recordRun(stored, run({ ...seen, ...overrides }), afterWindow + index, policy).business,
      deleted,
    );
    expect(often.revocation?.state).toBe("open");
    expect(often.records[allocationId]?.absentLooks).toBeUndefined();
  });

  test("begins to count anew when it is seen again in between", () => {
    const once = looked(deleted, afterWindow);
    const seen = recordReading({ readAt: afterWindow + 1 });
    const alive = recordRun(once, run({ deleted: {}, confirmed: [seen] }), afterWindow + 1, policy).business;
    expect(looked(alive, afterWindow + minuteMs).revocation?.state).toBe("open");
  });

  test("is not confirmed without a definite answer to its DELETE", () => {
    const unanswered = recorded({ deleted: {}, confirmed: [gone] }).business;
    const once = looked(unanswered, afterWindow);
    expect(looked(once, afterWindow + minuteMs).revocation?.state).toBe("open");
  });
});

describe("a late answer (S7)", () => {
  const answer = { allocationId: otherAllocationId, creditLineId: lineId, epoch: 0, seen: "live" } as const;

  test("of an older epoch enters the list of the open revocation, and makes it due at once", () => {
    const waiting = openRevocation({ due: { nextAt: now + settleWindowMs, looks: 4, sweeps: 2 } });
    const { business: next, events } = recordLateAnswer(revoking({ revocation: waiting }), shareRequest(), answer, now);
    expect(next.records[otherAllocationId]).toMatchObject({ state: "unknown", epoch: 0 });
    expect(next.revocation?.due).toEqual({ nextAt: now, looks: 4, sweeps: 0 });
    expect(events).toEqual([]);
    const { business: ran } = recorded({}, next);
    expect(ran.revocation).toMatchObject({ state: "open", openReason: "not_confirmed" });
  });

  test.each(["live", "unreadable", "missing"] as const)(
    "that E6 shows %s re-opens a revocation that is done",
    (seen) => {
      const { business: next, events } = recordLateAnswer(revokedBusiness(), shareRequest(), { ...answer, seen }, now);
      expect(next.revocation).toMatchObject({ state: "open", due: { nextAt: now } });
      expect(next.revocation).not.toHaveProperty("doneAt");
      expect(next.wabas[wabaId]?.status).toBe("revoking");
      expect(events).toMatchObject([
        { detailType: "Revocation Started", reason: "late_record", allocationConfigId: otherAllocationId },
      ]);
      expect(dueEntries(next)).toMatchObject([{ work: "revoke" }]);
    },
  );

  test("that E6 shows deleted re-opens nothing", () => {
    const { business: next, events } = recordLateAnswer(
      revokedBusiness(),
      shareRequest(),
      { ...answer, seen: "deleted" },
      now,
    );
    expect([next.revocation?.state, events]).toEqual(["done", []]);
  });

  test("H18: that names an id which was confirmed deleted voids the confirmation", () => {
    const { business: next } = recordLateAnswer(revokedBusiness(), shareRequest(), { ...answer, allocationId }, now);
    expect(next.records[allocationId]).toEqual({ creditLineId: lineId, epoch: 0, state: "unknown", recordedAt: now });
    expect(Object.values(next.records).some(isConfirmedDeleted)).toBe(false);
  });

  test.each<[string, Partial<Business>]>([
    [
      "a re-share followed it",
      { reshare: { commandId: "reshare-1", requestedAt: now }, wabas: { [wabaId]: sharedWaba() } },
    ],
    [
      "it revoked nothing and a share followed it",
      { revocation: doneRevocation({ state: "nothing" }), wabas: { [wabaId]: sharedWaba() } },
    ],
    [
      "a share that followed it is under way",
      { revocation: doneRevocation({ state: "nothing" }), wabas: { [wabaId]: sharingWaba() } },
    ],
    [
      "one WABA of several was shared since",
      { wabas: { [wabaId]: revokedWaba(), [siblingId]: sharedWaba({ request: shareRequest({ wabaId: siblingId }) }) } },
    ],
    [
      "a re-share that followed it is under way",
      { wabas: { [wabaId]: sharingWaba({ request: shareRequest({ reshareAfterRevocation: true }) }) } },
    ],
    [
      "the line is just being shared with the business again",
      { recordIntent: { ...intent({ epoch: 1 }), creditLineId: lineId, request: shareRequest() } },
    ],
  ])("H7c: re-opens no revocation when %s: it is a finding, and a person's", (_title, overrides) => {
    const stored = revokedBusiness(overrides);
    const { business: next, events } = recordLateAnswer(stored, shareRequest(), answer, now);
    expect(next.revocation).toEqual(stored.revocation);
    expect(next.wabas).toEqual(stored.wabas);
    expect(next.records[otherAllocationId]).toMatchObject({ state: "unknown" });
    expect(events).toMatchObject([{ detailType: "Drift Found", reason: "record_duplicate" }]);
  });

  test("re-opens the revocation when the share that followed it came to nothing", () => {
    const failed = sharingWaba({ intent: undefined, due: undefined });
    const stored = revokedBusiness({ wabas: { [siblingId]: failed } });
    expect(recordLateAnswer(stored, shareRequest(), answer, now).business.revocation?.state).toBe("open");
  });

  test("H7a: never asks for a DELETE of its own: it concludes nothing and changes no live WABA", () => {
    const wabas: Record<string, Waba> = { [wabaId]: verifiedWaba() };
    const { business: next, conclusions } = recordLateAnswer(business({ wabas }), shareRequest(), answer, now);
    expect([next.wabas, conclusions]).toEqual([wabas, []]);
  });
});

describe("a partner switch that was revoked before it took effect (R6, H27c)", () => {
  const firstOfJuly = Date.UTC(2026, 6, 1);
  const fifthOfJuly = Date.UTC(2026, 6, 5);
  const switching = revokedWaba({ status: "revoking", pendingUntil: firstOfJuly });
  const { business: revoked } = recorded({}, revoking({ wabas: { [wabaId]: switching } }));
  const live = recordReading({ allocationId: otherAllocationId });

  test("is looked at once more on the 5th of the month it would have taken effect in", () => {
    expect(revoked.revocation).toMatchObject({ state: "done", due: { nextAt: fifthOfJuly } });
    expect(dueEntries(revoked)).toMatchObject([{ work: "revoke", commandId: "revoke-1" }]);
    const { business: looked, events, conclusions } = recordRecheck(revoked, estate(), false, fifthOfJuly);
    expect(looked.revocation?.state).toBe("done");
    expect([dueEntries(looked), events, conclusions]).toEqual([[], [], []]);
  });

  test("is looked at when the last of several switches shows, and not for one that is long over", () => {
    const firstOfAugust = Date.UTC(2026, 7, 1);
    const later = { ...switching, pendingUntil: firstOfAugust };
    const two = recorded({}, revoking({ wabas: { [wabaId]: switching, [siblingId]: later } })).business;
    expect(two.revocation?.due?.nextAt).toBe(Date.UTC(2026, 7, 5));
    const over = { ...switching, pendingUntil: Date.UTC(2026, 4, 1) };
    expect(recorded({}, revoking({ wabas: { [wabaId]: over } })).business.revocation?.due).toBeUndefined();
  });

  test.each([
    ["dead", { seen: "deleted" as const }],
    ["another business's", { receivingBusinessId: otherBusinessId }],
  ])("is over when what is listed then is %s", (_title, seen) => {
    const listed = estate([recordReading({ allocationId: otherAllocationId, ...seen })]);
    const { business: next, events } = recordRecheck(revoked, listed, false, fifthOfJuly);
    expect([next.revocation?.state, next.revocation?.due, events]).toEqual(["done", undefined, []]);
  });

  test("is looked at only once the revocation is over", () => {
    expect(() => recordRecheck(revoking(), estate(), false, fifthOfJuly)).toThrow("no revocation");
    expect(() => recordRecheck(business(), estate(), false, fifthOfJuly)).toThrow("no revocation");
  });

  test.each([
    ["a record of ours lives", estate([live]), false],
    ["a WABA is still funded by us", estate(), true],
  ])("opens the revocation again when %s, and says so", (_title, seen, stillFunded) => {
    const { business: next, events, conclusions } = recordRecheck(revoked, seen, stillFunded, fifthOfJuly);
    expect(conclusions).toEqual([]);
    expect(next.revocation).toMatchObject({ state: "open", due: { nextAt: fifthOfJuly } });
    expect(next.revocation).not.toHaveProperty("doneAt");
    expect(events).toMatchObject([{ detailType: "Revocation Started", commandId: "revoke-1", reason: "late_record" }]);
  });

  test.each([
    ["shared", verifiedWaba({ allocationId: otherAllocationId })],
    ["being shared", sharingWaba()],
  ])("H7c, I2d: takes no re-share along that is %s since", (_title, waba) => {
    const reshared = { ...revoked, wabas: { [wabaId]: waba, [siblingId]: revokedWaba() } };
    const { business: next } = recordRecheck(reshared, estate([live]), true, fifthOfJuly);
    expect(next.revocation?.state).toBe("done");
    expect(next.revocation?.due).toBeUndefined();
  });

  test("H7c, I2d: takes no re-share along whose E4 is out", () => {
    const recordIntent = { ...intent({ epoch: 1 }), creditLineId: lineId, request: shareRequest() };
    const { business: next } = recordRecheck({ ...revoked, recordIntent }, estate([live]), true, fifthOfJuly);
    expect(next.revocation?.state).toBe("done");
  });
});

describe("a record on another line of ours", () => {
  test("H19: keeps the revocation open until that line's record is confirmed deleted too", () => {
    const records = { [allocationId]: record(), [otherAllocationId]: record({ creditLineId: otherLineId }) };
    expect(recorded({}, revoking({ records })).business.revocation?.openReason).toBe("not_confirmed");
  });
});

describe("what is about to be deleted", () => {
  const live = estate([recordReading()]);

  test("is put on the item when it was not there, or believed to be dead: its deletion must be confirmed", () => {
    const unknown = revoking({ records: {} });
    expect(withDeletions(unknown, live, now).records[allocationId]).toMatchObject({ state: "live", recordedAt: now });
    const dead = revoking({ records: { [allocationId]: deletedRecord(1) } });
    const revived = withDeletions(dead, live, now).records[allocationId];
    expect(revived).toMatchObject({ state: "live" });
    expect(revived).not.toHaveProperty("deleteAnswered");
  });

  test("beside what is there already, and not as live where E6 says deleted", () => {
    const known = { [otherAllocationId]: record() };
    const seen = estate([recordReading({ seen: "deleted" })]);
    const { records } = withDeletions(revoking({ records: known }), seen, now);
    expect(records[otherAllocationId]).toEqual(record());
    expect(records[allocationId]?.state).toBe("unknown");
  });

  test("also when E6 says something that nobody knows of an id that was confirmed deleted", () => {
    const dead = revoking({ records: { [allocationId]: deletedRecord(1) } });
    const strange = estate([recordReading({ seen: "strange" })]);
    expect(withDeletions(dead, strange, now).records[allocationId]).toMatchObject({ state: "live" });
  });

  test.each([
    ["it is known to be alive", revoking(), live],
    ["it names another business", revoking({ records: {} }), estate([recordReading({ receivingBusinessId: "1" })])],
  ])("changes nothing when %s", (_why, item, list) => {
    expect(withDeletions(item, list, now)).toBe(item);
  });
});
