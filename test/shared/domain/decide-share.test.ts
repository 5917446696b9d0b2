import { describe, expect, test } from "vitest";
import type { Waba } from "../../../shared/domain/business.ts";
import type { Reason } from "../../../shared/domain/reasons.ts";
import type { ShareDecision, ShareFacts } from "../../../shared/domain/share.ts";
import { decideShare, refuse } from "../../../shared/domain/share.ts";
import { dueIn } from "../../../shared/domain/business.ts";
import {
  business,
  businessId,
  credentialId,
  doneRevocation,
  estate,
  failure,
  intent,
  now,
  openRevocation,
  otherBusinessId,
  otherLineId,
  policy,
  record,
  recordReading,
  revokedBusiness,
  revokedWaba,
  settleWindowMs,
  shareFacts,
  shareRequest,
  sharedWaba,
  sharingWaba,
  siblingId,
  skewMs,
  verifiedWaba,
  wabaId,
  wabaReading,
} from "../factories.ts";

const strangerFunds = { known: true, id: "699999999999999" } as const;
const lineFunds = { known: true, id: credentialId } as const;
const reshare = shareRequest({ commandId: "reshare-1", reshareAfterRevocation: true });

function decide(overrides: Partial<ShareFacts> = {}): ShareDecision {
  return decideShare(shareFacts(overrides), policy);
}

function refused(reason: Reason): ShareDecision {
  return { kind: "refuse", reason } as ShareDecision;
}

describe("an unsettled attempt on the WABA", () => {
  const attempted = business({ wabas: { [wabaId]: sharingWaba() } });

  test("is looked at before anything else is decided", () => {
    expect(decide({ business: attempted })).toEqual({ kind: "probe" });
  });

  test("H2a: is looked at although another id already funds the WABA, since that may be its own effect", () => {
    const waba = wabaReading({ funding: strangerFunds });
    expect(decide({ business: attempted, waba, estate: estate() })).toEqual({ kind: "probe" });
  });

  test("H2b: keeps a customer of another partner from being refused as funded elsewhere", () => {
    const waba = wabaReading({ funding: strangerFunds });
    const facts = { business: attempted, waba, estate: estate(), probed: true };
    expect(decide(facts)).toEqual({ kind: "on-item" });
  });

  test("is on the item for its own command once it was looked at", () => {
    expect(decide({ business: attempted, probed: true })).toEqual({ kind: "on-item" });
  });

  test("is looked at by another command only when its look is due", () => {
    const request = shareRequest({ commandId: "share-2", requestedAt: now });
    expect(decide({ business: attempted, request })).toEqual({ kind: "probe" });
    const due = { request: shareRequest(), nextAt: now + 1, looks: 3, sweeps: 0 };
    const later = business({ wabas: { [wabaId]: sharingWaba({ due }) } });
    expect(decide({ business: later, request })).toEqual({ kind: "wait", until: now + 1 });
    expect(decide({ business: later })).toEqual({ kind: "probe" });
  });

  test("is looked at by another command where no look is due at all: nothing else would look", () => {
    const stranded = business({ wabas: { [wabaId]: sharingWaba({ due: undefined }) } });
    const request = shareRequest({ commandId: "share-2", requestedAt: now });
    expect(decide({ business: stranded, request })).toEqual({ kind: "probe" });
    const until = now + settleWindowMs / 60;
    expect(decide({ business: stranded, request, probed: true })).toEqual({ kind: "wait", until });
  });

  test.each([
    ["it was looked at in this very invocation", {}, { probed: true }],
    ["the command brings none either", {}, { request: { businessTokenSecret: undefined } }],
    ["the attempt had one", { businessTokenSecret: "business-tokens/one" }, {}],
  ])("in doubt is not worth another look for a token when %s", (_title, owns, facts) => {
    const own = shareRequest(owns);
    const due = { request: own, nextAt: now + 1, looks: 3, sweeps: 0 };
    const waba = sharingWaba({ request: own, due, intent: intent({ inDoubt: true }) });
    const given = { commandId: "share-2", requestedAt: now, businessTokenSecret: "business-tokens/two" };
    const { request: lent = {}, ...probed } = facts as { request?: object; probed?: boolean };
    const request = shareRequest({ ...given, ...lent });
    expect(decide({ business: business({ wabas: { [wabaId]: waba } }), request, ...probed }).kind).toBe("wait");
  });

  test.each([
    { what: "in doubt, looked at with one token", changes: { inDoubt: true as const }, kind: "probe" },
    {
      what: "in doubt, which both tokens have looked at",
      changes: { inDoubt: true as const, clearAt: now },
      kind: "wait",
    },
    { what: "not in doubt yet", changes: {}, kind: "wait" },
  ])("$what: another command's token is worth a look of its own: $kind", ({ changes, kind }) => {
    const own = shareRequest({ businessTokenSecret: undefined });
    const due = { request: own, nextAt: now + 1, looks: 3, sweeps: 0 };
    const waba = sharingWaba({ request: own, due, intent: intent(changes) });
    const request = shareRequest({
      commandId: "share-2",
      requestedAt: now,
      businessTokenSecret: "business-tokens/one",
    });
    expect(decide({ business: business({ wabas: { [wabaId]: waba } }), request }).kind).toBe(kind);
  });

  test("makes another command wait for its next look, whatever that command asks", () => {
    const request = shareRequest({ commandId: "share-2", currency: "USD", requestedAt: now });
    expect(decide({ business: attempted, request, probed: true })).toEqual({ kind: "wait", until: now - 22_000 });
  });

  test("lets only one other share wait on the item: a third one comes back after it", () => {
    const request = shareRequest({ commandId: "share-2", requestedAt: now });
    const waiting = { [wabaId]: { request, due: { nextAt: now, looks: 0, sweeps: 0 } } };
    const facts = { business: { ...attempted, waiting }, probed: true };
    expect(decide({ ...facts, request })).toMatchObject({ kind: "wait" });
    expect(decide({ ...facts, request: { ...request, commandId: "share-3" } })).toEqual({
      kind: "later",
      until: now,
    });
  });

  test("is looked at even while a revocation is open", () => {
    expect(decide({ business: { ...attempted, revocation: openRevocation() } })).toEqual({ kind: "probe" });
  });
});

