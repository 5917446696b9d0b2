import { describe, expect, test } from "vitest";
import type { Business, Waba } from "../../../shared/domain/business.ts";
import { dueIn } from "../../../shared/domain/business.ts";
import type { ScanView } from "../../../shared/domain/estate.ts";
import {
  askRecheck,
  isCalm,
  judgeAllocation,
  judgeBusiness,
  judgeWaba,
  missingMax,
  withVerificationsDue,
} from "../../../shared/domain/estate.ts";
import type { Finding } from "../../../shared/domain/findings.ts";
import { atScanEnd, closed, commandFor, opened, sighted } from "../../../shared/domain/findings.ts";
import {
  allocationId,
  business,
  businessId,
  credentialId,
  intent,
  lineId,
  now,
  openRevocation,
  otherAllocationId,
  policy,
  revokedWaba,
  settleWindowMs,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  skewMs,
  verifiedWaba,
  wabaId,
} from "../factories.ts";

const dayMs = 24 * 3_600_000;
const view: ScanView = { startedAt: now, creditLineId: lineId, settleWindowMs, clockSkewMs: skewMs };
const longAgo = now - dayMs;
const live = { creditLineId: lineId, epoch: 0, state: "live", recordedAt: longAgo, readAt: longAgo } as const;
const evidence = { receivingCredentialId: credentialId, primaryFundingId: credentialId, checkedAt: longAgo };

function verified(overrides: Partial<Business> = {}): Business {
  const waba = { ...verifiedWaba(), allocationId, evidence };
  return business({ changedAt: longAgo, records: { [allocationId]: live }, wabas: { [wabaId]: waba }, ...overrides });
}

/** Its revocation is done, and its record with it. */
function revokedBusiness(wabas: Business["wabas"] = {}): Business {
  const request = { type: "revoke", commandId: "r", hash: "h", requestedBy: "t", reason: "risk" } as const;
  const times = { requestedAt: longAgo, startedAt: longAgo, doneAt: longAgo };
  const revocation = {
    request: { ...request, requestedAt: longAgo },
    ...times,
    state: "done",
    epoch: 1,
    joined: [],
  } satisfies Business["revocation"];
  const record = { ...live, credentialId, state: "deleted", deleteAnswered: { at: longAgo, epoch: 1 } } as const;
  return verified({ epoch: 1, records: { [allocationId]: record }, wabas, revocation });
}

function withStatus(status: Waba["status"], extra: object = {}): Business {
  const waba = { ...verified().wabas[wabaId], status, ...extra } as Waba;
  return verified({ wabas: { [wabaId]: waba } });
}

function all(): true {
  return true;
}
function noneListed(): boolean {
  return false;
}
function isNamed(named: string): (id: string) => boolean {
  return (id) => id === named;
}
const bothListed = { allocationListed: all, wabaListed: all };

describe("an item is calm", () => {
  test("when nothing of it changed since the scan began, less the settle window", () => {
    expect(isCalm(verified(), view)).toBe(true);
    expect(isCalm(verified({ changedAt: now - settleWindowMs }), view)).toBe(true);
    expect(isCalm(verified({ changedAt: now - settleWindowMs + 1 }), view)).toBe(false);
    expect(isCalm(verified({ unansweredAt: now }), view)).toBe(false);
  });

  test.each<[string, Partial<Business>]>([
    ["an attempt is out", { wabas: { [wabaId]: sharingWaba() } }],
    ["an attachment is due", { wabas: { [wabaId]: sharingWaba({ status: "allocated", intent: undefined }) } }],
    [
      "an E4 is out",
      {
        recordIntent: { ...intent(), creditLineId: lineId, request: shareRequest() },
      },
    ],
    ["a revocation is open", { revocation: openRevocation() }],
    ["a WABA is being revoked", { wabas: { [wabaId]: revokedWaba({ status: "revoking" }) } }],
  ])("and not while %s", (_why, overrides) => {
    expect(isCalm(verified(overrides), view)).toBe(false);
  });

  test.each<[string, Partial<Business>]>([
    [
      "has its record and was turned down at the second call long ago",
      { wabas: { [wabaId]: sharingWaba({ status: "allocated", intent: undefined, intendedAt: longAgo }) } },
    ],
    ["came to nothing and is tried again", { wabas: { [wabaId]: sharingWaba({ intent: undefined }) } }],
    [
      "is in doubt and waits for a person",
      { wabas: { ...verified().wabas, [siblingId]: sharingWaba({ intent: intent({ sendDeadline: longAgo }) }) } },
    ],
    [
      "with the business is in doubt",
      { recordIntent: { ...intent({ sendDeadline: longAgo }), creditLineId: lineId, request: shareRequest() } },
    ],
    [
      "only waits",
      { waiting: { [siblingId]: { request: shareRequest(), due: { nextAt: now, looks: 0, sweeps: 0 } } } },
    ],
  ])("though a share %s: it explains nothing at Meta, and may wait for days", (_why, overrides) => {
    expect(isCalm(verified(overrides), view)).toBe(true);
  });
});

