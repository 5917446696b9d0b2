import type { Business, DueEntry, Policy, Request, RevokeRequest, ShareRequest, VerifyRequest } from "./business.ts";
import { isSharing, newBusiness } from "./business.ts";
import type { EstateReading, WabaReading } from "./readings.ts";
import type { Reason } from "./reasons.ts";
import { reasonClasses } from "./reasons.ts";
import { decideRevoke } from "./revoke.ts";
import { decideShare } from "./share.ts";
import { decideVerify } from "./verify.ts";

/**
 * What a dead letter would do if it were sent again now. It is judged by the very decisions that the functions make, on
 * today's state; Meta is taken at its most favourable, because only the replay itself may find out.
 */
export const deadLetterClasses = {
  safe: "a replay would act, without a doubt",
  "already-done": "it has its answer, or what it asks for is so: a replay would announce it again",
  superseded: "the state has gone on: a replay would be refused",
  "needs-probe": "an attempt is unsettled: a replay would look at Meta, not POST",
  "never-valid": "it can never be obeyed: its body is no command, or its id is used for another",
  blocked: "what stopped it still stands, or nobody can see from here that it is gone",
} as const;

export type DeadLetterClass = keyof typeof deadLetterClasses;

export type Verdict = {
  class: DeadLetterClass;
  /** The reason a replay would end with, or the one that stands against it. */
  reason?: Reason;
  why: string;
};

/** What is known of the causes that stop commands. `unknown`: it could not be found out, which is never a "no". */
export type Causes = {
  systemToken: "works" | "dead" | "unknown";
  line: "usable" | "access-revoked" | "denied" | "unknown";
  /** The token that the command's own secret holds. */
  businessToken: "works" | "dead" | "unknown";
};

export type DeadLetterFacts = {
  now: number;
  request: Request;
  /** The record of its id, when there is one. */
  command?: { sameContent: boolean; outcome?: "done" | "refused" | "rejected"; reason?: Reason };
  /** The stored owner of its WABA. */
  ownerBusinessId?: string;
  /** The revokes that wait for the owner of its WABA. */
  pendingRevokes: readonly RevokeRequest[];
  /** The item of its business. */
  business?: Business;
  /** The item is too large for another WABA. */
  full: boolean;
  causes: Causes;
};

type JudgePolicy = Policy & { businessTokenSecretPrefix: string };

export function judgeDeadLetter(facts: DeadLetterFacts, policy: JudgePolicy): Verdict {
  const { request, command } = facts;
  if (command?.sameContent === false) return reused;
  // A revoke is judged by the state, never by its id alone (T2).
  if (command?.outcome !== undefined && request.type !== "revoke") {
    const { outcome, reason } = command;
    return {
      class: "already-done",
      ...reasonOf(reason),
      why: reason === undefined ? outcome : `${outcome}: ${reason}`,
    };
  }
  const secret = request.type === "revoke" ? undefined : request.businessTokenSecret;
  if (secret?.startsWith(policy.businessTokenSecretPrefix) === false) return refused("secret_not_allowed");
  switch (request.type) {
    case "share":
      return judgeShare(request, facts, policy);
    case "verify":
      return judgeVerify(request, facts);
    case "revoke":
      return judgeRevoke(request, facts, policy);
  }
}

function judgeShare(request: ShareRequest, facts: DeadLetterFacts, policy: Policy): Verdict {
  const { now, ownerBusinessId, pendingRevokes, full } = facts;
  if (pendingRevokes.some((revoke) => request.requestedAt <= revoke.requestedAt + policy.clockSkewMs)) {
    return refused("superseded");
  }
  if (pendingRevokes.length > 0) return act(request, facts, "waits for an older revoke of its WABA, then shares");
  if (ownerBusinessId === undefined && facts.command?.reason === "owner_unknown") return ownerUnknown;
  const businessId = ownerBusinessId ?? request.businessId ?? "";
  const business = facts.business ?? newBusiness(businessId, now);
  const decision = decideShare({ now, request, business, full, ...favourable(now) }, policy);
  switch (decision.kind) {
    case "probe":
    case "probe-record":
    case "on-item":
      return { class: "needs-probe", why: "an attempt of a share is unsettled: it looks at Meta first" };
    case "wait":
      return act(request, facts, "waits on the item for the revocation or the share before it");
    case "later":
      return act(request, facts, "waits for another share of its WABA");
    case "reused":
      return reused;
    case "refuse":
      return refused(decision.reason);
    case "block":
      return blocked(decision.reason, decision.failure?.message);
    case "conclude":
      return { class: "already-done", why: `its WABA is ${business.wabas[request.wabaId]?.status ?? "shared"}` };
    case "read-waba":
    case "read-estate":
    case "adopt":
    case "attempt":
    case "allocate":
    case "attach":
      return act(request, facts, "shares the line");
  }
}