describe("a revocation", () => {
  const after = shareRequest({ requestedAt: now });
  const older = shareRequest({ requestedAt: now - 4 * settleWindowMs });

  test("that is open makes a newer share wait on the item", () => {
    const revocation = openRevocation({ requestedAt: now - skewMs - 1 });
    const facts = { business: business({ epoch: 1, revocation }), request: { ...reshare, requestedAt: now } };
    expect(decide(facts)).toEqual({ kind: "wait", until: now + settleWindowMs / 60 });
  });

  test("that is open makes a waiting share wait longer with each look", () => {
    const revocation = openRevocation({ requestedAt: now - skewMs - 1 });
    const waiting = { [wabaId]: { request: after, due: { nextAt: now, looks: 3, sweeps: 0 } } };
    const facts = { business: business({ epoch: 1, revocation, waiting }), request: after };
    expect(decide(facts)).toEqual({ kind: "wait", until: now + (8 * settleWindowMs) / 60 });
  });

  test("H8: that is done for less than the settle window parks a re-share until the window is over", () => {
    const doneAt = now - settleWindowMs + 1;
    const facts = { business: revokedBusiness({ revocation: doneRevocation({ doneAt }) }), request: reshare };
    expect(decide(facts)).toEqual({ kind: "wait", until: doneAt + settleWindowMs });
  });

  test("that is done for the whole settle window lets a re-share go on", () => {
    const doneAt = now - settleWindowMs;
    const facts = { business: revokedBusiness({ revocation: doneRevocation({ doneAt }) }), request: reshare };
    expect(decide(facts)).toEqual({ kind: "attempt" });
  });

  test.each<[string, Partial<ShareFacts>, Reason]>([
    ["without the flag is refused", { request: after }, "business_revoked"],
    ["with the flag but older is refused", { request: { ...older, reshareAfterRevocation: true } }, "superseded"],
    ["that is older and without the flag is refused", { request: older }, "business_revoked"],
  ])("that is the last word: a share %s", (_title, facts, reason) => {
    expect(decide({ business: revokedBusiness(), ...facts })).toEqual(refused(reason));
  });

  test.each([
    ["the skew", 0],
    ["a moment", 1 - skewMs],
  ])("H6c: wins over a re-share that is only %s newer, because clocks differ by that much", (_title, offset) => {
    const revocation = doneRevocation();
    const request = { ...reshare, requestedAt: revocation.requestedAt + skewMs + offset };
    expect(decide({ business: revokedBusiness({ revocation }), request })).toEqual(refused("superseded"));
  });

  test("yields to a re-share that is newer by more than the skew", () => {
    const revocation = doneRevocation();
    const request = { ...reshare, requestedAt: revocation.requestedAt + skewMs + 1 };
    expect(decide({ business: revokedBusiness({ revocation }), request })).toEqual({ kind: "attempt" });
  });

  test("H6b: that is open refuses an older re-share at once instead of making it wait for nothing", () => {
    const facts = { business: business({ epoch: 1, revocation: openRevocation() }), request: reshare };
    expect(decide(facts)).toEqual(refused("superseded"));
  });

  test("that is open is the last word, though a re-share came before it: an older share needs a flag, and comes too late", () => {
    const revocation = openRevocation();
    const request = shareRequest({ requestedAt: revocation.requestedAt - 1 });
    const reshared = { commandId: "reshare-1", requestedAt: revocation.requestedAt - 2 };
    const facts = { business: business({ epoch: 1, revocation, reshare: reshared }), request };
    expect(decide(facts)).toEqual(refused("business_revoked"));
    const flagged = { ...facts, request: { ...request, reshareAfterRevocation: true } };
    expect(decide(flagged)).toEqual(refused("superseded"));
  });

  test("that a re-share has followed asks no flag of a share that is older than both: it is superseded", () => {
    const stored = revokedBusiness({ reshare: { commandId: "reshare-1", requestedAt: now - 10_000 } });
    expect(decide({ business: stored, request: older })).toEqual(refused("superseded"));
  });

  test("that overtook a share on the item answers it, also where its clock says that it is newer: it is not parked again", () => {
    const revocation = openRevocation({ requestedAt: now - 2 * skewMs });
    const request = shareRequest({ requestedAt: now });
    const overtaken = revokedWaba({ status: "revoking", request, due: dueIn(request, now) });
    const stored = business({ epoch: 1, revocation, wabas: { [wabaId]: overtaken } });
    expect(decide({ business: stored, request })).toEqual(refused("business_revoked"));
    expect(decide({ business: stored, request: { ...request, commandId: "share-2" } }).kind).toBe("wait");
  });

  test("that overtook an E4 is what a share waits for, not the look at that E4", () => {
    const revocation = openRevocation({ requestedAt: now - 2 * skewMs });
    const recordIntent = {
      ...intent(),
      creditLineId: policy.creditLineId,
      request: shareRequest({ wabaId: siblingId }),
    };
    const stored = business({ epoch: 1, revocation, recordIntent });
    expect(decide({ business: stored, request: after }).kind).toBe("wait");
  });

  test("H17: is asked of the business: a WABA it never held is refused too", () => {
    const request = shareRequest({ requestedAt: now, wabaId: siblingId });
    expect(decide({ business: revokedBusiness(), request })).toEqual(refused("business_revoked"));
  });

  test("that a re-share has followed asks no flag of the siblings", () => {
    const facts = {
      business: revokedBusiness({ reshare: { commandId: "reshare-1", requestedAt: now - 10_000 } }),
      request: shareRequest({ requestedAt: now, wabaId: siblingId }),
    };
    expect(decide(facts)).toEqual({ kind: "attempt" });
  });

  test("that a re-share tried to follow in vain still asks the flag of the siblings", () => {
    const failed = sharingWaba({ request: reshare, intent: undefined, due: undefined, lastFailure: failure() });
    const facts = {
      business: revokedBusiness({ wabas: { [wabaId]: failed } }),
      request: shareRequest({ requestedAt: now, wabaId: siblingId }),
    };
    expect(decide(facts)).toEqual(refused("business_revoked"));
  });

  test.each([
    ["on its way", sharingWaba({ request: reshare })],
    ["allocated", sharingWaba({ request: reshare, intent: undefined, status: "allocated", allocationId: "500" })],
    ["shared", sharedWaba({ request: reshare })],
  ])("that a re-share has followed, now %s, asks no flag of the siblings", (_title, waba) => {
    const facts = {
      business: revokedBusiness({ wabas: { [wabaId]: waba } }),
      request: shareRequest({ requestedAt: now, wabaId: siblingId }),
    };
    expect(decide(facts)).toEqual({ kind: "attempt" });
  });

  test("H7b: of nothing makes a later share wait for the settle window, since a slow worker of it may still delete", () => {
    const doneAt = now - settleWindowMs + 1;
    const revocation = doneRevocation({ state: "nothing", doneAt });
    expect(decide({ business: business({ epoch: 1, revocation }), request: after })).toEqual({
      kind: "wait",
      until: doneAt + settleWindowMs,
    });
  });

  test("H27d: of nothing asks no flag of a later share", () => {
    const facts = {
      business: business({ epoch: 1, revocation: doneRevocation({ state: "nothing" }) }),
      request: after,
    };
    expect(decide(facts)).toEqual({ kind: "attempt" });
  });

  test("H27d: of nothing still refuses an older share, and does not say that a flag would help", () => {
    const facts = {
      business: business({ epoch: 1, revocation: doneRevocation({ state: "nothing" }) }),
      request: older,
    };
    expect(decide(facts)).toEqual(refused("superseded"));
  });

  test("H17: a refused share leaves the WABA revoked, so that a next share without the flag is refused as well", () => {
    const first = shareRequest({ commandId: "share-2", requestedAt: now });
    const refusedOnce = refuse(revokedBusiness(), first, "business_revoked").business;
    const second = { business: refusedOnce, request: shareRequest({ commandId: "share-3", requestedAt: now + 1 }) };
    expect(decide(second)).toEqual(refused("business_revoked"));
  });
});

