import type { Business, Change, Intent, Policy, ShareRequest } from "./business.ts";
import { isShared, isSharing, windowsEnd, withWaba } from "./business.ts";
import { recheckAfterSwitch, startOfNextMonth } from "./calendar.ts";
import type { Failure } from "./reasons.ts";
import type { Probe } from "./probe.ts";
import { isExplained, isUnseen, judgeProbe, judgeRecordProbe, recordProbe, recordRecordProbe } from "./probe.ts";
import { isUnread, refuse } from "./share.ts";

/** An attempt in doubt, which only a person can end: S6 leaves it to them, under the rule that ends a revocation (R5). */
export type SettleDecision =
  | { kind: "nothing-to-settle" }
  /** The POST may still land, or not be shown yet: before the window ends, or the month in which a switch takes effect begins. */
  | { kind: "wait"; until: number }
  /** The look found what the POST made: recorded like any other look. */
  | { kind: "applied" }
  /** Something at Meta that nothing but the lost POST explains. */
  | { kind: "may-be-live"; allocationIds: string[] }
  | { kind: "cannot-tell"; failure?: Failure }
  /** Nothing came of it, and nothing can any more. */
  | { kind: "close" };

/** Who ends it, and why, in their words. */
export type Person = { by: string; note: string };

/** The attempt of a WABA that is not settled: its own, or the business's E4 that was made for it. */
function attemptOf(
  business: Business,
  wabaId: string,
): { guard: "waba" | "record"; intent: Intent; request: ShareRequest } | undefined {
  const waba = business.wabas[wabaId];
  if (!isSharing(waba)) return undefined;
  if (waba.intent !== undefined) return { guard: "waba", intent: waba.intent, request: waba.request };
  const { recordIntent } = business;
  if (recordIntent?.request.wabaId !== wabaId || recordIntent.epoch !== business.epoch) return undefined;
  return { guard: "record", intent: recordIntent, request: recordIntent.request };
}

/**
 * Whether a person may close the attempt by what Meta shows now.
 * @param probe begun after `business` was loaded; of a WABA that cannot be seen any more, E8 alone must say that nothing is live.
 */
export function decideSettle(business: Business, wabaId: string, probe: Probe, policy: Policy): SettleDecision {
  const attempt = attemptOf(business, wabaId);
  if (attempt === undefined) return { kind: "nothing-to-settle" };
  const { guard, intent, request } = attempt;
  const finding =
    guard === "waba" ? judgeProbe(business, wabaId, probe, policy) : judgeRecordProbe(business, probe, policy);
  if (finding.kind === "applied") return { kind: "applied" };

  const until = windowsEnd(business, intent, policy.settleWindowMs);
  if (probe.startedAt <= until) return { kind: "wait", until };

  const { estate, funding } = probe;
  if (!estate.complete) return cannotTell(estate.failure);
  const unread = estate.records.find(isUnread);
  if (unread !== undefined) return cannotTell(unread.failure);
  const live = estate.records.filter(({ seen }) => seen === "live");
  const unexplained = live.filter(
    ({ allocationId, receivingBusinessId: receiver }) =>
      (receiver === undefined || receiver === business.businessId) &&
      !isExplained(business, intent, allocationId, probe, true) &&
      !isSiblings(business, wabaId, allocationId),
  );
  const paying = funding.known
    ? live.filter(({ receivingCredentialId: id }) => id !== undefined && id === funding.id)
    : [];
  const suspects = [...new Set([...unexplained, ...paying].map(({ allocationId }) => allocationId))];
  if (suspects.length > 0) return { kind: "may-be-live", allocationIds: suspects };
  // What cannot be seen to be unfunded must have nothing that could fund it.
  if (guard === "waba" && !funding.known && live.length > 0) return cannotTell(funding.failure);
  // A person's look has the system token alone; what both saw after the window stands.
  if (guard === "waba" && isUnseen(probe) && intent.clearAt === undefined) {
    const message = "one token alone sees no funding; a share of it with businessTokenSecret lets a look ask with both";
    return cannotTell({ at: probe.startedAt, reason: "permission_denied", message });
  }
  // A switch pays from the 1st: until then E7 names the other partner's line, whether or not the POST attached ours (H2b).
  const switchedAt = recheckAfterSwitch(startOfNextMonth(intent.sendDeadline));
  const isSwitching = request.partnerSwitch && funding.known && funding.id !== undefined && live.length > 0;
  if (guard === "waba" && isSwitching && probe.startedAt <= switchedAt) return { kind: "wait", until: switchedAt };
  return { kind: "close" };
}

/** That a sibling is paid for by it is enough for a person, not for another POST by itself. */
function isSiblings({ wabas }: Business, wabaId: string, allocationId: string): boolean {
  return Object.entries(wabas).some(
    ([id, waba]) => id !== wabaId && isShared(waba) && waba.allocationId === allocationId,
  );
}

function cannotTell(failure: Failure | undefined): SettleDecision {
  return { kind: "cannot-tell", ...(failure === undefined ? {} : { failure }) };
}

/** Records that the look found the POST's effect. */
export function settleApplied(business: Business, wabaId: string, probe: Probe, now: number, policy: Policy): Change {
  const attempt = attemptOf(business, wabaId);
  const ofWaba = attempt?.guard === "waba";
  const finding = ofWaba ? judgeProbe(business, wabaId, probe, policy) : judgeRecordProbe(business, probe, policy);
  if (finding.kind !== "applied") throw new Error(`Nothing of WABA ${wabaId} was found applied`);
  return ofWaba
    ? recordProbe(business, wabaId, probe, finding, now, policy)
    : recordRecordProbe(business, probe, finding, now, policy);
}

/** Closes the attempt: the command is answered, and only a new one tries anew. */
export function closeAttempt(business: Business, wabaId: string, person: Person, now: number): Change {
  const attempt = attemptOf(business, wabaId);
  const waba = business.wabas[wabaId];
  if (attempt === undefined || !isSharing(waba)) throw new Error(`WABA ${wabaId} has no attempt to close`);
  const message = `${person.by}: ${person.note}`.slice(0, 500);
  const failure: Failure = { at: now, reason: "given_up", message };
  const { intent: _closed, due: _over, ...rest } = waba;
  const { recordIntent, ...others } = business;
  const kept = attempt.guard === "record" || recordIntent === undefined ? others : { ...others, recordIntent };
  const closed = withWaba(kept, wabaId, { ...rest, lastFailure: failure });
  const change = refuse(closed, attempt.request, "given_up", failure);
  const conclusions = change.conclusions.map((one) => ({ ...one, event: { ...one.event, ...person } }));
  return { ...change, conclusions };
}
