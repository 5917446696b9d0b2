import type { CommandDeps } from "../../shared/command-deps.ts";
import type { Business, Change, RevokeRequest } from "../../shared/domain/business.ts";
import { judgeBreaker } from "../../shared/domain/removal-breaker.ts";
import type { Presence, RemovalFacts } from "../../shared/domain/removal.ts";
import { decideRemoval, recordRemoval } from "../../shared/domain/removal.ts";
import { BlockedError } from "../../shared/errors.ts";
import { storedFailure } from "../../shared/graph/errors.ts";
import { readEstate } from "../../shared/graph/read-estate.ts";
import type { Turn } from "../../shared/queue-handler.ts";
import type { ReadFunded } from "./funded-wabas.ts";

/** What the revoke flow works with. */
export type RevokeDeps = CommandDeps & { readFunded: ReadFunded };

/** E3 is asked of this many WABAs at a time. */
const readsAtOnce = 5;

/**
 * Automatic revocations of a business: whether they stand, wait or go on. Everything at Meta is read after the load of
 * `business`, whose version guards the answer's write.
 * @param request the command at hand; undefined when what is held is looked at again.
 */
export async function judgeRemoval(
  business: Business,
  request: RevokeRequest | undefined,
  turn: Turn,
  deps: RevokeDeps,
): Promise<Change> {
  const { now, policy } = deps;
  let facts: RemovalFacts = { now: now(), business, addedAt: await addedTimes(business, request, deps) };
  if (request !== undefined) facts = { ...facts, request };
  for (;;) {
    const decision = decideRemoval(facts, policy);
    switch (decision.kind) {
      case "read-presence":
        facts = { ...facts, presence: await readPresence(business, decision.wabaIds, turn, deps) };
        break;
      case "read-strangers":
        facts = { ...facts, strangers: await readStrangers(business, decision.removed, turn, deps) };
        break;
      case "ask-breaker":
        facts = { ...facts, admitted: await passBreaker(business, deps) };
        break;
      case "answer":
      case "hold":
      case "mark":
        turn.log.info("Removal judged", { decision: decision.kind, ...("reason" in decision ? decision : {}) });
        return recordRemoval({ ...facts, now: now() }, decision, policy);
    }
  }
}

async function addedTimes(
  { held }: Business,
  request: RevokeRequest | undefined,
  { store }: CommandDeps,
): Promise<Record<string, number>> {
  const named = [...(held?.requests ?? []), ...(request === undefined ? [] : [request])];
  const wabaIds = new Set(named.flatMap(({ wabaId }) => wabaId ?? []));
  const times = [...wabaIds].map(async (wabaId): Promise<[string, number][]> => {
    const pointer = await store.loadPointer(wabaId);
    return pointer?.addedAt === undefined ? [] : [[wabaId, pointer.addedAt]];
  });
  return Object.fromEntries((await Promise.all(times)).flat());
}

/** The one E3 before the marker: a WABA whose owner can be read did not leave. */
async function readPresence(
  { businessId }: Business,
  wabaIds: readonly string[],
  { signal }: Turn,
  { graph }: CommandDeps,
): Promise<Record<string, Presence>> {
  async function read(wabaId: string): Promise<[string, Presence]> {
    const reply = await graph.readWaba(wabaId, undefined, signal);
    if (reply.ok) return [wabaId, reply.value.ownerBusinessId === undefined ? "unread" : "here"];
    if (reply.failure.reason === "token_dead") throw new BlockedError(storedFailure(reply.failure), businessId);
    return [wabaId, reply.failure.class === "missing" ? "gone" : "unread"];
  }
  const presence: [string, Presence][] = [];
  for (let start = 0; start < wabaIds.length; start += readsAtOnce) {
    presence.push(...(await Promise.all(wabaIds.slice(start, start + readsAtOnce).map(read))));
  }
  return Object.fromEntries(presence);
}

/**
 * Siblings that the table does not know: WABAs shared with us that a live record of the business pays for. Without such a
 * record there is none; else only the list of all WABAs can tell.
 */
async function readStrangers(
  business: Business,
  removed: ReadonlySet<string>,
  turn: Turn,
  { graph, readFunded, policy, now }: RevokeDeps,
): Promise<"none" | "some" | "unknown"> {
  const estate = await readEstate(graph, business, policy.creditLineId, now, turn.signal);
  if (!estate.complete) return "unknown";
  const own = estate.records.filter(
    ({ seen, receivingBusinessId: named }) =>
      seen !== "deleted" && seen !== "missing" && (named === undefined || named === business.businessId),
  );
  if (own.length === 0) return "none";
  const credentials = own.flatMap((record) => (record.seen === "live" ? (record.receivingCredentialId ?? []) : []));
  if (credentials.length < own.length) return "unknown";
  const funded = await readFunded(turn);
  if (funded === undefined) return "unknown";
  const strangers = credentials.flatMap((id) => funded.get(id) ?? []).filter((wabaId) => !removed.has(wabaId));
  if (strangers.length === 0) return "none";
  turn.log.info("Other WABAs of the business are funded by us", { siblings: strangers.slice(0, 20) });
  return "some";
}

/** Counts this revocation, once, or learns that no more may begin by themselves. */
async function passBreaker({ businessId, held }: Business, { store, now, policy, log }: CommandDeps): Promise<boolean> {
  const stoppedSince = held?.reason === "breaker" ? held.since : undefined;
  for (;;) {
    const loaded = await store.loadRemovals();
    const verdict = judgeBreaker(loaded?.breaker, businessId, stoppedSince, now(), policy);
    if (verdict.kind === "admit" || verdict.kind === "hold") return verdict.kind === "admit";
    if (!(await store.saveRemovals(loaded, verdict, now()))) continue;
    if (verdict.kind === "stop") log.error("Too many customers left at once: automatic revocations are stopped");
    return verdict.kind === "count";
  }
}