describe("a WABA that is shared", () => {
  test.each(["shared", "verified", "pending", "mismatched"] as const)(
    "concludes another share of it while %s",
    (status) => {
      const facts = { business: business({ wabas: { [wabaId]: sharedWaba({ status }) } }) };
      expect(decide({ ...facts, request: shareRequest({ commandId: "share-2" }) })).toEqual({ kind: "conclude" });
    },
  );

  test("is not asked of Meta again", () => {
    const { waba: _unread, ...facts } = shareFacts({ business: business({ wabas: { [wabaId]: verifiedWaba() } }) });
    expect(decideShare(facts, policy)).toEqual({ kind: "conclude" });
  });

  test("H17: refuses another currency", () => {
    const facts = {
      business: business({ wabas: { [wabaId]: verifiedWaba() } }),
      request: shareRequest({ currency: "USD" }),
    };
    expect(decide(facts)).toEqual(refused("currency_conflict"));
  });

  test("refuses another line than the one it is attached to", () => {
    const facts = { business: business({ wabas: { [wabaId]: verifiedWaba({ creditLineId: otherLineId }) } }) };
    expect(decide(facts)).toEqual(refused("line_conflict"));
  });
});

describe("a WABA that was shared before its revocation", () => {
  test.each<[string, Partial<Waba>, Reason]>([
    ["line", { creditLineId: otherLineId }, "line_conflict"],
    ["currency", { currency: "USD" }, "currency_conflict"],
  ])("is not shared again with another %s, which Meta cannot change", (_what, recorded, reason) => {
    const wabas = { [wabaId]: { ...revokedWaba(), ...recorded } as Waba };
    expect(decide({ business: revokedBusiness({ wabas }), request: reshare })).toEqual(refused(reason));
  });

  test("may be shared in another currency when nothing ever came of the first attempt", () => {
    const { allocationId: _none, ...never } = revokedWaba({ currency: "USD" });
    expect(decide({ business: revokedBusiness({ wabas: { [wabaId]: never } }), request: reshare })).toEqual({
      kind: "attempt",
    });
  });
});