/** Meta as it would be best: the WABA readable and unfunded, nothing listed. What it really says is the replay's to ask. */
function favourable(now: number): { waba: WabaReading; estate: EstateReading } {
  return {
    waba: { startedAt: now, funding: { known: true } },
    estate: { startedAt: now, complete: true, listed: {}, records: [] },
  };
}

function judgeVerify(request: VerifyRequest, facts: DeadLetterFacts): Verdict {
  if (facts.ownerBusinessId === undefined) return ownerUnknown;
  const decision = decideVerify(facts.business, request.wabaId);
  switch (decision.kind) {
    case "refuse":
      return refused(decision.reason);
    case "later": {
      const waba = facts.business?.wabas[request.wabaId];
      const unsettled = isSharing(waba) && waba.intent !== undefined;
      if (unsettled) return { class: "needs-probe", why: "the share of its WABA is unsettled: it waits for it" };
      return act(request, facts, "waits for the share of its WABA, then compares");
    }
    case "look":
      return act(request, facts, "compares the WABA's funding with our record");
  }
}

function judgeRevoke(request: RevokeRequest, facts: DeadLetterFacts, policy: Policy): Verdict {
  const { now, ownerBusinessId, command } = facts;
  const { businessId: claim } = request;
  if (claim !== undefined && ownerBusinessId !== undefined && claim !== ownerBusinessId)
    return refused("owner_mismatch");
  const businessId = ownerBusinessId ?? claim;
  if (businessId === undefined) return act(request, facts, "asks Meta for the owner, and waits on the WABA for it");
  const business = facts.business ?? newBusiness(businessId, now);
  const decision = decideRevoke(business, request, command?.outcome === "done", policy);
  switch (decision.kind) {
    case "reused":
      return reused;
    case "superseded":
      return refused("superseded");
    case "later":
      return { class: "needs-probe", why: "a newer re-share is unsettled: it waits to see whether it yields to it" };
    case "announce-again":
      return { class: "already-done", why: "the business is revoked" };
    case "drive":
    case "join":
      return act(request, facts, "joins the revocation that is open");
    case "removal":
      return act(request, facts, "asks Meta whether the WABA left: revokes, is held, or finds it still shared");
    case "mark": {
      const funded = Object.values(business.wabas).filter(({ status }) => status !== "revoked").length;
      return act(request, facts, `takes the line from the business: ${funded} WABA${funded === 1 ? "" : "s"} known`);
    }
  }
}

/** It would act, unless what stopped it (or would stop anything) still stands. */
function act(request: Request, facts: DeadLetterFacts, why: string): Verdict {
  const { systemToken, line, businessToken } = facts.causes;
  if (systemToken === "dead") return blocked("token_dead", "the system token is dead");
  if (line === "access-revoked" && request.type === "share") return blocked("line_access_revoked");
  if (line === "denied") return blocked("permission_denied", "the system token may not even read the line");

  const stoppedBy = facts.command?.reason;
  if (stoppedBy === undefined || reasonClasses[stoppedBy] !== "setup") return { class: "safe", why };
  if (systemToken === "unknown" || line === "unknown")
    return blocked(stoppedBy, "Meta could not be asked whether it still stands");
  if (stoppedBy === "policy_block") return blocked(stoppedBy, "only Meta knows whether it was lifted");
  const secret = request.type === "revoke" ? undefined : request.businessTokenSecret;
  if (stoppedBy === "token_dead" && secret !== undefined && businessToken !== "works") {
    return blocked(
      stoppedBy,
      `the customer's token in ${secret} is ${businessToken === "dead" ? "dead" : "not known to work"}`,
    );
  }
  return { class: "safe", why: `${stoppedBy} is over, as far as can be seen: ${why}` };
}

const reused: Verdict = {
  class: "never-valid",
  reason: "command_id_reused",
  why: "its id belongs to a command of other content",
};
const ownerUnknown: Verdict = { class: "blocked", reason: "owner_unknown", why: "the owner of its WABA is not known" };

function refused(reason: Reason): Verdict {
  return { class: "superseded", reason, why: `would be refused: ${reason}` };
}

function blocked(reason: Reason, why: string = reason): Verdict {
  return { class: "blocked", reason, why };
}

function reasonOf(reason: Reason | undefined): { reason?: Reason } {
  return reason === undefined ? {} : { reason };
}

/**
 * A message that asked for an entry's next look: the item is its queue, so nothing is lost with it (C1).
 * @param entries what is unsettled on the item that it names.
 */
export function judgeDeadLook(
  entries: readonly DueEntry[],
  look: { work: DueEntry["work"]; commandId: string; wabaId?: string | undefined; looks: number },
): Verdict {
  const entry = entries.find(
    ({ work, commandId, due, wabaId }) =>
      work === look.work && commandId === look.commandId && wabaId === look.wabaId && due.looks === look.looks,
  );
  if (entry === undefined) return { class: "already-done", why: "the look it asked for was made" };
  return { class: "needs-probe", why: "the look it asked for is still to come; the sweep asks for it too" };
}
