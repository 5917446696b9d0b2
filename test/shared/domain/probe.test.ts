import { describe, expect, test } from "vitest";
import type { Business, Intent } from "../../../shared/domain/business.ts";
import { windowEnd } from "../../../shared/domain/business.ts";
import type { RecordReading } from "../../../shared/domain/readings.ts";
import type { Probe, ProbeFinding } from "../../../shared/domain/probe.ts";
import { judgeProbe, recordLateAnswer, recordProbe } from "../../../shared/domain/probe.ts";
import { decideShare } from "../../../shared/domain/share.ts";
import {
  allocationId,
  business,
  credentialId,
  deletedRecord,
  estate,
  failure,
  intent,
  lineId,
  minuteMs,
  now,
  otherAllocationId,
  otherBusinessId,
  otherLineId,
  policy,
  probe,
  record,
  recordReading,
  revokedBusiness,
  settleWindowMs,
  shareFacts,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  wabaId,
} from "../factories.ts";

const end = windowEnd(intent(), settleWindowMs);
const lineFunds = { known: true, id: credentialId } as const;

function attempted(made: Partial<Intent> = {}, overrides: Partial<Business> = {}): Business {
  return business({ wabas: { [wabaId]: sharingWaba({ intent: intent(made) }) }, ...overrides });
}

function judge(stored: Business, look: Partial<Probe> = {}, secondPost: "auto" | "person" = "auto"): ProbeFinding {
  return judgeProbe(stored, wabaId, probe(look), { ...policy, secondPost });
}

function seeing(records: RecordReading[]): Partial<Probe> {
  return { estate: estate(records) };
}

describe("a look finds an attempt applied", () => {
  test("when E7's id is the receiving credential of a live record of this business", () => {
    const ours = recordReading();
    expect(judge(attempted(), { funding: lineFunds, ...seeing([ours]) })).toEqual({ kind: "applied", record: ours });
  });

  test("however late, also after it was announced in doubt", () => {
    const look = { startedAt: end + minuteMs, funding: lineFunds, ...seeing([recordReading()]) };
    expect(judge(attempted({ inDoubt: true, attempt: 2 }), look)).toMatchObject({ kind: "applied" });
  });

  test.each<[string, Partial<RecordReading>]>([
    ["deleted", { seen: "deleted" }],
    ["another business's", { receivingBusinessId: otherBusinessId }],
    ["one with an empty credential", { receivingCredentialId: "" }],
    ["H27m: on another line of ours", { creditLineId: otherLineId }],
  ])("but not when that record is %s", (_title, seen) => {
    const look = { funding: lineFunds, ...seeing([recordReading(seen)]) };
    expect(judge(attempted(), look)).toEqual({ kind: "cannot-tell" });
    expect(judge(attempted(), { ...look, startedAt: end + 1 })).toEqual({ kind: "in-doubt" });
  });

  test("H12c: not by the mere presence of a record in the list", () => {
    expect(judge(attempted(), seeing([recordReading()]))).toEqual({ kind: "cannot-tell" });
  });
});

describe("a look finds an attempt absent", () => {
  test("when E7 is readable and empty and nothing is listed", () => {
    expect(judge(attempted())).toEqual({ kind: "absent" });
  });

  test("H12d: when the only live record was known before the attempt", () => {
    const stored = attempted({}, { records: { [allocationId]: record({ recordedAt: intent().madeAt }) } });
    expect(judge(stored, seeing([recordReading()]))).toEqual({ kind: "absent" });
  });

  test("H12d: when the only live record is what another POST was answered with, and not when a sibling only uses it", () => {
    const wabas = { [wabaId]: sharingWaba(), [siblingId]: sharedWaba() };
    const found = record({ recordedAt: now });
    const answered = { ...found, answered: true as const };
    const seen = seeing([recordReading()]);
    expect(judge(business({ wabas, records: { [allocationId]: answered } }), seen)).toEqual({ kind: "absent" });
    // A sibling's E5 may have attached it to what the lost POST made (histories 7005950 and 7012893).
    expect(judge(business({ wabas, records: { [allocationId]: found } }), seen)).toEqual({ kind: "cannot-tell" });
  });

  test.each(["deleted", "missing"] as const)("when what is listed is %s", (seen) => {
    const listed = { [allocationId]: { creditLineId: lineId, deleted: true } };
    expect(judge(attempted(), { estate: estate([recordReading({ seen })], { listed }) })).toEqual({ kind: "absent" });
  });

  test("when the live record names another business", () => {
    expect(judge(attempted(), seeing([recordReading({ receivingBusinessId: otherBusinessId })]))).toEqual({
      kind: "absent",
    });
  });
});