describe("a record that E8 lists", () => {
  const row = { allocationId, businessId, credentialId, deleted: false };

  test("is unknown when no item explains it", () => {
    const unknown = { kind: "allocation_unknown", subject: allocationId, businessId, allocationId };
    expect(judgeAllocation(row, undefined, true, view)).toEqual(unknown);
    expect(judgeAllocation(row, verified({ records: {} }), true, view)).toEqual(unknown);
    expect(judgeAllocation(row, verified(), true, view)).toBeUndefined();
  });

  test("is none of our concern when it is deleted, not told whose, or explained by what is in flight", () => {
    expect(judgeAllocation({ ...row, deleted: true }, undefined, true, view)).toBeUndefined();
    expect(judgeAllocation({ allocationId, deleted: false }, undefined, true, view)).toBeUndefined();
    expect(judgeAllocation(row, verified({ records: {}, changedAt: now }), true, view)).toBeUndefined();
  });

  test("that names another business by E6 is none of this one's", () => {
    const foreign = verified({ records: { [allocationId]: { ...live, foreign: true } } });
    const revoked = { ...revokedBusiness(), records: foreign.records };
    expect(judgeAllocation(row, foreign, true, view)).toBeUndefined();
    expect(judgeAllocation(row, revoked, true, view)).toBeUndefined();
  });

  test("is no less a difference where the list does not tell deleted from live, unless it was confirmed deleted", () => {
    expect(judgeAllocation(row, verified({ records: {} }), false, view)?.kind).toBe("allocation_unknown");
    const unconfirmed = { ...revokedBusiness(), records: { [allocationId]: live } };
    expect(judgeAllocation(row, unconfirmed, false, view)?.kind).toBe("revoked_but_live");
  });

  test("asks the revoke flow only of a revocation that is done, and not while a look is due", () => {
    const revoked = revokedBusiness();
    const asked = askRecheck(revoked, now);
    expect(asked && askRecheck(asked, now + 1)).toBeUndefined();
    expect(askRecheck(verified(), now)).toBeUndefined();
  });

  test("of a revoked business is live against our word; a list that does not show it may name what is deleted", () => {
    const revoked = revokedBusiness();
    expect(judgeAllocation(row, revoked, true, view)?.kind).toBe("revoked_but_live");
    expect(judgeAllocation(row, revoked, false, view)).toBeUndefined();
    expect(askRecheck(revoked, now)?.revocation?.due).toEqual({ nextAt: now, looks: 0, sweeps: 0 });
    expect(
      askRecheck({ ...revoked, revocation: { ...revoked.revocation, state: "open" } as never }, now),
    ).toBeUndefined();
    // The look that is planned after a partner switch is weeks away; one that is due comes anyway.
    for (const [nextAt, asked] of [
      [now + dayMs, now],
      [now, undefined],
    ] as const) {
      const planned = { ...revoked.revocation, due: { nextAt, looks: 0, sweeps: 0 } } as never;
      expect(askRecheck({ ...revoked, revocation: planned }, now)?.revocation?.due?.nextAt).toBe(asked);
    }
  });
});