describe("a command id that the item holds with other content (H24)", () => {
  const other = shareRequest({ currency: "USD", hash: "another content" });
  const due = { nextAt: now, looks: 0, sweeps: 0 };

  test.each([
    ["attempted", business({ wabas: { [wabaId]: sharingWaba() } })],
    ["waiting", business({ waiting: { [wabaId]: { request: shareRequest(), due } } })],
    ["shared", business({ wabas: { [wabaId]: verifiedWaba() } })],
  ])("is reused, while the first is %s", (_title, stored) => {
    expect(decide({ business: stored, request: other })).toEqual({ kind: "reused" });
    expect(decide({ business: stored, request: { ...other, commandId: "share-2" } })).not.toEqual({ kind: "reused" });
  });
});

describe("what the command says of itself", () => {
  test.each<[string, Partial<ShareFacts>, Reason]>([
    ["claims another business", { request: shareRequest({ businessId: otherBusinessId }) }, "owner_mismatch"],
    [
      "asks for a currency outside the stage's list",
      { request: shareRequest({ currency: "CHF" }) },
      "currency_unsupported",
    ],
    [
      "is for the partner's own business",
      { business: { ...business(), businessId: policy.partnerBusinessId } },
      "same_business",
    ],
  ])("refuses a share that %s, without asking Meta", (_title, overrides, reason) => {
    const { waba: _unread, ...facts } = shareFacts(overrides);
    expect(decideShare(facts, policy)).toEqual(refused(reason));
  });

  test("shares where it claims the very business that owns the WABA", () => {
    expect(decide({ request: shareRequest({ businessId }) })).toEqual({ kind: "attempt" });
  });

  const closed = sharingWaba({ intent: undefined, due: undefined, lastFailure: failure("token_dead") });

  test.each([
    ["older than", -1],
    ["as old as", 0],
  ])("refuses a share %s the last one acted on for the WABA (T2)", (_title, offset) => {
    const request = shareRequest({ commandId: "share-0", requestedAt: closed.request.requestedAt + offset });
    expect(decide({ business: business({ wabas: { [wabaId]: closed } }), request })).toEqual(refused("superseded"));
  });

  test("lets the very command whose attempt was closed without effect try again", () => {
    expect(decide({ business: business({ wabas: { [wabaId]: closed } }) })).toEqual({ kind: "attempt" });
  });

  test("answers the command that two looks found refused by Meta the same again instead of sending another POST", () => {
    const answered = { ...closed, lastFailure: failure("refused_by_meta") };
    expect(decide({ business: business({ wabas: { [wabaId]: answered } }) })).toEqual(refused("refused_by_meta"));
  });

  test("lets a newer command try anew after Meta refused an older one", () => {
    const answered = { ...closed, lastFailure: failure("refused_by_meta") };
    const request = shareRequest({ commandId: "share-2", requestedAt: now });
    expect(decide({ business: business({ wabas: { [wabaId]: answered } }), request })).toEqual({ kind: "attempt" });
  });
});