describe("a look cannot tell", () => {
  const listedUnread = estate([], { listed: { [allocationId]: { creditLineId: lineId, deleted: false } } });

  test.each<[string, Partial<Probe>]>([
    ["H9, H27h: E7 cannot be read", { funding: { known: false } }],
    ["H2a: E7 shows an id that no record of ours explains", { funding: { known: true, id: "699999999999999" } }],
    ["the list was not read to its end", { estate: estate([], { complete: false }) }],
    ["H9: a live record appeared that nothing but the POST explains", seeing([recordReading()])],
    ["a listed record is unreadable", seeing([recordReading({ seen: "unreadable" })])],
    ["a listed record has a status Meta does not document", seeing([recordReading({ seen: "strange" })])],
    ["a listed live record does not say whose it is", seeing([recordReading({ receivingBusinessId: undefined })])],
    ["a listed record was not read at all", { estate: listedUnread }],
  ])("when %s", (_title, look) => {
    expect(judge(attempted(), look)).toEqual({ kind: "cannot-tell" });
    // After the window nothing more will show: a person decides, however often nothing could be told.
    expect(judge(attempted({ absentAt: now }), { ...look, startedAt: end + 1 })).toEqual({ kind: "in-doubt" });
  });

  test("when of two live records that are listed one was known before, and the other nothing explains", () => {
    const known = { [otherAllocationId]: record({ recordedAt: intent().madeAt }) };
    const both = [recordReading({ allocationId: otherAllocationId }), recordReading()];
    for (const records of [both, both.toReversed()]) {
      expect(judge(attempted({}, { records: known }), seeing(records))).toEqual({ kind: "cannot-tell" });
    }
  });

  test("when a dead record is listed beside a live one that nothing explains", () => {
    const dead = recordReading({ allocationId: otherAllocationId, seen: "deleted" });
    const listed = Object.fromEntries(
      [allocationId, otherAllocationId].map((id) => [id, { creditLineId: lineId, deleted: false }]),
    );
    for (const records of [
      [dead, recordReading()],
      [recordReading(), dead],
    ]) {
      expect(judge(attempted(), { estate: estate(records, { listed }) })).toEqual({ kind: "cannot-tell" });
    }
  });

  test("H7d: when a late answer named an id that a revocation had deleted, and that lives again", () => {
    const stored = attempted({ epoch: 1 }, { epoch: 1, records: { [allocationId]: deletedRecord() } });
    expect(judge(stored, seeing([recordReading()]))).toEqual({ kind: "cannot-tell" });
    const answer = { allocationId, creditLineId: lineId, epoch: 1, seen: "live" } as const;
    const told = recordLateAnswer(stored, shareRequest(), answer, now).business;
    expect(judge(told, seeing([recordReading()]))).toEqual({ kind: "cannot-tell" });
  });
});

describe("a record that came to be known beside an attempt", () => {
  const secondMs = 1000;
  const seen = seeing([recordReading()]);

  test("A6: explains nothing, though the clock of whoever saw it runs behind the attempt's", () => {
    const slow = intent().madeAt - secondMs;
    const stored = attempted();
    const looked = recordProbe(stored, wabaId, probe(seen), { kind: "cannot-tell" }, slow, policy).business;
    const answer = { allocationId, creditLineId: lineId, epoch: 0, seen: "live" } as const;
    const told = recordLateAnswer(stored, shareRequest({ wabaId: siblingId }), answer, slow).business;
    for (const known of [looked, told]) expect(judge(known, seen)).toEqual({ kind: "cannot-tell" });
  });

  test("A6: explains nothing either when it came back to life", () => {
    const gone = record({ state: "deleted", recordedAt: intent().madeAt - minuteMs });
    const stored = attempted({}, { records: { [allocationId]: gone } });
    const slow = intent().madeAt - secondMs;
    const looked = recordProbe(stored, wabaId, probe(seen), { kind: "cannot-tell" }, slow, policy).business;
    expect(judge(looked, seen)).toEqual({ kind: "cannot-tell" });
  });
});