describe("a WABA that E13 lists", () => {
  const row = { wabaId, currency: "EUR", ownerBusinessId: businessId, fundingId: credentialId };
  const { fundingId: _none, ...unfunded } = row;
  const elsewhere = { ...row, fundingId: "690000000000001" };
  function judge(
    shown: typeof row | typeof unfunded,
    item: Business | undefined,
    isListed: ((id: string) => boolean) | undefined = all,
  ) {
    const difference = judgeWaba(shown, businessId, item, isListed, true, view);
    return typeof difference === "object" ? difference.kind : difference;
  }

  test("agrees when our credential pays for it", () => {
    expect(judge(row, verified())).toBeUndefined();
    expect(judge(row, undefined)).toBeUndefined();
  });

  test("is unfunded, or funded elsewhere, against what the table says", () => {
    expect(judge(unfunded, verified())).toBe("unfunded");
    expect(judge(elsewhere, verified())).toBe("funded_elsewhere");
  });

  test("says nothing where the list shows no funding, while a switch is pending, or where the record itself is gone", () => {
    expect(judgeWaba(unfunded, businessId, verified(), all, false, view)).toBeUndefined();
    expect(judge(elsewhere, withStatus("pending"))).toBeUndefined();
    expect(judge(unfunded, verified(), noneListed)).toBeUndefined();
    expect(judge(elsewhere, verified({ changedAt: now }))).toBeUndefined();
  });

  test("that is known to be mismatched is no difference, unless it is funded again", () => {
    expect(judge(unfunded, withStatus("mismatched"))).toBeUndefined();
    expect(judge(row, withStatus("mismatched"))).toBe("funded");
  });

  test("that was never proven is left to its verification", () => {
    const wabas = { [wabaId]: { ...sharedWaba(), allocationId, evidence: undefined } as unknown as Waba };
    expect(judge(elsewhere, verified({ wabas }))).toBeUndefined();
  });

  test("has another owner than the one stored, whatever else is shown", () => {
    expect(judgeWaba({ ...row, ownerBusinessId: "299" }, businessId, undefined, all, true, view)).toEqual({
      kind: "owner_changed",
      subject: wabaId,
      businessId,
      wabaId,
    });
  });

  test("has changed hands only where both owners are known", () => {
    const { ownerBusinessId: _hidden, ...ownerless } = row;
    expect(judgeWaba(ownerless, businessId, verified(), all, true, view)).toBeUndefined();
    expect(judgeWaba({ ...row, ownerBusinessId: "299" }, undefined, undefined, all, true, view)).toBeUndefined();
  });

  test("is told with its business and its record", () => {
    const about = { subject: wabaId, businessId, wabaId, allocationId };
    expect(judgeWaba(unfunded, businessId, verified(), all, true, view)).toEqual({ kind: "unfunded", ...about });
    const moved = judgeWaba(elsewhere, businessId, verified(), undefined, true, view);
    expect(moved).toEqual({ kind: "funded_elsewhere", ...about });
  });

  const otherCredential = "600000000000002";
  const second = { ...live, credentialId: otherCredential };

  test("that another record of ours pays for is not funded elsewhere, and a mismatched one not funded by its own", () => {
    const byOther = { ...row, fundingId: otherCredential };
    const records = { ...verified().records, [otherAllocationId]: second };
    expect(judge(byOther, verified({ records }))).toBeUndefined();
    expect(judge(byOther, { ...withStatus("mismatched"), records })).toBeUndefined();
    expect(judge(unfunded, withStatus("mismatched", { evidence: undefined }))).toBeUndefined();
    const paid = { ...evidence, receivingCredentialId: otherCredential };
    const sibling = sharedWaba({ allocationId: otherAllocationId, evidence: paid });
    const wabas = { [siblingId]: sibling, ...withStatus("mismatched").wabas };
    expect(judge(byOther, verified({ records, wabas }))).toBeUndefined();
  });

  test("is not paid for by a dead record, unless a revocation is the last word", () => {
    const dead = { ...live, credentialId, state: "deleted" } as const;
    const item = verified({ records: { [allocationId]: dead }, wabas: {} });
    expect(judge({ ...row, wabaId: siblingId }, item, noneListed)).toBeUndefined();
  });

  test("is told by the record that E8 names, of two that share a credential", () => {
    const shared = { ...live, credentialId };
    const item = verified({ records: { [allocationId]: shared, [otherAllocationId]: shared }, wabas: {} });
    const isOther = isNamed(otherAllocationId);
    const difference = judgeWaba({ ...row, wabaId: siblingId }, businessId, item, isOther, true, view);
    expect(difference).toMatchObject({ kind: "allocation_unknown", allocationId: otherAllocationId });
    const untold = judgeWaba({ ...row, wabaId: siblingId }, businessId, item, undefined, true, view);
    expect(untold).toMatchObject({ kind: "allocation_unknown", allocationId });
  });

  test.each([
    ["no credential", undefined, unfunded],
    ["an empty credential", "", { ...row, fundingId: "" }],
  ])("without funding is not paid for by a record of %s", (_title, id, shown) => {
    const record = id === undefined ? live : { ...live, credentialId: id };
    const item = verified({ records: { [allocationId]: record }, wabas: {} });
    expect(judge({ ...shown, wabaId: siblingId }, item)).toBeUndefined();
  });

  test("was attached by hand to a record of ours", () => {
    const sibling = { ...row, wabaId: siblingId };
    expect(judge(sibling, verified())).toBe("allocation_unknown");
    expect(judge({ ...elsewhere, wabaId: siblingId }, verified())).toBeUndefined();
    expect(judge(sibling, verified(), noneListed)).toBe("allocation_unknown");
    // Of two that share a credential, the one that E8 names in place of the dead one is the finding (history 5010069).
    expect(judge(sibling, verified(), (id) => id === businessId)).toBeUndefined();
  });

  test("H27f: that comes back after a revocation, still paid for by the dead record, is live against our word", () => {
    const { wabas } = withStatus("revoked");
    expect(judge(row, revokedBusiness(wabas), noneListed)).toBe("revoked_but_live");
    expect(judge({ ...row, wabaId: siblingId }, revokedBusiness(wabas), noneListed)).toBe("revoked_but_live");
    expect(judge(elsewhere, revokedBusiness(wabas), noneListed)).toBeUndefined();
    expect(judge(row, revokedBusiness(wabas), (id) => id === allocationId)).toBeUndefined();
    // A record that E8 names is the finding itself.
    expect(judge(row, revokedBusiness(wabas), (id) => id === businessId)).toBeUndefined();
  });

  test("H27c: that a dead record still pays for is told of, also when a sibling was shared anew since", () => {
    const anew = shareRequest({ wabaId: siblingId, reshareAfterRevocation: true, requestedAt: longAgo + 600_000 });
    const paid = { ...evidence, receivingCredentialId: otherCredential };
    const sibling = sharedWaba({ allocationId: otherAllocationId, request: anew, due: undefined, evidence: paid });
    const { wabas } = withStatus("revoked");
    const { records, ...revoked } = revokedBusiness({ ...wabas, [siblingId]: sibling });
    const item = { ...revoked, records: { ...records, [otherAllocationId]: second } };
    function shared(id: string): boolean {
      return id === otherAllocationId || id === businessId;
    }
    expect(judge(row, item, shared)).toBe("allocation_unknown");
    expect(judge(elsewhere, item, shared)).toBeUndefined();
    // What E8 names and nobody knows is the finding itself.
    expect(judge(row, item, (id) => id === businessId)).toBeUndefined();
    expect(judge({ ...row, wabaId: siblingId, fundingId: otherCredential }, item, shared)).toBeUndefined();
  });
});

