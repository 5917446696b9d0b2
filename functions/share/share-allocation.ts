import type { CommandDeps } from "../../shared/command-deps.ts";
import { loadConclusion, wakeSoon } from "../../shared/command-deps.ts";
import type { Continuation } from "../../shared/contracts/commands.ts";
import type { Business, Change, Intent, ShareRequest } from "../../shared/domain/business.ts";
import { dueEntries, isSharing, lookDelayMs, newBusiness } from "../../shared/domain/business.ts";
import type { RecordReading, WabaReading } from "../../shared/domain/readings.ts";
import type { Failure } from "../../shared/domain/reasons.ts";
import type { PostOutcome, Settlement, ShareDecision, ShareFacts } from "../../shared/domain/share.ts";
import {
  intendSecondPost,
  intendSecondRecord,
  judgeProbe,
  judgeRecordProbe,
  recordLateAnswer,
  recordProbe,
  recordRecordProbe,
} from "../../shared/domain/probe.ts";
import {
  adoptShare,
  answerRevoked,
  concludeShare,
  decideShare,
  intendRecord,
  intendShare,
  parkShare,
  refusal,
  refuse,
  settleRecord,
  settleShare,
  withoutOwn,
} from "../../shared/domain/share.ts";
import { BlockedError, LaterError, ReusedError, ThrottledError } from "../../shared/errors.ts";
import { storedFailure, type GraphFailure } from "../../shared/graph/errors.ts";
import { readEstate } from "../../shared/graph/read-estate.ts";
import type { Flow, Turn } from "../../shared/queue-handler.ts";
import type { Written } from "../../shared/store/state-store.ts";
import { isFull } from "../../shared/store/state-store.ts";

/** A decision that keeps losing its write leaves the message to its next receive. */
const roundsMax = 8;

/** Under this much time a POST is not begun: the next receive has a whole function run for it. */
const sendMsMin = 250;

/** The story of a share (design.md §6): find the owner, load, read Meta, decide, record the intent, POST, record the outcome. */
export function shareFlow(deps: CommandDeps): Flow {
  return {
    type: "share",
    async onCommand(request, turn) {
      if (request.type !== "share") throw new Error("Not a share");
      await shareAllocation(request, turn, deps);
    },
    onContinuation: (continuation, turn) => continueShare(continuation, turn, deps),
  };
}

async function shareAllocation(request: ShareRequest, turn: Turn, deps: CommandDeps): Promise<void> {
  turn.log.appendKeys({ wabaId: request.wabaId });
  const secret = request.businessTokenSecret;
  if (secret !== undefined && !secret.startsWith(deps.businessTokenSecretPrefix)) {
    await deps.store.conclude(refusal(request, "secret_not_allowed"), deps.now());
    return;
  }
  const owner = await findOwner(request, turn, deps);
  if (owner === undefined) return;
  await driveShare(request, owner.businessId, owner, turn, deps);
}

/** What finding the owner has brought to light: a reading of the WABA, and the state as it was loaded before that. */
type Known = { facts?: ShareFacts; reading?: WabaReading };

