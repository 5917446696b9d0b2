import { describe, expect, test } from "vitest";
import { adoptRecord, adoptWaba, isAdoptable, scanName } from "../../../shared/domain/adoption.ts";
import type { Business } from "../../../shared/domain/business.ts";
import { newBusiness } from "../../../shared/domain/business.ts";
import {
  allocationId,
  businessId,
  credentialId,
  doneRevocation,
  intent,
  lineId,
  now,
  otherAllocationId,
  record,
  shareRequest,
  sharedWaba,
  siblingId,
  wabaId,
} from "../factories.ts";

const fresh = newBusiness(businessId, now);
const row = { wabaId, currency: "EUR", fundingId: credentialId };

function withRecord(overrides: Parameters<typeof record>[0] = {}): Business {
  return { ...fresh, records: { [allocationId]: record({ credentialId, ...overrides }) } };
}

describe("a business is adopted", () => {
  const adopted = sharedWaba({ request: shareRequest({ requestedBy: scanName }) });

  test("when nobody knows it, or only a scan has entered anything", () => {
    expect(isAdoptable(undefined)).toBe(true);
    expect(isAdoptable(fresh)).toBe(true);
    expect(isAdoptable({ ...fresh, wabas: { [wabaId]: adopted } })).toBe(true);
  });

  test.each<[string, Partial<Business>]>([
    ["it was revoked", { epoch: 1 }],
    ["a share has listed it", { listedAt: now }],
    ["a revocation is on it", { revocation: doneRevocation() }],
    ["an E4 is out", { recordIntent: { ...intent(), creditLineId: lineId, request: shareRequest() } }],
    [
      "a share waits",
      { waiting: { [wabaId]: { request: shareRequest(), due: { nextAt: now, looks: 0, sweeps: 0 } } } },
    ],
    ["a command has shared one of its WABAs", { wabas: { [wabaId]: adopted, [siblingId]: sharedWaba() } }],
  ])("and not when %s", (_title, overrides) => {
    expect(isAdoptable({ ...fresh, ...overrides })).toBe(false);
  });
});

describe("a record that is adopted", () => {
  test("is live, beside those that are there, with the credential that the list showed", () => {
    const stored = { ...fresh, records: { [otherAllocationId]: record() } };
    const listed = { allocationId, businessId, credentialId, deleted: false };
    const { business: next, events, conclusions } = adoptRecord(stored, listed, lineId, now);
    expect(next.records).toEqual({
      [otherAllocationId]: record(),
      [allocationId]: record({ credentialId, recordedAt: now }),
    });
    expect([events, conclusions]).toEqual([[], []]);
    const { credentialId: _hidden, ...bare } = listed;
    expect(adoptRecord(fresh, bare, lineId, now).business.records[allocationId]).not.toHaveProperty("credentialId");
  });
});

describe("a WABA that is adopted", () => {
  test("is shared as by a command that takes nothing back and switches nothing, and is due to be verified", () => {
    const change = adoptWaba(withRecord(), row, now, now + 0.4);
    const request = shareRequest({
      commandId: `adopted:${wabaId}`,
      hash: scanName,
      requestedAt: now,
      requestedBy: scanName,
    });
    expect(change?.business.wabas[wabaId]).toEqual(
      sharedWaba({
        request,
        intendedAt: now,
        evidence: { receivingCredentialId: credentialId, primaryFundingId: credentialId, checkedAt: now },
      }),
    );
    expect(change?.events).toMatchObject([
      { detailType: "Share Accepted", commandId: `adopted:${wabaId}`, wabaId, businessId, status: "shared" },
    ]);
    expect(change?.conclusions).toEqual([]);
  });

  test.each<[string, Business, { [Key in keyof typeof row]?: string | undefined }]>([
    ["nothing pays for it", withRecord(), { fundingId: undefined }],
    ["its currency is not shown", withRecord(), { currency: undefined }],
    ["no record of the business pays for it", withRecord(), { fundingId: "699999999999999" }],
    ["the record that pays is dead", withRecord({ state: "deleted" }), {}],
    ["the record that pays names another business", withRecord({ foreign: true }), {}],
    ["the table holds it already", { ...withRecord(), wabas: { [wabaId]: sharedWaba() } }, {}],
  ])("is none when %s", (_title, stored, overrides) => {
    expect(adoptWaba(stored, { ...row, ...overrides }, now, now)).toBeUndefined();
  });
});