describe("a business on the table", () => {
  function kinds(item: Business, lists: Parameters<typeof judgeBusiness>[1] = bothListed, indexedAt?: number) {
    return judgeBusiness(item, lists, indexedAt, view).map(({ kind, subject }) => `${kind} ${subject}`);
  }
  function none(): false {
    return false;
  }

  test("agrees when all it relies on is listed, or when no list can be relied on", () => {
    expect(kinds(verified())).toEqual([]);
    expect(kinds(verified(), {})).toEqual([]);
  });

  test("relies on a record that another flow has read to be deleted", () => {
    const records = { [allocationId]: { ...live, state: "deleted" as const } };
    const gone = [`allocation_gone ${allocationId}`];
    expect(kinds(verified({ records }), { allocationListed: none, wabaListed: all })).toEqual(gone);
    // A list may name it all the same (unknown 3).
    expect(kinds(verified({ records }))).toEqual(gone);
    for (const status of ["mismatched", "revoked"] as const) {
      expect(kinds({ ...withStatus(status), records }, { allocationListed: none, wabaListed: all })).toEqual([]);
    }
  });

  test("misses a record, which explains its WABAs too", () => {
    expect(kinds(verified(), { allocationListed: none, wabaListed: none })).toEqual([
      `allocation_gone ${allocationId}`,
    ]);
    expect(kinds(verified({ wabas: {} }), { allocationListed: none })).toEqual([]);
  });

  test("misses a record with a WABA that a verification can answer for", () => {
    const lists = { allocationListed: none, wabaListed: all };
    const own = verified().wabas[wabaId] as Waba;
    const { evidence: _none, ...never } = own;
    const allocated = { ...never, status: "allocated" } as Waba;
    const other = { ...own, allocationId: otherAllocationId } as Waba;
    const gone = { kind: "allocation_gone", subject: allocationId, businessId, allocationId, wabaId };
    const records = { [allocationId]: { ...live, state: "deleted" as const } };
    for (const sibling of [other, { ...own, status: "mismatched" } as Waba]) {
      const item = verified({ wabas: { [siblingId]: sibling, [wabaId]: own } });
      expect(judgeBusiness(item, lists, undefined, view)).toEqual([gone]);
    }
    // That the sibling was never attached is true whatever became of the record (history 1002861).
    const unattached = { kind: "allocated_unattached", subject: siblingId, businessId, wabaId: siblingId };
    const mixed = verified({ records, wabas: { [siblingId]: allocated, [wabaId]: own } });
    expect(judgeBusiness(mixed, lists, undefined, view)).toEqual([gone, unattached]);
    expect(judgeBusiness(verified({ wabas: { [siblingId]: allocated } }), lists, undefined, view)).toEqual([
      unattached,
    ]);
    expect(kinds(withStatus("mismatched"), lists)).toEqual([]);
  });

  test.each([
    ["is another line's", { creditLineId: "400000000000002" }],
    ["names another business", { foreign: true as const }],
    ["has a DELETE of ours behind it", { deleteAnswered: { at: longAgo, epoch: 0 } }],
  ])("does not miss a record that %s", (_title, known) => {
    const item = verified({ records: { [allocationId]: { ...live, ...known } } });
    expect(kinds(item, { allocationListed: none })).toEqual([]);
    const spare = { [allocationId]: live, [otherAllocationId]: { ...live, ...known } };
    expect(kinds(verified({ records: spare }))).toEqual([]);
  });

  test("has a dead record that nobody relies on: that is none to count", () => {
    const dead = { ...live, state: "deleted" as const };
    expect(kinds(verified({ records: { [allocationId]: live, [otherAllocationId]: dead } }))).toEqual([]);
  });

  test("is not judged while it changed within the window, or is not calm", () => {
    const lists = { allocationListed: none };
    expect(kinds(verified({ changedAt: now - settleWindowMs + 1 }), lists)).toEqual([]);
    expect(kinds(verified({ changedAt: now - settleWindowMs }), lists)).toEqual([`allocation_gone ${allocationId}`]);
    expect(kinds(verified({ unansweredAt: now }), lists)).toEqual([]);
    expect(kinds(verified({ changedAt: now, wabas: { [wabaId]: sharingWaba({ due: undefined }) } }))).toEqual([]);
  });

  test("of another line, as before the configuration changed, is not explained by what the list lacks", () => {
    function of(creditLineId: string): Business {
      return { ...withStatus("verified", { creditLineId }), records: { [allocationId]: { ...live, creditLineId } } };
    }
    const lists = { allocationListed: none, wabaListed: none };
    expect(kinds(of(lineId), lists)).toEqual([`allocation_gone ${allocationId}`]);
    expect(kinds(of("400000000000002"), lists)).toEqual([`waba_left ${wabaId}`]);
    const unpaid = { wabaId, ownerBusinessId: businessId };
    expect(judgeWaba(unpaid, businessId, of(lineId), none, true, view)).toBeUndefined();
    expect(judgeWaba(unpaid, businessId, of("400000000000002"), none, true, view)).toMatchObject({ kind: "unfunded" });
  });

  test("misses a WABA, unless a webhook told", () => {
    expect(kinds(verified(), { ...bothListed, wabaListed: none })).toEqual([`waba_left ${wabaId}`]);
    expect(kinds(withStatus("verified", { removedAt: now }), { ...bothListed, wabaListed: none })).toEqual([]);
    expect(kinds(withStatus("revoked"), { allocationListed: none, wabaListed: none })).toEqual([]);
  });

  test("has a second live record that no WABA uses", () => {
    const records = { [otherAllocationId]: live, [allocationId]: live };
    expect(kinds(verified({ records }))).toEqual([`record_duplicate ${otherAllocationId}`]);
    const used = { ...verified().wabas, [siblingId]: { ...verified().wabas[wabaId], allocationId: otherAllocationId } };
    expect(kinds(verified({ records, wabas: used as Business["wabas"] }))).toEqual([]);
    // Of two that nobody uses, one is enough.
    expect(kinds(verified({ records, wabas: {} }))).toEqual([`record_duplicate ${allocationId}`]);
    // Of a revoked business each is a finding of its own.
    expect(kinds({ ...revokedBusiness(), records })).toEqual([]);
  });

  test("was shared with and never attached", () => {
    const { evidence: _none, ...waba } = verified().wabas[wabaId] as Waba;
    expect(kinds(verified({ wabas: { [wabaId]: { ...waba, status: "allocated" } as Waba } }))).toEqual([
      `allocated_unattached ${wabaId}`,
    ]);
    const doubted = { ...waba, status: "allocated", intent: intent({ sendDeadline: longAgo }) } as Waba;
    const dueLater = { request: shareRequest(), nextAt: now, looks: 9, sweeps: 0 };
    expect(kinds(verified({ wabas: { [wabaId]: { ...doubted, due: dueLater } } }), bothListed, now)).toEqual([]);
  });

  test("has an E4 or an open revocation without a due time", () => {
    const recordIntent = { ...intent(), creditLineId: lineId, request: shareRequest() };
    const { due: _none, ...stranded } = openRevocation();
    const unsettled = [`unsettled_without_due ${businessId}`];
    expect(kinds(verified({ recordIntent }))).toEqual(unsettled);
    expect(kinds(verified({ revocation: stranded }))).toEqual(unsettled);
    const due = { nextAt: now, looks: 0, sweeps: 0 };
    expect(kinds(verified({ recordIntent: { ...recordIntent, due } }), bothListed, now)).toEqual([]);
    expect(kinds(verified({ revocation: openRevocation() }), bothListed, now)).toEqual([]);
    // One that a revocation has overtaken is that revocation's.
    expect(kinds(verified({ epoch: 1, recordIntent }))).toEqual([]);
  });

  test("has an attempt without a due time, or one by which no sweep finds it", () => {
    const { due, ...stranded } = sharingWaba();
    expect(kinds(verified({ wabas: { [wabaId]: stranded } }))).toEqual([`unsettled_without_due ${businessId}`]);
    const item = verified({ wabas: { [wabaId]: { ...stranded, due } as Waba } });
    expect(kinds(item)).toEqual([`unsettled_without_due ${businessId}`]);
    expect(kinds(item, bothListed, due?.nextAt)).toEqual([]);
    expect(kinds(item, bothListed, (due?.nextAt ?? 0) - 1)).toEqual([]);
    expect(kinds(item, bothListed, (due?.nextAt ?? 0) + 1)).toEqual([`unsettled_without_due ${businessId}`]);
    expect(policy.settleWindowMs).toBe(settleWindowMs);
  });
});