/** S1: the stored owner, or Meta's answer, stored before anything is shared: after an unshare it is the only way to revoke. */
async function findOwner(
  request: ShareRequest,
  turn: Turn,
  deps: CommandDeps,
): Promise<(Known & { businessId: string }) | undefined> {
  const { store, graph, now, policy } = deps;
  const { wabaId } = request;
  const { pointer } = turn;
  if (pointer?.businessId !== undefined && pointer.pendingRevoke === undefined)
    return { businessId: pointer.businessId };

  const waiting = pointer?.pendingRevoke?.requests ?? [];
  if (waiting.some((revoke) => request.requestedAt <= revoke.requestedAt + policy.clockSkewMs)) {
    await store.conclude(refusal(request, "superseded"), now());
    return undefined;
  }
  const older = new LaterError("an older revoke of this WABA comes first", lookDelayMs(1, policy.settleWindowMs));
  if (waiting.length > 0 && pointer?.businessId !== undefined) throw older;

  // Of a business that the command or Meta's news names, the state is loaded first: then this one reading serves the decision,
  // too (I10). The reading says who the owner is, whatever was named.
  const named = request.businessId ?? pointer?.hintedOwner;
  const facts = named === undefined ? undefined : await loadFacts(request, named, deps);
  const reply = await graph.readWaba(wabaId, request.businessTokenSecret, turn.signal);
  if (!reply.ok) {
    if (reply.failure.class !== "missing") throw blocked(reply.failure, undefined);
    // A duplicate whose reading is younger may be sharing by now: then this one decides by the item, too (T2).
    const conclusion = refusal(request, "waba_not_visible", undefined, storedFailure(reply.failure));
    if (await store.concludeUnowned(conclusion, wabaId, now())) return undefined;
    throw new LaterError("the owner was found meanwhile", 1000);
  }
  const { ownerBusinessId } = reply.value;
  if (ownerBusinessId === undefined) throw new BlockedError({ at: now(), reason: "owner_unknown" });
  if (request.businessId !== undefined && request.businessId !== ownerBusinessId) {
    await store.conclude(refusal(request, "owner_mismatch"), now());
    return undefined;
  }
  const claimed = await store.claimOwner(wabaId, ownerBusinessId, { overPendingRevoke: waiting.length > 0 });
  // With the owner stored, the revoke's own due time finds it.
  if (waiting.length > 0) throw older;
  // Also where somebody else has stored the owner since: the revoke still waits there for its look.
  if (claimed.businessId === undefined || claimed.pendingRevoke !== undefined) {
    throw new LaterError("a revoke of this WABA arrived meanwhile", 1000);
  }
  const isClaimed = claimed.businessId === facts?.business.businessId;
  return { businessId: claimed.businessId, reading: reply.value, ...(isClaimed ? { facts } : {}) };
}

