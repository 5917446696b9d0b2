import { describe, expect, test } from "vitest";
import type { HeldRevocation, RevokeRequest, Waba } from "../../../shared/domain/business.ts";
import { dueEntries } from "../../../shared/domain/business.ts";
import type { RemovalBreaker } from "../../../shared/domain/removal-breaker.ts";
import { judgeBreaker, resumed } from "../../../shared/domain/removal-breaker.ts";
import type { RemovalFacts } from "../../../shared/domain/removal.ts";
import { decideRemoval, recordRemoval } from "../../../shared/domain/removal.ts";
import { decideRevoke } from "../../../shared/domain/revoke.ts";
import {
  business,
  businessId,
  intent,
  minuteMs,
  now,
  otherBusinessId,
  policy,
  revokedWaba,
  revokeRequest,
  settleWindowMs,
  sharedWaba,
  sharingWaba,
  shareRequest,
  siblingId,
  skewMs,
  verifiedWaba,
  wabaId,
} from "../factories.ts";

function removal(overrides: Partial<RevokeRequest> = {}): RevokeRequest {
  return revokeRequest({
    commandId: "removed-1",
    hash: "hash-of-removed-1",
    wabaId,
    reason: "partner_removed",
    ...overrides,
  });
}

function factsOf(overrides: Partial<RemovalFacts> = {}): RemovalFacts {
  const wabas = { [wabaId]: verifiedWaba({ intendedAt: now - 5 * settleWindowMs }) };
  return { now, business: business({ wabas }), request: removal(), addedAt: {}, ...overrides };
}

const sibling = { [siblingId]: verifiedWaba({ request: shareRequest({ wabaId: siblingId }) }) };
const gone = { [wabaId]: "gone" } as const;
const clear = { presence: gone, strangers: "none", admitted: true } as const;

function heldOf(requests: RevokeRequest[], overrides: Partial<HeldRevocation> = {}): HeldRevocation {
  const due = { nextAt: now + settleWindowMs, looks: 3, sweeps: 0 };
  return { requests, reason: "siblings", since: now - minuteMs, due, ...overrides };
}

