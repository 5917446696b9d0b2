import { describe, expect, test } from "vitest";
import type { Business, SharedWaba, VerifyRequest } from "../../../shared/domain/business.ts";
import { dueIn } from "../../../shared/domain/business.ts";
import { startOfNextMonth } from "../../../shared/domain/calendar.ts";
import type { RecordReading } from "../../../shared/domain/readings.ts";
import type { Proof, VerifyOutcome } from "../../../shared/domain/verify.ts";
import { decideVerify, judgeProof, postponeLook, recordProof, refuseVerify } from "../../../shared/domain/verify.ts";
import {
  allocationId,
  business,
  businessId,
  credentialId,
  failure,
  minuteMs,
  now,
  otherBusinessId,
  policy,
  record,
  recordReading,
  revokedWaba,
  sharedWaba,
  shareRequest,
  sharingWaba,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const strangerFunds = { known: true, id: "699999999999999" } as const;

/** A proof that agrees, unless told otherwise. */
function proof(overrides: Partial<Proof> = {}): Proof {
  return { record: recordReading(), funding: { known: true, id: credentialId }, ...overrides };
}

function holding(waba: SharedWaba): Business {
  return business({ wabas: { [wabaId]: waba }, records: { [allocationId]: record({ state: "unknown" }) } });
}

function find(stored: Business, equal: boolean, at = now, request?: VerifyRequest): VerifyOutcome {
  const seen = proof(equal ? {} : { funding: strangerFunds });
  return recordProof(stored, wabaId, seen, { kind: equal ? "equal" : "unequal" }, request, at, policy);
}

function wabaOf({ change }: VerifyOutcome): SharedWaba {
  return change.business.wabas[wabaId] as SharedWaba;
}

/** Looks at what is due, in its own name, until nothing is; answers when each look was and what it left. */
function lookWhileDue(stored: Business, equal: boolean, until = Number.POSITIVE_INFINITY) {
  const looks: { at: number; status: string; said: string[] }[] = [];
  let current = stored;
  let at = current.wabas[wabaId]?.due?.nextAt;
  while (at !== undefined && at < until) {
    const outcome = find(current, equal, at);
    current = outcome.change.business;
    const said = [...outcome.change.events, ...outcome.change.conclusions.map((one) => one.event)];
    looks.push({ at, status: wabaOf(outcome).status, said: said.map((one) => one.detailType) });
    at = current.wabas[wabaId]?.due?.nextAt;
  }
  return { looks, business: current };
}

describe("a verification", () => {
  test.each(["shared", "verified", "pending", "mismatched"] as const)("looks at a WABA that is %s", (status) => {
    const waba = sharedWaba({ status });
    expect(decideVerify(business({ wabas: { [wabaId]: waba } }), wabaId)).toEqual({ kind: "look", waba });
  });

  test("comes back later while a share is under way (V2: an unsettled attempt changes nothing)", () => {
    expect(decideVerify(business({ wabas: { [wabaId]: sharingWaba() } }), wabaId)).toEqual({ kind: "later" });
    const stranded = business({ wabas: { [wabaId]: sharingWaba({ due: undefined }) } });
    expect(decideVerify(stranded, wabaId)).toEqual({ kind: "later" });
    const parked = sharingWaba({ intent: undefined });
    expect(decideVerify(business({ wabas: { [wabaId]: parked } }), wabaId)).toEqual({ kind: "later" });
  });

  test.each(["revoking", "revoked"] as const)("is refused for a WABA that is %s", (status) => {
    const wabas = { [wabaId]: revokedWaba({ status }) };
    expect(decideVerify(business({ wabas }), wabaId)).toEqual({ kind: "refuse", reason: "business_revoked" });
  });

  test("is refused for a WABA that was never shared", () => {
    const closed = sharingWaba({ intent: undefined, due: undefined });
    for (const stored of [undefined, business(), business({ wabas: { [wabaId]: closed } })]) {
      expect(decideVerify(stored, wabaId)).toEqual({ kind: "refuse", reason: "not_shared" });
    }
  });

  test("that is refused is announced with what is known", () => {
    const stored = business({ wabas: { [wabaId]: revokedWaba() } });
    expect(refuseVerify(stored, verifyRequest(), "business_revoked")).toMatchObject({
      request: verifyRequest(),
      outcome: "refused",
      reason: "business_revoked",
    });
    expect(refuseVerify(stored, verifyRequest(), "business_revoked").event).toEqual({
      detailType: "Verify Refused",
      commandId: "verify-1",
      wabaId,
      businessId,
      status: "revoked",
      reason: "business_revoked",
    });
    expect(refuseVerify(undefined, verifyRequest(), "not_shared").event).not.toHaveProperty("businessId");
  });
});

describe("the proof", () => {
  function judge(seen: Partial<RecordReading>, funding: Proof["funding"] = { known: true, id: credentialId }) {
    return judgeProof(businessId, { record: recordReading(seen), funding });
  }

  test("agrees when a live record of this business is what funds the WABA (V1)", () => {
    expect(judge({})).toEqual({ kind: "equal" });
  });

  test.each<[string, Partial<RecordReading>, Proof["funding"]?]>([
    ["another id funds the WABA", {}, strangerFunds],
    ["nothing funds the WABA", {}, { known: true }],
    ["H8: the record is deleted, although its credential still funds the WABA", { seen: "deleted" }],
    ["the record names another business", { receivingBusinessId: otherBusinessId }],
    ["both ids are empty", { receivingCredentialId: "" }, { known: true, id: "" }],
  ])("disagrees when %s", (_title, seen, funding) => {
    expect(judge(seen, funding)).toEqual({ kind: "unequal" });
  });

  test.each<[string, Partial<RecordReading>, Proof["funding"]?]>([
    ["the funding cannot be read", {}, { known: false }],
    ["the record cannot be read", { seen: "unreadable" }, strangerFunds],
    ["the record is missing", { seen: "missing" }, strangerFunds],
    ["the record has a status Meta does not document", { seen: "strange" }],
    ["the record does not say whose it is", { receivingBusinessId: undefined }],
    ["the record does not show its credential", { receivingCredentialId: undefined }],
  ])("says nothing when %s (V2)", (_title, seen, funding) => {
    expect(judge(seen, funding)).toEqual({ kind: "unknown" });
  });

  test("that says nothing tells why, where Meta said so", () => {
    const cause = failure("token_dead");
    expect(judge({}, { known: false, failure: cause })).toEqual({ kind: "unknown", failure: cause });
    expect(judge({ seen: "unreadable", failure: cause }, strangerFunds)).toEqual({ kind: "unknown", failure: cause });
  });
});

describe("a proof that agrees", () => {
  test("verifies the WABA, keeps the evidence and leaves nothing due", () => {
    const outcome = find(holding(sharedWaba({ lastFailure: failure() })), true);
    expect(wabaOf(outcome)).toEqual(verifiedWaba());
    expect(outcome.change.business.records[allocationId]).toMatchObject({ state: "live", readAt: now });
  });

  test("is a look at one record, which ends no first contact: a list may show more", () => {
    const { listedAt: _never, ...unmet } = holding(sharedWaba());
    const { change } = find(unmet, true);
    expect(change.business).not.toHaveProperty("listedAt");
  });

  test("is as new as the last look that agreed", () => {
    const outcome = find(holding(verifiedWaba()), true, now + minuteMs);
    expect(outcome.kind).toBe("write");
    expect(wabaOf(outcome).evidence).toMatchObject({ checkedAt: now + minuteMs, verifiedAt: now + minuteMs });
  });

  test("announces the verified share in the name of its command", () => {
    const { change } = find(holding(sharedWaba()), true);
    expect(change.events).toMatchObject([
      { detailType: "Share Verified", commandId: "share-1", status: "verified", previousStatus: "shared" },
    ]);
    expect(change.conclusions).toEqual([]);
  });

  test("answers the verification at hand and the one that waited, each once", () => {
    const waits = verifyRequest({ commandId: "verify-0" });
    const { change } = find(holding(verifiedWaba({ due: dueIn(waits, now) })), true, now, verifyRequest());
    expect(change.conclusions.map(({ request }) => request.commandId)).toEqual(["verify-0", "verify-1"]);
    expect(change.conclusions.map(({ event }) => event.commandId)).toEqual(["verify-0", "verify-1"]);
    expect(change.events).toEqual([]);
    const own = find(holding(verifiedWaba({ due: dueIn(waits, now) })), true, now, waits);
    expect(own.change.conclusions).toHaveLength(1);
  });

  test("answers the share's own verification beside a command's", () => {
    const { change } = find(holding(sharedWaba()), true, now, verifyRequest());
    expect(change.events).toMatchObject([{ detailType: "Share Verified", commandId: "share-1" }]);
    expect(change.conclusions).toMatchObject([
      { outcome: "done", event: { detailType: "Share Verified", commandId: "verify-1" } },
    ]);
  });

  test("of a verified WABA changes no status and announces nothing unasked", () => {
    const { change } = find(holding(verifiedWaba()), true);
    expect([change.events, change.conclusions]).toEqual([[], []]);
  });

  test.each(["pending", "mismatched"] as const)("heals a WABA that is %s", (status) => {
    const { change } = find(holding(sharedWaba({ status, due: undefined })), true);
    expect(change.events).toMatchObject([{ detailType: "Share Verified", previousStatus: status }]);
  });
});

describe("a proof that disagrees", () => {
  test("leaves the status alone for the grace, with the configured delays, then says mismatched", () => {
    const { looks, business: last } = lookWhileDue(holding(sharedWaba()), false);
    const from = looks.map(({ at }) => at - now);
    expect(from).toEqual([0, 120_000, 720_000, 4_320_000]);
    expect(looks.map(({ status }) => status)).toEqual(["shared", "shared", "shared", "mismatched"]);
    expect(looks.flatMap(({ said }) => said)).toEqual(["Share Mismatched"]);
    expect(last.wabas[wabaId]?.evidence).toEqual({
      receivingCredentialId: credentialId,
      primaryFundingId: strangerFunds.id,
      checkedAt: now + 4_320_000,
    });
  });

  test("takes verified back only after two looks, however short the grace is", () => {
    const impatient = { ...policy, verifyGraceMs: [] };
    const seen = proof({ funding: strangerFunds });
    const first = recordProof(holding(verifiedWaba()), wabaId, seen, { kind: "unequal" }, undefined, now, impatient);
    expect(wabaOf(first)).toMatchObject({ status: "verified", evidence: { verifiedAt: now } });
    const second = recordProof(first.change.business, wabaId, seen, { kind: "unequal" }, undefined, now, impatient);
    expect(wabaOf(second).status).toBe("mismatched");
  });

  test("waits for the one delay that a short grace has", () => {
    const short = { ...policy, verifyGraceMs: [30_000] };
    const seen = proof({ funding: strangerFunds });
    const first = recordProof(holding(verifiedWaba()), wabaId, seen, { kind: "unequal" }, undefined, now, short);
    expect(wabaOf(first).due).toMatchObject({ nextAt: now + 30_000, looks: 1 });
  });

  test("keeps no funding as evidence where none was seen", () => {
    const seen = proof({ funding: { known: true } });
    const once = recordProof(holding(verifiedWaba()), wabaId, seen, { kind: "unequal" }, undefined, now, policy);
    expect(wabaOf(once).evidence).not.toHaveProperty("primaryFundingId");
  });

  test("does not count two looks of the very same moment as two", () => {
    const first = find(holding(verifiedWaba()), false, now, verifyRequest());
    const second = find(first.change.business, false, now, verifyRequest({ commandId: "verify-2" }));
    expect(wabaOf(second).due).toMatchObject({ looks: 1, nextAt: now + 120_000 });
    expect([second.change.events, second.change.conclusions]).toEqual([[], []]);
  });

  test("does not count a command's look in the middle of the grace: ten at once are one look", () => {
    let stored = holding(verifiedWaba());
    for (let index = 0; index < 10; index += 1) {
      stored = find(stored, false, now + index, verifyRequest({ commandId: `verify-${index}` })).change.business;
    }
    expect(stored.wabas[wabaId]).toMatchObject({ status: "verified", due: { looks: 1, nextAt: now + 120_000 } });
  });

  test("does not let a command wait for a look that was only planned", () => {
    const planned = holding({ ...verifiedWaba(), due: dueIn(shareRequest(), now + 20 * 3_600_000) });
    const began = find(planned, false, now, verifyRequest());
    expect(wabaOf(began).due).toMatchObject({ looks: 1, nextAt: now + 120_000 });
    // The grace's own first delay is short; a later one of it says nothing yet.
    const soon = holding({ ...verifiedWaba(), due: dueIn(shareRequest(), now + 600_000) });
    expect(wabaOf(find(soon, false, now, verifyRequest())).due?.looks).toBe(1);
  });

  test("lets the command that began the grace be acknowledged, and another one come back later", () => {
    const began = find(holding(verifiedWaba()), false, now, verifyRequest());
    expect(began.kind).toBe("write");
    expect(wabaOf(began).due?.request).toEqual(verifyRequest());
    const stored = began.change.business;
    expect(find(stored, false, now, verifyRequest()).kind).toBe("write");
    expect(find(stored, false, now, verifyRequest({ commandId: "verify-2" })).kind).toBe("write-then-later");
    const due = find(stored, false, now + 120_000, verifyRequest({ commandId: "verify-2" }));
    expect([due.kind, wabaOf(due).due?.looks]).toEqual(["write-then-later", 2]);
  });

  test("of a WABA known to be mismatched answers at once, also whoever waited for a look that was planned", () => {
    const planned = { ...dueIn(verifyRequest({ commandId: "verify-2" }), now + 1000), looks: 2 };
    for (const due of [undefined, planned]) {
      const stored = holding(sharedWaba({ status: "mismatched", due }));
      const outcome = find(stored, false, now, verifyRequest());
      expect([outcome.kind, wabaOf(outcome).due]).toEqual(["write", undefined]);
      const told = outcome.change.conclusions.map(({ request, event }) => [request.commandId, event?.detailType]);
      const waited = due === undefined ? [] : [["verify-2", "Share Mismatched"]];
      expect(told).toEqual([...waited, [verifyRequest().commandId, "Share Mismatched"]]);
    }
    const unasked = find(holding(sharedWaba({ status: "mismatched", due: dueIn(shareRequest(), now) })), false);
    expect([unasked.change.events, unasked.change.conclusions]).toEqual([[], []]);
    expect(wabaOf(unasked)).toMatchObject({ status: "mismatched", evidence: { checkedAt: now } });
  });

  test("answers the verification that waited for the end of the grace", () => {
    const stored = holding(sharedWaba({ due: { ...dueIn(verifyRequest(), now), looks: 3 } }));
    const { kind, change } = find(stored, false);
    expect(kind).toBe("write");
    expect(change.events).toEqual([]);
    expect(change.conclusions).toMatchObject([
      {
        request: verifyRequest(),
        outcome: "done",
        event: { detailType: "Share Mismatched", previousStatus: "shared" },
      },
    ]);
  });
});

describe("a partner switch", () => {
  const switching = holding(sharedWaba({ request: shareRequest({ partnerSwitch: true }) }));
  const firstOfJuly = Date.UTC(2026, 6, 1);

  test("H2b: is pending until the 1st of the next month, not mismatched", () => {
    const { looks, business: last } = lookWhileDue(switching, false, firstOfJuly);
    expect(looks.map(({ said }) => said)).toEqual([[], [], [], ["Share Pending"]]);
    expect(last.wabas[wabaId]).toMatchObject({
      status: "pending",
      pendingUntil: firstOfJuly,
      due: { nextAt: firstOfJuly },
    });
  });

  test("that is pending says nothing again when it is looked at before the 1st", () => {
    const { business: pending } = lookWhileDue(switching, false, firstOfJuly);
    const { kind, change } = find(pending, false, now + 3 * 86_400_000);
    expect([kind, change.events, change.conclusions]).toEqual(["write", [], []]);
  });

  test("that took effect is verified on the 1st", () => {
    const { business: pending } = lookWhileDue(switching, false, firstOfJuly);
    const { looks } = lookWhileDue(pending, true);
    expect(looks).toEqual([{ at: firstOfJuly, status: "verified", said: ["Share Verified"] }]);
  });

  test("that did not take effect is mismatched after the 1st and a grace, and not pending for another month", () => {
    const { business: pending } = lookWhileDue(switching, false, firstOfJuly);
    const { looks, business: last } = lookWhileDue(pending, false);
    expect(looks.map(({ status }) => status)).toEqual(["pending", "pending", "pending", "mismatched"]);
    expect(looks.flatMap(({ said }) => said)).toEqual(["Share Mismatched"]);
    const later = find(last, false, firstOfJuly + 86_400_000, verifyRequest());
    expect(wabaOf(later)).toMatchObject({ status: "mismatched", pendingUntil: firstOfJuly });
  });

  test("whose funding is first read when the month is over is not pending for another one", () => {
    const [june, july] = [Date.UTC(2026, 5, 25, 12), Date.UTC(2026, 6, 3, 12)];
    const request = shareRequest({ partnerSwitch: true, requestedAt: june });
    const stored = holding(sharedWaba({ request, intendedAt: june, due: dueIn(request, july, 3) }));
    expect(wabaOf(find(stored, false, july)).status).toBe("mismatched");
  });

  test("that is pending answers a verification at once", () => {
    const { business: pending } = lookWhileDue(switching, false, firstOfJuly);
    const outcome = find(pending, false, now + 3 * 86_400_000, verifyRequest());
    expect(outcome.kind).toBe("write");
    expect(outcome.change.conclusions).toMatchObject([{ outcome: "done", event: { detailType: "Share Pending" } }]);
    expect(wabaOf(outcome).due?.nextAt).toBe(startOfNextMonth(now));
  });
});

describe("a look that could not see", () => {
  test("changes nothing but its due time, which grows, and the failure (V2)", () => {
    const stored = holding(sharedWaba());
    const once = postponeLook(stored, wabaId, failure("token_dead"), now, policy);
    const { due, ...rest } = sharedWaba({ lastFailure: failure("token_dead") });
    expect(once.business.wabas[wabaId]).toEqual({
      ...rest,
      due: { ...due, sweeps: 1, nextAt: now + 16 * (minuteMs / 2) },
    });
    const twice = postponeLook(once.business, wabaId, undefined, now, policy);
    expect(twice.business.wabas[wabaId]?.due).toMatchObject({ looks: 0, sweeps: 2, nextAt: now + 32 * (minuteMs / 2) });
    expect([once.events, once.conclusions]).toEqual([[], []]);
  });

  test("is impossible where nothing is due", () => {
    expect(() => postponeLook(holding(verifiedWaba()), wabaId, undefined, now, policy)).toThrow("no look");
    const sharing = business({ wabas: { [wabaId]: sharingWaba() } });
    expect(() => find(sharing, true)).toThrow("not shared");
  });
});