/** S2 and S3: decides, acts, and begins again with what the loser of a write was shown. */
async function driveShare(
  request: ShareRequest,
  businessId: string,
  known: Known,
  turn: Turn,
  deps: CommandDeps,
): Promise<void> {
  const { store, graph, now, policy } = deps;
  turn.log.appendKeys({ businessId });
  let facts = known.facts ?? (await loadFacts(request, businessId, deps));
  // On a first contact there is no state that could be newer than the reading that found the owner (I10).
  const isCurrent = known.facts !== undefined || facts.business.version === 0;
  if (isCurrent && known.reading !== undefined) facts = { ...facts, now: now(), waba: known.reading };

  for (let round = 0; round < roundsMax; round += 1) {
    const decision = decideShare(facts, policy);
    turn.log.debug("Share decided", { decision: decision.kind });
    if (beginnings.has(decision.kind) && (await isAnswered(request, deps))) {
      // Nor may it stay on the item, where others would wait for it.
      const left = withoutOwn(facts.business, request);
      if (left !== facts.business) await commit({ business: left, events: [], conclusions: [] });
      return;
    }
    let written: Written;
    switch (decision.kind) {
      case "read-waba": {
        const reply = await graph.readWaba(request.wabaId, request.businessTokenSecret, turn.signal);
        if (reply.ok) {
          facts = { ...facts, now: now(), waba: reply.value };
          continue;
        }
        if (reply.failure.class !== "missing") throw blocked(reply.failure, businessId);
        const failure = storedFailure(reply.failure);
        written = await commit(refuse(facts.business, request, "waba_not_visible", failure));
        break;
      }
      case "read-estate": {
        const estate = await readEstate(graph, facts.business, policy.creditLineId, now, turn.signal);
        facts = { ...facts, now: now(), estate };
        continue;
      }
      case "probe":
        await probe(facts.business, request.wabaId, turn, deps);
        facts = { ...(await loadFacts(request, businessId, deps)), probed: true };
        continue;
      case "probe-record":
        await probeRecord(facts.business, turn, deps);
        facts = { ...(await loadFacts(request, businessId, deps)), probed: true };
        continue;
      case "on-item":
        turn.onItem = true;
        return;
      case "reused":
        throw new ReusedError();
      case "later":
        // It costs calls each time, and may wait for the end of a month.
        throw new LaterError(
          "another share of this WABA waits",
          Math.max(decision.until - now(), lookDelayMs(3, policy.settleWindowMs)),
        );
      case "wait":
        written = await commit(parkShare(facts, decision.until));
        if (written.saved) await wakeFor(written.business, request, turn, deps);
        break;
      case "refuse":
        turn.log.info("Share refused", { reason: decision.reason });
        written = await commit(refuse(facts.business, request, decision.reason));
        break;
      case "block":
        throw new BlockedError(decision.failure ?? { at: now(), reason: decision.reason }, businessId);
      case "conclude":
        written = await commit(concludeShare(facts));
        break;
      case "adopt":
        written = await commit(adoptShare(facts, decision.record, policy));
        if (written.saved) await wakeFor(written.business, request, turn, deps);
        break;
      case "attempt":
      case "attach": {
        if (decision.kind === "attempt") await grantAccess(request, businessId, turn, deps);
        const intent = newIntent(facts.business, 1, turn, deps);
        const allocationId = decision.kind === "attach" ? decision.allocationId : undefined;
        written = await commit(intendShare(facts, intent, policy, allocationId));
        if (written.saved) await post(written.business, request, intent, turn, deps);
        break;
      }
      case "allocate": {
        const { onItem } = turn;
        const intent = newIntent(facts.business, 1, turn, deps);
        written = await commit(intendRecord(facts, intent, policy));
        if (!written.saved || !(await postRecord(written.business, turn, deps))) break;
        // The allocation is recorded: on to E5. Nobody but us wrote since the WABA was read, or it is read again (I10).
        const next = await loadFacts(request, businessId, deps);
        const unchanged = next.business.version === written.business.version + 1;
        facts = unchanged && facts.waba !== undefined ? { ...next, waba: facts.waba } : next;
        turn.onItem = onItem;
        continue;
      }
    }
    if (written.saved) return;
    facts = await loadFacts(request, businessId, deps);
  }
  throw new Error("The item changed too often to decide");

  function commit(change: Change): Promise<Written> {
    return store.commit(facts.business, change, now());
  }
}

/** What a command may begin for its WABA, unless it was answered before. */
const beginnings: ReadonlySet<ShareDecision["kind"]> = new Set(["adopt", "attempt", "allocate", "attach", "wait"]);

/**
 * A duplicate was quicker: what it answered is this message's answer too (T2). It is asked after the load, because an
 * answer that comes later still raises the item's version, and this message loses its write.
 */
async function isAnswered(request: ShareRequest, deps: CommandDeps): Promise<boolean> {
  return (await loadConclusion(request, deps)) !== undefined;
}

async function loadFacts(request: ShareRequest, businessId: string, deps: CommandDeps): Promise<ShareFacts> {
  const stored = await deps.store.loadBusiness(businessId);
  const business = stored ?? newBusiness(businessId, deps.now());
  return { now: deps.now(), request, business, full: stored !== undefined && isFull(stored) };
}

/** The id is random per invocation: only this one may send by it (S4). */
function newIntent(business: Business, attempt: number, turn: Turn, deps: CommandDeps): Intent {
  const madeAt = deps.now();
  const sendDeadline = Math.min(madeAt + deps.graphTimeoutMs, turn.endsAt - deps.graphTimeoutMs);
  if (sendDeadline - madeAt < Math.min(sendMsMin, deps.graphTimeoutMs / 4))
    throw new Error("Too little time left for a POST");
  return { id: deps.newId(), epoch: business.epoch, attempt, madeAt, sendDeadline };
}