describe("a record that was gone and lives again", () => {
  test("H7d: explains nothing, however often it was looked at since", () => {
    const gone = record({ state: "deleted", recordedAt: intent().madeAt });
    const stored = attempted({}, { records: { [allocationId]: gone } });
    const found = probe(seeing([recordReading()]));
    expect(judgeProbe(stored, wabaId, found, policy)).toEqual({ kind: "cannot-tell" });
    const looked = recordProbe(stored, wabaId, found, { kind: "cannot-tell" }, now, policy).business;
    expect(judgeProbe(looked, wabaId, found, policy)).toEqual({ kind: "cannot-tell" });
  });

  test.each(["answered", "proven"] as const)("H7d: explains nothing by what was %s in its earlier life", (mark) => {
    const gone = record({ state: "deleted", recordedAt: intent().madeAt, [mark]: true });
    const stored = attempted({}, { records: { [allocationId]: gone } });
    const late = { ...seeing([recordReading()]), startedAt: end + 1 };
    const looked = recordProbe(stored, wabaId, probe(late), { kind: "cannot-tell" }, now, policy).business;
    expect(judge(looked, late)).toEqual({ kind: "in-doubt" });
  });
});

describe("a second POST", () => {
  const absentOnce = attempted({ absentAt: now });

  test("H9: follows two absences, the later begun after the send deadline and the settle window", () => {
    expect(judge(absentOnce, { startedAt: end + 1 })).toEqual({ kind: "second-post" });
    // A token that saw nothing alone decides only while nothing live could pay (history 8017622).
    const known = { ...absentOnce, records: { [allocationId]: record({ recordedAt: intent().madeAt }) } };
    const funding = { known: true, blind: true } as const;
    expect(judge(absentOnce, { startedAt: end + 1, funding })).toEqual({ kind: "second-post" });
    expect(judge(known, { ...seeing([recordReading()]), startedAt: end + 1 })).toEqual({ kind: "second-post" });
    expect(judge(known, { ...seeing([recordReading()]), startedAt: end + 1, funding })).toEqual({ kind: "in-doubt" });
    const listed = { [allocationId]: { creditLineId: lineId, deleted: true } };
    const gone = estate([recordReading({ seen: "deleted" })], { listed });
    expect(judge(known, { estate: gone, startedAt: end + 1, funding })).toEqual({ kind: "second-post" });
  });

  test("is not a person's question yet while a token that saw nothing alone looks within the window", () => {
    const known = { ...absentOnce, records: { [allocationId]: record({ recordedAt: intent().madeAt }) } };
    const funding = { known: true, blind: true } as const;
    expect(judge(known, { ...seeing([recordReading()]), startedAt: end, funding })).toEqual({ kind: "absent" });
  });

  test.each([
    ["at the very end of the window", end],
    ["in the middle of the window", now],
  ])("H9: does not follow a second absence %s", (_title, startedAt) => {
    expect(judge(absentOnce, { startedAt })).toEqual({ kind: "absent" });
  });

  test("H9: does not follow a first absence, however late", () => {
    expect(judge(attempted(), { startedAt: end + minuteMs })).toEqual({ kind: "absent" });
  });

  test("H9: follows once: after it, absence is a person's", () => {
    expect(judge(attempted({ absentAt: now, attempt: 2 }), { startedAt: end + 1 })).toEqual({ kind: "in-doubt" });
  });

  test("is a person's where the stage says so", () => {
    expect(judge(absentOnce, { startedAt: end + 1 }, "person")).toEqual({ kind: "in-doubt" });
  });

  test.each(["refused_by_meta", "same_business"] as const)(
    "H11: is not sent for what Meta answered %s: two absences make that a refusal",
    (reason) => {
      const stored = attempted({ absentAt: now, failure: failure(reason) });
      expect(judge(stored, { startedAt: end + 1 })).toEqual({ kind: "refused", reason, failure: failure(reason) });
    },
  );
});

