import { describe, expect, test } from "vitest";
import { dueEntries, type Business, type RecordIntent } from "../../../shared/domain/business.ts";
import { markRevocation, recordRun, decideRevoke } from "../../../shared/domain/revoke.ts";
import {
  intendSecondRecord,
  judgeRecordProbe,
  recordLateAnswer,
  recordRecordProbe,
} from "../../../shared/domain/probe.ts";
import {
  decideShare,
  intendRecord,
  intendShare,
  settleRecord,
  settleShare,
  type ShareFacts,
} from "../../../shared/domain/share.ts";
import {
  allocationId,
  business,
  businessId,
  estate,
  failure,
  intent,
  lineId,
  now,
  otherBusinessId,
  policy,
  record,
  recordReading,
  revokeRequest,
  settleWindowMs,
  shareRequest,
  sharingWaba,
  siblingId,
  wabaId,
} from "../factories.ts";

const twoCalls = shareRequest({
  method: "share-then-attach",
  businessTokenSecret: "credit-lines/test/business-token/1",
});
const unfunded = { startedAt: now, ownerBusinessId: businessId, currency: "EUR", funding: { known: true } } as const;

function facts(overrides: Partial<ShareFacts> = {}): ShareFacts {
  return { now, request: twoCalls, business: business(), waba: unfunded, estate: noRecords(), ...overrides };
}

function noRecords(startedAt = now) {
  return estate([], { startedAt });
}

function oneRecord(overrides: Parameters<typeof recordReading>[0] = {}) {
  return estate([recordReading(overrides)]);
}

function note(overrides: Partial<RecordIntent> = {}): RecordIntent {
  const due = { nextAt: now, looks: 0, sweeps: 0 };
  return { ...intent(), creditLineId: lineId, request: twoCalls, due, ...overrides };
}

function allocating(overrides: Partial<RecordIntent> = {}): Business {
  const waba = sharingWaba({ request: twoCalls, intent: undefined, due: undefined, method: "share-then-attach" });
  return business({ recordIntent: note(overrides), wabas: { [wabaId]: waba } });
}

describe("a share in two calls", () => {
  test("shares with the business first, after every record of it was looked at", () => {
    expect(decideShare(facts({ estate: undefined }), policy)).toEqual({ kind: "read-estate" });
    expect(decideShare(facts(), policy)).toEqual({ kind: "allocate" });
  });

  test("attaches by a live record of the business instead of making another one", () => {
    expect(decideShare(facts({ estate: oneRecord() }), policy)).toEqual({ kind: "attach", allocationId });
  });

  test.each([
    ["dead", { seen: "deleted" as const }],
    ["another business's", { receivingBusinessId: otherBusinessId }],
    ["another line's", { creditLineId: "400000000000002" }],
  ])("does not attach by a record that is %s", (_title, reading) => {
    expect(decideShare(facts({ estate: oneRecord(reading) }), policy)).toEqual({ kind: "allocate" });
  });

  test("attaches by a record that was answered a moment ago and is not shown yet (found by simulation)", () => {
    const answered = business({ records: { [allocationId]: record({ state: "unknown", recordedAt: now }) } });
    const unseen = estate([recordReading({ seen: "missing" })], { startedAt: now });
    const early = facts({ business: answered, estate: unseen });
    expect(decideShare(early, policy)).toEqual({ kind: "attach", allocationId });
    // After the window Meta's reads are the truth again (A3).
    expect(decideShare({ ...early, now: now + settleWindowMs + 1 }, policy)).toEqual({ kind: "allocate" });
  });

  test.each([
    ["within the window, to its end", {}, now + settleWindowMs, "attach"],
    ["after the window", {}, now + settleWindowMs + 1, "allocate"],
    ["made before the last revocation", { epoch: 0 }, now, "allocate"],
    ["of another business", { foreign: true as const }, now, "allocate"],
    ["on another line of ours", { creditLineId: "400000000000002" }, now, "allocate"],
    ["confirmed deleted", { state: "deleted" as const, deleteAnswered: { at: now, epoch: 1 } }, now, "allocate"],
  ])("attaches by a young record that is not shown: one %s: %s, at %i: %s", (_title, known, at, kind) => {
    const young = record({ epoch: 1, state: "unknown", recordedAt: now, ...known });
    const stored = business({ epoch: 1, records: { [allocationId]: young } });
    expect(decideShare(facts({ business: stored, now: at }), policy).kind).toBe(kind);
  });

  test("waits for Meta when a record cannot be read: it may be live", () => {
    const decision = decideShare(facts({ estate: oneRecord({ seen: "unreadable" }) }), policy);
    expect(decision).toMatchObject({ kind: "block", reason: "meta_unavailable" });
  });

  test("shares nothing when it has no business token to attach with", () => {
    const request = shareRequest({ method: "share-then-attach" });
    const decision = decideShare(facts({ request }), policy);
    const cause = { at: now, reason: "permission_denied" };
    expect(decision).toMatchObject({ kind: "block", reason: "permission_denied", failure: cause });
  });

  test("goes on at E5 where the allocation is recorded, without looking for records again", () => {
    const waba = sharingWaba({
      status: "allocated",
      allocationId,
      intent: undefined,
      due: undefined,
      request: twoCalls,
    });
    const decision = decideShare(
      facts({ business: business({ wabas: { [wabaId]: waba } }), estate: undefined }),
      policy,
    );
    expect(decision).toEqual({ kind: "attach", allocationId });
  });

  test("never shares an allocated WABA in one call: that could make a second record", () => {
    const waba = sharingWaba({
      status: "allocated",
      allocationId,
      intent: undefined,
      due: undefined,
      request: twoCalls,
    });
    const request = shareRequest({ commandId: "share-2", hash: "2", requestedAt: now });
    const decision = decideShare(facts({ request, business: business({ wabas: { [wabaId]: waba } }) }), policy);
    expect(decision).toMatchObject({ kind: "block", reason: "permission_denied" });
  });

  test("is the stage's way when the command does not say", () => {
    const request = shareRequest({ businessTokenSecret: "credit-lines/test/business-token/1" });
    expect(decideShare(facts({ request }), { ...policy, shareMethod: "share-then-attach" })).toEqual({
      kind: "allocate",
    });
  });
});