describe("a revocation that Meta, not a person, asked for", () => {
  test("is not marked by the command alone", () => {
    expect(decideRevoke(factsOf().business, removal(), false, policy)).toEqual({ kind: "removal" });
  });

  test("asks E3, then for siblings that the table does not know, then the breaker, and is then marked", () => {
    expect(decideRemoval(factsOf(), policy)).toEqual({ kind: "read-presence", wabaIds: [wabaId] });
    expect(decideRemoval(factsOf({ presence: gone }), policy)).toMatchObject({ kind: "read-strangers" });
    expect(decideRemoval(factsOf({ presence: gone, strangers: "none" }), policy)).toEqual({ kind: "ask-breaker" });
    expect(decideRemoval(factsOf(clear), policy)).toEqual({ kind: "mark" });
  });

  test.each([
    ["E3 does not answer clearly", { presence: { [wabaId]: "unread" } }, "cannot_tell"],
    ["E3 shows the WABA still, within the window", { presence: { [wabaId]: "here" } }, "still_visible"],
    ["Meta shows a sibling that the table does not know", { presence: gone, strangers: "some" }, "unknown_siblings"],
    ["Meta cannot say whether there is one", { presence: gone, strangers: "unknown" }, "cannot_tell"],
    ["too many left at once", { ...clear, admitted: false }, "breaker"],
  ] as const)("is held when %s", (_what, known, reason) => {
    expect(decideRemoval(factsOf(known), policy)).toEqual({ kind: "hold", reason });
  });

  test.each([
    ["is funded", verifiedWaba()],
    ["is mismatched, which may be Meta's lag", sharedWaba({ status: "mismatched" })],
    ["is being shared", sharingWaba({ intent: intent() })],
  ])("is held while a sibling %s", (_what, waba) => {
    const wabas = { ...factsOf().business.wabas, [siblingId]: waba };
    expect(decideRemoval(factsOf({ ...clear, business: business({ wabas }) }), policy)).toEqual({
      kind: "hold",
      reason: "siblings",
    });
  });

  test.each([
    ["earlier than its share by more than the skew", -skewMs - 1, "superseded"],
    ["within the skew before it", -skewMs, undefined],
    ["after it", 1, undefined],
  ])("of a time %s: %s ms, is answered %s", (_what, offsetMs, reason) => {
    const sharedAt = now - 10 * minuteMs;
    const wabas = { [wabaId]: verifiedWaba({ intendedAt: sharedAt }) };
    const request = removal({ requestedAt: sharedAt + offsetMs });
    const facts = factsOf({ ...clear, request, business: business({ wabas }) });
    const decision = decideRemoval(facts, policy);
    expect(decision.kind).toBe(reason === undefined ? "mark" : "answer");
    if (decision.kind !== "answer") return;
    expect(recordRemoval(facts, decision, policy).conclusions).toMatchObject([{ request, outcome: "refused", reason }]);
  });

  test("is answered when Meta shows the WABA after the window: it did not leave", () => {
    const request = removal({ requestedAt: now - settleWindowMs - 1 });
    const facts = factsOf({ request, presence: { [wabaId]: "here" } });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "answer" });
    const { business: next, conclusions } = recordRemoval(facts, { kind: "answer" }, policy);
    expect(conclusions).toMatchObject([{ outcome: "refused", reason: "still_shared" }]);
    expect(next.wabas[wabaId]?.removedAt).toBeUndefined();
  });

  test("is answered when its own line is gone already and a sibling's is not", () => {
    const wabas = { [wabaId]: revokedWaba(), ...sibling };
    const facts = factsOf({ business: business({ wabas }) });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "answer" });
    expect(recordRemoval(facts, { kind: "answer" }, policy).conclusions).toMatchObject([{ reason: "not_shared" }]);
  });

  test("does not take a newer re-share along, even under the policy that knows no siblings (I2d)", () => {
    const request = shareRequest({ wabaId: siblingId, requestedAt: now + skewMs, reshareAfterRevocation: true });
    const wabas = { ...factsOf().business.wabas, [siblingId]: verifiedWaba({ request }) };
    const facts = factsOf({ ...clear, business: business({ wabas }) });
    const bold = { ...policy, onPartnerRemoved: "revoke" as const };
    expect(decideRemoval(facts, bold)).toEqual({ kind: "hold", reason: "siblings" });
    const older = { ...wabas, ...sibling };
    expect(decideRemoval({ ...facts, business: business({ wabas: older }) }, bold)).toEqual({ kind: "mark" });
  });
});

