import middy from "@middy/core";
import type { Context, SQSBatchResponse, SQSEvent, SQSRecord } from "aws-lambda";
import type { Continuation, CommandType } from "./contracts/commands.ts";
import { parseBody } from "./contracts/commands.ts";
import type { AccountNotice } from "./domain/account.ts";
import type { Request } from "./domain/business.ts";
import type { Failure } from "./domain/reasons.ts";
import { BlockedError, LaterError, ReusedError, ThrottledError } from "./errors.ts";
import type { EventBus } from "./event-bus.ts";
import { countingGraphCalls } from "./graph/call-count.ts";
import type { Logger } from "./logging.ts";
import type { Metrics } from "./metrics.ts";
import type { Hold, Quota } from "./quota.ts";
import { createQuota, tokenWaitMs } from "./quota.ts";
import { delayMsMax, firstSentAtOf, receivesOf, type Queues } from "./queues.ts";
import type { CommandRecord, Pointer } from "./store/items.ts";
import type { Rejection, StateStore } from "./store/state-store.ts";

/** One message's turn in a function: what bounds it, and what the flow tells about it. */
export type Turn = {
  /** Aborts every call to Meta shortly before the function's time-out, so that what is known can still be recorded. */
  signal: AbortSignal;
  /** When it does (ms, wall clock). */
  endsAt: number;
  log: Logger;
  /** The item holds the work: whatever fails now, the due time takes over and the message is acknowledged (Q1). */
  onItem: boolean;
  /** How often the sweep served the entry without a look that followed. */
  sweeps: number;
  /** The command this turn works for, once it is known. */
  request?: Request;
  /** What is stored of the command's WABA. */
  pointer?: Pointer | undefined;
  /** How the very same command was concluded before; only a revoke goes on then (T2). */
  concluded?: CommandRecord;
};

export type QueueHandlerDeps = {
  store: StateStore;
  queues: Queues;
  events: EventBus;
  log: Logger;
  now: () => number;
  clockSkewMs: number;
  maxReceiveCount: number;
  /** Whether a notice was sent by who knows the app secret. Where a stage has none, nobody tells of accounts. */
  isProven?: (contentHash: string, proof: string) => Promise<boolean>;
  /** Without one, commands wait only while the table says so. */
  quota?: Quota;
  metrics?: Metrics;
};

export type Flow = {
  type: CommandType;
  onCommand(request: Request, turn: Turn): Promise<void>;
  onContinuation(continuation: Continuation, turn: Turn): Promise<void>;
  /** Only on the revoke queue. It asks nothing of Meta, so it waits for nobody. */
  onNotice?(notice: AccountNotice, turn: Turn): Promise<void>;
};

/** Left at the end of an invocation for the last writes, once calls to Meta are aborted. */
const finishMs = 3000;

/** A command that waits on no item is given up to the dead letters after three days (Q1). */
const waitMsMax = 3 * 24 * 3_600_000;

/**
 * The middleware of share, verify and revoke, and the one place where an error becomes the fate of a message (design.md §3).
 * Every record is parsed and served alone, so that a bad one cannot change its neighbours' outcome (I8).
 */
