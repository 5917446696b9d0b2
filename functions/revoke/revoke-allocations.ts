import type { CommandDeps } from "../../shared/command-deps.ts";
import { loadConclusion, wakeSoon } from "../../shared/command-deps.ts";
import type { Continuation } from "../../shared/contracts/commands.ts";
import type { Business, Change, RevokeRequest } from "../../shared/domain/business.ts";
import { dueEntries, isAutomatic, isSame, lookDelayMs, newBusiness } from "../../shared/domain/business.ts";
import type { EstateReading, RecordReading } from "../../shared/domain/readings.ts";
import type { RevocationRun, RevokeDecision } from "../../shared/domain/revoke.ts";
import {
  announceRevokedAgain,
  decideRevoke,
  isDeleteAnswer,
  joinedMax,
  joinHeld,
  joinRevocation,
  markRevocation,
  mayDelete,
  recordRecheck,
  recordRun,
  refuseRevoke,
  withDeletions,
} from "../../shared/domain/revoke.ts";
import { BlockedError, LaterError, ReusedError, ThrottledError } from "../../shared/errors.ts";
import { listEstate, readEstate, readRecords } from "../../shared/graph/read-estate.ts";
import type { Flow, Turn } from "../../shared/queue-handler.ts";
import type { Pointer } from "../../shared/store/items.ts";
import { createFundedWabas } from "./funded-wabas.ts";
import type { RevokeDeps } from "./judge-removal.ts";
import { judgeRemoval } from "./judge-removal.ts";
import { noteAccount } from "./note-account.ts";

/** A decision that keeps losing its write leaves the message to its next receive. */
const roundsMax = 8;

/** No list that leads to a DELETE begins, and no DELETE is sent, later than this after the load of the open marker (R3, H7b). */
const runMsMax = 30_000;

/** A revoke whose owner nobody knows is a person's after a day (R1). */
const ownerUnknownMs = 24 * 3_600_000;

/** The story of a revocation, the only flow that DELETEs: find the business, mark, delete, prove, say so (R1-R6). */
export function revokeFlow(common: CommandDeps): Flow {
  const deps: RevokeDeps = { ...common, readFunded: createFundedWabas(common) };
  return {
    type: "revoke",
    async onCommand(request, turn) {
      if (request.type !== "revoke") throw new Error("Not a revoke");
      const businessId = await findBusiness(request, turn, deps);
      if (businessId !== undefined) await revokeAllocations(request, businessId, turn, deps);
    },
    onContinuation: (continuation, turn) => continueRevoke(continuation, turn, deps),
    onNotice: (notice, turn) => noteAccount(notice, turn, deps),
  };
}

/** R1: stored owner, then Meta, and last the command's claim. Sources that disagree delete nothing. */
async function findBusiness(request: RevokeRequest, turn: Turn, deps: RevokeDeps): Promise<string | undefined> {
  const { store } = deps;
  const { wabaId, businessId: claim } = request;
  if (wabaId === undefined) return claim;
  turn.log.appendKeys({ wabaId });
  const { pointer } = turn;
  const owner = await ownerOf(wabaId, pointer, turn, deps);
  if (owner.kind === "known") {
    if (claim === undefined || claim === owner.businessId) return owner.businessId;
    turn.log.error("A revoke names another business than the WABA's owner: nothing is deleted", { owner, claim });
    await store.conclude(refuseRevoke(owner.businessId, request, "owner_mismatch"), deps.now());
    return undefined;
  }
  const isClaimed = owner.kind === "invisible" && claim !== undefined;
  const waiting = pointer?.pendingRevoke?.requests ?? [];
  if (isClaimed && (waiting.length === 0 || waiting.length >= joinedMax)) return claim;
  const looks = await parkRevoke(request, wabaId, pointer, turn, deps, isClaimed);
  if (!isClaimed) return undefined;
  // Whoever names the owner names it for the revokes that waited here before, too.
  turn.onItem = true;
  await continuePending(wabaId, looks, turn, deps);
  return undefined;
}

/** `invisible`: Meta says that there is nothing to see, as after an unshare. `unread`: Meta could not be asked, which says nothing. */
type Owner = { kind: "known"; businessId: string } | { kind: "invisible" | "unread" };

