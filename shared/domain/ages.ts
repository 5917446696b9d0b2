import type { Business, Waba } from "./business.ts";
import { isHeld, isShared, removedWabas, siblingsOf } from "./business.ts";

/** What has been unsettled on an item for how long (ms); absent: nothing of the kind is. */
export type Ages = { intentMs?: number; unverifiedMs?: number; revocationMs?: number };

/** The oldest attempt whose effect is not known, the oldest share that is not proved, and an open revocation. */
export function agesOf(business: Business, now: number): Ages {
  const wabas = Object.values(business.wabas);
  const intents = [business.recordIntent, ...wabas.map((waba) => waba.intent)];
  const unproved = wabas.filter(({ status }) => status === "shared");
  const { revocation } = business;
  return {
    ...oldest(
      "intentMs",
      intents.map((intent) => intent?.madeAt),
      now,
    ),
    ...oldest(
      "unverifiedMs",
      unproved.map((waba) => waba.intendedAt ?? waba.request.requestedAt),
      now,
    ),
    ...oldest("revocationMs", [revocation?.state === "open" ? revocation.startedAt : undefined], now),
  };
}

function oldest(name: keyof Ages, since: readonly (number | undefined)[], now: number): Ages {
  const times = since.filter((time) => time !== undefined);
  return times.length === 0 ? {} : { [name]: Math.max(0, now - Math.min(...times)) };
}

/** Whether other WABAs of the business are funded and stay: then a removal waits for a person, on purpose. */
export const siblingStates = ["none", "funded"] as const;

export type Unshared = { siblings: (typeof siblingStates)[number]; since: number };

/** The WABA that left first and is still on our line, as far as the table tells. */
export function oldestUnshared(business: Business): Unshared | undefined {
  const { wabas, held } = business;
  const removed = removedWabas(business);
  const times = [...removed].flatMap((wabaId) => {
    const waba = wabas[wabaId];
    if (waba !== undefined && !isHeld(waba) && waba.status !== "revoking") return [];
    return waba?.removedAt ?? held?.requests.find((request) => request.wabaId === wabaId)?.requestedAt ?? [];
  });
  if (times.length === 0) return undefined;
  const siblings = siblingsOf(business, removed).length === 0 ? "none" : "funded";
  return { siblings, since: Math.min(...times) };
}

/**
 * How long (ms) after a POST a look still missed what a later look showed, where this change is that later look: the least
 * that its effect took to show (A2, A3). 0: the first look showed it. Undefined: the change is no such look.
 */
export function unseenForMs(before: Business, after: Business): number | undefined {
  const delays = Object.entries(after.wabas).flatMap(([wabaId, is]) => unseenOf(before.wabas[wabaId], is) ?? []);
  return delays.length === 0 ? undefined : Math.max(...delays);
}

function unseenOf(was: Waba | undefined, is: Waba): number | undefined {
  // A probe has found what a lost answer would have told.
  if (was?.intent?.absentAt !== undefined && isShared(is)) return was.intent.absentAt - was.intent.madeAt;
  if (was?.status !== "shared" || is.status !== "verified" || was.intendedAt === undefined) return undefined;
  const missedAt = was.evidence?.checkedAt ?? was.intendedAt;
  return Math.max(0, missedAt - was.intendedAt);
}