/** E10, before a one-call share: the same grant when repeated, so it needs no intent. */
async function grantAccess(request: ShareRequest, businessId: string, turn: Turn, deps: CommandDeps): Promise<void> {
  const { systemUserId } = deps.policy;
  if (systemUserId === undefined) return;
  const send = { sendDeadline: deps.now() + deps.graphTimeoutMs, signal: turn.signal };
  const outcome = await deps.graph.assignSystemUser({ wabaId: request.wabaId, systemUserId }, send);
  if (outcome.kind === "done") return;
  if (outcome.throttledUntil !== undefined) throw new ThrottledError(outcome.throttledUntil);
  const { reason } = outcome.failure;
  const failure = storedFailure(outcome.failure);
  // Only a fault of our set-up or of Meta blocks; Meta's answer about the WABA itself is the share's to get.
  const setup = reason === "token_dead" || reason === "permission_denied" || reason === "policy_block";
  throw new BlockedError(setup ? failure : { ...failure, reason: "meta_unavailable" }, businessId);
}

/** S4 and S5: E2, or E5 where the business has its record. The intent is stored; the outcome is recorded whatever it is. */
async function post(
  business: Business,
  request: ShareRequest,
  intent: Intent,
  turn: Turn,
  deps: CommandDeps,
): Promise<void> {
  const { graph, now, policy } = deps;
  const { wabaId, currency, businessTokenSecret } = request;
  const { onItem } = turn;
  turn.onItem = true;
  const waba = business.wabas[wabaId];
  // The line of the intent, not of the configuration: that may have changed since the first attempt.
  const creditLineId = waba?.creditLineId ?? policy.creditLineId;
  const send = { sendDeadline: intent.sendDeadline, signal: turn.signal };
  const outcome =
    waba?.status === "allocated" && businessTokenSecret !== undefined
      ? await graph.attach({ creditLineId, wabaId, currency, businessTokenSecret }, send)
      : await graph.shareAndAttach({ creditLineId, wabaId, currency }, send);
  turn.log.info("Share sent", { outcome: outcome.kind, attempt: intent.attempt, ...answerOf(outcome) });

  const settlement = settleShare(business, intent, request, outcome, now(), policy);
  await settle(business, { ...intent, creditLineId, request }, outcome, settlement, turn, onItem, deps);
}

/**
 * S4 and S5 of E4: shares the line with the business. Answers whether E5 may follow; then the allocation is recorded.
 */
async function postRecord(business: Business, turn: Turn, deps: CommandDeps): Promise<boolean> {
  const { graph, now, policy } = deps;
  const { businessId, recordIntent: intent } = business;
  if (intent === undefined) throw new Error("There is no note to share with the business by");
  const { onItem } = turn;
  turn.onItem = true;
  const { creditLineId, sendDeadline } = intent;
  const outcome = await graph.shareWithBusiness({ creditLineId, businessId }, { sendDeadline, signal: turn.signal });
  turn.log.info("Share with the business sent", {
    outcome: outcome.kind,
    attempt: intent.attempt,
    ...answerOf(outcome),
  });

  const settlement = settleRecord(business, intent, outcome, now(), policy);
  return settle(business, intent, outcome, settlement, turn, onItem, deps);
}