export function queueHandler(deps: QueueHandlerDeps, flow: Flow) {
  const { store, queues, events, now, quota = createQuota({ store, now }) } = deps;

  return middy<SQSEvent, SQSBatchResponse>().handler(async (event: SQSEvent, context: Context) => {
    const runMs = Math.max(context.getRemainingTimeInMillis() - finishMs, 0);
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), runMs);
    const endsAt = now() + runMs;
    let held: Promise<Hold | undefined> | undefined;
    /** One look for all messages of the invocation; none when there is no command among them. */
    function hold(): Promise<Hold | undefined> {
      held ??= quota.hold(abort.signal);
      return held;
    }
    try {
      const served = event.Records.map(async (record) => {
        const log = deps.log.createChild();
        log.appendKeys({
          messageId: record.messageId,
          receiveCount: Number(record.attributes.ApproximateReceiveCount),
        });
        const turn: Turn = { signal: abort.signal, endsAt, log, onItem: false, sweeps: 0 };
        return { record, acknowledged: await serve(record, turn, hold) };
      });
      const results = await Promise.all(served);
      await quota.finish(abort.signal).catch((error: unknown) => {
        deps.log.warn("What the answers told of the limits is lost; others will read it", { error: describe(error) });
      });
      const failed = results.filter(({ acknowledged }) => !acknowledged);
      return { batchItemFailures: failed.map(({ record }) => ({ itemIdentifier: record.messageId })) };
    } finally {
      clearTimeout(timer);
      deps.metrics?.flush();
    }
  });

  /** Answers whether the message may be deleted. */
  async function serve(record: SQSRecord, turn: Turn, hold: () => Promise<Hold | undefined>): Promise<boolean> {
    const graph = { calls: 0 };
    const acknowledged = await countingGraphCalls(graph, () => serveCounted(record, turn, hold));
    turn.log.info("Message served", { acknowledged, graphCalls: graph.calls });
    return acknowledged;
  }

  async function serveCounted(record: SQSRecord, turn: Turn, hold: () => Promise<Hold | undefined>): Promise<boolean> {
    const { log } = turn;
    try {
      await dispatch(record, turn, hold);
      return true;
    } catch (error) {
      try {
        return await settleError(error, record, turn);
      } catch (second) {
        log.error("The failure of a message could not be recorded", {
          error: describe(second),
          after: describe(error),
        });
        return turn.onItem;
      }
    }
  }

  async function dispatch(record: SQSRecord, turn: Turn, hold: () => Promise<Hold | undefined>): Promise<void> {
    const { log } = turn;
    const sentAt = Number(record.attributes.SentTimestamp);
    const parsed = parseBody(flow.type, record.body, { sentAt, clockSkewMs: deps.clockSkewMs });
    if (parsed.kind === "invalid") {
      log.warn("Command rejected", { reason: "invalid_command", detail: parsed.detail, commandId: parsed.commandId });
      return reject(record, { ...parsed, reason: "invalid_command" });
    }

    if (parsed.kind === "notice") {
      log.appendKeys({ commandId: parsed.notice.commandId });
      if (flow.onNotice === undefined) throw new Error("This function takes no notices");
      const { hash, commandId, wabaId } = parsed.notice;
      if ((await deps.isProven?.(hash, parsed.proof)) === true) return flow.onNotice(parsed.notice, turn);
      log.error("A notice that does not come from Meta is rejected", { reason: "invalid_command" });
      const detail = "proof: not made with the app secret";
      return reject(record, { hash, commandId, wabaId, detail, reason: "invalid_command" });
    }
    const { commandId } = parsed.kind === "command" ? parsed.request : parsed.continuation;
    log.appendKeys({ commandId });
    // What is on the item is certain to be looked at again; only a command of its own needs to be kept.
    turn.onItem = parsed.kind === "continuation";
    // Before any wait: a command that has waited for three days is recorded when it is given up.
    if (parsed.kind === "command") turn.request = parsed.request;
    if (parsed.kind === "continuation") {
      const waits = await Promise.all([hold(), holdOf(parsed.continuation.wabaId)]);
      for (const wait of waits) passes(wait);
      return flow.onContinuation(parsed.continuation, turn);
    }

    const { request } = parsed;
    const { wabaId } = request;
    // All that a command begins with is asked for at once, and read in one go.
    const [wait, ownWait, known, pointer] = await Promise.all([
      hold(),
      holdOf(wabaId),
      store.loadCommand(commandId),
      wabaId === undefined ? undefined : store.loadPointer(wabaId),
    ]);
    passes(wait);
    passes(ownWait);
    turn.pointer = pointer;
    if (known !== undefined && (known.hash !== request.hash || known.type !== request.type)) throw new ReusedError();
    if (known?.outcome !== undefined) turn.concluded = known;
    // A revoke is judged by the state, never by its id alone: its conclusion may be older than what is shared now.
    if (turn.concluded !== undefined && request.type !== "revoke") return announceAgain(turn.concluded, turn);
    await flow.onCommand(request, turn);
  }

  /** Beside the app's budget each WABA has a small one of its own. A revocation waits for none of its WABAs. */
  async function holdOf(wabaId: string | undefined): Promise<Hold | undefined> {
    if (wabaId === undefined || flow.type === "revoke") return undefined;
    const delayMs = ((await store.loadBlockedUntil(wabaId)) ?? 0) - now();
    return delayMs > 0 ? { why: "Meta has throttled what is asked about this WABA", delayMs } : undefined;
  }

  function passes(wait: Hold | undefined): void {
    if (wait !== undefined) throw new LaterError(wait.why, wait.delayMs);
  }

  /** Recorded before it is put among the dead letters; a repetition gets the same answer (P3). */
  async function reject(record: SQSRecord, rejection: Rejection): Promise<void> {
    const before = await store.reject(rejection, now());
    if (before !== undefined) await events.send([before]);
    await queues.deadLetter(record, rejection.reason);
  }

  /** The same event under the same id; nothing is written (P3). */
  async function announceAgain(concluded: CommandRecord, turn: Turn): Promise<void> {
    turn.log.info("Command was concluded before", { outcome: concluded.outcome, reason: concluded.reason });
    if (concluded.event !== undefined) await events.send([concluded.event]);
  }

  async function settleError(error: unknown, record: SQSRecord, turn: Turn): Promise<boolean> {
    const { log, request } = turn;
    if (error instanceof ThrottledError) {
      log.warn("Throttled by Meta", { until: new Date(error.until).toISOString(), onItem: turn.onItem });
      const isApps = await quota.block(error.until);
      const until = isApps ? error.until : now() + knockDelayMs(record, error.until, now());
      if (!isApps && request !== undefined && request.type !== "revoke")
        await store.saveBlockedUntil(until, request.wabaId);
      return turn.onItem || postpone(record, until - now(), turn);
    }
    if (error instanceof LaterError) {
      log.info("Command waits", { why: error.message, delayMs: error.delayMs });
      return turn.onItem || postpone(record, error.delayMs, turn);
    }
    if (error instanceof ReusedError && request !== undefined) {
      const { hash, commandId, wabaId } = request;
      log.warn("Command rejected", { reason: "command_id_reused" });
      const about = { hash, commandId, ...(wabaId === undefined ? {} : { wabaId }) };
      await reject(record, { ...about, reason: "command_id_reused", detail: "same id, other content" });
      return true;
    }
    if (error instanceof BlockedError) {
      const { failure, businessId } = error;
      if (failure.reason === "token_dead" && (await quota.isTokenDead(turn.signal))) {
        log.error("Command waits: the system token is dead", { code: failure.code, fbtraceId: failure.fbtraceId });
        if (request !== undefined) await store.block(request, failure, false, businessId, now());
        return turn.onItem || postpone(record, tokenWaitMs, turn);
      }
      const tries = turn.onItem ? turn.sweeps : receivesOf(record);
      const lastTry = tries >= deps.maxReceiveCount;
      log.error("Command blocked", {
        reason: failure.reason,
        code: failure.code,
        fbtraceId: failure.fbtraceId,
        lastTry,
      });
      if (request !== undefined) await store.block(request, failure, lastTry, businessId, now());
      return turn.onItem;
    }
    log.error("Message failed", { error: describe(error) });
    const isLast = receivesOf(record) >= deps.maxReceiveCount;
    if (!turn.onItem && isLast && request !== undefined) {
      // It goes to the dead letters without a word of Meta's: the record says at least that it was ours.
      const name = error instanceof Error ? error.name : "unknown error";
      await store.block(
        request,
        { at: now(), reason: "meta_unavailable", message: `failed here: ${name}` },
        true,
        undefined,
        now(),
      );
    }
    return turn.onItem;
  }

  /** A copy that waits, so that waiting never moves the message towards the dead letters. */
  async function postpone(record: SQSRecord, delayMs: number, turn: Turn): Promise<boolean> {
    // Both times are SQS's own: the functions' clock may run apart from it.
    if (Number(record.attributes.SentTimestamp) - firstSentAtOf(record) > waitMsMax) {
      turn.log.error("Command waited for three days and is left to the dead letters");
      const failure: Failure = { at: now(), reason: "meta_unavailable", message: "waited for three days" };
      if (turn.request !== undefined) await store.block(turn.request, failure, true, undefined, now());
      return false;
    }
    await queues.copy(record, spread(delayMs));
    return true;
  }
}

/**
 * What waits for the same moment must not come back in one: each copy waits up to half as long again. A wait beyond what
 * SQS can delay goes in stages, whose lengths differ too.
 */
function spread(delayMs: number): number {
  const chance = Math.random() / 2;
  return Math.min(delayMs * (1 + chance), delayMsMax * (0.5 + chance));
}

/** Meta counts over an hour: whoever asks nothing for so long finds the budget whole. */
const knockDelayMsMax = 3_600_000;

/**
 * How long nobody asks about a WABA that Meta has throttled: until the block ends, or longer. Each call made meanwhile
 * prolongs it, and its budget is so small that the first to ask again may use it up: they ask ever less often.
 */
function knockDelayMs(record: SQSRecord, until: number, now: number): number {
  const waitedMs = Number(record.attributes.SentTimestamp) - firstSentAtOf(record);
  return Math.max(until - now, Math.min(waitedMs / 4, knockDelayMsMax));
}

/** Names and messages of errors only: their other fields may hold a request. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return "unknown error";
  const cause = error.cause instanceof Error ? ` (${error.cause.name}: ${error.cause.message})` : "";
  return `${error.name}: ${error.message}${cause}`.slice(0, 1000);
}
