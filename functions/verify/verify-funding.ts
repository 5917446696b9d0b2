import type { CommandDeps } from "../../shared/command-deps.ts";
import { wakeSoon } from "../../shared/command-deps.ts";
import type { Continuation } from "../../shared/contracts/commands.ts";
import type { Business, VerifyRequest } from "../../shared/domain/business.ts";
import { dueEntries, lookDelayMs } from "../../shared/domain/business.ts";
import { answerRevoked } from "../../shared/domain/share.ts";
import { decideVerify, judgeProof, postponeLook, recordProof, refuseVerify } from "../../shared/domain/verify.ts";
import { BlockedError, LaterError } from "../../shared/errors.ts";
import type { Flow, Turn } from "../../shared/queue-handler.ts";

/** A decision that keeps losing its write leaves the message to its next receive. */
const roundsMax = 5;

/** The story of a verification: load, read the record and the funding, compare, record (V1, V2). */
export function verifyFlow(deps: CommandDeps): Flow {
  return {
    type: "verify",
    async onCommand(request, turn) {
      if (request.type !== "verify") throw new Error("Not a verify");
      await verifyFunding(request, turn, deps);
    },
    onContinuation: (continuation, turn) => continueVerify(continuation, turn, deps),
  };
}

async function verifyFunding(request: VerifyRequest, turn: Turn, deps: CommandDeps): Promise<void> {
  const { store, now } = deps;
  turn.log.appendKeys({ wabaId: request.wabaId });
  const secret = request.businessTokenSecret;
  if (secret !== undefined && !secret.startsWith(deps.businessTokenSecretPrefix)) {
    await store.conclude(refuseVerify(undefined, request, "secret_not_allowed"), now());
    return;
  }
  const { pointer } = turn;
  // Messages come in any order: the share that makes the WABA known may be a moment behind.
  if (pointer?.businessId === undefined) throw new BlockedError({ at: now(), reason: "owner_unknown" });
  const { businessId } = pointer;
  await look(businessId, request.wabaId, request, turn, deps);
}

/** @param asked the command at hand, or the entry's own look that came due. */
async function look(
  businessId: string,
  wabaId: string,
  asked: VerifyRequest | Continuation,
  turn: Turn,
  deps: CommandDeps,
): Promise<void> {
  const request = asked.type === "verify" ? asked : undefined;
  const { store, graph, now, policy } = deps;
  for (let round = 0; round < roundsMax; round += 1) {
    const business = await store.loadBusiness(businessId);
    // Asked anew in each round: a neighbour that won the write may have made this very look (found by simulation).
    if (asked.type === "continue" && !isDue(business, wabaId, asked)) {
      turn.log.debug("A stale look is dropped");
      return;
    }
    const decision = decideVerify(business, wabaId);
    if (business === undefined || decision.kind === "refuse") {
      if (request === undefined) return;
      const reason = decision.kind === "refuse" ? decision.reason : "not_shared";
      turn.log.info("Verify refused", { reason });
      await store.conclude(refuseVerify(business, request, reason), now());
      return;
    }
    if (decision.kind === "later") throw new LaterError("a share is under way", untilDue(business, wabaId, deps));

    // Both reads begin after the load of the version that their result replaces (V1, I4).
    const { waba } = decision;
    const secret =
      request?.businessTokenSecret ?? waba.due?.request.businessTokenSecret ?? waba.request.businessTokenSecret;
    const [record, funding] = await Promise.all([
      graph.readAllocation(waba.allocationId, waba.creditLineId, turn.signal),
      graph.readFunding(wabaId, secret, turn.signal),
    ]);
    const proof = { record, funding };
    const verdict = judgeProof(businessId, proof);
    turn.log.info("Funding compared", { verdict: verdict.kind, seen: record.seen });

    if (verdict.kind === "unknown") {
      const { failure } = verdict;
      if (request === undefined) {
        await store.commit(business, postponeLook(business, wabaId, failure, now(), policy), now());
        return;
      }
      if (failure?.reason !== "waba_not_visible") {
        throw new BlockedError(failure ?? { at: now(), reason: "meta_unavailable" }, businessId);
      }
      // The record or the WABA: only an invisible WABA is the customer's doing.
      if (funding.known) throw new BlockedError({ ...failure, reason: "meta_unavailable" }, businessId);
      await store.conclude(refuseVerify(business, request, "waba_not_visible"), now());
      return;
    }

    const outcome = recordProof(business, wabaId, proof, verdict, request, now(), policy);
    const written = await store.commit(business, outcome.change, now());
    if (!written.saved) continue;
    await wakeNext(written.business, wabaId, turn, deps);
    if (outcome.kind === "write-then-later") {
      throw new LaterError("another verification of this WABA is under way", untilDue(written.business, wabaId, deps));
    }
    return;
  }
  throw new Error("The item changed too often to verify");
}

/** An entry of the item is looked at again (C1). A look that was recorded meanwhile makes the message stale. */
async function continueVerify(continuation: Continuation, turn: Turn, deps: CommandDeps): Promise<void> {
  const { businessId, wabaId } = continuation;
  if (businessId === undefined || wabaId === undefined) {
    throw new Error("A verification goes on for a business and a WABA");
  }
  const business = await deps.store.loadBusiness(businessId);
  const due = business?.wabas[wabaId]?.due;
  turn.request = due?.request;
  turn.sweeps = due?.sweeps ?? 0;
  const answered = business === undefined ? undefined : answerRevoked(business, wabaId);
  if (business !== undefined && answered !== undefined && isDue(business, wabaId, continuation)) {
    await deps.store.commit(business, answered, deps.now());
    return;
  }
  await look(businessId, wabaId, continuation, turn, deps);
}

/** There is nothing to learn before the entry's own next look. */
function untilDue(business: Business, wabaId: string, { now, policy }: CommandDeps): number {
  // Of a share whose E4 is out, the note's: its WABA has none of its own.
  const nextAt = (business.wabas[wabaId]?.due ?? business.recordIntent?.due)?.nextAt ?? 0;
  return Math.max(nextAt - now(), lookDelayMs(1, policy.settleWindowMs));
}

function isDue(business: Business | undefined, wabaId: string, { commandId, looks }: Continuation): boolean {
  const due = business?.wabas[wabaId]?.due;
  return due?.request.commandId === commandId && due.looks === looks;
}

async function wakeNext(business: Business, wabaId: string, turn: Turn, deps: CommandDeps): Promise<void> {
  const entry = dueEntries(business).find((one) => one.wabaId === wabaId && one.work === "verify");
  await wakeSoon(deps, turn.log, entry, business.businessId);
}
