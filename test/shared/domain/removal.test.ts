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

  test("is held, whatever Meta shows, where the stage leaves removals to a person", () => {
    const careful = { ...policy, onPartnerRemoved: "hold" as const };
    expect(decideRemoval(factsOf(clear), careful)).toEqual({ kind: "hold", reason: "by_policy" });
  });

  test("does not look for siblings where the stage does not spare them", () => {
    const bold = { ...policy, onPartnerRemoved: "revoke" as const };
    expect(decideRemoval(factsOf({ presence: gone }), bold)).toEqual({ kind: "ask-breaker" });
  });

  test("asks E3 of its own WABA alone while a sibling holds it anyway, and of all that left without one", () => {
    const wabas = { ...factsOf().business.wabas, ...sibling };
    const other = removal({ commandId: "removed-0", hash: "hash-of-removed-0", wabaId: "300000000000003" });
    const waiting = factsOf({ business: business({ wabas, held: heldOf([other]) }) });
    expect(decideRemoval(waiting, policy)).toEqual({ kind: "read-presence", wabaIds: [wabaId] });
    const { request: _none, ...again } = waiting;
    const asked = decideRemoval(again, policy);
    expect(asked).toEqual({ kind: "read-presence", wabaIds: [other.wabaId] });
    const nameless = factsOf({ business: business({ wabas }), request: removal({ wabaId: undefined, businessId }) });
    expect(decideRemoval(nameless, policy)).toEqual({ kind: "read-presence", wabaIds: [] });
  });

  test("is held while E3 shows any one of those that are said to have left", () => {
    const wabas = { ...factsOf().business.wabas, ...sibling };
    const second = removal({ commandId: "removed-2", hash: "hash-of-removed-2", wabaId: siblingId });
    const facts = factsOf({
      ...clear,
      business: business({ wabas, held: heldOf([removal()]) }),
      request: second,
      presence: { ...gone, [siblingId]: "here" },
    });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "hold", reason: "still_visible" });
  });

  test("stands, however old it is, when E3 shows the WABA gone", () => {
    const request = removal({ requestedAt: now - 2 * settleWindowMs });
    expect(decideRemoval(factsOf({ ...clear, request }), policy)).toEqual({ kind: "mark" });
  });

  test("is held, not answered, when Meta shows the WABA at the very end of the window (A3)", () => {
    const request = removal({ requestedAt: now - settleWindowMs });
    const facts = factsOf({ request, presence: { [wabaId]: "here" } });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "hold", reason: "still_visible" });
  });

  test("of a time before Meta told that the WABA was added is over (W2)", () => {
    const addedAt = { [wabaId]: now };
    const early = factsOf({ ...clear, addedAt, request: removal({ requestedAt: now - skewMs - 1 }) });
    expect(decideRemoval(early, policy)).toEqual({ kind: "answer" });
    const skewed = factsOf({ ...clear, addedAt, request: removal({ requestedAt: now - skewMs }) });
    expect(decideRemoval(skewed, policy)).toEqual({ kind: "mark" });
  });

  test.each([
    ["more than the skew", skewMs + 1, "answer"],
    ["the skew", skewMs, "read-presence"],
  ])("yields to a re-share of its WABA that is newer by %s (R2)", (_title, newerMs, kind) => {
    const request = removal({ requestedAt: now - 2 * skewMs });
    const reshare = shareRequest({ reshareAfterRevocation: true, requestedAt: request.requestedAt + newerMs });
    const wabas = { [wabaId]: verifiedWaba({ request: reshare }) };
    const facts = factsOf({ business: business({ wabas }), request });
    const decision = decideRemoval(facts, policy);
    expect(decision.kind).toBe(kind);
    if (decision.kind !== "answer") return;
    expect(recordRemoval(facts, decision, policy).conclusions).toMatchObject([{ request, reason: "superseded" }]);
    // The newest of all that were told counts.
    const newer = removal({ commandId: "removed-2", hash: "hash-of-removed-2", requestedAt: reshare.requestedAt });
    const both = { ...facts, business: business({ wabas, held: heldOf([request]) }), request: newer };
    expect(decideRemoval(both, policy).kind).toBe("read-presence");
  });

  test.each<[string, Record<string, Waba>]>([
    ["is not on the table, and may be funded", {}],
    ["has a share that is about to be tried again", { [wabaId]: sharingWaba({ intent: undefined }) }],
    ["was revoked while a POST is unanswered", { [wabaId]: revokedWaba({ intent: intent() }) }],
  ])("is held beside a sibling when its WABA %s", (_title, own) => {
    const facts = factsOf({ ...clear, business: business({ wabas: { ...own, ...sibling } }) });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "hold", reason: "siblings" });
  });

  test("goes on when its own line is gone, and no sibling is left: something of the business may still be live", () => {
    const facts = factsOf({ ...clear, business: business({ wabas: { [wabaId]: revokedWaba() } }) });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "mark" });
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

  test.each([
    ["cannot_tell", 0, settleWindowMs / 60],
    ["cannot_tell", 3, (16 * settleWindowMs) / 60],
    ["still_visible", 3, (16 * settleWindowMs) / 60],
    ["siblings", 0, 48 * settleWindowMs],
    ["by_policy", 3, 48 * settleWindowMs],
    ["breaker", 3, 48 * settleWindowMs],
  ] as const)("by %s, after %i looks, is asked again after %i ms", (reason, looks, waitMs) => {
    const held = heldOf([removal()], { reason, due: { nextAt: now, looks, sweeps: 2 } });
    const facts = factsOf({ business: business({ wabas: both, ...(looks === 0 ? {} : { held }) }) });
    const { business: next } = recordRemoval(facts, { kind: "hold", reason }, policy);
    expect(next.held?.due).toEqual({ nextAt: now + waitMs, looks: looks === 0 ? 0 : looks + 1, sweeps: 0 });
  });

  test("is announced for each new command, and again when the reason changes, in the name of the oldest", () => {
    const second = removal({ commandId: "removed-2", hash: "hash-of-removed-2", wabaId: undefined });
    const since = now - minuteMs;
    const item = business({ wabas: both, held: heldOf([removal()], { since }) });
    const facts = factsOf({ business: item, request: second });
    const joined = recordRemoval(facts, { kind: "hold", reason: "siblings" }, policy);
    expect(joined.events).toEqual([
      { detailType: "Revocation Held", commandId: "removed-2", businessId, reason: "siblings" },
    ]);
    expect(joined.business.held).toMatchObject({ requests: [removal(), second], since });
    const { request: _none, ...looked } = { ...facts, business: joined.business };
    expect(recordRemoval(looked, { kind: "hold", reason: "siblings" }, policy).events).toEqual([]);
    expect(recordRemoval({ ...looked, request: second }, { kind: "hold", reason: "siblings" }, policy).events).toEqual(
      [],
    );
    const changed = recordRemoval(looked, { kind: "hold", reason: "breaker" }, policy);
    expect(changed.events).toMatchObject([{ commandId: "removed-1", reason: "breaker", wabaId }]);
    expect(changed.business.held).toMatchObject({ reason: "breaker", since: now });
  });

  test("is held no more when every command has its answer", () => {
    const stale = removal({ requestedAt: now - settleWindowMs - 1 });
    const facts = factsOf({
      business: business({ wabas: both, held: heldOf([stale]) }),
      request: stale,
      presence: { [wabaId]: "here" },
    });
    expect(decideRemoval(facts, policy)).toEqual({ kind: "answer" });
    const { business: next, events } = recordRemoval(facts, { kind: "answer" }, policy);
    expect([next.held, events]).toEqual([undefined, []]);
    expect(next.revocation).toBeUndefined();
  });

  test("is answered where it is over, by the very write that marks the rest", () => {
    const stale = removal({ commandId: "removed-0", hash: "hash-of-removed-0", requestedAt: now - 6 * settleWindowMs });
    const item = business({ wabas: factsOf().business.wabas, held: heldOf([stale]) });
    const { business: next, conclusions } = recordRemoval(
      factsOf({ ...clear, business: item }),
      { kind: "mark" },
      policy,
    );
    expect(conclusions).toMatchObject([{ request: stale, outcome: "refused", reason: "superseded" }]);
    expect(next.revocation).toMatchObject({ request: removal(), joined: [] });
    expect(next.held).toBeUndefined();
  });

  test.each([
    ["stays while nothing contradicts it", now - minuteMs, {}, now - minuteMs],
    ["goes when the command that told of it was answered", now - 6 * settleWindowMs, {}, undefined],
    ["goes when E3 shows the WABA", now - minuteMs, { [wabaId]: "here" as const }, undefined],
  ])("a removal that was noted before %s", (_title, removedAt, presence, expected) => {
    const answered = removal({
      commandId: "removed-0",
      hash: "hash-of-removed-0",
      requestedAt: now - 6 * settleWindowMs,
    });
    const wabas = { ...both, [wabaId]: { ...both[wabaId]!, removedAt } };
    const other = removal({ wabaId: siblingId });
    const facts = factsOf({ business: business({ wabas, held: heldOf([answered]) }), request: other, presence });
    const { business: next } = recordRemoval(facts, { kind: "hold", reason: "cannot_tell" }, policy);
    expect(next.wabas[wabaId]?.removedAt).toBe(expected);
    expect(next.wabas[siblingId]?.removedAt).toBe(other.requestedAt);
  });

  test("a removal that was noted before stays when a command about another WABA was answered", () => {
    const stale = removal({ commandId: "removed-0", hash: "hash-of-removed-0", requestedAt: now - 6 * settleWindowMs });
    const removedAt = now - 7 * settleWindowMs;
    const wabas = { ...both, [siblingId]: { ...both[siblingId]!, removedAt } };
    const facts = factsOf({ business: business({ wabas, held: heldOf([stale]) }) });
    const { business: next, conclusions } = recordRemoval(facts, { kind: "hold", reason: "cannot_tell" }, policy);
    expect(conclusions).toMatchObject([{ request: stale }]);
    expect(next.wabas[siblingId]?.removedAt).toBe(removedAt);
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

  test("keeps what it counted, and says why it stopped", () => {
    const counted = judgeBreaker(undefined, businessId, undefined, now, limited);
    expect(counted).toEqual({ kind: "count", next: { state: "closed", recent: { [businessId]: now } }, events: [] });
    const full: RemovalBreaker = { state: "closed", recent: { [businessId]: now, [otherBusinessId]: now } };
    expect(judgeBreaker(full, "200000000000003", undefined, now, limited)).toEqual({
      kind: "stop",
      next: { ...full, state: "stopped" },
      events: [{ detailType: "Revocations Stopped", reason: "breaker" }],
    });
  });

  test("lets nothing go on uncounted but what was held before a person resumed it", () => {
    const open: RemovalBreaker = { state: "closed", recent: {}, resumedAt: now };
    expect(through(open, businessId, now + 20, now).kind).toBe("admit");
    expect(through(open, businessId, now + 20, now + 1).kind).toBe("count");
    expect(through({ ...open, state: "stopped" }, businessId, now + 20, now + 1).kind).toBe("hold");
    // Never resumed: what it held stays held.
    expect(through({ state: "stopped", recent: {} }, businessId, now + 20, now).kind).toBe("hold");
  });

  test("forgets what is older than its window", () => {
    const full = through(through(undefined, businessId, now).next, otherBusinessId, now + 1).next;
    expect(through(full, "200000000000003", now + 600_000).kind).toBe("count");
    expect(through(full, "200000000000003", now + 599_999).kind).toBe("stop");
  });

  test("resumed, lets what it held go on uncounted, and counts anew", () => {
    const stopped: RemovalBreaker = { state: "stopped", recent: { [businessId]: now, [otherBusinessId]: now } };
    const open = resumed(stopped, now + 10);
    expect(open).toEqual({
      next: { state: "closed", recent: {}, resumedAt: now + 10, waking: true },
      events: [{ detailType: "Revocations Resumed", reason: "operator" }],
    });
    expect(resumed(undefined, now)).toBeUndefined();
    expect(through(open?.next, "200000000000003", now + 20, now + 5).kind).toBe("admit");
    expect(through(open?.next, "200000000000004", now + 20).kind).toBe("count");
    expect(resumed(open?.next, now + 30)).toBeUndefined();
  });
});