async function ownerOf(wabaId: string, pointer: Pointer | undefined, turn: Turn, deps: RevokeDeps): Promise<Owner> {
  if (pointer?.businessId !== undefined) return { kind: "known", businessId: pointer.businessId };
  const reply = await deps.graph.readWaba(wabaId, undefined, turn.signal);
  if (!reply.ok) {
    if (reply.failure.class !== "missing") return { kind: "unread" };
    // A share may have stored the owner since this turn began: the claim comes last (R1).
    const stored = await deps.store.loadPointer(wabaId);
    if (stored?.businessId !== undefined) return { kind: "known", businessId: stored.businessId };
    return { kind: "invisible" };
  }
  const { ownerBusinessId } = reply.value;
  if (ownerBusinessId === undefined) return { kind: "unread" };
  const claimed = await deps.store.claimOwner(wabaId, ownerBusinessId, { overPendingRevoke: true });
  return { kind: "known", businessId: claimed.businessId ?? ownerBusinessId };
}

/**
 * Never refused for an unknown owner: it waits on the WABA's item, and blocks older shares there (H4).
 * @returns the looks of the entry it waits with.
 */
async function parkRevoke(
  request: RevokeRequest,
  wabaId: string,
  pointer: Pointer | undefined,
  turn: Turn,
  deps: RevokeDeps,
  isDueNow: boolean,
): Promise<number> {
  const { store, now, policy } = deps;
  const known = pointer?.pendingRevoke;
  const repeated = known?.requests.find((one) => one.commandId === request.commandId);
  if (repeated !== undefined && !isSame(repeated, request)) throw new ReusedError();
  const others = (known?.requests ?? []).filter((one) => one.commandId !== request.commandId);
  if (others.length >= joinedMax)
    throw new LaterError("too many revokes of this WABA wait", lookDelayMs(6, policy.settleWindowMs));
  const first = { nextAt: now() + lookDelayMs(0, policy.settleWindowMs), looks: 0, sweeps: 0 };
  const due = { ...(known?.due ?? first), ...(isDueNow ? { nextAt: now() } : {}) };
  const pending = { requests: [...others, request], since: known?.since ?? now(), due };
  if (!(await store.savePendingRevoke(wabaId, pointer, pending))) throw new Error("The WABA's item changed meanwhile");
  turn.log.warn("The owner is not known yet; the revoke waits on the WABA");
  return due.looks;
}

/** R2: decides in the state's own conditional write, then drives what is open. */
async function revokeAllocations(
  request: RevokeRequest,
  businessId: string,
  turn: Turn,
  deps: RevokeDeps,
): Promise<void> {
  const { store, now, policy } = deps;
  turn.log.appendKeys({ businessId });
  for (let round = 0; round < roundsMax; round += 1) {
    // A removal is told of once: its answer stands, and another removal of the same WABA is another command (T2).
    if (isAutomatic(request) && turn.concluded?.outcome === "refused") return repeatConclusion(turn, deps);
    const business = (await store.loadBusiness(businessId)) ?? newBusiness(businessId, now());
    const decision = decideRevoke(business, request, turn.concluded?.outcome === "done", policy);
    turn.log.info("Revoke decided", { decision: decision.kind });
    // Asked after the load: a duplicate may have had its answer since this turn began, and a share its place (T2).
    if (takesBack.has(decision.kind) && turn.concluded === undefined) {
      turn.concluded = await loadConclusion(request, deps);
      if (turn.concluded !== undefined) continue;
    }
    let change: Change;
    switch (decision.kind) {
      case "reused":
        throw new ReusedError();
      case "drive":
        turn.onItem = true;
        return driveRevocation(businessId, turn, deps);
      case "later":
        throw new LaterError("a newer re-share is in flight", lookDelayMs(4, policy.settleWindowMs));
      case "superseded":
        if (turn.concluded !== undefined) return repeatConclusion(turn, deps);
        await store.conclude(refuseRevoke(businessId, request, "superseded"), now());
        return;
      case "announce-again":
        if (turn.concluded !== undefined) return repeatConclusion(turn, deps);
        change = announceRevokedAgain(business, request);
        break;
      case "join":
        if ((business.revocation?.joined.length ?? 0) >= joinedMax) {
          throw new LaterError("too many revokes wait for this revocation", lookDelayMs(6, policy.settleWindowMs));
        }
        change = joinRevocation(business, request);
        break;
      case "removal":
        // Each look at it would ask Meta about all that were removed, and it comes back for days.
        if (isNotedOnly(request, business)) throw new LaterError(noPlace, lookDelayMs(6, policy.settleWindowMs));
        change = await judgeRemoval(business, request, turn, deps);
        break;
      case "mark":
        change = markRevocation(business, request, now());
        break;
    }
    const written = await store.commit(business, change, now());
    if (!written.saved) continue;
    if (isAutomatic(request) && isTurnedAway(request, written.business, change)) {
      throw new LaterError(noPlace, lookDelayMs(6, policy.settleWindowMs));
    }
    return goOn(written.business, turn, deps);
  }
  throw new Error("The item changed too often to revoke");
}

