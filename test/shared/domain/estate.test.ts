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
import { atScanEnd, closed, opened, sighted } from "../../../shared/domain/findings.ts";
import {
  allocationId,
  business,
  businessId,
  credentialId,
  intent,
  lineId,
  now,
  otherAllocationId,
  policy,
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
  ])("and not while %s", (_why, overrides) => {
    expect(isCalm(verified(overrides), view)).toBe(false);
  });

  test.each<[string, Partial<Business>]>([
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
    // A record that E8 names is the finding itself.
    expect(judge(row, revokedBusiness(wabas), (id) => id === businessId)).toBeUndefined();
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

  test("comes within a day when it is late, and as the same command's", () => {
    const due = dueOf(checked(now - 30 * dayMs)) ?? 0;
    expect(due - now).toBeLessThanOrEqual(dayMs);
    const planned = withVerificationsDue(checked(now - 30 * dayMs), now, plan);
    expect(planned?.wabas[wabaId]?.due?.request).toEqual(planned?.wabas[wabaId]?.request);
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