describe("H12: the note of an E4 is the business's", () => {
  test("a sibling's share looks at it first, and then waits on the item", () => {
    const request = shareRequest({ commandId: "share-2", hash: "2", wabaId: siblingId });
    const stored = allocating();
    expect(decideShare(facts({ request, business: stored }), policy)).toEqual({ kind: "probe-record" });
    const probed = facts({ request, business: stored, probed: true });
    expect(decideShare(probed, policy)).toEqual({ kind: "wait", until: now });
    // Of a note without a due time no look is planned: the share comes back soon.
    const { due: _none, ...stranded } = note();
    const until = now + settleWindowMs / 60;
    const waits = { ...probed, business: { ...stored, recordIntent: stranded } };
    expect(decideShare(waits, policy)).toEqual({ kind: "wait", until });
  });

  test("its own share is on the item", () => {
    expect(decideShare(facts({ business: allocating(), probed: true }), policy)).toEqual({ kind: "on-item" });
  });

  test("it has a due time from the write that makes it, and its WABA waits in `sharing`", () => {
    const made = intent({ madeAt: now, sendDeadline: now + 8000 });
    const { business: next, events } = intendRecord(facts({ estate: oneRecord() }), made, policy);
    expect(next.wabas[wabaId]).toMatchObject({ status: "sharing" });
    const due = { nextAt: now + 8000 + settleWindowMs / 60, looks: 0, sweeps: 0 };
    expect(dueEntries(next)).toMatchObject([{ work: "share", wabaId, commandId: twoCalls.commandId, due }]);
    expect(events).toEqual([]);
    // What was there before is told from what the E4 makes.
    expect(next.records[allocationId]).toMatchObject({ state: "live", recordedAt: now });
    expect(intendRecord(facts({ estate: undefined }), made, policy).business.records).toEqual({});
  });

  test("an accepted E4 records the allocation, allocates the WABA, and is due at E5", () => {
    const settlement = settleRecord(allocating(), note(), { kind: "accepted", allocationId }, now, policy);
    expect(settlement).toMatchObject({ guard: "record", intentId: "intent-1", epoch: 0, record: { allocationId } });
    expect(settlement.waba).toMatchObject({ status: "allocated", allocationId, due: { nextAt: now } });
    expect(settlement.change.business.recordIntent).toBeUndefined();
    expect(settlement.change.conclusions).toEqual([]);
  });

  test.each([
    ["closes on an answer without effect", 1, "no-effect" as const, undefined],
    ["stays on an answer that leaves the effect open", 1, "unknown" as const, "intent-1"],
    ["stays on any error of a second attempt (H11)", 2, "no-effect" as const, "intent-1"],
  ])("%s", (_title, attempt, kind, expected) => {
    const outcome = { kind, failure: failure("permission_denied") };
    const settlement = settleRecord(allocating({ attempt }), note({ attempt }), outcome, now, policy);
    expect(settlement.change.business.recordIntent?.id).toBe(expected);
    expect(settlement.waba.status).toBe("sharing");
    // Nothing waits without a due time (I9).
    expect(dueEntries(settlement.change.business)).toHaveLength(1);
  });

  test("a refused E5 leaves the WABA allocated, without a note", () => {
    const waba = sharingWaba({ status: "allocated", allocationId, request: twoCalls });
    const stored = business({ wabas: { [wabaId]: waba }, records: { [allocationId]: record() } });
    const outcome = { kind: "no-effect", failure: failure("permission_denied") } as const;
    const { waba: next } = settleShare(stored, intent(), twoCalls, outcome, now, policy);
    expect(next).toMatchObject({ status: "allocated", allocationId, lastFailure: { reason: "permission_denied" } });
    expect(next.intent).toBeUndefined();
  });

  test("an accepted E5 leaves what is known of the record as it is: it made none", () => {
    const waba = sharingWaba({ status: "allocated", allocationId, request: twoCalls });
    const stored = business({ wabas: { [wabaId]: waba }, records: { [allocationId]: record() } });
    const outcome = { kind: "accepted", allocationId } as const;
    const settled = settleShare(stored, intent(), twoCalls, outcome, now, policy);
    expect(settled.record).toBeUndefined();
    expect(settled).toMatchObject({
      guard: "waba",
      wabaId,
      intentId: "intent-1",
      epoch: 0,
      waba: { status: "shared" },
    });
    expect(settled.change.conclusions).toMatchObject([{ outcome: "done" }]);
    const dead = record({ state: "deleted", readAt: now, deleteAnswered: { at: now - 1, epoch: 0 } });
    const before = { ...stored, records: { [allocationId]: dead } };
    const { record: kept } = settleShare(before, intent(), twoCalls, outcome, now, policy);
    expect(kept?.record).toEqual({ creditLineId: lineId, epoch: 0, state: "unknown", recordedAt: now });
    const unheard = { ...stored, records: {} };
    expect(settleShare(unheard, intent(), twoCalls, outcome, now, policy).record).toEqual({
      allocationId,
      record: { creditLineId: lineId, epoch: 0, state: "unknown", recordedAt: now },
    });
  });

  test("E5's note stands on the allocated WABA", () => {
    const { business: next } = intendShare(facts({ estate: oneRecord() }), intent(), policy, allocationId);
    expect(next.wabas[wabaId]).toMatchObject({ status: "allocated", allocationId, intent: { id: "intent-1" } });
  });
});