/** What may take back what was shared since. */
const takesBack: ReadonlySet<RevokeDecision["kind"]> = new Set(["removal", "mark"]);

const noPlace = "too many removals wait for this business";

/** It was turned away before: its removal stands on the WABA, and there is still no place for its command. */
function isNotedOnly(request: RevokeRequest, { held, wabas }: Business): boolean {
  const { wabaId = "", requestedAt } = request;
  const isFull = held !== undefined && held.requests.length >= joinedMax;
  return isFull && !held.requests.some((one) => isSame(one, request)) && (wabas[wabaId]?.removedAt ?? 0) >= requestedAt;
}

/** The removal is noted, but among what is held there was no place for its command. */
function isTurnedAway(request: RevokeRequest, { held }: Business, { conclusions }: Change): boolean {
  const isKept = held?.requests.some((one) => isSame(one, request)) ?? true;
  return !isKept && !conclusions.some((one) => isSame(one.request, request));
}

/** Drives what is open, or asks for the next look at what is held. */
async function goOn(business: Business, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { businessId, revocation, held } = business;
  turn.onItem ||= revocation?.state === "open";
  if (revocation?.state === "open") return driveRevocation(businessId, turn, deps);
  const entry = dueEntries(business).find(({ commandId }) => commandId === held?.requests[0]?.commandId);
  await wakeSoon(deps, turn.log, entry, businessId);
}

/** The same event under the same id; nothing is written (P3). */
async function repeatConclusion(turn: Turn, deps: RevokeDeps): Promise<void> {
  if (turn.concluded?.event !== undefined) await deps.events.send([turn.concluded.event]);
}

/** R3 to R5. Whatever fails, the revocation stays open with its due time. */
async function driveRevocation(businessId: string, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { store, now, policy } = deps;
  for (let round = 0; round < roundsMax; round += 1) {
    // The deadline counts from before the load: a worker that froze since then deletes nothing any more (H7b).
    const deadline = Math.min(now() + runMsMax, turn.endsAt);
    const loaded = await store.loadBusiness(businessId);
    if (loaded?.revocation?.state !== "open") return;
    const ran = await runRevocation(loaded, deadline, turn, deps);
    if (ran === undefined) continue;
    const { business, run, throttledUntil } = ran;
    const written = await store.commit(business, recordRun(business, run, now(), policy), now());
    if (throttledUntil !== undefined) throw new ThrottledError(throttledUntil);
    if (!written.saved) continue;
    const { revocation } = written.business;
    turn.log.info("Revocation run recorded", { state: revocation?.state, openReason: revocation?.openReason });
    const entry = dueEntries(written.business).find(({ work }) => work === "revoke");
    await wakeSoon(deps, turn.log, entry, businessId);
    return;
  }
}

/**
 * One run: list, DELETE what names this business, read it again, and list afresh. One record failing does not stop the others.
 * @returns with the item as it stands then; undefined when it was written meanwhile.
 */
