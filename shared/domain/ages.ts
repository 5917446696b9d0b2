import type { Business } from "./business.ts";

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
