import { describe, expect, test } from "vitest";
import type { DeadLetterFacts } from "../../../shared/domain/dead-letters.ts";
import type { Reason } from "../../../shared/domain/reasons.ts";
import { judgeDeadLetter, judgeDeadLook } from "../../../shared/domain/dead-letters.ts";
import {
  business,
  businessId,
  doneRevocation,
  intent,
  lineId,
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
  skewMs,
  verifiedWaba,
  verifyRequest,
  wabaId,
} from "../factories.ts";

const rules = { ...policy, businessTokenSecretPrefix: "stage/business-token/" };
const causes = { systemToken: "works", line: "usable", businessToken: "unknown" } as const;

const allUnknown = { systemToken: "unknown", line: "unknown", businessToken: "unknown" } as const;
const dueNow = { nextAt: now, looks: 0, sweeps: 0 };

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
    [
      "newer by more than the skew than a revoke that waits for its owner waits for it",
      { ownerBusinessId: undefined, pendingRevokes: [revokeRequest({ requestedAt: now - minuteMs - skewMs - 1 })] },
      ["safe", undefined],
    ],
    [
      "newer only by the skew than a revoke that waits for its owner would be refused",
      { ownerBusinessId: undefined, pendingRevokes: [revokeRequest({ requestedAt: now - minuteMs - skewMs })] },
      ["superseded", "superseded"],
    ],
    [
      "of a business that claims the WABA, where nobody knows the owner, is judged as that business's",
      { ownerBusinessId: undefined, request: shareRequest({ businessId: policy.partnerBusinessId }) },
      ["superseded", "same_business"],
    ],
    [
      "that claims another business than the owner would be refused",
      { request: shareRequest({ businessId: otherBusinessId }) },
      ["superseded", "owner_mismatch"],
    ],
    [
      "whose owner could not be read goes on once it is known",
      { command: blockedBy("owner_unknown") },
      ["safe", undefined],
    ],
    [
      "beside an E4 that is unsettled would look, not POST",
      { business: business({ recordIntent: { ...intent(), creditLineId: lineId, request: shareRequest() } }) },
      ["needs-probe", undefined],
    ],
    [
      "behind another share that waits comes back after it",
      {
        business: business({
          epoch: 1,
          revocation: openRevocation({ requestedAt: now - 60 * minuteMs }),
          waiting: { [wabaId]: { request: shareRequest({ commandId: "share-0" }), due: dueNow } },
        }),
      },
      ["safe", undefined],
    ],
    [
      "whose id the item holds with other content can never be obeyed",
      { business: business({ waiting: { [wabaId]: { request: shareRequest({ hash: "another" }), due: dueNow } } }) },
      ["never-valid", "command_id_reused"],
    ],
    [
      "of an allocated WABA attaches it",
      {
        request: shareRequest({ businessTokenSecret: "stage/business-token/1" }),
        business: business({
          wabas: { [wabaId]: sharingWaba({ status: "allocated", allocationId, intent: undefined, due: undefined }) },
        }),
      },
      ["safe", undefined],
    ],
    ["that nothing stopped is safe, though Meta cannot be asked", { causes: allUnknown }, ["safe", undefined]],
    [
      "that Meta stopped stays blocked while nobody can ask with the system token",
      { command: blockedBy("meta_unavailable"), causes: { ...causes, systemToken: "unknown" } },
      ["blocked", "meta_unavailable"],
    ],
    [
      "that died of the system token is safe once that works",
      { command: blockedBy("token_dead") },
      ["safe", undefined],
    ],
    [
      "that lacked a permission is safe once the line can be read, whatever is known of the customer's token",
      {
        request: shareRequest({ businessTokenSecret: "stage/business-token/1" }),
        command: blockedBy("permission_denied"),
      },
      ["safe", undefined],
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
    [
      "of a share that is not settled, and has no POST out, waits and then compares",
      { business: business({ wabas: { [wabaId]: sharingWaba({ intent: undefined }) } }) },
      ["safe", undefined],
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
    [
      "whose owner only the claim names is judged by that business",
      {
        ownerBusinessId: undefined,
        request: revokeRequest({ requestedAt: now - 3 * settleWindowMs }),
        business: revokedBusiness(),
      },
      ["already-done", undefined],
    ],
    [
      "without a claim is judged by the stored owner",
      { request: revokeRequest({ wabaId, businessId: undefined }), business: business({ wabas }) },
      ["safe", undefined],
    ],
    [
      "that was fulfilled would be announced again, and takes back nothing that was shared since",
      {
        request: doneRevocation().request,
        command: { sameContent: true, outcome: "done" },
        business: revokedBusiness({ wabas }),
      },
      ["already-done", undefined],
    ],
    [
      "that was not fulfilled revokes what is shared, however old it is",
      {
        request: doneRevocation().request,
        command: { sameContent: true, outcome: "refused" },
        business: revokedBusiness({ wabas }),
      },
      ["safe", undefined],
    ],
    [
      "that was fulfilled is judged by the state, not by its id: of what is shared against it, it would revoke (T2)",
      { command: { sameContent: true, outcome: "done" }, business: revokedBusiness({ wabas }) },
      ["safe", undefined],
    ],
    [
      "whose id the open revocation holds with other content can never be obeyed",
      {
        business: business({
          epoch: 1,
          revocation: openRevocation({ request: revokeRequest({ hash: "another" }) }),
        }),
      },
      ["never-valid", "command_id_reused"],
    ],
    [
      "that Meta, not a person, asked for is weighed anew",
      { request: revokeRequest({ wabaId, reason: "partner_removed" }), business: business({ wabas }) },
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
  for (const other of [{ work: "verify" as const }, { commandId: "share-2" }, { wabaId: "300000000000009" }]) {
    expect(judgeDeadLook(entries, { ...look, looks: 2, ...other }).class).toBe("already-done");
  }
});
