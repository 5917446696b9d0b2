import { describe, expect, test } from "vitest";
import type {
  Business,
  Due,
  HeldRevocation,
  HoldReason,
  RevokeRequest,
  Waba,
  WabaStatus,
} from "../../../shared/domain/business.ts";
import {
  dueAt,
  dueEntries,
  dueIn,
  isRevoked,
  lookDelayMs,
  lookingAgain,
  removedWabas,
  siblingsOf,
  swept,
  transitions,
  windowEnd,
  withWaba,
} from "../../../shared/domain/business.ts";
import {
  business,
  doneRevocation,
  intent,
  minuteMs,
  now,
  openRevocation,
  revokedBusiness,
  revokedWaba,
  revokeRequest,
  settleWindowMs,
  sharedWaba,
  shareRequest,
  sharingWaba,
  siblingId,
  skewMs,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const statuses = Object.keys(transitions).filter((status): status is WabaStatus => status !== "none");

function wabaOf(status: WabaStatus): Waba {
  if (status === "sharing" || status === "allocated") return sharingWaba({ status });
  if (status === "revoking" || status === "revoked") return revokedWaba({ status });
  return sharedWaba({ status });
}

describe("the state chart", () => {
  test("is closed: it leads to no status that it does not hold", () => {
    expect(
      Object.values(transitions)
        .flat()
        .filter((to) => !(to in transitions)),
    ).toEqual([]);
  });

  test("reaches every status from a WABA that is not held yet", () => {
    const reached = new Set<WabaStatus | "none">(["none"]);
    for (const from of reached) for (const to of transitions[from]) reached.add(to);
    expect([...reached].toSorted()).toEqual(["none", ...statuses].toSorted());
  });

  test("leads from every status to revoked, so that a revocation can always end", () => {
    for (const from of statuses) {
      const reached = new Set<WabaStatus>([from]);
      for (const status of reached) for (const to of transitions[status]) reached.add(to);
      expect(reached, from).toContain("revoked");
    }
  });

  test("shares what is being revoked only once it is revoked", () => {
    expect(transitions.revoking).toEqual(["revoking", "revoked"]);
  });

  const pairs = statuses.flatMap((from) => statuses.map((to): [WabaStatus, WabaStatus] => [from, to]));

  test("is kept by every change of a WABA: what it does not allow is thrown as a defect", () => {
    for (const [from, to] of pairs) {
      const stored = business({ wabas: { [wabaId]: wabaOf(from) } });
      const allowed: readonly WabaStatus[] = transitions[from];
      function change() {
        return withWaba(stored, wabaId, wabaOf(to)).wabas[wabaId]?.status;
      }
      if (allowed.includes(to)) expect(change()).toBe(to);
      else expect(change).toThrow(`No transition from ${from} to ${to}`);
    }
  });

  test("lets a WABA that is not held yet only be shared", () => {
    expect(() => withWaba(business(), wabaId, verifiedWaba())).toThrow("No transition from none to verified");
    expect(withWaba(business(), wabaId, sharingWaba()).wabas[wabaId]?.status).toBe("sharing");
  });

  test("touches no other WABA", () => {
    const stored = business({ wabas: { [siblingId]: verifiedWaba() } });
    expect(withWaba(stored, wabaId, sharingWaba()).wabas[siblingId]).toBe(stored.wabas[siblingId]);
  });
});

describe("what is due", () => {
  function due(nextAt: number): Due {
    return { nextAt, looks: 2, sweeps: 1 };
  }

  const wabas = {
    "1": sharingWaba({ due: { ...due(now + 3), request: shareRequest() } }),
    "2": sharedWaba({ due: { ...due(now + 4), request: shareRequest() } }),
    "3": verifiedWaba({ due: { ...due(now + 5), request: verifyRequest() } }),
    "4": revokedWaba({ due: { ...due(now + 6), request: shareRequest() } }),
    "5": revokedWaba({ due: { ...due(now + 7), request: verifyRequest() } }),
    "6": verifiedWaba(),
  };
  const waiting = { "7": { request: shareRequest({ commandId: "share-2", requestedAt: now }), due: due(now + 2) } };
  const revocation = openRevocation({ requestedAt: now - 1, due: due(now + 1) });
  const busy = business({ wabas, waiting, revocation });

  test("is every unsettled entry, with the work that serves it and its command's own id", () => {
    const entries = dueEntries(busy).map(({ work, wabaId: id, commandId, due: { nextAt } }) => [
      work,
      id,
      commandId,
      nextAt - now,
    ]);
    expect(entries).toEqual([
      ["share", "1", "share-1", 3],
      ["verify", "2", "share-1", 4],
      ["verify", "3", "verify-1", 5],
      ["share", "4", "share-1", 6],
      ["verify", "5", "verify-1", 7],
      ["share", "7", "share-2", 2],
      ["revoke", undefined, "revoke-1", 1],
    ]);
  });

  test("carries the commands' own requestedAt (C1), a revocation's being the latest it answers", () => {
    const byWork = Object.fromEntries(dueEntries(busy).map(({ commandId, requestedAt }) => [commandId, requestedAt]));
    expect(byWork).toEqual({
      "share-1": now - minuteMs,
      "share-2": now,
      "verify-1": now - minuteMs,
      "revoke-1": now - 1,
    });
  });

  test("is due when its earliest entry is (T5)", () => {
    expect(dueAt(busy)).toBe(now + 1);
    const { revocation: _none, ...rest } = busy;
    expect(dueAt(rest)).toBe(now + 2);
  });

  test("is nothing on a settled item", () => {
    expect(dueEntries(revokedBusiness())).toEqual([]);
    expect(dueAt(revokedBusiness({ wabas: { [wabaId]: verifiedWaba() } }))).toBeUndefined();
  });

  test("is served by a sweep that moves the served entries and no others (H27b, H27p)", () => {
    const at = now + 4;
    const later = dueEntries(swept(busy, at, settleWindowMs)).map((entry) => [entry.wabaId, entry.due]);
    const moved = { nextAt: at + lookDelayMs(5, settleWindowMs), looks: 2, sweeps: 2 };
    expect(Object.fromEntries(later)).toMatchObject({
      "1": moved,
      "2": moved,
      "3": due(now + 5),
      "4": due(now + 6),
      "5": due(now + 7),
      "7": moved,
      undefined: moved,
    });
  });

  test("is moved by a sweep where it stands on the business: what is held, and an E4's note", () => {
    const request = shareRequest();
    const held = heldFor(revokeRequest({ reason: "partner_removed" }), "by_policy");
    const recordIntent = { ...intent(), creditLineId: "400000000000001", request, due: due(now) };
    const moved = { nextAt: now + lookDelayMs(5, settleWindowMs), looks: 2, sweeps: 2 };
    const next = swept(business({ held: { ...held, due: due(now) }, recordIntent }), now, settleWindowMs);
    expect(next.held).toEqual({ ...held, due: moved });
    expect(next.recordIntent).toEqual({ ...recordIntent, due: moved });
    const { due: _none, ...overtaken } = recordIntent;
    expect(swept(business({ recordIntent: overtaken }), now, settleWindowMs).recordIntent).toEqual(overtaken);
  });

  test("keeps its command when it is swept", () => {
    expect(swept(busy, now + 4, settleWindowMs).wabas["1"]?.due?.request).toEqual(shareRequest());
  });

  test("comes later with each sweep that no look followed, and soon again after a look", () => {
    const stored = business({ wabas: { [wabaId]: sharedWaba({ due: dueIn(shareRequest(), now) }) } });
    const first = swept(stored, now, settleWindowMs);
    expect(dueAt(first)).toBe(now + 8 * minuteMs);
    expect(dueAt(swept(first, now + 8 * minuteMs, settleWindowMs))).toBe(now + 24 * minuteMs);
    expect(dueIn(shareRequest(), now, 1)).toMatchObject({ nextAt: now, looks: 1, sweeps: 0 });
  });
});

function heldFor(request: RevokeRequest, reason: HoldReason): HeldRevocation {
  return { requests: [request], reason, since: now - minuteMs, due: { nextAt: now + minuteMs, looks: 2, sweeps: 0 } };
}

describe("a revocation that is held", () => {
  const removal = revokeRequest({ reason: "partner_removed", wabaId });

  test.each([
    ["siblings", now - minuteMs],
    ["by_policy", now + minuteMs],
    ["breaker", now + minuteMs],
  ] as const)("by %s is due at once for the lack of siblings only when it waits for them", (reason, nextAt) => {
    const stored = business({ wabas: { [wabaId]: verifiedWaba() }, held: heldFor(removal, reason) });
    expect(dueEntries(stored)).toMatchObject([{ work: "revoke", commandId: "revoke-1", due: { nextAt, looks: 2 } }]);
  });

  test("is looked at again at once when something happens to a WABA that it is about, and only then", () => {
    const other = revokeRequest({ commandId: "revoke-2", reason: "partner_removed" });
    const held = { ...heldFor(removal, "by_policy"), requests: [removal, other] };
    const stored = business({ held });
    expect(lookingAgain(stored, wabaId, now).held).toEqual({ ...held, due: { ...held.due, nextAt: now } });
    expect(lookingAgain(stored, wabaId, now + 2 * minuteMs).held).toEqual(held);
    expect(lookingAgain(stored, siblingId, now)).toBe(stored);
    expect(lookingAgain(business(), wabaId, now)).toEqual(business());
  });

  test("is about what it names and what was noted; what an E4 is out for is a sibling (W1)", () => {
    const noted = { ...verifiedWaba(), removedAt: now };
    const recordIntent = { ...intent(), creditLineId: "400000000000001", request: shareRequest({ wabaId: "7" }) };
    const wabas = { [siblingId]: noted, "6": verifiedWaba() };
    const nameless = revokeRequest({ commandId: "revoke-2", reason: "partner_removed" });
    const held = { ...heldFor(removal, "siblings"), requests: [removal, nameless] };
    const stored = business({ wabas, held, recordIntent });
    expect([...removedWabas(stored)].toSorted()).toEqual([wabaId, siblingId].toSorted());
    expect([...removedWabas(business())]).toEqual([]);
    expect(siblingsOf(stored, removedWabas(stored)).toSorted()).toEqual(["6", "7"]);
    expect(siblingsOf(business({ wabas }), new Set([siblingId]))).toEqual(["6"]);
  });
});

describe("the delay before a look", () => {
  test("doubles from a sixtieth of the settle window up to a day's worth of windows", () => {
    const delays = Array.from({ length: 14 }, (_, looks) => lookDelayMs(looks, settleWindowMs));
    expect(delays.slice(0, 4)).toEqual([30_000, 60_000, 120_000, 240_000]);
    expect(delays.every((delay, index) => index === 0 || delay >= (delays[index - 1] ?? 0))).toBe(true);
    expect(delays.at(-1)).toBe(86_400_000);
    expect(lookDelayMs(1000, settleWindowMs)).toBe(86_400_000);
  });
});

describe("the settle window", () => {
  test("is counted from the send deadline, not from the making of the intent", () => {
    expect(windowEnd(intent({ madeAt: now, sendDeadline: now + 8000 }), settleWindowMs)).toBe(
      now + 8000 + settleWindowMs,
    );
  });
});

describe("a business is revoked", () => {
  const { requestedAt } = doneRevocation();
  const reshare = shareRequest({ reshareAfterRevocation: true });

  function reshared(offset: number): Business {
    return revokedBusiness({ reshare: { commandId: "reshare-1", requestedAt: requestedAt + offset } });
  }

  test("once its revocation is done", () => {
    expect(isRevoked(revokedBusiness(), skewMs)).toBe(true);
    expect(isRevoked(business({ revocation: openRevocation() }), skewMs)).toBe(false);
    expect(isRevoked(business(), skewMs)).toBe(false);
  });

  test("but not by a revocation that found nothing (H27d)", () => {
    expect(isRevoked(business({ revocation: doneRevocation({ state: "nothing" }) }), skewMs)).toBe(false);
  });

  test("until a re-share is newer by more than the skew", () => {
    expect(isRevoked(reshared(skewMs), skewMs)).toBe(true);
    expect(isRevoked(reshared(skewMs + 1), skewMs)).toBe(false);
  });

  test.each([
    ["under way", sharingWaba({ request: reshare }), false],
    ["shared", verifiedWaba({ request: reshare }), false],
    ["without effect", sharingWaba({ request: reshare, intent: undefined }), true],
    ["revoked itself", revokedWaba({ request: reshare }), true],
  ])("and the re-share counts as long as it stands: %s", (_title, waba, revoked) => {
    expect(isRevoked(revokedBusiness({ wabas: { [wabaId]: waba } }), skewMs)).toBe(revoked);
  });

  test("and the re-share counts while its E4 is out (R2)", () => {
    const recordIntent = { ...intent({ epoch: 1 }), creditLineId: "400000000000001", request: reshare };
    expect(isRevoked(revokedBusiness({ recordIntent }), skewMs)).toBe(false);
    const plain = { ...recordIntent, request: shareRequest() };
    expect(isRevoked(revokedBusiness({ recordIntent: plain }), skewMs)).toBe(true);
  });

  test("again by a revocation that is newer than the re-share", () => {
    const revocation = doneRevocation({ request: revokeRequest(), requestedAt: now });
    expect(isRevoked({ ...reshared(skewMs + 1), revocation }, skewMs)).toBe(true);
  });
});