describe("a look that is recorded", () => {
  function look(stored: Business, finding: Parameters<typeof recordProbe>[3], at = now) {
    return recordProbe(stored, wabaId, probe({ startedAt: at }), finding, at, policy);
  }

  test("as applied shares the WABA in the name of the attempt's command", () => {
    const found = probe({ funding: lineFunds, estate: estate([recordReading()]) });
    const finding = { kind: "applied", record: recordReading() } as const;
    const { business: next, conclusions } = recordProbe(attempted(), wabaId, found, finding, now, policy);
    expect(next.wabas[wabaId]).toMatchObject({ status: "shared", allocationId, due: { nextAt: now + 30_000 } });
    expect(next.wabas[wabaId]?.intent).toBeUndefined();
    // What it saw may be a sibling's: the POST may have made another record, which no list shows yet.
    expect(next.unansweredAt).toBe(intent().sendDeadline);
    expect(next.records[allocationId]).toMatchObject({ state: "live" });
    expect(conclusions).toMatchObject([
      { request: shareRequest(), outcome: "done", event: { detailType: "Share Accepted" } },
    ]);
  });

  describe("as applied leaves the record that proved it", () => {
    const finding = { kind: "applied", record: recordReading() } as const;
    const madeSince = { [allocationId]: record({ recordedAt: now }) };

    /** What a look at the sibling's own POST says of it later, when nothing pays for the sibling. */
    function siblingSees(stored: Business, startedAt: number, records = [recordReading()]) {
      const seen = probe({ ...seeing(records), funding: { known: true } });
      const { business: next } = recordProbe(stored, wabaId, probe(seeing([recordReading()])), finding, now, policy);
      const wabas = { ...next.wabas, [siblingId]: sharingWaba() };
      return judgeProbe({ ...next, wabas }, siblingId, { ...seen, startedAt }, policy).kind;
    }

    test("explained to a sibling once all windows are over: then what the sibling's POST made would show, too", () => {
      const stored = attempted({ sendDeadline: intent().sendDeadline + minuteMs }, { records: madeSince });
      expect(siblingSees(stored, end + minuteMs)).toBe("cannot-tell");
      expect(siblingSees(stored, end + minuteMs + 1)).toBe("absent");
    });

    test("unexplained while another live one pays by the same credential: either may be the sibling's own", () => {
      const stored = attempted({}, { records: madeSince });
      const twin = recordReading({ allocationId: otherAllocationId });
      const known = { ...madeSince, [otherAllocationId]: record({ recordedAt: intent().madeAt }) };
      expect(siblingSees({ ...stored, records: known }, end + 1, [recordReading(), twin])).toBe("in-doubt");
      const gone = recordReading({ allocationId: otherAllocationId, seen: "deleted" });
      expect(siblingSees({ ...stored, records: known }, end + 1, [recordReading(), gone])).toBe("absent");
    });

    test("unexplained when it was known before the attempt that it proved: E2 may attach to what a sibling's POST made", () => {
      const later = attempted({ madeAt: now + 1 }, { records: madeSince });
      expect(siblingSees(later, end + 1)).toBe("in-doubt");
    });

    test("unexplained when E5 was told to attach to it", () => {
      const wabas = { [wabaId]: sharingWaba({ status: "allocated", allocationId }) };
      expect(siblingSees(business({ wabas, records: madeSince }), end + 1)).toBe("in-doubt");
    });
  });

  test("as applied explains no record to a sibling while an E4 of the business is in doubt, which may have made it", () => {
    const finding = { kind: "applied", record: recordReading() } as const;
    const seen = probe(seeing([recordReading()]));
    const request = shareRequest({ wabaId: siblingId });
    const recordIntent = { ...intent({ id: "intent-2" }), creditLineId: lineId, request };
    const stored = attempted({}, { records: { [allocationId]: record({ recordedAt: now }) }, recordIntent });
    const { business: next } = recordProbe(stored, wabaId, seen, finding, now, policy);
    const wabas = { ...next.wabas, [siblingId]: sharingWaba({ request }) };
    expect(judgeProbe({ ...next, wabas }, siblingId, seen, policy)).toEqual({ kind: "cannot-tell" });
  });

  test("H18: as applied by an id that a revocation had confirmed deleted begins a new life of that record", () => {
    const stored = attempted({ epoch: 1 }, { epoch: 1, records: { [allocationId]: deletedRecord() } });
    const found = probe({ funding: lineFunds, estate: estate([recordReading()]) });
    const finding = { kind: "applied", record: recordReading() } as const;
    const { business: next } = recordProbe(stored, wabaId, found, finding, now, policy);
    expect(next.records[allocationId]).toEqual(record({ epoch: 1, recordedAt: now, proven: true }));
  });

  test("as absent keeps when the first absence began, not the last", () => {
    const once = look(attempted(), { kind: "absent" }).business;
    const twice = look(once, { kind: "absent" }, now + minuteMs).business;
    expect(twice.wabas[wabaId]?.intent?.absentAt).toBe(now);
  });

  test("tells when it found nothing after the window and both tokens could have seen it", () => {
    const records = { [allocationId]: record({ recordedAt: intent().madeAt }) };
    function clearAfter(overrides: Partial<Probe>) {
      const looked = probe({ startedAt: end + 1, ...seeing([recordReading()]), ...overrides });
      const { business: next } = recordProbe(
        attempted({}, { records }),
        wabaId,
        looked,
        { kind: "in-doubt" },
        end + minuteMs,
        policy,
      );
      return next.wabas[wabaId]?.intent?.clearAt;
    }
    expect(clearAfter({})).toBe(end + 1);
    expect(clearAfter({ startedAt: end })).toBeUndefined();
    expect(clearAfter({ funding: { known: true, blind: true } })).toBeUndefined();
    expect(clearAfter({ funding: { known: false } })).toBeUndefined();
    expect(clearAfter(seeing([recordReading({ allocationId: otherAllocationId })]))).toBeUndefined();
  });

  test("as unclear is no absence", () => {
    expect(look(attempted(), { kind: "cannot-tell" }).business.wabas[wabaId]?.intent?.absentAt).toBeUndefined();
  });

  test.each(["absent", "cannot-tell"] as const)(
    "as %s within the window is nothing to announce, and no doubt",
    (kind) => {
      const { business: next, events } = look(attempted(), { kind });
      expect(events).toEqual([]);
      expect(next.wabas[wabaId]?.intent).not.toHaveProperty("inDoubt");
    },
  );

  test("gives an attempt without a due time one: no other look would ever come (I9)", () => {
    const stored = business({ wabas: { [wabaId]: sharingWaba({ due: undefined }) } });
    const { business: next } = look(stored, { kind: "cannot-tell" });
    expect(next.wabas[wabaId]?.due).toEqual({ request: shareRequest(), nextAt: now + minuteMs, looks: 1, sweeps: 0 });
  });

  test("at the very end of the window, which decides nothing yet, is followed by the one just after it", () => {
    const { business: next } = look(attempted(), { kind: "absent" }, end);
    expect(next.wabas[wabaId]?.due?.nextAt).toBe(end + 1);
  });

  test("counts, so that a message for an earlier look is stale (H23)", () => {
    const once = look(attempted(), { kind: "cannot-tell" }).business;
    expect(once.wabas[wabaId]?.due?.looks).toBe(1);
    expect(look(once, { kind: "cannot-tell" }).business.wabas[wabaId]?.due?.looks).toBe(2);
  });

  test("is followed by another with growing delay, which never steps over the end of the window", () => {
    let stored = attempted();
    let at = now;
    const delays: number[] = [];
    while (at <= end) {
      stored = look(stored, { kind: "absent" }, at).business;
      const nextAt = stored.wabas[wabaId]?.due?.nextAt ?? Number.NaN;
      delays.push(nextAt - at);
      if (at < end) expect(nextAt).toBeLessThanOrEqual(end + 1);
      at = nextAt;
    }
    expect(at).toBe(end + 1);
    expect(delays.slice(0, -1)).toEqual([1, 2, 4, 8].map((times) => times * minuteMs));
  });

  test("as in doubt is announced once, with what Meta answered", () => {
    const stored = attempted({ failure: failure("permission_denied") });
    const first = look(stored, { kind: "in-doubt" });
    expect(first.events).toMatchObject([
      { detailType: "Share In Doubt", reason: "permission_denied", status: "sharing" },
    ]);
    expect(first.conclusions).toEqual([]);
    expect(look(first.business, { kind: "in-doubt" }).events).toEqual([]);
  });

  test("as in doubt without an answer says so", () => {
    expect(look(attempted(), { kind: "in-doubt" }).events).toMatchObject([{ reason: "no_answer" }]);
  });

  test("as in doubt stays due: the last word may still come from a person or from Meta", () => {
    const { business: next } = look(attempted(), { kind: "in-doubt" }, end + minuteMs);
    expect(next.wabas[wabaId]?.due?.nextAt).toBeGreaterThan(end + minuteMs);
  });

  test("as refused ends the command, and its redelivery is answered the same instead of sending another POST", () => {
    const stored = business({
      wabas: { [wabaId]: sharingWaba({ lastFailure: failure("refused_by_meta"), intent: intent({ absentAt: now }) }) },
    });
    const finding = { kind: "refused", reason: "refused_by_meta", failure: failure("refused_by_meta") } as const;
    const { business: next, conclusions } = look(stored, finding, end + 1);
    expect(conclusions).toMatchObject([{ outcome: "refused", reason: "refused_by_meta" }]);
    expect(next.wabas[wabaId]).toEqual(
      sharingWaba({ intent: undefined, due: undefined, lastFailure: failure("refused_by_meta") }),
    );
    const again = shareFacts({ business: next, now: end + 1, probed: true });
    expect(decideShare(again, policy)).toEqual({ kind: "refuse", reason: "refused_by_meta" });
  });

  test("is impossible where no attempt is unsettled", () => {
    const settled = business({ wabas: { [wabaId]: sharedWaba() } });
    const closed = business({ wabas: { [wabaId]: sharingWaba({ intent: undefined }) } });
    for (const stored of [settled, closed]) {
      expect(() => look(stored, { kind: "absent" })).toThrow("no attempt");
      expect(() => judge(stored)).toThrow("no attempt");
    }
  });
});