describe("what may be missing from a list", () => {
  test.each([
    [0, 0.05, 0],
    [1, 0.05, 2],
    [100, 0.05, 5],
    [1000, 0.05, 52],
    [1000, 0, 2],
    [10, 1, Infinity],
    [10, 2, Infinity],
  ])("of %i rows at a limit of %f is %d", (listed, limit, most) => {
    expect(missingMax(listed, limit)).toBe(most);
  });
});

describe("a planned verification", () => {
  const plan = { ageMs: 7 * dayMs, scanEveryMs: dayMs, spreadMs: dayMs };
  function dueOf(item: Business): number | undefined {
    return withVerificationsDue(item, now, plan)?.wabas[wabaId]?.due?.nextAt;
  }
  function checked(at: number, status: Waba["status"] = "verified"): Business {
    return withStatus(status, { evidence: { ...evidence, checkedAt: at } });
  }

  test("comes within the age, and not before half of it", () => {
    expect(dueOf(checked(now - 2 * dayMs))).toBeUndefined();
    const at = now - 6 * dayMs;
    const due = dueOf(checked(at)) ?? 0;
    expect(due).toBeGreaterThanOrEqual(now);
    expect(due).toBeLessThanOrEqual(at + 7 * dayMs);
  });

  test("has its turn by the WABA's id, the same every time; what was never looked at counts from its command", () => {
    const late = dueOf(checked(now - 30 * dayMs)) ?? 0;
    const place = (late - now) / plan.spreadMs;
    const turnMs = plan.ageMs * (0.5 + 0.4 * place);
    const soon = now - Math.round(turnMs) + 1000;
    expect(Math.abs((dueOf(checked(soon)) ?? 0) - (now + 1000))).toBeLessThanOrEqual(1);
    expect(dueOf(checked(soon + plan.scanEveryMs + 1000))).toBeUndefined();
    const request = shareRequest({ requestedAt: soon });
    const unseen = sharedWaba({ request, due: undefined });
    expect(Math.abs((dueOf(verified({ wabas: { [wabaId]: unseen } })) ?? 0) - (now + 1000))).toBeLessThanOrEqual(1);
  });

  test("comes within a day when it is late, and as the same command's", () => {
    const due = dueOf(checked(now - 30 * dayMs)) ?? 0;
    expect(due - now).toBeLessThanOrEqual(dayMs);
    const planned = withVerificationsDue(checked(now - 30 * dayMs), now, plan);
    expect(planned?.wabas[wabaId]?.due?.request).toEqual(planned?.wabas[wabaId]?.request);
  });

  test("comes now for each that still believes in a record known to be deleted", () => {
    const records = { [allocationId]: { ...live, state: "deleted" as const } };
    const recent = { ...checked(now - 1000), records };
    expect(dueOf(recent)).toBe(dueOf(checked(now - 30 * dayMs)));
    expect(dueOf({ ...checked(now - 1000, "mismatched"), records })).toBeUndefined();
    expect(dueOf({ ...checked(now - 1000, "pending"), records })).toBeUndefined();
  });

  test.each<[string, Business]>([
    [
      "one is due already",
      withStatus("verified", { evidence: { ...evidence, checkedAt: 0 }, due: dueIn(shareRequest(), now) }),
    ],
    ["the switch has not come", checked(0, "pending")],
    ["it is not shared", checked(0, "revoked")],
  ])("is not planned when %s", (_why, item) => {
    expect(withVerificationsDue(item, now, plan)).toBeUndefined();
  });
});

