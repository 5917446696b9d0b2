import { describe, expect, test } from "vitest";
import type { RecordReading } from "../../../shared/domain/readings.ts";
import {
  fundingRecord,
  isConfirmedDeleted,
  linesOf,
  recordsToRead,
  withRecords,
} from "../../../shared/domain/readings.ts";
import {
  allocationId,
  business,
  businessId,
  credentialId,
  deletedRecord,
  estate,
  lineId,
  now,
  otherAllocationId,
  otherBusinessId,
  otherLineId,
  record,
  recordReading,
  settleWindowMs,
  verifiedWaba,
  wabaId,
} from "../factories.ts";

const lineFunds = { known: true, id: credentialId } as const;

describe("what funds a WABA", () => {
  test("is the live record of this business whose credential is the funding id, among all that were read", () => {
    const ours = recordReading({ allocationId: otherAllocationId });
    const others = [recordReading({ receivingCredentialId: "1" }), recordReading({ seen: "deleted" })];
    expect(fundingRecord(businessId, lineFunds, [...others, ours])).toBe(ours);
  });

  test.each<[string, Partial<RecordReading>]>([
    ["deleted", { seen: "deleted" }],
    ["missing", { seen: "missing" }],
    ["another business's", { receivingBusinessId: otherBusinessId }],
    ["of nobody", { receivingBusinessId: undefined }],
    ["without a credential", { receivingCredentialId: undefined }],
  ])("is no record that is %s", (_title, seen) => {
    expect(fundingRecord(businessId, lineFunds, [recordReading(seen)])).toBeUndefined();
  });

  test("is nothing when the funding is unknown, none or empty (V1: equal and not empty)", () => {
    const empty = recordReading({ receivingCredentialId: "" });
    expect(fundingRecord(businessId, { known: false }, [recordReading()])).toBeUndefined();
    expect(fundingRecord(businessId, { known: true }, [recordReading()])).toBeUndefined();
    expect(fundingRecord(businessId, { known: true, id: "" }, [empty])).toBeUndefined();
  });
});

describe("a record is confirmed deleted (R4)", () => {
  test("by a definite answer to a DELETE and an E6 after it", () => {
    expect(isConfirmedDeleted(deletedRecord())).toBe(true);
    const at = { at: now, epoch: 1 };
    expect(isConfirmedDeleted(record({ state: "deleted", deleteAnswered: at, readAt: now }))).toBe(true);
  });

  test.each([
    ["no DELETE was answered", record({ state: "deleted" })],
    [
      "E6 was read before the DELETE",
      record({ state: "deleted", deleteAnswered: { at: now, epoch: 1 }, readAt: now - 1 }),
    ],
    ["E6 still says live", record({ deleteAnswered: { at: now, epoch: 1 }, readAt: now + 1 })],
    ["nothing was read since a POST's answer", record({ state: "unknown", deleteAnswered: { at: now, epoch: 1 } })],
  ])("but not when %s", (_title, known) => {
    expect(isConfirmedDeleted(known)).toBe(false);
  });
});

describe("what is read of Meta", () => {
  test("covers every listed record and every recorded one that is not confirmed deleted (R3)", () => {
    const stored = business({
      records: { a: record({ state: "unknown" }), b: deletedRecord(), c: deletedRecord(), d: record() },
    });
    const listed = { c: { creditLineId: lineId, deleted: false }, e: { creditLineId: lineId, deleted: true } };
    expect(recordsToRead(stored, listed).toSorted()).toEqual(["a", "c", "d", "e"]);
  });

  test("H19: covers every line that was ever recorded for the business, each once", () => {
    const stored = business({
      records: { a: record({ creditLineId: otherLineId }), b: record() },
      wabas: { [wabaId]: verifiedWaba({ creditLineId: "400000000000003" }) },
    });
    expect(linesOf(stored, lineId)).toEqual([lineId, otherLineId, "400000000000003"]);
  });
});

