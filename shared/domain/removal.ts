import type { Business, Change, HeldRevocation, HoldReason, Policy, RevokeRequest } from "./business.ts";
import { isHeld, isSame, isSharing, lookDelayMs, removedWabas, resharedAt, siblingsOf } from "./business.ts";
import type { EventDraft } from "./events.ts";
import type { RefuseReason } from "./reasons.ts";
import { joinedMax, markRevocation, refuseRevoke } from "./revoke.ts";

/** What E3 says of a removed WABA. `unread` says nothing. */
export type Presence = "here" | "gone" | "unread";

/** What the decision about automatic revocations knows. What has not been read yet is undefined, and asked for only when it matters. */
export type RemovalFacts = {
  now: number;
  business: Business;
  /** The command at hand; undefined when what is held is looked at again. */
  request?: RevokeRequest;
  /** When the WABAs were last added to the partner, as Meta told us, by WABA id. */
  addedAt: Readonly<Record<string, number>>;
  /** Begun after the load of `business`, by WABA id. */
  presence?: Readonly<Record<string, Presence>>;
  /** Whether Meta shows a WABA that the table does not know as funded by a record of the business. */
  strangers?: "none" | "some" | "unknown";
  /** The breaker's word. */
  admitted?: boolean;
};

export type RemovalDecision =
  /** E3 of each. */
  | { kind: "read-presence"; wabaIds: string[] }
  | { kind: "read-strangers"; removed: ReadonlySet<string> }
  | { kind: "ask-breaker" }
  /** Every command has its answer; nothing is revoked. */
  | { kind: "answer" }
  | { kind: "hold"; reason: HoldReason }
  | { kind: "mark" };

/**
 * R2 for automatic reasons, W1 and W2: what was told before the WABA was last shared or added is over; what E3 still shows
 * did not leave; what it would take along holds it back. Whatever cannot be told is held, never revoked.
 */
export function decideRemoval(facts: RemovalFacts, policy: Policy): RemovalDecision {
  const { business, request, presence, strangers, admitted } = facts;
  const { standing, removed, siblings } = weigh(facts, policy);
  if (standing.length === 0) return { kind: "answer" };
  if (presence === undefined) {
    // With siblings left it is held in any case: of the others it is enough to ask once they are all gone.
    const own = siblings.length > 0 ? request?.wabaId : undefined;
    return { kind: "read-presence", wabaIds: own === undefined ? [...removed] : [own] };
  }
  if (Object.values(presence).includes("unread")) return { kind: "hold", reason: "cannot_tell" };
  if (standing.some(({ wabaId }) => wabaId !== undefined && presence[wabaId] === "here")) {
    return { kind: "hold", reason: "still_visible" };
  }
  if (policy.onPartnerRemoved === "hold") return { kind: "hold", reason: "by_policy" };
  // Without the rule, too, a newer re-share is not taken along (I2d).
  const sparing = policy.onPartnerRemoved === "revoke-unless-siblings";
  if (siblings.length > 0 && (sparing || isOvertaken(business, standing, policy))) {
    return { kind: "hold", reason: "siblings" };
  }
  if (sparing) {
    if (strangers === undefined) return { kind: "read-strangers", removed };
    if (strangers !== "none")
      return { kind: "hold", reason: strangers === "some" ? "unknown_siblings" : "cannot_tell" };
  }
  if (admitted === undefined) return { kind: "ask-breaker" };
  return admitted ? { kind: "mark" } : { kind: "hold", reason: "breaker" };
}

type Weighed = {
  /** The commands that still ask for a revocation, the oldest first. */
  standing: RevokeRequest[];
  answered: { request: RevokeRequest; reason: RefuseReason }[];
  removed: ReadonlySet<string>;
  siblings: string[];
};

function weigh(facts: RemovalFacts, policy: Policy): Weighed {
  const { business, request, presence = {} } = facts;
  const held = business.held?.requests ?? [];
  const isNew = request !== undefined && !held.some((one) => isSame(one, request));
  const standing: RevokeRequest[] = [];
  const answered: Weighed["answered"] = [];
  for (const one of isNew ? [...held, request] : held) {
    const reason = answerOf(one, facts, policy);
    if (reason === undefined) standing.push(one);
    else answered.push({ request: one, reason });
  }
  const gone = removedWabas({ ...business, ...heldOf(standing) });
  const removed = new Set([...gone].filter((wabaId) => presence[wabaId] !== "here"));
  const siblings = siblingsOf(business, removed);
  if (siblings.length === 0 && isOvertaken(business, standing, policy)) {
    const overtaken = standing.map((one) => ({ request: one, reason: "superseded" as const }));
    return { standing: [], answered: [...answered, ...overtaken], removed, siblings };
  }
  // Its own line is gone already: it must not wait for those of its siblings.
  const idle = siblings.length === 0 ? [] : standing.filter((one) => isUnfunded(business, one));
  return {
    standing: standing.filter((one) => !idle.includes(one)),
    answered: [...answered, ...idle.map((one) => ({ request: one, reason: "not_shared" as const }))],
    removed,
    siblings,
  };
}

