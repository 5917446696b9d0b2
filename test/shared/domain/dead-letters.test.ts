import { describe, expect, test } from "vitest";
import type { DeadLetterFacts } from "../../../shared/domain/dead-letters.ts";
import type { Reason } from "../../../shared/domain/reasons.ts";
import { judgeDeadLetter, judgeDeadLook } from "../../../shared/domain/dead-letters.ts";
import {
  business,
  businessId,
  doneRevocation,
  minuteMs,
  now,
  openRevocation,
  otherBusinessId,
  policy,
  record,
  allocationId,
  revokedBusiness,
  revokeRequest,
  settleWindowMs,
  sharedWaba,
  shareRequest,
  sharingWaba,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const rules = { ...policy, businessTokenSecretPrefix: "stage/business-token/" };
const causes = { systemToken: "works", line: "usable", businessToken: "unknown" } as const;

function judge(facts: Partial<DeadLetterFacts>) {
  const known = { now, request: shareRequest(), ownerBusinessId: businessId, pendingRevokes: [], full: false, causes };
  const { class: name, reason } = judgeDeadLetter({ ...known, ...facts }, rules);
  return [name, reason];
}

function blockedBy(reason: Reason) {
  return { sameContent: true, reason };
}

describe("a dead share", () => {
  test.each<[string, Partial<DeadLetterFacts>, unknown[]]>([
    ["of a business never met would share", { ownerBusinessId: undefined }, ["safe", undefined]],
    ["of a WABA that nothing was done to would share", { business: business() }, ["safe", undefined]],
    [
      "of a WABA that another share has made shared has nothing to do",
      { business: business({ wabas: { [wabaId]: sharedWaba({ request: shareRequest({ commandId: "share-0" }) }) } }) },
      ["already-done", undefined],
    ],
    [
      "that was answered would be answered again",
      { command: { sameContent: true, outcome: "done" } },
      ["already-done", undefined],
    ],
    [
      "that was refused would be refused again",
      { command: { sameContent: true, outcome: "refused", reason: "funded_elsewhere" } },
      ["already-done", "funded_elsewhere"],
    ],
    [
      "whose id belongs to other content can never be obeyed",
      { command: { sameContent: false } },
      ["never-valid", "command_id_reused"],
    ],
    [
      "whose own attempt is unsettled would look, not POST",
      { business: business({ wabas: { [wabaId]: sharingWaba() } }) },
      ["needs-probe", undefined],
    ],
    [
      "older than the revocation would be refused",
      { business: revokedBusiness(), request: shareRequest({ requestedAt: now - 5 * settleWindowMs }) },
      ["superseded", "business_revoked"],
    ],
    [
      "of a business that is being revoked waits on the item",
      {
        business: business({ epoch: 1, revocation: openRevocation({ requestedAt: now - 60 * minuteMs }) }),
        request: shareRequest({ reshareAfterRevocation: true }),
      },
      ["safe", undefined],
    ],
    [
      "older than a revoke that waits for its owner would be refused",
      { ownerBusinessId: undefined, pendingRevokes: [revokeRequest({ requestedAt: now })] },
      ["superseded", "superseded"],
    ],
    ["of a full item is blocked", { business: business(), full: true }, ["blocked", "business_full"]],
    [
      "in two calls without the customer's token is blocked",
      { request: shareRequest({ method: "share-then-attach" }) },
      ["blocked", "permission_denied"],
    ],
    [
      "that names a secret outside the prefix would be refused",
      { request: shareRequest({ businessTokenSecret: "other" }) },
      ["superseded", "secret_not_allowed"],
    ],
    [
      "whose owner could not be read is blocked while it is not known",
      { ownerBusinessId: undefined, command: blockedBy("owner_unknown") },
      ["blocked", "owner_unknown"],
    ],
    ["is safe again once Meta answers", { command: blockedBy("meta_unavailable") }, ["safe", undefined]],
    [
      "stays blocked by a policy that only Meta can lift",
      { command: blockedBy("policy_block") },
      ["blocked", "policy_block"],
    ],
    [
      "is blocked while the system token is dead",
      { causes: { ...causes, systemToken: "dead" } },
      ["blocked", "token_dead"],
    ],
    [
      "is blocked while Meta has taken the line away",
      { causes: { ...causes, line: "access-revoked" } },
      ["blocked", "line_access_revoked"],
    ],
    [
      "is blocked while the token may not read the line",
      { causes: { ...causes, line: "denied" } },
      ["blocked", "permission_denied"],
    ],
    [
      "stays blocked when Meta could not be asked whether its cause is gone",
      { command: blockedBy("permission_denied"), causes: { ...causes, line: "unknown" } },
      ["blocked", "permission_denied"],
    ],
  ])("%s", (_what, facts, expected) => {
    expect(judge(facts)).toEqual(expected);
  });

  test("that died of the customer's dead token is safe only when a working one is seen in its secret", () => {
    const request = shareRequest({ method: "share-then-attach", businessTokenSecret: "stage/business-token/1" });
    for (const businessToken of ["dead", "unknown", "works"] as const) {
      const [name] = judge({ request, command: blockedBy("token_dead"), causes: { ...causes, businessToken } });
      expect([businessToken, name]).toEqual([businessToken, businessToken === "works" ? "safe" : "blocked"]);
    }
  });
});

describe("a dead verification", () => {
  const request = verifyRequest();
  test.each<[string, Partial<DeadLetterFacts>, unknown[]]>([
    [
      "of what is shared would compare",
      { business: business({ wabas: { [wabaId]: verifiedWaba() } }) },
      ["safe", undefined],
    ],
    ["of what was never shared would be refused", { business: business() }, ["superseded", "not_shared"]],
    ["of what was revoked would be refused", { business: revokedBusiness() }, ["superseded", "business_revoked"]],
    [
      "of an unsettled share waits for it",
      { business: business({ wabas: { [wabaId]: sharingWaba() } }) },
      ["needs-probe", undefined],
    ],
    ["of a WABA whose owner nobody knows is blocked", { ownerBusinessId: undefined }, ["blocked", "owner_unknown"]],
  ])("%s", (_what, facts, expected) => {
    expect(judge({ request, ...facts })).toEqual(expected);
  });
});

describe("a dead revoke", () => {
  const request = revokeRequest({ wabaId });
  const reshared = verifiedWaba({ request: shareRequest({ reshareAfterRevocation: true, requestedAt: now }) });
  const wabas = { [wabaId]: verifiedWaba() };
  test.each<[string, Partial<DeadLetterFacts>, unknown[]]>([
    [
      "of a business that is funded would revoke",
      { business: business({ wabas, records: { [allocationId]: record() } }) },
      ["safe", undefined],
    ],
    [
      "whose revocation is open joins it",
      {
        business: business({
          epoch: 1,
          revocation: openRevocation({ request: revokeRequest({ commandId: "another" }) }),
        }),
      },
      ["safe", undefined],
    ],
    [
      "of what is revoked since it was asked for has nothing to do",
      { request: revokeRequest({ wabaId, requestedAt: now - 3 * settleWindowMs }), business: revokedBusiness() },
      ["already-done", undefined],
    ],
    [
      "of what was revoked before looks again: hands may have shared since",
      { business: revokedBusiness() },
      ["safe", undefined],
    ],
    [
      "older than an accepted re-share would be refused: a redrive must not take a customer's line",
      {
        request: revokeRequest({ wabaId, requestedAt: now - 2 * settleWindowMs }),
        business: business({ epoch: 1, revocation: doneRevocation(), wabas: { [wabaId]: reshared } }),
      },
      ["superseded", "superseded"],
    ],
    [
      "older than a re-share that is unsettled waits to see",
      {
        request: revokeRequest({ wabaId, requestedAt: now - 2 * settleWindowMs }),
        business: business({
          epoch: 1,
          revocation: doneRevocation(),
          wabas: {
            [wabaId]: sharingWaba({ request: shareRequest({ reshareAfterRevocation: true, requestedAt: now }) }),
          },
        }),
      },
      ["needs-probe", undefined],
    ],
    [
      "that names another business than the owner would be refused",
      { request: revokeRequest({ wabaId, businessId: otherBusinessId }) },
      ["superseded", "owner_mismatch"],
    ],
    [
      "whose owner nobody knows waits for it on the WABA",
      { ownerBusinessId: undefined, request: revokeRequest({ wabaId, businessId: undefined }) },
      ["safe", undefined],
    ],
    // Meta has taken the line from new shares; what is shared can, and must, still be revoked.
    [
      "goes on when Meta has taken the line away",
      { business: business({ wabas }), causes: { ...causes, line: "access-revoked" } },
      ["safe", undefined],
    ],
  ])("%s", (_what, facts, expected) => {
    expect(judge({ request, ...facts })).toEqual(expected);
  });
});

test("a dead look is needed as long as its entry stands as it was, and done with when it has moved on", () => {
  const due = { nextAt: now, looks: 2, sweeps: 0 };
  const entries = [{ work: "share" as const, wabaId, commandId: "share-1", requestedAt: now, due }];
  const look = { work: "share", commandId: "share-1", wabaId } as const;
  expect(judgeDeadLook(entries, { ...look, looks: 2 }).class).toBe("needs-probe");
  expect(judgeDeadLook(entries, { ...look, looks: 1 }).class).toBe("already-done");
  expect(judgeDeadLook([], { ...look, looks: 2 }).class).toBe("already-done");
});
