import type { Policy } from "./business.ts";
import type { EventDraft } from "./events.ts";

/**
 * Many customers that leave within minutes are more likely a fault (of ours, of Meta's, of a stolen app secret) than a
 * decision of theirs, and a revocation unfunds each of them. So beyond a number automatic revocations wait for a person.
 */
export type RemovalBreaker = {
  state: "closed" | "stopped";
  /** When the automatic revocations of the window were let through, by business. */
  recent: Record<string, number>;
  /** A person let them go on: what was held before that goes on uncounted. */
  resumedAt?: number;
  /** What was held is still being woken. */
  waking?: true;
};

export type BreakerVerdict =
  | { kind: "admit" }
  | { kind: "hold" }
  /** Admitted, or held, once this is written. */
  | { kind: "count" | "stop"; next: RemovalBreaker; events: EventDraft[] };

/**
 * @param stoppedSince since when this business's removal is held by the breaker, if it is.
 */
export function judgeBreaker(
  breaker: RemovalBreaker = { state: "closed", recent: {} },
  businessId: string,
  stoppedSince: number | undefined,
  now: number,
  { breaker: limit }: Policy,
): BreakerVerdict {
  const { state, resumedAt = 0 } = breaker;
  if (stoppedSince !== undefined && stoppedSince <= resumedAt) return { kind: "admit" };
  if (state === "stopped") return { kind: "hold" };
  const within = Object.entries(breaker.recent).filter(([, at]) => now - at < limit.windowMs);
  const recent = Object.fromEntries(within);
  // A decision that lost its write comes again.
  if (recent[businessId] !== undefined) return { kind: "admit" };
  if (within.length < limit.removals) {
    return { kind: "count", next: { ...breaker, recent: { ...recent, [businessId]: now } }, events: [] };
  }
  const events: EventDraft[] = [{ detailType: "Revocations Stopped", reason: "breaker" }];
  return { kind: "stop", next: { ...breaker, state: "stopped", recent }, events };
}

/** A person's word; undefined when nothing is stopped. The window begins anew. */
export function resumed(
  breaker: RemovalBreaker | undefined,
  now: number,
): { next: RemovalBreaker; events: EventDraft[] } | undefined {
  if (breaker?.state !== "stopped") return undefined;
  const next: RemovalBreaker = { state: "closed", recent: {}, resumedAt: now, waking: true };
  return { next, events: [{ detailType: "Revocations Resumed", reason: "operator" }] };
}