describe("what is held", () => {
  const both: Record<string, Waba> = { ...factsOf().business.wabas, ...sibling };

  test("is noted on the WABA, announced once, and due; the WABA's status stays", () => {
    const facts = factsOf({ presence: gone, business: business({ wabas: both }) });
    const change = recordRemoval(facts, { kind: "hold", reason: "siblings" }, policy);
    expect(change.events).toMatchObject([
      { detailType: "Revocation Held", commandId: "removed-1", reason: "siblings", wabaId },
    ]);
    expect(change.conclusions).toEqual([]);
    expect(change.business.wabas[wabaId]).toMatchObject({ status: "verified", removedAt: facts.request?.requestedAt });
    expect(dueEntries(change.business).filter(({ work }) => work === "revoke")).toHaveLength(1);
    const again = recordRemoval({ ...facts, business: change.business }, { kind: "hold", reason: "siblings" }, policy);
    expect(again.events).toEqual([]);
    expect(again.business.held?.requests).toHaveLength(1);
  });

  test("goes on when the last sibling was removed too: both are asked of E3, and both are answered by one marker (H14)", () => {
    const second = removal({ commandId: "removed-2", hash: "hash-of-removed-2", wabaId: siblingId });
    const item = business({
      wabas: { ...both, [wabaId]: { ...both[wabaId]!, removedAt: now } },
      held: heldOf([removal()]),
    });
    const facts = factsOf({ business: item, request: second });
    const asked = decideRemoval(facts, policy);
    expect(asked.kind === "read-presence" && asked.wabaIds.toSorted()).toEqual([wabaId, siblingId].toSorted());
    const known = { ...facts, ...clear, presence: { ...gone, [siblingId]: "gone" } } as const;
    expect(decideRemoval(known, policy)).toEqual({ kind: "mark" });
    const { business: next } = recordRemoval(known, { kind: "mark" }, policy);
    expect(next.held).toBeUndefined();
    expect(next.revocation).toMatchObject({ state: "open", request: removal(), joined: [second] });
  });

  test("stays so while E3 shows a sibling whose removal was only noted", () => {
    const noted = { ...both[siblingId]!, removedAt: now - 2 * settleWindowMs };
    const item = business({ wabas: { ...both, [siblingId]: noted } });
    const facts = factsOf({ ...clear, presence: { ...gone, [siblingId]: "here" }, business: item });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "hold", reason: "siblings" });
    const { business: next } = recordRemoval(facts, { kind: "hold", reason: "siblings" }, policy);
    expect(next.wabas[siblingId]?.removedAt).toBeUndefined();
  });

  test("is due at once when whatever change took the last sibling away", () => {
    const held = heldOf([removal()]);
    expect(dueEntries(business({ wabas: both, held }))[0]?.due.nextAt).toBe(held.due.nextAt);
    const settled = { ...both, [siblingId]: revokedWaba() };
    expect(dueEntries(business({ wabas: settled, held }))[0]?.due.nextAt).toBeLessThan(now);
  });

  test("keeps at most twenty commands; the removal of another is noted all the same", () => {
    const requests = Array.from({ length: 20 }, (_, index) => removal({ commandId: `r-${index}`, hash: `h-${index}` }));
    const facts = factsOf({ presence: gone, business: business({ wabas: both, held: heldOf(requests) }) });
    const { business: next } = recordRemoval(facts, { kind: "hold", reason: "siblings" }, policy);
    expect(next.held?.requests).toHaveLength(20);
    expect(next.wabas[wabaId]?.removedAt).toBe(facts.request?.requestedAt);
  });

  test("is not mistaken for a command of the same id and other content (T2)", () => {
    const item = business({ wabas: both, held: heldOf([removal()]) });
    expect(decideRevoke(item, removal({ hash: "another" }), false, policy)).toEqual({ kind: "reused" });
  });
});

describe("the breaker of automatic revocations", () => {
  const limited = { ...policy, breaker: { removals: 2, windowMs: 600_000 } };

  function through(breaker: RemovalBreaker | undefined, id: string, at: number, stoppedSince?: number) {
    const verdict = judgeBreaker(breaker, id, stoppedSince, at, limited);
    return { kind: verdict.kind, next: "next" in verdict ? verdict.next : breaker };
  }

  test("lets as many through as configured, counts each business once, stops at the next, and says so", () => {
    const first = through(undefined, businessId, now);
    const again = through(first.next, businessId, now + 1);
    const second = through(again.next, otherBusinessId, now + 2);
    const third = judgeBreaker(second.next, "200000000000003", undefined, now + 3, limited);
    expect([first.kind, again.kind, second.kind]).toEqual(["count", "admit", "count"]);
    expect(third).toMatchObject({ kind: "stop", events: [{ detailType: "Revocations Stopped" }] });
    expect(through("next" in third ? third.next : undefined, businessId, now + 86_400_000).kind).toBe("hold");
  });

  test("forgets what is older than its window", () => {
    const full = through(through(undefined, businessId, now).next, otherBusinessId, now + 1).next;
    expect(through(full, "200000000000003", now + 600_000).kind).toBe("count");
    expect(through(full, "200000000000003", now + 599_999).kind).toBe("stop");
  });

  test("resumed, lets what it held go on uncounted, and counts anew", () => {
    const stopped: RemovalBreaker = { state: "stopped", recent: { [businessId]: now, [otherBusinessId]: now } };
    const open = resumed(stopped, now + 10);
    expect(open?.events).toMatchObject([{ detailType: "Revocations Resumed" }]);
    expect(through(open?.next, "200000000000003", now + 20, now + 5).kind).toBe("admit");
    expect(through(open?.next, "200000000000004", now + 20).kind).toBe("count");
    expect(resumed(open?.next, now + 30)).toBeUndefined();
  });
});