describe("a look at an unsettled E4", () => {
  const late = now + settleWindowMs;
  function look(startedAt: number, reading = noRecords(startedAt)) {
    return { startedAt, funding: { known: false } as const, estate: reading };
  }

  test("finds a live record of this business on this line: the allocation is made", () => {
    expect(judgeRecordProbe(allocating(), look(now, oneRecord()), policy)).toMatchObject({ kind: "applied" });
    const { business: next } = recordRecordProbe(
      allocating(),
      look(now, oneRecord()),
      { kind: "applied", record: recordReading() },
      now,
      policy,
    );
    expect(next.recordIntent).toBeUndefined();
    expect(next.unansweredAt).toBe(allocating().recordIntent?.sendDeadline);
    expect(next.wabas[wabaId]).toMatchObject({ status: "allocated", allocationId });
    expect(next.records[allocationId]).toMatchObject({ state: "live" });
  });

  test.each([
    ["dead", { seen: "deleted" as const }],
    ["another business's", { receivingBusinessId: otherBusinessId }],
    ["another line's", { creditLineId: "400000000000002" }],
  ])("does not find it in a record that is %s", (_title, reading) => {
    expect(judgeRecordProbe(allocating(), look(now, oneRecord(reading)), policy)).toEqual({ kind: "absent" });
  });

  test("decides nothing at the very end of the window", () => {
    const end = intent().sendDeadline + settleWindowMs;
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(end), policy)).toEqual({ kind: "absent" });
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(end + 1), policy)).toEqual({ kind: "second-post" });
  });

  test("is followed by a second E4 of the same share, with a due time after its send deadline", () => {
    const second = intent({ id: "intent-2", attempt: 2, madeAt: late, sendDeadline: late + 8000 });
    const seen = look(late, oneRecord({ receivingBusinessId: otherBusinessId }));
    const { business: next, events, conclusions } = intendSecondRecord(allocating(), seen, second, late, policy);
    const due = { nextAt: late + 8000 + settleWindowMs / 60, looks: 0, sweeps: 0 };
    expect(next.recordIntent).toEqual({ ...second, creditLineId: lineId, request: twoCalls, due });
    expect(next.records[allocationId]).toMatchObject({ foreign: true });
    expect([events, conclusions]).toEqual([[], []]);
  });

  test("is impossible where no E4 is unsettled, or its WABA is not being shared", () => {
    const finding = { kind: "absent" } as const;
    expect(() => judgeRecordProbe(business(), look(now), policy)).toThrow("no E4");
    expect(() => recordRecordProbe(business(), look(now), finding, now, policy)).toThrow("no E4");
    expect(() => intendSecondRecord(business(), look(now), intent(), now, policy)).toThrow("no E4");
    const gone = { ...allocating(), wabas: {} };
    expect(() => recordRecordProbe(gone, look(now), finding, now, policy)).toThrow("no share");
    const outcome = { kind: "accepted", allocationId } as const;
    expect(() => settleRecord(gone, note(), outcome, now, policy)).toThrow("no share");
  });

  test("finds nothing twice, the later time after the window: only then a second POST, and only one", () => {
    expect(judgeRecordProbe(allocating(), look(now), policy)).toEqual({ kind: "absent" });
    expect(judgeRecordProbe(allocating(), look(late), policy)).toEqual({ kind: "absent" });
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(now + 1), policy)).toEqual({ kind: "absent" });
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(late), policy)).toEqual({ kind: "second-post" });
    expect(judgeRecordProbe(allocating({ absentAt: now, attempt: 2 }), look(late), policy)).toEqual({
      kind: "in-doubt",
    });
    const careful = { ...policy, secondPost: "person" as const };
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(late), careful)).toEqual({ kind: "in-doubt" });
  });

  test.each([
    ["a list that could not be read", estate([], { startedAt: late, complete: false })],
    ["a record that could not be read", oneRecord({ seen: "unreadable" })],
  ])("cannot tell by %s", (_title, reading) => {
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(now, reading), policy)).toEqual({
      kind: "cannot-tell",
    });
    expect(judgeRecordProbe(allocating({ absentAt: now }), look(late, reading), policy)).toEqual({ kind: "in-doubt" });
  });

  test("announces a doubt once, in the name of the share that waits", () => {
    const first = recordRecordProbe(allocating(), look(late), { kind: "in-doubt" }, late, policy);
    expect(first.events).toMatchObject([{ detailType: "Share In Doubt", commandId: twoCalls.commandId, wabaId }]);
    expect(first.conclusions).toEqual([]);
    expect(recordRecordProbe(allocating(), look(now), { kind: "absent" }, now, policy).events).toEqual([]);
    const second = recordRecordProbe(first.business, look(late + 1), { kind: "in-doubt" }, late + 1, policy);
    expect(second.events).toEqual([]);
    expect(dueEntries(second.business)[0]?.due.looks).toBe(2);
  });

  test("answers the share with Meta's refusal when nothing came of it", () => {
    const stored = allocating({ absentAt: now, failure: failure("refused_by_meta") });
    const finding = judgeRecordProbe(stored, look(late), policy);
    expect(finding).toMatchObject({ kind: "refused", reason: "refused_by_meta" });
    const change = recordRecordProbe(stored, look(late), finding as never, late, policy);
    expect(change.conclusions).toMatchObject([{ outcome: "refused", reason: "refused_by_meta" }]);
    expect(change.business.recordIntent).toBeUndefined();
  });
});

