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

describe("a person may close an attempt beside a record of the business", () => {
  const known = { [allocationId]: record({ recordedAt: now - settleWindowMs }) };
  const elsewhere = { known: true, id: "999999999999999" } as const;

  test.each<[string, Partial<Business>, Probe["funding"], Parameters<typeof recordReading>[0]]>([
    ["that is dead, though it paid for the WABA", {}, { known: true, id: credentialId }, { seen: "deleted" }],
    ["that names another business", {}, { known: true }, { receivingBusinessId: otherBusinessId }],
    [
      "that was there before, and has no credential, as the WABA has no funding",
      { records: known },
      { known: true },
      { receivingCredentialId: undefined },
    ],
    ["that was there before, where somebody else pays and no switch was asked for", { records: known }, elsewhere, {}],
  ])("%s", (_title, overrides, funding, reading) => {
    expect(decide(inDoubt(overrides), { funding, estate: estate([recordReading(reading)]) })).toEqual({
      kind: "close",
    });
  });

  test("that was there before, where a switch was asked for and nothing pays any more", () => {
    const waba = sharingWaba({ request: shareRequest({ partnerSwitch: true }), intent: intent({ inDoubt: true }) });
    const stored = business({ wabas: { [wabaId]: waba }, records: known });
    expect(decide(stored, { estate: estate([recordReading()]) })).toEqual({ kind: "close" });
  });

  test.each<[string, Probe["funding"]]>([
    ["unknown", { known: false }],
    ["seen by one token alone", { known: true, blind: true }],
    ["another partner's, which the share was to switch", elsewhere],
  ])("when it is an E4, which attaches nothing: the WABA's funding is %s", (_title, funding) => {
    const stored = recordInDoubt();
    const note = stored.recordIntent;
    if (note === undefined) throw new Error("no note");
    const request = { ...note.request, partnerSwitch: true };
    const reading = recordReading({ receivingBusinessId: otherBusinessId });
    expect(decide({ ...stored, recordIntent: { ...note, request } }, { funding, estate: estate([reading]) })).toEqual({
      kind: "close",
    });
  });
});

describe("what explains a live record to a person", () => {
  const seen = { estate: estate([recordReading()]) };
  const young = { [allocationId]: record({ recordedAt: now }) };

  test.each([
    ["a sibling that is shared by another record", siblingId, sharedWaba({ allocationId: otherAllocationId })],
    ["a sibling that is only being shared", siblingId, sharingWaba({ status: "allocated", allocationId })],
    ["the WABA's own earlier allocation", wabaId, sharingWaba({ status: "allocated", allocationId })],
  ])("is not %s", (_title, id, waba) => {
    const wabas = { ...inDoubt().wabas, [id]: waba };
    expect(decide(inDoubt({ wabas, records: young }), seen)).toEqual({
      kind: "may-be-live",
      allocationIds: [allocationId],
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
    expect(decide(stored, { ...look, startedAt: until })).toEqual({ kind: "wait", until });
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
    const cause = { at: end + 1, reason: "permission_denied" };
    expect(decide(inDoubt({ records }), look)).toMatchObject({ kind: "cannot-tell", failure: cause });
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
    ["that was closed", { [wabaId]: sharingWaba({ intent: undefined }) }],
    ["that is a revocation's", { [wabaId]: revokedWaba({ status: "revoking", intent: intent() }) }],
  ])("%s", (_title, wabas) => {
    expect(decide(business({ wabas }))).toEqual({ kind: "nothing-to-settle" });
    expect(() => closeAttempt(business({ wabas }), wabaId, person, now)).toThrow("no attempt");
    expect(() => settleApplied(business({ wabas }), wabaId, probe(), now, policy)).toThrow("no E4");
  });

  test("that a sibling's E4 is out for, or an E4 that a revocation has overtaken", () => {
    const { recordIntent, ...stored } = recordInDoubt();
    if (recordIntent === undefined) throw new Error("no note");
    const siblings = { ...recordIntent, request: shareRequest({ wabaId: siblingId }) };
    expect(decide({ ...stored, recordIntent: siblings })).toEqual({ kind: "nothing-to-settle" });
    expect(decide({ ...stored, epoch: 1, recordIntent })).toEqual({ kind: "nothing-to-settle" });
  });
});

describe("a closed attempt", () => {
  test("keeps of a long note what its failure may hold", () => {
    const { conclusions } = closeAttempt(inDoubt(), wabaId, { ...person, note: "x".repeat(600) }, now);
    expect(conclusions[0]?.failure?.message).toHaveLength(500);
  });

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
  expect(() => settleApplied(inDoubt(), wabaId, probe(), now, policy)).toThrow("found applied");
});
