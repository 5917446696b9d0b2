import { describe, expect, test } from "vitest";
import type { Business, RecordIntent } from "../../../shared/domain/business.ts";
import { dueEntries, windowEnd } from "../../../shared/domain/business.ts";
import { closeAttempt, decideSettle, type SettleDecision, settleApplied } from "../../../shared/domain/settle.ts";
import type { Probe } from "../../../shared/domain/probe.ts";
import { decideShare } from "../../../shared/domain/share.ts";
import {
  allocationId,
  business,
  credentialId,
  estate,
  failure,
  intent,
  lineId,
  minuteMs,
  now,
  otherAllocationId,
  otherBusinessId,
  policy,
  probe,
  record,
  recordReading,
  revokedWaba,
  settleWindowMs,
  shareFacts,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  wabaId,
} from "../factories.ts";

const end = windowEnd(intent(), settleWindowMs);
const person = { by: "arn:aws:iam::111111111111:user/alice", note: "the customer went elsewhere" };
const invisible = { known: false, failure: failure("waba_not_visible") } as const;

function inDoubt(overrides: Partial<Business> = {}): Business {
  const waba = sharingWaba({ intent: intent({ inDoubt: true, attempt: 2, absentAt: now }) });
  return business({ wabas: { [wabaId]: waba }, ...overrides });
}

/** The E4 of a share in two calls, in doubt. */
function recordInDoubt(): Business {
  const request = shareRequest({ method: "share-then-attach" });
  const due = { nextAt: now, looks: 3, sweeps: 0 };
  const recordIntent: RecordIntent = { ...intent({ inDoubt: true }), creditLineId: lineId, request, due };
  const waba = sharingWaba({ intent: undefined, due: undefined, request });
  return business({ wabas: { [wabaId]: waba }, recordIntent });
}

function decide(stored: Business, look: Partial<Probe> = {}): SettleDecision {
  return decideSettle(stored, wabaId, probe({ startedAt: end + 1, ...look }), policy);
}

describe("a person may close an attempt", () => {
  test("when the window is over, nothing pays for the WABA and nothing live is unexplained", () => {
    expect(decide(inDoubt())).toEqual({ kind: "close" });
    expect(decide(recordInDoubt(), { funding: { known: false } })).toEqual({ kind: "close" });
  });

  test("when somebody else pays for it", () => {
    expect(decide(inDoubt(), { funding: { known: true, id: "999999999999999" } })).toEqual({ kind: "close" });
  });

  test("when it cannot be seen any more, and the business has no live record at all", () => {
    expect(decide(inDoubt(), { funding: invisible })).toEqual({ kind: "close" });
  });

  test("when what is live was there before it, or is a sibling's", () => {
    const records = { [allocationId]: record({ recordedAt: now - settleWindowMs }) };
    expect(decide(inDoubt({ records }), { estate: estate([recordReading()]) })).toEqual({ kind: "close" });
    const wabas = { ...inDoubt().wabas, [siblingId]: sharedWaba() };
    const young = { [allocationId]: record({ recordedAt: now }) };
    expect(decide(inDoubt({ wabas, records: young }), { estate: estate([recordReading()]) })).toEqual({
      kind: "close",
    });
  });
});