describe("what was read is recorded", () => {
  test("so that a listed record is known from then on, under the epoch it was first listed in", () => {
    const listed = estate([], { listed: { [allocationId]: { creditLineId: otherLineId, deleted: false } } });
    const next = withRecords(business({ epoch: 3 }), listed, now);
    expect(next.records).toEqual({
      [allocationId]: { creditLineId: otherLineId, epoch: 3, state: "unknown", recordedAt: now },
    });
  });

  test("without touching when and where a known record was first recorded", () => {
    const stored = business({ epoch: 3, records: { [allocationId]: record({ epoch: 1 }) } });
    const next = withRecords(stored, estate([recordReading({ readAt: now + 1 })]), now + 2);
    expect(next.records[allocationId]).toEqual(record({ epoch: 1, readAt: now + 1, credentialId }));
  });

  test("with what it pays by, which a read that leaves it out does not take away", () => {
    const known = { [allocationId]: record({ credentialId }) };
    for (const receivingCredentialId of [undefined, ""]) {
      const { receivingCredentialId: _leftOut, ...bare } = recordReading();
      const reading = receivingCredentialId === undefined ? bare : { ...bare, receivingCredentialId };
      const next = withRecords(business({ records: known }), estate([reading]), now);
      expect(next.records[allocationId]?.credentialId).toBe(credentialId);
      // Of an earlier life it says nothing.
      const dead = business({ records: { [allocationId]: record({ credentialId, state: "deleted" }) } });
      expect(withRecords(dead, estate([reading]), now).records[allocationId]).not.toHaveProperty("credentialId");
    }
    const other = recordReading({ receivingCredentialId: "600000000000009" });
    const next = withRecords(business({ records: known }), estate([other]), now);
    expect(next.records[allocationId]?.credentialId).toBe("600000000000009");
  });

  test.each(["missing", "unreadable", "strange"] as const)("but E6 that is %s changes no state", (seen) => {
    const stored = business({ records: { [allocationId]: record() } });
    expect(withRecords(stored, estate([recordReading({ seen })]), now).records).toEqual(stored.records);
  });

  test("but a lagging read does not revive what is confirmed deleted (A5)", () => {
    const stored = business({ records: { [allocationId]: deletedRecord() } });
    expect(withRecords(stored, estate([recordReading()]), now).records).toEqual(stored.records);
  });

  test("H7d: and a record that was gone and lives again counts as new", () => {
    const answered = record({ answered: true, credentialId });
    const stored = business({ records: { [allocationId]: { ...answered, state: "deleted" } } });
    const next = withRecords(stored, estate([recordReading()]), now);
    expect(next.records[allocationId]).toEqual(record({ recordedAt: now, credentialId }));
    const known = business({ records: { [allocationId]: answered } });
    expect(withRecords(known, estate([recordReading()]), now).records[allocationId]).toEqual(answered);
    expect(withRecords(next, estate([recordReading()]), now + 1).records[allocationId]?.recordedAt).toBe(now);
  });

  test("with whose it is, when that is another business", () => {
    const foreign = recordReading({ receivingBusinessId: otherBusinessId });
    const next = withRecords(business(), estate([foreign]), now);
    expect(next.records[allocationId]).toMatchObject({ state: "unknown", foreign: true });
  });

  test("and as ours again when E6 names this business after all, but not while it does not say whose it is", () => {
    const stored = business({ records: { [allocationId]: record({ foreign: true }) } });
    const own = withRecords(stored, estate([recordReading()]), now).records[allocationId];
    expect(own).toEqual(record({ credentialId }));
    expect(own).not.toHaveProperty("foreign");
    const { receivingBusinessId: _unread, ...nameless } = recordReading();
    for (const reading of [nameless, recordReading({ receivingBusinessId: otherBusinessId })]) {
      expect(withRecords(stored, estate([reading]), now).records[allocationId]).toMatchObject({ foreign: true });
    }
    const unclear = withRecords(stored, estate([recordReading({ seen: "strange" })]), now).records[allocationId];
    expect(unclear).not.toHaveProperty("foreign");
  });

  test("and a record that is gone, and seen gone again, is no newer for it", () => {
    const stored = business({ records: { [allocationId]: record({ state: "deleted", answered: true }) } });
    const seen = estate([recordReading({ seen: "deleted", readAt: now + 1 })]);
    expect(withRecords(stored, { ...seen, listed: {} }, now + 2).records[allocationId]).toEqual(
      record({ state: "deleted", answered: true, readAt: now + 1, credentialId }),
    );
  });

  test("and ends the first contact only when the list was complete", () => {
    const { listedAt: _never, ...unmet } = business();
    const startedAt = now - settleWindowMs;
    expect(withRecords(unmet, estate([], { startedAt }), now).listedAt).toBe(startedAt);
    expect(withRecords(unmet, estate([], { complete: false }), now)).not.toHaveProperty("listedAt");
  });

  test("but a record that is read without being listed or known is nobody's", () => {
    const unlisted = { ...estate([recordReading()]), listed: {} };
    expect(withRecords(business(), unlisted, now).records).toEqual({});
  });
});