/** Records what became of a POST. Answers whether it was accepted, and is recorded as such. */
async function settle(
  business: Business,
  intent: Intent & { creditLineId: string; request: ShareRequest },
  outcome: PostOutcome,
  settlement: Settlement,
  turn: Turn,
  onItem: boolean,
  deps: CommandDeps,
): Promise<boolean> {
  const { store, now } = deps;
  const { creditLineId, epoch, request } = intent;
  const written = await store.settle(business, settlement, now());
  if (!written.saved) {
    if (outcome.kind !== "no-effect" && outcome.allocationId !== undefined) {
      const answer = { allocationId: outcome.allocationId, creditLineId, epoch };
      await keepLateAnswer(business.businessId, request, answer, turn, deps);
    }
    return false;
  }
  const goesOn = outcome.kind === "accepted" && settlement.guard === "record";
  // This invocation goes on with E5 at once: another one, woken now, would only race it. After a crash the due index finds it.
  if (!goesOn) await wakeFor(written.business, request, turn, deps);
  if (outcome.kind === "accepted") return true;
  const closed = outcome.kind === "no-effect" && intent.attempt === 1;
  if (closed) turn.onItem = onItem;
  if (outcome.throttledUntil !== undefined) throw new ThrottledError(outcome.throttledUntil);
  if (!closed) return false;
  const { failure } = outcome;
  const isLines = failure.reason === "permission_denied" && business.wabas[request.wabaId]?.status !== "allocated";
  const revoked = isLines && (await deps.graph.isLineAccessRevoked(creditLineId, turn.signal));
  throw new BlockedError(revoked ? { ...failure, reason: "line_access_revoked" } : failure, business.businessId);
}

/** S7: the answer's intent is gone. Nothing is deleted here; the record is kept for the revocation or a person. */
async function keepLateAnswer(
  businessId: string,
  request: ShareRequest,
  answer: { allocationId: string; creditLineId: string; epoch: number },
  turn: Turn,
  deps: CommandDeps,
): Promise<void> {
  const { store, now } = deps;
  for (;;) {
    const current = await store.loadBusiness(businessId);
    if (current === undefined) throw new Error("The business of a late answer is gone");
    const reading = await readAnswered(answer, turn, deps);
    const { seen } = reading;
    const change = recordLateAnswer(current, request, { ...answer, ...reading }, now());
    const written = await store.commit(current, change, now());
    if (!written.saved) continue;
    turn.log.warn("A late answer was kept", {
      allocationId: answer.allocationId,
      seen,
      announced: change.events.map((one) => one.detailType),
    });
    return;
  }
}

/** A record that cannot be read now is kept all the same: it may be live. */
async function readAnswered(
  { allocationId, creditLineId }: { allocationId: string; creditLineId: string },
  turn: Turn,
  { graph }: CommandDeps,
): Promise<Pick<RecordReading, "seen" | "receivingCredentialId">> {
  try {
    return await graph.readAllocation(allocationId, creditLineId, turn.signal);
  } catch (error) {
    if (error instanceof ThrottledError) return { seen: "unreadable" };
    throw error;
  }
}

/** S6: one look at an unsettled attempt; a second POST only after two absences, the later after the settle window. */
async function probe(business: Business, wabaId: string, turn: Turn, deps: CommandDeps): Promise<void> {
  const { store, graph, now, policy } = deps;
  const waba = business.wabas[wabaId];
  if (!isSharing(waba) || waba.intent === undefined) return;
  const { request } = waba;
  const asking = turn.request?.type === "share" && turn.request.wabaId === wabaId ? turn.request : request;
  const startedAt = now();
  const secret = request.businessTokenSecret ?? asking.businessTokenSecret;
  const funding = await graph.readFunding(wabaId, secret, turn.signal);
  const estate = await readEstate(graph, business, policy.creditLineId, now, turn.signal);
  const look = { startedAt, funding, estate };
  const finding = judgeProbe(business, wabaId, look, policy);
  turn.log.info("Attempt probed", { finding: finding.kind });
  if (finding.kind === "second-post") {
    const intent = newIntent(business, waba.intent.attempt + 1, turn, deps);
    const again = intendSecondPost(business, wabaId, look, intent, now(), policy);
    const intended = await store.commit(business, again, now());
    // In the name of the attempt's own command, whoever's turn this is: the item holds it, whatever becomes of the POST.
    if (intended.saved) await post(intended.business, request, intent, { ...turn, request, onItem: true }, deps);
    return;
  }
  const written = await store.commit(business, recordProbe(business, wabaId, look, finding, now(), policy), now());
  if (written.saved) await wakeFor(written.business, request, turn, deps);
}