describe("what Meta shows", () => {
  test("is read only after the state was loaded and asked for by the decision", () => {
    const { waba: _unread, ...facts } = shareFacts();
    expect(decideShare(facts, policy)).toEqual({ kind: "read-waba" });
  });

  test("refuses a WABA of another business", () => {
    expect(decide({ waba: wabaReading({ ownerBusinessId: otherBusinessId }) })).toEqual(refused("owner_mismatch"));
  });

  test("refuses another currency than the WABA was created with", () => {
    expect(decide({ waba: wabaReading({ currency: "USD" }) })).toEqual(refused("currency_conflict"));
  });

  test("goes on when owner and currency are not shown", () => {
    const { ownerBusinessId: _owner, currency: _currency, ...bare } = wabaReading();
    expect(decide({ waba: bare })).toEqual({ kind: "attempt" });
  });

  test("H27h: blocks when the funding cannot be read, instead of taking it for none", () => {
    const cause = failure();
    expect(decide({ waba: wabaReading({ funding: { known: false, failure: cause } }) })).toEqual({
      kind: "block",
      reason: "meta_unavailable",
      failure: cause,
    });
  });

  test("is read as the whole estate on the first contact with a business", () => {
    const { listedAt: _never, ...unmet } = business();
    expect(decide({ business: unmet })).toEqual({ kind: "read-estate" });
    expect(decide({ business: unmet, estate: estate() })).toEqual({ kind: "attempt" });
  });

  test("is read as the whole estate when something funds the WABA", () => {
    expect(decide({ waba: wabaReading({ funding: lineFunds }) })).toEqual({ kind: "read-estate" });
  });

  test("blocks when the estate could not be read to its end", () => {
    const cause = failure();
    const unread = estate([], { complete: false, failure: cause });
    expect(decide({ waba: wabaReading({ funding: lineFunds }), estate: unread })).toEqual({
      kind: "block",
      reason: "meta_unavailable",
      failure: cause,
    });
  });

  test("is adopted when a live record of this business funds the WABA", () => {
    const ours = recordReading();
    const facts = { waba: wabaReading({ funding: lineFunds }), estate: estate([ours]) };
    expect(decide(facts)).toEqual({ kind: "adopt", record: ours });
  });

  test.each([
    ["deleted", { seen: "deleted" }],
    ["of another business", { receivingBusinessId: otherBusinessId }],
    ["without a business", { receivingBusinessId: undefined }],
    ["missing", { seen: "missing" }],
  ] as const)("H8: is not adopted by a record that E6 shows %s", (_title, seen) => {
    const facts = { waba: wabaReading({ funding: lineFunds }), estate: estate([recordReading(seen)]) };
    expect(decide(facts)).toEqual(refused("funded_elsewhere"));
  });

  test("refuses a WABA that another line of ours already funds", () => {
    const facts = {
      waba: wabaReading({ funding: lineFunds }),
      estate: estate([recordReading({ creditLineId: otherLineId })]),
    };
    expect(decide(facts)).toEqual(refused("line_conflict"));
  });

  test.each(["unreadable", "strange"] as const)("blocks when a record that might be the funding one is %s", (seen) => {
    const facts = { waba: wabaReading({ funding: lineFunds }), estate: estate([recordReading({ seen })]) };
    expect(decide(facts)).toMatchObject({ kind: "block", reason: "meta_unavailable" });
  });

  test("refuses a WABA that someone else funds", () => {
    const facts = { waba: wabaReading({ funding: strangerFunds }), estate: estate([recordReading()]) };
    expect(decide(facts)).toEqual(refused("funded_elsewhere"));
  });

  test("H2b: goes on for a customer whose switch from another partner was asked for", () => {
    const request = shareRequest({ partnerSwitch: true });
    expect(decide({ request, waba: wabaReading({ funding: strangerFunds }), estate: estate() })).toEqual({
      kind: "attempt",
    });
  });

  test("H12d: a sibling's live record on the line shares nothing for this WABA", () => {
    const facts = {
      business: business({
        wabas: { [siblingId]: verifiedWaba() },
        records: { [recordReading().allocationId]: record() },
      }),
      estate: estate([recordReading()]),
    };
    expect(decide(facts)).toEqual({ kind: "attempt" });
  });
});