async function runRevocation(
  loaded: Business,
  deadline: number,
  turn: Turn,
  deps: RevokeDeps,
): Promise<{ business: Business; run: RevocationRun; throttledUntil?: number } | undefined> {
  const { store, graph, now, policy } = deps;
  let business = loaded;
  const { signal } = turn;
  const unread: EstateReading = { startedAt: now(), complete: false, listed: {}, records: [] };
  const run: RevocationRun = { estate: unread, deleted: {}, confirmed: [], fresh: unread, stillFunded: "unread" };
  try {
    if (now() >= deadline) return { business, run };
    run.estate = await readEstate(graph, business, policy.creditLineId, now, signal);
    const noted = withDeletions(business, run.estate, now());
    if (noted !== business) {
      const written = await store.commit(business, { business: noted, events: [], conclusions: [] }, now());
      if (!written.saved) return undefined;
      ({ business } = written);
    }
    for (const reading of run.estate.records) {
      const { allocationId, receivingBusinessId, seen } = reading;
      if (receivingBusinessId !== business.businessId) {
        turn.log.warn("A record that does not name this business is not touched", {
          allocationId,
          receivingBusinessId,
          seen,
        });
        continue;
      }
      if (!mayDelete(business, reading)) continue;
      const outcome = await graph.deleteAllocation(allocationId, { sendDeadline: deadline, signal });
      turn.log.info("Allocation deleted", { allocationId, outcome: outcome.kind });
      if ("at" in outcome && isDeleteAnswer(business, allocationId, outcome, policy))
        run.deleted[allocationId] = outcome.at;
    }
    const ids = run.estate.records.map(({ allocationId }) => allocationId);
    const own = ids.filter((id) => business.records[id]?.foreign !== true);
    run.confirmed = await readRecords(graph, business, own, run.estate.listed, policy.creditLineId, signal);
    // The word "done" rests on a list begun after the last DELETE (R5).
    run.fresh = await listEstate(graph, business, policy.creditLineId, now, signal);
    run.stillFunded = await isStillFunded(business, [...run.estate.records, ...run.confirmed], turn, deps);
    return { business, run };
  } catch (error) {
    if (error instanceof ThrottledError) return { business, run, throttledUntil: error.until };
    throw error;
  }
}

/** Whether a readable WABA of the business is still paid for by a record of ours. An invisible one, often unshared, cannot say. */
async function isStillFunded(
  business: Business,
  readings: RecordReading[],
  turn: Turn,
  deps: RevokeDeps,
): Promise<RevocationRun["stillFunded"]> {
  const credentials = new Set(credentialsOf(business, readings));
  if (credentials.size === 0) return false;
  const wabaIds = Object.keys(business.wabas);
  for (let start = 0; start < wabaIds.length; start += readsAtOnce) {
    const page = wabaIds.slice(start, start + readsAtOnce);
    const reads = page.map((wabaId) => deps.graph.readFunding(wabaId, undefined, turn.signal));
    // All of them: the handler never returns with a call pending.
    const answers = await Promise.allSettled(reads);
    for (const [index, answer] of answers.entries()) {
      if (answer.status === "rejected") throw answer.reason;
      const { value: funding } = answer;
      if (!funding.known) {
        const invisible =
          funding.failure?.reason === "waba_not_visible" || funding.failure?.reason === "permission_denied";
        if (invisible) continue;
        return "unread";
      }
      if (funding.id === undefined || !credentials.has(funding.id)) continue;
      turn.log.warn("A WABA is still funded by us", { wabaId: page[index] });
      return true;
    }
  }
  return false;
}

/** One after the other, the WABAs of a business with some hundred would take all of a turn, and each turn begins anew. */
const readsAtOnce = 10;

function credentialsOf(business: Business, readings: RecordReading[]): string[] {
  const own = readings.filter((reading) => reading.receivingBusinessId === business.businessId);
  const read = own.map((reading) => reading.receivingCredentialId);
  const proven = Object.values(business.wabas).map((waba) => waba.evidence?.receivingCredentialId);
  // A record that is confirmed deleted is not read again: what it paid by may pay still (H27c, H27f).
  const known = Object.values(business.records).flatMap(({ foreign, credentialId }) =>
    foreign === true ? [] : credentialId,
  );
  return [...read, ...proven, ...known].filter((id): id is string => id !== undefined && id !== "");
}

/** An open revocation, or a revoke that waits for its owner, is looked at again (C1). */
async function continueRevoke(continuation: Continuation, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { businessId, wabaId, looks } = continuation;
  if (businessId === undefined) {
    if (wabaId === undefined) throw new Error("A revocation goes on for a business or a WABA");
    return continuePending(wabaId, looks, turn, deps);
  }
  const business = await deps.store.loadBusiness(businessId);
  const { revocation, held } = business ?? {};
  if (held?.requests[0]?.commandId === continuation.commandId) return continueHeld(continuation, turn, deps);
  if (business === undefined || revocation?.due === undefined || revocation.due.looks !== looks) {
    turn.log.debug("A stale look is dropped");
    return;
  }
  turn.request = revocation.request;
  turn.sweeps = revocation.due.sweeps;
  if (revocation.state !== "open") await recheckRevoked(business, turn, deps);
  await driveRevocation(businessId, turn, deps);
}