describe("a person may not close an attempt", () => {
  test("H27o: before the window is over", () => {
    expect(decide(inDoubt(), { startedAt: end })).toEqual({ kind: "wait", until: end });
  });

  test("while an earlier POST, settled by a look, may still have made another record", () => {
    const unansweredAt = now + minuteMs;
    expect(decide(inDoubt({ unansweredAt }))).toEqual({ kind: "wait", until: unansweredAt + settleWindowMs });
  });

  test("H2b: of a partner switch beside anything live, before the switch would show", () => {
    const request = shareRequest({ partnerSwitch: true });
    const wabas = { [wabaId]: sharingWaba({ request, intent: intent({ inDoubt: true }) }) };
    const stored = business({ wabas, records: { [allocationId]: record({ recordedAt: now - settleWindowMs }) } });
    const funding = { known: true, id: "999999999999999" } as const;
    const look = { funding, estate: estate([recordReading()]) };
    const until = Date.UTC(2026, 6, 5);
    expect(decide(stored, look)).toEqual({ kind: "wait", until });
    expect(decide(stored, { ...look, startedAt: until + 1 })).toEqual({ kind: "close" });
    expect(decide(stored, { funding })).toEqual({ kind: "close" });
  });

  test("that took effect: the look is recorded instead", () => {
    const look = { funding: { known: true, id: credentialId }, estate: estate([recordReading()]) };
    expect(decide(inDoubt(), look)).toEqual({ kind: "applied" });
    expect(decide(recordInDoubt(), { estate: estate([recordReading()]) })).toEqual({ kind: "applied" });
  });

  test("while a live record is explained by nothing else", () => {
    const look = { estate: estate([recordReading({ allocationId: otherAllocationId })]) };
    expect(decide(inDoubt(), look)).toEqual({ kind: "may-be-live", allocationIds: [otherAllocationId] });
    const nameless = { estate: estate([recordReading({ receivingBusinessId: undefined })]) };
    expect(decide(inDoubt(), nameless)).toEqual({ kind: "may-be-live", allocationIds: [allocationId] });
  });

  test("while a record of ours pays for the WABA, on whichever line", () => {
    const paying = recordReading({ creditLineId: "400000000000002", receivingBusinessId: otherBusinessId });
    const look = { funding: { known: true, id: credentialId }, estate: estate([paying]) } as const;
    expect(decide(inDoubt(), look)).toEqual({ kind: "may-be-live", allocationIds: [allocationId] });
  });

  test.each<[string, Partial<Probe>]>([
    ["the list was not read to its end", { estate: estate([], { complete: false, failure: failure() }) }],
    ["a record cannot be read", { estate: estate([recordReading({ seen: "unreadable", failure: failure() })]) }],
  ])("while one cannot tell, because %s", (_title, look) => {
    expect(decide(inDoubt(), look)).toEqual({ kind: "cannot-tell", failure: failure() });
  });

  test("that one token alone sees unfunded while anything of its business is live (unknown 10)", () => {
    const records = { [allocationId]: record({ recordedAt: now - settleWindowMs }) };
    const funding = { known: true, blind: true } as const;
    const look = { funding, estate: estate([recordReading()]) };
    expect(decide(inDoubt({ records }), look)).toMatchObject({ kind: "cannot-tell" });
    expect(decide(inDoubt(), { funding })).toEqual({ kind: "close" });
    // Both tokens saw it after the window: a person's look has the system token alone.
    const clear = sharingWaba({ intent: intent({ inDoubt: true, clearAt: end + 1 }) });
    expect(decide(inDoubt({ records, wabas: { [wabaId]: clear } }), look)).toEqual({ kind: "close" });
  });

  test("of a WABA that cannot be seen while anything of its business is live", () => {
    const records = { [allocationId]: record({ recordedAt: now - settleWindowMs }) };
    const look = { funding: invisible, estate: estate([recordReading()]) };
    expect(decide(inDoubt({ records }), look)).toEqual({ kind: "cannot-tell", failure: invisible.failure });
  });

  test.each([
    ["of a WABA we do not know", {}],
    ["that is settled", { [wabaId]: sharedWaba() }],
    ["that is a revocation's", { [wabaId]: revokedWaba({ status: "revoking", intent: intent() }) }],
  ])("%s", (_title, wabas) => {
    expect(decide(business({ wabas }))).toEqual({ kind: "nothing-to-settle" });
  });
});

describe("a closed attempt", () => {
  test.each([
    ["of a WABA", inDoubt()],
    ["of a business", recordInDoubt()],
  ])("%s refuses its command in the person's name and leaves nothing due", (_title, stored) => {
    const { business: next, conclusions } = closeAttempt(stored, wabaId, person, now);
    expect(conclusions).toMatchObject([
      {
        request: { commandId: "share-1" },
        outcome: "refused",
        reason: "given_up",
        event: { detailType: "Share Refused", reason: "given_up", ...person },
        failure: { message: `${person.by}: ${person.note}` },
      },
    ]);
    expect(dueEntries(next)).toEqual([]);
    expect(next.recordIntent).toBeUndefined();
    expect(next.wabas[wabaId]).toMatchObject({ status: "sharing", lastFailure: { reason: "given_up" } });
    expect(next.wabas[wabaId]).not.toHaveProperty("intent");
  });

  test("lets a newer command try anew", () => {
    const { business: next } = closeAttempt(inDoubt(), wabaId, person, now);
    const newer = shareRequest({ commandId: "share-2", hash: "hash-of-share-2", requestedAt: now });
    expect(decideShare(shareFacts({ business: next, request: newer }), policy)).toEqual({ kind: "attempt" });
  });

  test("does not take the E4 of a sibling along", () => {
    const { recordIntent } = recordInDoubt();
    if (recordIntent === undefined) throw new Error("no note");
    const note = { ...recordIntent, request: shareRequest({ wabaId: siblingId }) };
    expect(closeAttempt(inDoubt({ recordIntent: note }), wabaId, person, now).business.recordIntent).toEqual(note);
  });
});

test("an attempt that a person finds applied is recorded as any look would", () => {
  const look = probe({ funding: { known: true, id: credentialId }, estate: estate([recordReading()]) });
  expect(settleApplied(inDoubt(), wabaId, look, now, policy)).toMatchObject({
    business: { wabas: { [wabaId]: { status: "shared", allocationId } } },
    conclusions: [{ outcome: "done", event: { detailType: "Share Accepted" } }],
  });
  const ofRecord = settleApplied(recordInDoubt(), wabaId, look, now, policy);
  expect(ofRecord.business.wabas[wabaId]).toMatchObject({ status: "allocated", allocationId });
});