describe("an item that is full", () => {
  test("H13: takes no new WABA, so that a revocation can always be written", () => {
    expect(decide({ full: true })).toEqual({ kind: "block", reason: "business_full" });
  });

  test("H13: takes no new waiting share either", () => {
    const revocation = openRevocation({ requestedAt: now - skewMs - 1 });
    const request = { ...reshare, requestedAt: now };
    expect(decide({ full: true, business: business({ epoch: 1, revocation }), request })).toEqual({
      kind: "block",
      reason: "business_full",
    });
  });

  test("keeps a share waiting that already waits there", () => {
    const request = { ...reshare, requestedAt: now };
    const waiting = { [wabaId]: { request, due: { nextAt: now, looks: 0, sweeps: 0 } } };
    const revocation = openRevocation({ requestedAt: now - skewMs - 1 });
    expect(decide({ full: true, business: business({ epoch: 1, revocation, waiting }), request })).toMatchObject({
      kind: "wait",
    });
  });

  test("still shares a WABA that it holds", () => {
    expect(decide({ full: true, business: revokedBusiness(), request: reshare })).toEqual({ kind: "attempt" });
  });
});

describe("a refusal", () => {
  test.each<[string, Waba]>([
    ["shared", verifiedWaba()],
    ["being shared", sharingWaba()],
    ["revoked", revokedWaba()],
  ])("I11: never changes a WABA that is %s", (_title, waba) => {
    const stored = business({ wabas: { [wabaId]: waba } });
    const change = refuse(stored, shareRequest({ commandId: "share-2" }), "funded_elsewhere");
    expect(change.business).toEqual(stored);
    expect(change.events).toEqual([]);
    expect(change.conclusions).toMatchObject([
      { outcome: "refused", reason: "funded_elsewhere", event: { detailType: "Share Refused", status: waba.status } },
    ]);
  });

  test("ends the command's waiting, and nobody else's", () => {
    const due = { nextAt: now, looks: 0, sweeps: 0 };
    const waiting = { [wabaId]: { request: shareRequest(), due } };
    const stored = business({ waiting });
    expect(refuse(stored, shareRequest(), "superseded").business.waiting).toEqual({});
    const other = shareRequest({ commandId: "share-2" });
    expect(refuse(stored, other, "superseded").business.waiting).toEqual(waiting);
  });

  test("ends the due time of the command's own closed attempt, so that nothing is sent for it later", () => {
    const closed = sharingWaba({ intent: undefined, lastFailure: failure() });
    const stored = business({ wabas: { [wabaId]: closed } });
    const { due: _over, ...rest } = closed;
    expect(refuse(stored, shareRequest(), "funded_elsewhere").business.wabas).toEqual({ [wabaId]: rest });
  });

  test.each([
    ["another command's closed attempt", sharingWaba({ intent: undefined }), shareRequest({ commandId: "share-2" })],
    ["an attempt that is unsettled", sharingWaba(), shareRequest()],
    ["a verification", sharedWaba(), shareRequest()],
    [
      "another command on a revoked WABA",
      revokedWaba({ due: dueIn(shareRequest(), now) }),
      shareRequest({ commandId: "share-2" }),
    ],
  ])("keeps the due time of %s", (_title, waba, request) => {
    const stored = business({ wabas: { [wabaId]: waba } });
    expect(refuse(stored, request, "funded_elsewhere").business).toEqual(stored);
  });

  test.each([
    ["the item", business()],
    ["one where the business has none", business({ version: 0 })],
  ])("writes %s, so that a duplicate that judged by the same state loses its write", (_what, stored) => {
    const next = refuse(stored, shareRequest(), "funded_elsewhere").business;
    expect(next).not.toBe(stored);
    expect(next).toEqual(stored);
  });

  test("is announced with the command, the WABA and what was asked for", () => {
    const request = shareRequest({ currency: "USD" });
    const { commandId } = request;
    expect(refuse(business(), request, "line_conflict", failure("refused_by_meta")).conclusions).toEqual([
      {
        request,
        outcome: "refused",
        reason: "line_conflict",
        failure: failure("refused_by_meta"),
        event: { detailType: "Share Refused", commandId, wabaId, businessId, currency: "USD", reason: "line_conflict" },
      },
    ]);
  });
});