describe("a late answer, whose intent is gone or of an older epoch,", () => {
  const answer = { allocationId: otherAllocationId, creditLineId: lineId, epoch: 0, seen: "live" } as const;

  test("of an intent that a look settled meanwhile by the same allocation is only recorded", () => {
    const stored = business({ wabas: { [wabaId]: sharedWaba({ allocationId: otherAllocationId }) } });
    const { business: next, events } = recordLateAnswer(stored, shareRequest(), answer, now);
    expect(next.records[otherAllocationId]).toMatchObject({ state: "unknown", recordedAt: now, epoch: 0 });
    expect(events).toEqual([]);
  });

  test("of an epoch that a revocation ended is a finding, though the WABA is shared by the same allocation since (S7)", () => {
    const wabas = { [wabaId]: sharedWaba({ allocationId: otherAllocationId }) };
    const stored = revokedBusiness({ wabas });
    const { business: next, events } = recordLateAnswer(stored, shareRequest(), answer, now);
    expect(next.revocation?.state).toBe("done");
    expect(events).toMatchObject([{ detailType: "Drift Found", reason: "record_duplicate" }]);
  });

  test("of the present epoch re-opens no revocation of an earlier one (S7)", () => {
    const stored = revokedBusiness();
    const { business: next, events } = recordLateAnswer(stored, shareRequest(), { ...answer, epoch: 1 }, now);
    expect(next.revocation).toEqual(stored.revocation);
    expect(next.records[otherAllocationId]).toMatchObject({ state: "unknown", epoch: 1 });
    expect(events).toMatchObject([{ detailType: "Drift Found", reason: "record_duplicate" }]);
  });

  test("that names another allocation than the WABA's is a finding: the line was shared twice", () => {
    const stored = business({ wabas: { [wabaId]: sharedWaba() } });
    expect(recordLateAnswer(stored, shareRequest(), answer, now).events).toMatchObject([
      { detailType: "Drift Found", reason: "record_duplicate", allocationConfigId: otherAllocationId },
    ]);
  });
});
