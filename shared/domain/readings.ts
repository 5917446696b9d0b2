import type { AllocationRecord, Business } from "./business.ts";
import type { Failure } from "./reasons.ts";

/** What Meta showed us, as decisions see it. "Could not be read" is kept apart from "is not there" everywhere. */

/** E3 and E7 of a WABA, begun at `startedAt`. */
export type WabaReading = {
  startedAt: number;
  ownerBusinessId?: string;
  currency?: string;
  funding: Funding;
};

/**
 * `known` without an id: nothing pays for this WABA. `blind`: one token alone saw that, and it may be one that does not see
 * what pays (unknown 10).
 */
export type Funding = { known: true; id?: string; blind?: true } | { known: false; failure?: Failure };

/** E6 of one record. `strange`: a `request_status` that Meta does not document. */
export type RecordReading = {
  allocationId: string;
  creditLineId: string;
  readAt: number;
  seen: "live" | "deleted" | "strange" | "missing" | "unreadable";
  receivingBusinessId?: string;
  receivingCredentialId?: string;
  failure?: Failure;
};

/** E8 on every line of ours for one business, and E6 of each record listed or recorded. */
export type EstateReading = {
  startedAt: number;
  /** False when a list could not be read to its end: then absence means nothing. */
  complete: boolean;
  /** What E8 listed, by allocation id: its line, and whether the list itself said `DELETED`. */
  listed: Record<string, { creditLineId: string; deleted: boolean }>;
  records: RecordReading[];
  failure?: Failure;
};

/** The proof that a WABA is funded by us (V1): a live record that names this business and whose credential pays for it. */
export function fundingRecord(
  businessId: string,
  funding: Funding,
  records: readonly RecordReading[],
): RecordReading | undefined {
  if (!funding.known || funding.id === undefined) return undefined;
  return records.find(
    (record) =>
      record.seen === "live" &&
      record.receivingBusinessId === businessId &&
      record.receivingCredentialId !== "" &&
      record.receivingCredentialId === funding.id,
  );
}

/** A record is confirmed deleted only by a definite answer to our DELETE and a later E6 that says so (R4). */
export function isConfirmedDeleted(record: AllocationRecord): boolean {
  const { state, deleteAnswered, readAt } = record;
  return state === "deleted" && deleteAnswered !== undefined && readAt !== undefined && readAt >= deleteAnswered.at;
}

/** Every record that E6 must be asked about: what is listed, and what is recorded and not confirmed deleted. */
export function recordsToRead(business: Business, listed: EstateReading["listed"]): string[] {
  const recorded = Object.entries(business.records)
    .filter(([, record]) => !isConfirmedDeleted(record))
    .map(([allocationId]) => allocationId);
  return [...new Set([...Object.keys(listed), ...recorded])];
}

/** Every line that may be shared with this business: the configured one and all that were ever recorded (R3, H19). */
export function linesOf(business: Business, creditLineId: string): string[] {
  const recorded = Object.values(business.records).map((record) => record.creditLineId);
  const attached = Object.values(business.wabas).map((waba) => waba.creditLineId);
  return [...new Set([creditLineId, ...recorded, ...attached])];
}

/**
 * When a record came to be known: after every attempt on the item, though the clock of the one who made it ran ahead (A6).
 * What an attempt made must not look as if it had been there before.
 */
export function knownFrom({ recordIntent, wabas }: Business, now: number): number {
  const attempts = [recordIntent, ...Object.values(wabas).map(({ intent }) => intent)];
  return Math.max(now, ...attempts.map((intent) => (intent?.madeAt ?? -Infinity) + 1));
}

/** Enters everything that was listed or read into `records`; ids are never forgotten. */
export function withRecords(business: Business, estate: EstateReading, now: number): Business {
  const records = { ...business.records };
  const since = knownFrom(business, now);
  for (const [allocationId, { creditLineId }] of Object.entries(estate.listed)) {
    records[allocationId] ??= { creditLineId, epoch: business.epoch, state: "unknown", recordedAt: since };
  }
  for (const reading of estate.records) {
    const known = records[reading.allocationId];
    if (known === undefined) continue;
    if (reading.receivingBusinessId !== undefined && reading.receivingBusinessId !== business.businessId) {
      records[reading.allocationId] = { ...known, foreign: true, readAt: reading.readAt };
      continue;
    }
    if (known.foreign === true && reading.receivingBusinessId === business.businessId) {
      const { foreign: _mistaken, ...own } = known;
      records[reading.allocationId] = own;
    }
    if (reading.seen !== "live" && reading.seen !== "deleted") continue;
    // A confirmed deletion is final until a POST's answer names the id again (A5): a lagging read does not revive it.
    if (isConfirmedDeleted(known)) continue;
    // An id that came back to life is as good as new: nothing that was known before explains it (H7d).
    const revived = known.state === "deleted" && reading.seen === "live";
    const recordedAt = revived ? since : known.recordedAt;
    const current = records[reading.allocationId] ?? known;
    const { answered: _answer, proven: _proof, credentialId: _formerly, ...bare } = current;
    const own = revived ? bare : current;
    const { receivingCredentialId: credentialId } = reading;
    // Known before any WABA is proven to be paid by it: a scan finds whom else it pays for (history 76001946).
    const pays = credentialId === undefined || credentialId === "" ? {} : { credentialId };
    records[reading.allocationId] = { ...own, ...pays, state: reading.seen, readAt: reading.readAt, recordedAt };
  }
  return { ...business, records, ...(estate.complete ? { listedAt: estate.startedAt } : {}) };
}