function heldOf(requests: RevokeRequest[]): { held: HeldRevocation } {
  return { held: { requests, reason: "cannot_tell", since: 0, due: { nextAt: 0, looks: 0, sweeps: 0 } } };
}

/** W2: stale, or contradicted by E3. Within the settle window E3 may still show what is gone (A3). */
function answerOf(
  { wabaId, requestedAt }: RevokeRequest,
  { now, business, addedAt, presence = {} }: RemovalFacts,
  policy: Policy,
): RefuseReason | undefined {
  if (wabaId === undefined) return undefined;
  const backAt = Math.max(business.wabas[wabaId]?.intendedAt ?? 0, addedAt[wabaId] ?? 0);
  if (requestedAt < backAt - policy.clockSkewMs) return "superseded";
  return presence[wabaId] === "here" && now > requestedAt + policy.settleWindowMs ? "still_shared" : undefined;
}

/**
 * The line was taken from this WABA before, or the attempt to share it came to nothing. One we do not know may be funded, and
 * one that is about to be tried may soon be.
 */
function isUnfunded({ wabas, recordIntent, waiting }: Business, { wabaId = "" }: RevokeRequest): boolean {
  const waba = wabas[wabaId];
  if (waiting[wabaId] !== undefined) return false;
  if (waba === undefined || isHeld(waba) || waba.intent !== undefined) return false;
  return recordIntent?.request.wabaId !== wabaId && !(isSharing(waba) && waba.due !== undefined);
}

/** A re-share that is newer than all of them was accepted (R2). */
function isOvertaken(business: Business, standing: readonly RevokeRequest[], policy: Policy): boolean {
  const reshared = resharedAt(business);
  const newest = Math.max(0, ...standing.map(({ requestedAt }) => requestedAt));
  return reshared !== undefined && reshared > newest + policy.clockSkewMs;
}

/** Writes the decision: the marker, or what is held and why, with the answers to the commands that ask for nothing any more. */
export function recordRemoval(
  facts: RemovalFacts,
  decision: RemovalDecision & { kind: "answer" | "hold" | "mark" },
  policy: Policy,
): Change {
  const { now, request } = facts;
  const { standing, answered } = weigh(facts, policy);
  const { held, ...rest } = withRemovals(facts, standing, answered);
  const conclusions = answered.map((one) => refuseRevoke(rest.businessId, one.request, one.reason));
  const [first, ...others] = standing;
  if (decision.kind === "answer" || first === undefined) return { business: rest, events: [], conclusions };
  if (decision.kind === "mark") {
    const taken = others.length === 0 ? rest : { ...rest, ...heldOf(others) };
    const change = markRevocation(taken, first, now);
    return { ...change, conclusions: [...conclusions, ...change.conclusions] };
  }

  const { reason } = decision;
  const isSameReason = held?.reason === reason;
  const looks = held === undefined ? 0 : held.due.looks + 1;
  const next: HeldRevocation = {
    requests: standing.slice(0, joinedMax),
    reason,
    since: isSameReason ? held.since : now,
    due: { nextAt: now + waitMs(reason, looks, policy), looks, sweeps: 0 },
  };
  const isNew = request !== undefined && held?.requests.some((one) => isSame(one, request)) !== true;
  const told = isNew && next.requests.includes(request) ? request : isSameReason ? undefined : first;
  const events = told === undefined ? [] : [heldEvent(rest, told, reason)];
  return { business: { ...rest, held: next }, events, conclusions };
}

/** What only Meta can clear up is asked again soon; all else waits for a change or a person, and is looked at daily. */
function waitMs(reason: HoldReason, looks: number, { settleWindowMs }: Policy): number {
  const clearsUp = reason === "cannot_tell" || reason === "still_visible";
  return lookDelayMs(clearsUp ? looks : Infinity, settleWindowMs);
}

/** W1: the removal is noted on the WABA by the write that decides; a note that E3 or its command's answer contradicts goes. */
function withRemovals(
  { business, presence = {} }: RemovalFacts,
  standing: readonly RevokeRequest[],
  answered: Weighed["answered"],
): Business {
  const wabas = { ...business.wabas };
  for (const [wabaId, waba] of Object.entries(wabas)) {
    const times = standing.filter((one) => one.wabaId === wabaId).map(({ requestedAt }) => requestedAt);
    const over = answered.filter(({ request }) => request.wabaId === wabaId).map(({ request }) => request.requestedAt);
    const { removedAt: known, ...rest } = waba;
    const isNoted = known !== undefined && presence[wabaId] !== "here" && known > Math.max(0, ...over);
    const removedAt = Math.max(isNoted ? known : 0, ...times);
    wabas[wabaId] = removedAt === 0 ? rest : { ...rest, removedAt };
  }
  return { ...business, wabas };
}

function heldEvent({ businessId }: Business, request: RevokeRequest, reason: HoldReason): EventDraft {
  const { commandId, wabaId } = request;
  return {
    detailType: "Revocation Held",
    commandId,
    businessId,
    reason,
    ...(wabaId === undefined ? {} : { wabaId }),
  };
}