describe("a revocation over an unsettled E4", () => {
  function revoked(): Business {
    return markRevocation(allocating(), revokeRequest(), now).business;
  }

  test("keeps the note, and answers its share by a due time of the WABA", () => {
    expect(revoked().recordIntent).toMatchObject({ id: "intent-1", epoch: 0 });
    expect(revoked().recordIntent?.due).toBeUndefined();
    expect(revoked().wabas[wabaId]).toMatchObject({ status: "revoking", due: { request: twoCalls, nextAt: now } });
  });

  test("is not done before the window of that POST is over (H1)", () => {
    const early = { estate: noRecords(now), deleted: {}, confirmed: [], fresh: noRecords(now), stillFunded: false };
    expect(recordRun(revoked(), early, now, policy).business.revocation).toMatchObject({
      state: "open",
      openReason: "share_in_flight",
    });
    const late = now + settleWindowMs;
    const after = { ...early, estate: noRecords(late), fresh: noRecords(late) };
    const done = recordRun(revoked(), after, late, policy).business;
    expect(done.revocation?.state).toBe("nothing");
    expect(done.recordIntent).toBeUndefined();
  });

  test("re-opens for an E4 answered after it was done", () => {
    const late = now + settleWindowMs;
    const run = { estate: noRecords(late), deleted: {}, confirmed: [], fresh: noRecords(late), stillFunded: false };
    const done = recordRun(revoked(), run, late, policy).business;
    const answer = { allocationId, creditLineId: lineId, epoch: 0, seen: "live" as const };
    const { business: next, events } = recordLateAnswer(done, twoCalls, answer, late + 1);
    expect(next.revocation?.state).toBe("open");
    expect(events).toMatchObject([{ detailType: "Revocation Started", reason: "late_record" }]);
  });

  test("counts an unsettled E4 as something to revoke", () => {
    const stored = allocating();
    stored.wabas = {};
    stored.revocation = { ...(revoked().revocation as never as object), state: "done", doneAt: now } as never;
    expect(decideRevoke(stored, revokeRequest({ commandId: "revoke-2", hash: "2" }), false, policy)).toEqual({
      kind: "mark",
    });
  });
});