/** S6 of E4: one look at the business's note; whoever made it goes on by its own due time. */
async function probeRecord(business: Business, turn: Turn, deps: CommandDeps): Promise<void> {
  const { store, graph, now, policy } = deps;
  const { recordIntent } = business;
  if (recordIntent === undefined) return;
  const { request } = recordIntent;
  const startedAt = now();
  const estate = await readEstate(graph, business, policy.creditLineId, now, turn.signal);
  const look = { startedAt, funding: { known: false } as const, estate };
  const finding = judgeRecordProbe(business, look, policy);
  turn.log.info("Share with the business probed", { finding: finding.kind });
  if (finding.kind === "second-post") {
    const intent = newIntent(business, recordIntent.attempt + 1, turn, deps);
    const again = intendSecondRecord(business, look, intent, now(), policy);
    const intended = await store.commit(business, again, now());
    if (intended.saved) await postRecord(intended.business, { ...turn, request, onItem: true }, deps);
    return;
  }
  const written = await store.commit(business, recordRecordProbe(business, look, finding, now(), policy), now());
  if (written.saved) await wakeFor(written.business, request, turn, deps);
}

/** An entry of the item is looked at again (C1). A look that was recorded meanwhile makes the message stale. */
async function continueShare(continuation: Continuation, turn: Turn, deps: CommandDeps): Promise<void> {
  const { businessId, wabaId, commandId, looks } = continuation;
  if (businessId === undefined || wabaId === undefined) throw new Error("A share goes on for a business and a WABA");
  const business = await deps.store.loadBusiness(businessId);
  const waba = business?.wabas[wabaId];
  const waiting = business?.waiting[wabaId];

  if (waiting?.request.commandId === commandId && waiting.due.looks === looks) {
    turn.request = waiting.request;
    turn.sweeps = waiting.due.sweeps;
    return driveShare(waiting.request, businessId, {}, turn, deps);
  }
  const note = business?.recordIntent;
  if (note?.request.commandId === commandId && note.request.wabaId === wabaId && note.due?.looks === looks) {
    turn.request = note.request;
    turn.sweeps = note.due.sweeps;
    return driveShare(note.request, businessId, {}, turn, deps);
  }
  if (business === undefined || waba?.due?.request.commandId !== commandId || waba.due.looks !== looks) {
    turn.log.debug("A stale look is dropped");
    return;
  }
  turn.request = waba.due.request;
  // A share that is tried again and again is announced as blocked in the end, whoever asked for the try.
  turn.sweeps = Math.max(waba.due.sweeps, waba.due.looks);
  const answered = answerRevoked(business, wabaId);
  if (answered !== undefined) {
    await deps.store.commit(business, answered, deps.now());
    return;
  }
  if (isSharing(waba)) await driveShare(waba.request, businessId, {}, turn, deps);
}

/** Asks for the next look at this WABA: at this very command, which may wait behind another one. */
async function wakeFor(business: Business, request: ShareRequest, turn: Turn, deps: CommandDeps): Promise<void> {
  const entries = dueEntries(business).filter(({ wabaId }) => wabaId === request.wabaId);
  const entry = entries.find(({ commandId }) => commandId === request.commandId) ?? entries[0];
  await wakeSoon(deps, turn.log, entry, business.businessId);
}

function blocked(failure: GraphFailure, businessId: string | undefined): BlockedError {
  return new BlockedError(storedFailure(failure), businessId);
}

function answerOf(outcome: PostOutcome): { allocationId?: string; failure?: Failure } {
  return outcome.kind === "accepted" ? { allocationId: outcome.allocationId } : { failure: outcome.failure };
}