/** What is held is judged again: by its due time, or because something changed that it waits for (W1). */
async function continueHeld({ businessId = "", looks }: Continuation, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { store, now } = deps;
  for (let round = 0; round < roundsMax; round += 1) {
    const business = await store.loadBusiness(businessId);
    const { held, revocation } = business ?? {};
    if (business === undefined || held === undefined || held.due.looks !== looks) return;
    turn.request = held.requests[0];
    turn.sweeps = held.due.sweeps;
    const isOpen = revocation?.state === "open";
    const change = isOpen ? joinHeld(business) : await judgeRemoval(business, undefined, turn, deps);
    const written = await store.commit(business, change, now());
    if (written.saved) return goOn(written.business, turn, deps);
  }
}

/** A partner switch that was revoked before it took effect is looked at once more (R6). What is found live re-opens the revocation. */
async function recheckRevoked(business: Business, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { store, graph, now, policy } = deps;
  const estate = await readEstate(graph, business, policy.creditLineId, now, turn.signal);
  if (!estate.complete) throw new BlockedError(estate.failure ?? { at: now(), reason: "meta_unavailable" });
  const stillFunded = await isStillFunded(business, estate.records, turn, deps);
  if (stillFunded === "unread") throw new BlockedError({ at: now(), reason: "meta_unavailable" });
  await store.commit(business, recordRecheck(business, estate, stillFunded, now()), now());
}

async function continuePending(wabaId: string, looks: number, turn: Turn, deps: RevokeDeps): Promise<void> {
  const { store, now, policy } = deps;
  turn.log.appendKeys({ wabaId });
  const pointer = await store.loadPointer(wabaId);
  const pending = pointer?.pendingRevoke;
  if (pointer === undefined || pending === undefined || pending.due.looks !== looks) return;
  const [first] = pending.requests;
  turn.request = first;
  turn.sweeps = pending.due.sweeps;

  const owner = await ownerOf(wabaId, pointer, turn, deps);
  const claims = new Set(pending.requests.flatMap((request) => request.businessId ?? []));
  if (owner.kind === "unread" || (owner.kind === "invisible" && claims.size === 0)) {
    const next = pending.due.looks + 1;
    const due = { nextAt: now() + lookDelayMs(next, policy.settleWindowMs), looks: next, sweeps: 0 };
    await store.savePendingRevoke(wabaId, pointer, { ...pending, due });
    if (now() - pending.since < ownerUnknownMs || first === undefined) return;
    const failure = { at: now(), reason: "owner_unknown" } as const;
    for (const request of pending.requests) await store.block(request, failure, true, undefined, now());
    throw new BlockedError(failure);
  }
  // The last source, and one of the WABA: it stands for those too that name nobody, unless claims disagree.
  const [onlyClaim] = claims.size === 1 ? claims : [];
  // Every waiting revoke is marked on, or joins, its business's item before the WABA's item forgets it.
  const resolved: RevokeRequest[] = [];
  for (const request of pending.requests) {
    const claim = request.businessId;
    const businessId = owner.kind === "known" ? owner.businessId : (claim ?? onlyClaim);
    if (businessId === undefined) continue;
    if (claim !== undefined && claim !== businessId) {
      await store.conclude(refuseRevoke(businessId, request, "owner_mismatch"), now());
    } else {
      // A look that died may have answered it: then what was shared since is not its to revoke (T2).
      const concluded = await loadConclusion(request, deps);
      try {
        await revokeAllocations(request, businessId, { ...turn, request, concluded }, deps);
      } catch (error) {
        if (!(error instanceof ReusedError)) throw error;
        // Its own fault, not that of the message or of the others that wait.
        const { hash, commandId } = request;
        const detail = "same id, other content";
        await store.reject({ hash, commandId, wabaId, reason: "command_id_reused", detail }, now());
      }
    }
    resolved.push(request);
  }
  const current = await store.loadPointer(wabaId);
  if (current?.pendingRevoke === undefined) return;
  // What came meanwhile still waits (found by simulation).
  const requests = current.pendingRevoke.requests.filter((one) => !resolved.some((known) => isSame(known, one)));
  const left = requests.length === 0 ? undefined : { ...current.pendingRevoke, requests };
  await store.savePendingRevoke(wabaId, current, left);
}
