import { metricDefinitions } from "./contracts/metrics.ts";
import type { TokenState } from "./graph/system-token.ts";
import type { UsageMeter } from "./graph/usage.ts";
import type { Metrics } from "./metrics.ts";
import type { Reading } from "./store/items.ts";
import type { Limits, LimitStore } from "./store/limit-store.ts";

/**
 * The gate that every message passes before anything is asked of Meta: closed while Meta blocks the app, while the system
 * token is dead, and, for what can wait, while the hour's budget is nearly used (Q1, Tokens). What it knows stands in the
 * State table, for all functions.
 */
export type Quota = {
  /** Why commands must wait now and for how long; undefined: they may go. One look is enough for a whole invocation. */
  hold(signal: AbortSignal): Promise<Hold | undefined>;
  /** Meta said stop, until then. Answers whether the whole app must; if not, it is one WABA's own block. */
  block(until: number): Promise<boolean>;
  /** Whether the system token, asked about now, is dead; if so, every function waits from then on. */
  isTokenDead(signal: AbortSignal): Promise<boolean>;
  /** At the end of an invocation: tells the others what its answers told, if they must know. */
  finish(signal: AbortSignal): Promise<void>;
};

export type Hold = { why: string; delayMs: number };

export type QuotaDeps = {
  store: LimitStore;
  now: () => number;
  /** The used fraction from which on this function's commands wait; never, when not given. */
  stopAt?: number | undefined;
  meter?: UsageMeter;
  metrics?: Metrics;
  systemToken?: { check(signal: AbortSignal): Promise<TokenState>; isSuspect(): boolean; clear(): void };
};

/**
 * A reading is believed for a minute. Meta counts over a sliding hour, and the calls that leave it may leave in a bunch: how
 * soon there is room again cannot be computed, only asked. One invocation a minute asks, which costs one of 5,000 calls.
 */
const readingMs = 60_000;

/** Readings are written no more often than this by one process: some calls too many cost less than a write for each. */
const writeEveryMs = 5000;

const othersAsk = "another reads the usage anew";
const untold = "Meta does not say how much is used";

/** Short: the schedule pauses the event sources soon, and after the repair nobody should wait for long. */
export const tokenWaitMs = 15_000;

/**
 * @param stopAt the used fraction from which on a kind of work waits; never, when undefined.
 * @returns `stale`: the reading says stop, but is too old to be believed; one asks for the usage anew.
 */
export function judgeLimits(limits: Limits, stopAt: number | undefined, now: number): Hold | "stale" | undefined {
  const { blockedUntil = 0, reading, tokenIsDead } = limits;
  if (tokenIsDead) return { why: "the system token is dead", delayMs: tokenWaitMs };
  if (blockedUntil > now) return { why: "Meta has throttled us", delayMs: blockedUntil - now };
  if (stopAt === undefined || reading === undefined || reading.used < stopAt) return undefined;
  const delayMs = reading.readAt + readingMs - now;
  return delayMs > 0 ? { why: "the hour's calls are nearly used", delayMs } : "stale";
}

export function createQuota({ store, now, stopAt, meter, metrics, systemToken }: QuotaDeps): Quota {
  let known: Reading | undefined;
  let writtenAt = -Infinity;
  let checked: Promise<boolean> | undefined;
  async function findTokenDead(signal: AbortSignal): Promise<boolean> {
    const state = await systemToken?.check(signal);
    if (state === "works") systemToken?.clear();
    if (state !== "dead") return false;
    await store.openBreaker(now());
    return true;
  }

  return {
    async hold(signal) {
      checked = undefined;
      const limits = await store.loadLimits();
      known = limits.reading;
      const verdict = judgeLimits(limits, stopAt, now());
      if (verdict !== "stale") return verdict;
      if (known === undefined || !(await store.claimReading(known, now())))
        return { why: othersAsk, delayMs: readingMs };
      // One call tells how much is used: the work itself may need none, or more than there is (both found by simulation).
      checked = findTokenDead(signal);
      if (await checked) return { why: "the system token is dead", delayMs: tokenWaitMs };
      const used = meter?.takeUsed();
      if (used === undefined) return systemToken === undefined ? undefined : { why: untold, delayMs: readingMs };
      writtenAt = now();
      known = { used, readAt: writtenAt };
      await store.saveReading(known);
      const anew = judgeLimits({ ...limits, reading: known }, stopAt, now());
      return anew === "stale" ? undefined : anew;
    },

    async block(until) {
      const blockedUntil = meter === undefined ? until : meter.blockedUntil();
      const isApps = blockedUntil > now();
      if (isApps) await store.saveBlockedUntil(blockedUntil);
      return isApps;
    },

    isTokenDead(signal) {
      checked ??= findTokenDead(signal);
      return checked;
    },

    async finish(signal) {
      const used = meter?.takeUsed();
      if (used !== undefined) metrics?.add(metricDefinitions.quotaUsed, used * 100);
      if (used !== undefined && mustTell(used)) {
        writtenAt = now();
        await store.saveReading({ used, readAt: writtenAt });
      }
      if (systemToken?.isSuspect() === true) {
        checked ??= findTokenDead(signal);
        await checked;
      }
    },
  };

  /** Others need to know when it makes this function stop or go on, and of every point beyond. */
  function mustTell(used: number): boolean {
    const before = known?.used ?? 0;
    if (stopAt === undefined || Math.max(used, before) < stopAt) return false;
    return Math.round(used * 100) !== Math.round(before * 100) && now() - writtenAt >= writeEveryMs;
  }
}