describe("a finding", () => {
  const difference = { kind: "waba_left", subject: wabaId, wabaId } as const;
  function sight(known: Finding | undefined, scanId: number, completedId: number): Finding {
    const next = sighted(difference, known, { scanId, completedId }, now + scanId);
    if (next === undefined) throw new Error("Not seen");
    return next;
  }

  test("takes two scans in a row", () => {
    const once = sight(undefined, 1, 0);
    expect(atScanEnd(once, 1, "full")).toBe("nothing");
    expect(sighted(difference, once, { scanId: 1, completedId: 0 }, now)).toBeUndefined();
    const twice = sight(once, 2, 1);
    expect(twice).toMatchObject({ firstScanId: 1, lastScanId: 2, firstSeenAt: now + 1, lastSeenAt: now + 2 });
    expect(atScanEnd(twice, 2, "full")).toBe("confirm");
    expect(sight(once, 3, 2)).toMatchObject({ firstScanId: 3, firstSeenAt: now + 3 });
    // The scan in between never came to its end.
    expect(sight(once, 3, 1)).toMatchObject({ firstScanId: 1 });
  });

  test("goes on while it is open, also after a scan that did not see it; closed, it begins anew", () => {
    const open = opened(sight(sight(undefined, 1, 0), 2, 1), now).finding;
    expect(sight(open, 5, 4)).toMatchObject({ state: "open", firstScanId: 1, lastScanId: 5, version: 4 });
    const over = closed(open, now + 9).finding;
    expect(over).toMatchObject({ state: "closed", closedAt: now + 9, version: 4 });
    expect(sight(over, 3, 2)).toEqual({
      ...difference,
      state: "suspected",
      version: 5,
      firstScanId: 3,
      firstSeenAt: now + 3,
      lastScanId: 3,
      lastSeenAt: now + 3,
    });
  });

  test("of a scan that cannot tell is no first of two, and nothing else is decided by it", () => {
    const once = sight(undefined, 1, 0);
    const open = opened(sight(once, 2, 1), now).finding;
    expect(atScanEnd(once, 1, "none")).toBe("close");
    expect(atScanEnd(once, 2, "none")).toBe("nothing");
    expect(atScanEnd(open, 2, "none")).toBe("nothing");
  });

  test("is announced with all that it is about", () => {
    const about = { kind: "allocation_gone", subject: allocationId, businessId, wabaId, allocationId } as const;
    const seen = sighted(about, undefined, { scanId: 1, completedId: 0 }, now);
    expect(seen && opened(seen, now).events).toEqual([
      { detailType: "Drift Found", reason: "allocation_gone", businessId, wabaId, allocationConfigId: allocationId },
    ]);
    const line = { kind: "line_access_revoked", subject: lineId } as const;
    const taken = sighted(line, undefined, { scanId: 1, completedId: 0 }, now);
    const events = taken && opened(taken, now).events;
    expect(events).toStrictEqual([{ detailType: "Drift Found", reason: "line_access_revoked", creditLineId: lineId }]);
  });

  test.each([
    ["unfunded", { wabaId }, { type: "verify", wabaId }],
    ["funded_elsewhere", { wabaId }, { type: "verify", wabaId }],
    ["allocation_gone", { wabaId }, { type: "verify", wabaId }],
    ["allocation_gone", {}, undefined],
    ["waba_left", { wabaId }, { type: "revoke", wabaId, reason: "partner_removed" }],
    ["waba_left", {}, undefined],
    ["allocated_unattached", { wabaId }, { type: "share", wabaId }],
    ["allocated_unattached", { businessId }, undefined],
    ["allocation_unknown", { wabaId, businessId }, { type: "share", wabaId }],
    ["allocation_unknown", { businessId }, { type: "revoke", businessId, reason: "operator" }],
    ["allocation_unknown", {}, undefined],
    ["revoked_but_live", { wabaId, businessId }, { type: "revoke", businessId, reason: "operator" }],
    ["revoked_but_live", { wabaId }, undefined],
    ["record_duplicate", { wabaId, businessId }, undefined],
    ["unsettled_without_due", { businessId }, undefined],
    ["owner_changed", { wabaId, businessId }, undefined],
    ["line_access_revoked", { businessId }, undefined],
  ] as const)("of %s about %o is set right by %o", (kind, about, command) => {
    expect(commandFor({ kind, subject: "1", ...about })).toEqual(command);
  });

  test("is not overwritten by an older scan", () => {
    expect(sighted(difference, sight(undefined, 5, 4), { scanId: 4, completedId: 3 }, now)).toBeUndefined();
    expect(atScanEnd(sight(undefined, 5, 4), 4, "full")).toBe("nothing");
  });

  test("is closed by a scan that can tell and does not see it; announced only when its beginning was", () => {
    const once = sight(undefined, 1, 0);
    expect(atScanEnd(once, 2, "full")).toBe("close");
    expect(atScanEnd(once, 2, "sightings")).toBe("nothing");
    expect(closed(once, now).events).toEqual([]);
    const { finding, events } = opened(sight(once, 2, 1), now);
    expect(events).toEqual([{ detailType: "Drift Found", reason: "waba_left", wabaId }]);
    expect(atScanEnd(finding, 2, "full")).toBe("nothing");
    expect(atScanEnd(finding, 3, "sightings")).toBe("look");
    expect(atScanEnd(finding, 3, "none")).toBe("nothing");
    expect(closed(finding, now).events).toEqual([{ detailType: "Drift Closed", reason: "waba_left", wabaId }]);
  });

  test("does not count a sighting of a list that cannot be relied on", () => {
    const twice = sight(sight(undefined, 1, 0), 2, 1);
    expect(atScanEnd(twice, 2, "none")).toBe("close");
    expect(atScanEnd(twice, 2, "sightings")).toBe("confirm");
  });

  test("that comes back is a new one", () => {
    const { finding } = closed(opened(sight(sight(undefined, 1, 0), 2, 1), now).finding, now);
    expect(sight(finding, 4, 3)).toMatchObject({ state: "suspected", firstScanId: 4, version: finding.version + 1 });
    expect(sight(finding, 4, 3)).not.toHaveProperty("closedAt");
  });
});
