import { marshall } from "@aws-sdk/util-dynamodb";
import type { Context, DynamoDBBatchResponse, DynamoDBStreamEvent, SQSBatchResponse, SQSRecord } from "aws-lambda";
import { publishTransitions } from "../../functions/publish/publish-transitions.ts";
import { dueSweep } from "../../functions/reconcile/due-sweep.ts";
import { scanEstate } from "../../functions/reconcile/estate-scan.ts";
import { createScanGraph } from "../../functions/reconcile/scan-graph.ts";
import type { ScanDeps } from "../../functions/reconcile/scan-slice.ts";
import { tendTokenBreaker } from "../../functions/reconcile/token-breaker.ts";
import { wakeStopped } from "../../functions/reconcile/wake-stopped.ts";
import { revokeFlow } from "../../functions/revoke/revoke-allocations.ts";
import { shareFlow } from "../../functions/share/share-allocation.ts";
import { verifyFlow } from "../../functions/verify/verify-funding.ts";
import type { MetaModel } from "../../infra/local/meta/meta-model.ts";
import {
  attachmentsOf,
  attachWaba,
  createMetaModel,
  foreignFundingId,
  liveAllocations,
  shareWithBusiness,
  upsertWorld,
} from "../../infra/local/meta/meta-model.ts";
import { deleteAllocation } from "../../infra/local/meta/meta-model.ts";
import { parseVariants } from "../../infra/local/meta/meta-variants.ts";
import type { Waba, World } from "../../infra/local/meta/meta-world.ts";
import type { CommandDeps } from "../../shared/command-deps.ts";
import { isSharing, type Policy } from "../../shared/domain/business.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import { closeAttempt, decideSettle, settleApplied } from "../../shared/domain/settle.ts";
import type { EventBus } from "../../shared/event-bus.ts";
import { createGraph } from "../../shared/graph/client.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import { readEstate } from "../../shared/graph/read-estate.ts";
import { checkSystemToken, watchTokenSource } from "../../shared/graph/system-token.ts";
import { createTokens } from "../../shared/graph/tokens.ts";
import { createUsageMeter } from "../../shared/graph/usage.ts";
import type { Logger } from "../../shared/logging.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { createProofCheck } from "../../shared/secrets.ts";
import { createQuota } from "../../shared/quota.ts";
import { keys } from "../../shared/store/items.ts";
import { resumeRevocations } from "../../shared/store/limit-store.ts";
import type { StateStore } from "../../shared/store/state-store.ts";
import type { Engine, Invocation, Process } from "./engine.ts";
import { readFaults, writeFaults } from "./engine.ts";
import type { Hand, History, Work } from "./history.ts";
import {
  appSecret,
  clockSkewMs,
  creditLineId,
  partnerBusinessId,
  scansAfterMs,
  secretPrefix,
  settleWindowMs,
} from "./history.ts";
import type { Judge } from "./judge.ts";
import { createMemoryAudit, createMemoryBus, createMemorySecrets } from "./memory-ports.ts";
import { createMemoryFindingStore, createMemoryScanStore } from "./memory-scan-store.ts";
import {
  createMemoryDueIndex,
  createMemoryStore,
  createMemoryTable,
  type Item,
  type TableChange,
} from "./memory-store.ts";
import { createMetaTransport, type MetaWires } from "./meta-transport.ts";
import { createQueueModel, maxReceiveCount, recordOf, type Message } from "./queue-model.ts";

const timeoutMs = { share: 30_000, verify: 60_000, revoke: 60_000, publish: 60_000, reconcile: 60_000 } as const;
const concurrencyMax = 5;
const sweepEveryMs = 5 * 60_000;
const works = ["share", "verify", "revoke"] as const;
const flows = { share: shareFlow, verify: verifyFlow, revoke: revokeFlow } as const;
const stopAt = { share: 0.8, verify: 0.9, revoke: undefined } as const;

/** How often an effect goes wrong: seldom where there are many, often where there are few. */
const probability: Record<string, number> = {
  loadLimits: 0.001,
  loadBreaker: 0.002,
  loadBusiness: 0.002,
  loadPointer: 0.002,
  loadCommand: 0.002,
  commit: 0.012,
  settle: 0.04,
  conclude: 0.015,
  reject: 0.1,
  block: 0.03,
  claimOwner: 0.05,
  savePendingRevoke: 0.1,
  saveBlockedUntil: 0.08,
  openBreaker: 0.08,
  moveBreaker: 0.08,
  copy: 0.02,
  deadLetter: 0.1,
  wake: 0.008,
  "send events": 0.008,
  audit: 0.008,
  secret: 0.006,
};

/** Everything of one stage: table, stream, queues, bus, functions and their processes, and Meta. */
export function createRoom(history: History, engine: Engine, judge: Judge) {
  const { now, step } = engine;
  const meta = createMeta(history);
  const secrets = new Map<string, string>([["system", tokenOf("system", 0)]]);
  for (const { secret } of history.customers) secrets.set(secret, tokenOf(secret, 0));
  const bus: RecordedEvent[] = [];
  const audit = new Set<string>();
  const logged: unknown[] = [];
  const table = createMemoryTable(onTableChange);
  const { indexLagMs } = history;
  const indexed = new Map<string, Item>();
  const dueIndex = createMemoryDueIndex(indexLagMs === undefined ? table : { items: indexed });
  const wires: MetaWires = { model: meta, throttledUntil: 0, onSent: judge.onSent, onReceived: judge.onReceived };
  const idle: Record<Work, CommandProcess[]> = { share: [], verify: [], revoke: [] };
  const running: Record<Work, number> = { share: 0, verify: 0, revoke: 0 };
  let writing: Invocation | undefined;
  let feeding = true;

  // --- table and stream

  const stream: TableChange[] = [];
  let published = 0;
  let isPublishing = false;
  let sweepAt = Infinity;

  function onTableChange(change: TableChange): void {
    judge.onWrite(change, writing);
    const { after } = change;
    if (indexLagMs !== undefined) engine.at(now() + indexLagMs, () => void indexed.set(after.pk, after));
    if (after.transition !== undefined && after.transition.id !== change.before?.transition?.id) {
      stream.push(change);
      publishSoon();
    }
    if (after.dueAt !== undefined) sweepBy(after.dueAt);
    if (after.breaker !== undefined && after.breaker.state !== "closed") sweepBy(now());
    if (after.removals?.breaker.waking === true) sweepBy(now());
  }

  function storeOf(process: Process): StateStore {
    return createMemoryStore(table, engine.newId, (operation, request) => {
      const isRead = operation.startsWith("load");
      const rate = probability[operation] ?? 0.02;
      return step(process, operation, isRead ? readFaults : writeFaults, rate, () => {
        writing = process.invocation;
        const answer = request();
        writing = undefined;
        if (operation === "loadBusiness" && process.invocation !== undefined) {
          judge.onLoad(process.invocation, answer);
        }
        return answer;
      });
    });
  }

  // --- queues

  const queues = createQueueModel(history, engine, { feed, probability });
  const { messages, put } = queues;

  // --- functions

  type CommandProcess = Process & {
    handler: (event: { Records: SQSRecord[] }, context: Context) => Promise<SQSBatchResponse>;
  };

  function createCommandProcess(work: Work): CommandProcess {
    const process = engine.createProcess(work);
    const caller = callerOf(process);
    const meter = createUsageMeter({ ownIds: [partnerBusinessId, creditLineId], now: process.now });
    const watch = watchTokenSource(caller.tokens.system);
    const watched = {
      ...caller,
      transport: meter.meter(caller.transport),
      tokens: { ...caller.tokens, system: watch.source },
    };
    const systemToken = { ...watch, check: (signal: AbortSignal) => checkSystemToken(watched, creditLineId, signal) };
    const store = storeOf(process);
    const deps: CommandDeps = {
      store,
      graph: createGraph(watched),
      portfolio: createPortfolio(watched),
      quota: createQuota({ store, now: process.now, stopAt: stopAt[work], meter, systemToken }),
      queues: queues.portOf(process, work),
      events: eventsOf(process),
      log: logOf(process),
      now: process.now,
      newId: engine.newId,
      policy: policyOf(history),
      graphTimeoutMs: 8000,
      clockSkewMs,
      maxReceiveCount,
      businessTokenSecretPrefix: secretPrefix,
    };
    return Object.assign(process, {
      handler: queueHandler(
        { ...deps, isProven: createProofCheck(async () => appSecret, process.now) },
        flows[work](deps),
      ),
    });
  }

  function callerOf(process: Process) {
    const tokens = createTokens("system", createMemorySecrets(secrets, sendOf(process)), process.now);
    return { transport: createMetaTransport(engine, history, process, wires), tokens, now: process.now };
  }

  /** What goes wrong at such an effect, by how often it may. */
  function sendOf(process: Process) {
    return <T>(operation: string, request: () => T): Promise<T> =>
      step(process, operation, operation === "secret" ? readFaults : writeFaults, probability[operation] ?? 0, request);
  }

  function eventsOf(process: Process): EventBus {
    function onEvent(event: RecordedEvent): void {
      engine.say(process, `announces ${event.detailType} ${event.commandId ?? ""} ${event.reason ?? ""}`);
      bus.push(event);
      judge.onEvent(event);
    }
    return createMemoryBus(onEvent, sendOf(process));
  }

  function logOf(process: Process): Logger {
    function write(message: unknown, ...about: unknown[]): void {
      if (history.seed % 16 === 0) logged.push(message, ...about);
      engine.say(process, () => `log: ${String(message)} ${JSON.stringify(about[0] ?? {})}`);
    }
    const log = {
      createChild: () => log,
      appendKeys: (about: unknown) => history.seed % 16 === 0 && void logged.push(about),
      debug: write,
      info: write,
      warn: write,
      error: write,
    };
    return log as unknown as Logger;
  }

  function feed(work: Work): void {
    while (feeding && running[work] < concurrencyMax && queues.isReady(work)) {
      const batch = queues.take(work);
      if (batch.length > 0) start(work, batch);
    }
  }

  function start(work: Work, batch: Message[]): void {
    running[work] += 1;
    const process = idle[work].pop() ?? createCommandProcess(work);
    const receipts = batch.map((message) => {
      // It comes back by itself unless it is deleted: six times the function's time-out later.
      queues.receive(message, 6 * timeoutMs[work]);
      return message.receipt;
    });
    const endsAt = now() + timeoutMs[work];
    const Records = batch.map(recordOf);
    const [first] = batch;
    let isOver = false;
    function release(): void {
      if (isOver) return;
      isOver = true;
      running[work] -= 1;
      feed(work);
    }
    engine.invoke(process, `${work} ${first?.key ?? ""}`, timeoutMs[work], (invocation) => {
      engine.say(
        process,
        () => `receives ${batch.map((message) => `${message.key} (${message.receiveCount})`).join(", ")}`,
      );
      const context = { getRemainingTimeInMillis: () => Math.max(0, endsAt - now()) } as Context;
      process.handler({ Records }, context).then(
        ({ batchItemFailures }) => finish(batchItemFailures.map((failure) => failure.itemIdentifier)),
        (error: unknown) =>
          finish(
            batch.map(({ key }) => key),
            error,
          ),
      );

      function finish(failed: string[], error?: unknown): void {
        if (!process.isAlive || invocation.isOver) return;
        invocation.isOver = true;
        if (!isOver) timeout.run = undefined;
        if (error !== undefined) engine.say(process, `throws ${error instanceof Error ? error.message : typeof error}`);
        judge.onServed(invocation, batch, failed);
        if (isOver) return engine.say(process, "ends after its time-out: nobody listens");
        for (const [index, message] of batch.entries()) {
          if (failed.includes(message.key) || message.place !== "queue") continue;
          // An older receipt still deletes the message.
          if (receipts[index] === undefined) continue;
          message.place = "gone";
          judge.onAcknowledged(message);
        }
        idle[work].push(process);
        release();
      }

      const timeout = engine.at(endsAt, () => {
        if (invocation.isOver) return;
        // A process that is frozen when its time is over may wake later, and go on.
        if (process.isAlive && now() >= process.frozenUntil) engine.kill(process);
        release();
      });
    });
    if (!process.isAlive) release();
  }

  // --- publish

  function publishSoon(): void {
    if (isPublishing || published >= stream.length) return;
    isPublishing = true;
    engine.at(now() + 150, publish);
  }

  function publish(): void {
    const from = published;
    const changes = stream.slice(from, from + 10);
    const process = engine.createProcess("publish");
    const event: DynamoDBStreamEvent = {
      Records: changes.map((change, index) => streamRecordOf(change, from + index)),
    };
    const deps = {
      events: eventsOf(process),
      audit: createMemoryAudit(audit, sendOf(process)).store,
      log: logOf(process),
      now: process.now,
    };
    let isOver = false;
    function end(answer: DynamoDBBatchResponse | undefined): void {
      if (isOver) return;
      isOver = true;
      timeout.run = undefined;
      const failed = answer?.batchItemFailures[0]?.itemIdentifier;
      published = answer === undefined ? from : failed === undefined ? from + changes.length : Number(failed);
      engine.at(now() + (answer === undefined ? 1000 : 10), () => {
        isPublishing = false;
        publishSoon();
      });
    }
    // Whether it died or is frozen: the shard is tried again.
    const timeout = engine.at(now() + timeoutMs.publish, () => end(undefined));
    engine.invoke(process, `publish ${from}`, timeoutMs.publish, () => {
      publishTransitions(event, deps).then(end, () => end(undefined));
    });
  }

  // --- the schedule

  function sweepBy(dueAt: number): void {
    const at =
      Math.ceil((Math.max(dueAt, now()) + 1 - history.startAt) / sweepEveryMs) * sweepEveryMs + history.startAt;
    if (at >= sweepAt) return;
    sweepAt = at;
    engine.at(at, () => {
      if (sweepAt !== at) return;
      sweepAt = Infinity;
      sweep();
    });
  }

  function sweep(): void {
    const process = engine.createProcess("reconcile");
    const store = storeOf(process);
    const log = logOf(process);
    const caller = callerOf(process);
    let isOver = false;
    function end(): void {
      if (isOver) return;
      isOver = true;
      const due = [...table.items.values()].map((item) => item.dueAt ?? Infinity);
      const next = Math.min(...due);
      if (next < Infinity) sweepBy(next);
      const breaker = table.get(keys.tokenBreaker)?.breaker;
      // The schedule goes on whether or not anything is due.
      if (!feeding || (breaker !== undefined && breaker.state !== "closed")) sweepBy(now());
      if (table.get(keys.removalBreaker)?.removals?.breaker.waking === true) sweepBy(now());
    }
    async function run(): Promise<void> {
      const isWaiting = await tendTokenBreaker({
        store,
        checkToken: () => checkSystemToken(caller, creditLineId, new AbortController().signal),
        feedCommands: (enabled) =>
          step(process, "feed commands", writeFaults, enabled ? 0.01 : 0.5, () => {
            feeding = enabled;
            if (!enabled) sweepBy(now());
            if (enabled) for (const work of works) feed(work);
          }),
        report: () => {},
        log,
        now: process.now,
      });
      if (isWaiting) return;
      const deps = {
        store,
        dueIndex,
        queues: queues.portOf(process, undefined),
        log,
        now: process.now,
        settleWindowMs,
        stopAt: { share: stopAt.share, verify: stopAt.verify },
      };
      await dueSweep(deps);
      await wakeStopped(deps);
    }
    engine.invoke(process, `sweep ${now() - history.startAt}`, timeoutMs.reconcile, () => {
      run().then(end, end);
    });
    engine.at(now() + timeoutMs.reconcile, () => {
      if (!isOver && now() >= process.frozenUntil) engine.kill(process);
      end();
    });
  }

  /** One slice of the estate scan; what is left of it goes on five minutes later, as by the schedule, also after a slice that died. */
  function scan(mayBegin: boolean): void {
    const process = engine.createProcess("reconcile");
    const store = storeOf(process);
    const log = logOf(process);
    const caller = callerOf(process);
    function send<T>(operation: string, request: () => T): Promise<T> {
      const isRead = operation.startsWith("load") || operation === "walk" || operation === "unclosedFindings";
      return step(process, operation, isRead ? readFaults : writeFaults, 0.01, request);
    }
    const audited = createMemoryAudit(audit, sendOf(process));
    const deps: ScanDeps = {
      store,
      scans: createMemoryScanStore(table, send),
      findings: createMemoryFindingStore(table, engine.newId, send),
      portfolio: createPortfolio(caller),
      graph: createScanGraph(caller, [partnerBusinessId, creditLineId]),
      command: ({ requestedAt, ...command }) =>
        step(process, "send command", writeFaults, 0.02, () => {
          const common = { version: "1", requestedAt: new Date(requestedAt).toISOString(), requestedBy: "estate-scan" };
          const body = JSON.stringify({ ...common, ...command });
          const id = `s${command.commandId}`;
          put(command.type, id, body, 0);
        }),
      unaudited: audited.unaudited,
      announcing: { events: eventsOf(process), audit: audited.store, log },
      log,
      now: process.now,
      policy: {
        partnerBusinessId,
        creditLineId,
        settleWindowMs,
        clockSkewMs,
        callsPerHour: 1000,
        stopAt: 0.8,
        shrinkLimit: 0.05,
        verifications: { ageMs: 7 * 86_400_000, scanEveryMs: 86_400_000, spreadMs: 86_400_000 },
        mayStart: ["probe", "verify", "revoke-left"],
      },
    };
    const turn = { endsAt: process.now() + timeoutMs.reconcile - 3000, signal: new AbortController().signal };
    async function run(): Promise<void> {
      try {
        await scanEstate(mayBegin, turn, deps);
      } catch (error) {
        engine.say(process, `the scan fails: ${String(error)}`);
      }
      isOver = true;
    }
    let isOver = false;
    engine.invoke(process, `scan ${now() - history.startAt}`, timeoutMs.reconcile, () => void run());
    engine.at(now() + timeoutMs.reconcile, () => {
      if (!isOver && now() >= process.frozenUntil) engine.kill(process);
    });
    engine.at(now() + sweepEveryMs, () => {
      const stored = table.get(keys.scan)?.scan;
      if (stored === undefined ? mayBegin : stored.phase !== "done") scan(mayBegin && stored === undefined);
    });
  }

  // --- the world outside

  function resume(): void {
    const store = createMemoryStore(table, engine.newId, async (_operation, request) => request());
    void resumeRevocations(store, now());
  }

  /** A person ends what is in doubt, as `credit-lines settle` does: with the system token alone. */
  function settleDoubts(): void {
    const policy = policyOf(history);
    const { signal } = new AbortController();
    async function settle(businessId: string, wabaId: string, process: Process): Promise<void> {
      const store = storeOf(process);
      const graph = createGraph(callerOf(process));
      const business = await store.loadBusiness(businessId);
      if (business === undefined) return;
      const startedAt = process.now();
      const funding = await graph.readFunding(wabaId, undefined, signal);
      const estate = await readEstate(graph, business, creditLineId, process.now, signal);
      const probe = { startedAt, funding, estate };
      const { kind } = decideSettle(business, wabaId, probe, policy);
      if (kind !== "close" && kind !== "applied") return;
      const person = { by: "a person", note: "settled" };
      const change =
        kind === "close"
          ? closeAttempt(business, wabaId, person, process.now())
          : settleApplied(business, wabaId, probe, process.now(), policy);
      await store.commit(business, change, process.now());
    }
    for (const { business } of table.items.values()) {
      for (const [wabaId, waba] of Object.entries(business?.wabas ?? {})) {
        if (business === undefined || !isSharing(waba)) continue;
        const { businessId } = business;
        const process = engine.createProcess("person");
        engine.invoke(process, `settle ${wabaId} ${now() - history.startAt}`, 120_000, () => {
          settle(businessId, wabaId, process).catch((error: unknown) => engine.say(process, `throws ${String(error)}`));
        });
      }
    }
  }

  /** @param all also what we rejected: it can only be rejected again. */
  function redrive(all: boolean): void {
    for (const message of messages.filter(
      ({ place, reason }) => place === "dead letters" && (all || reason === undefined),
    )) {
      message.place = "gone";
      engine.say(message.key, "is redriven");
      const { reason: _reason, ...attributes } = message.attributes;
      put(message.work, `${message.key.replace(/[~!].*$/, "")}^`, message.body, 0, attributes);
    }
  }

  function lend(hand: Hand): void {
    engine.say("by hand", JSON.stringify(hand));
    switch (hand.kind) {
      case "unshare":
        return changeWaba(meta, hand.wabaId, { sharedWithPartner: false }, now());
      case "share-back":
        return changeWaba(meta, hand.wabaId, { sharedWithPartner: true }, now());
      case "fund-elsewhere":
        return changeWaba(meta, hand.wabaId, { primaryFundingId: `66${hand.wabaId.slice(2)}` }, now());
      case "hand-share":
        return shareByHand(meta, hand.wabaId, now());
      case "hand-revoke":
        for (const record of liveAllocations(meta, creditLineId, hand.businessId, now())) {
          deleteAllocation(meta, record, { now: now() });
        }
        return undefined;
      case "revive":
        return reviveByHand(meta, hand.businessId, now());
      case "rotate-token": {
        const old = secrets.get(hand.secret) ?? "";
        const next = `${old}n`;
        const token = meta.tokens.get(old);
        if (token === undefined) return undefined;
        meta.tokens.set(next, { ...token, value: next, dead: false });
        secrets.set(hand.secret, next);
        engine.at(now() + hand.graceMs, () => void meta.tokens.set(old, { ...token, dead: true }));
        return undefined;
      }
      case "kill-token": {
        const value = secrets.get(hand.secret) ?? "";
        const token = meta.tokens.get(value);
        if (token === undefined || token.dead) return undefined;
        meta.tokens.set(value, { ...token, dead: true });
        engine.at(now() + hand.forMs, () => {
          const next = `${value}r`;
          meta.tokens.set(next, { ...token, value: next });
          // A rotation meanwhile has repaired it already.
          if (secrets.get(hand.secret) === value) secrets.set(hand.secret, next);
        });
        return undefined;
      }
      case "throttle":
        wires.throttledUntil = Math.max(wires.throttledUntil, now() + hand.forMs);
        return undefined;
      case "revoke-access": {
        const line = meta.lines.get(creditLineId);
        if (line === undefined) return undefined;
        meta.lines.set(creditLineId, { ...line, accessRevoked: true });
        engine.at(now() + hand.forMs, () => void meta.lines.set(creditLineId, { ...line, accessRevoked: false }));
        return undefined;
      }
      case "redrive":
        return redrive(true);
      case "double-sweep":
        sweep();
        return sweep();
      case "scan":
        return scan(true);
      case "double-scan":
        scan(true);
        return scan(true);
      case "resume-revocations":
        return resume();
      case "settle":
        return settleDoubts();
    }
  }

  for (const send of history.sends) {
    engine.at(send.at, () => {
      engine.say("producer", `${send.id} ${send.body}`);
      judge.onAccepted(send);
      put(send.work, send.id, send.body, 0);
    });
  }
  for (const hand of history.hands) engine.at(hand.at, () => lend(hand));
  // Faults have stopped: what is not as it should be is found by the first two, and what that set going is over at the last.
  for (const afterMs of scansAfterMs) engine.at(history.quietAt + afterMs, () => scan(true));
  // Nor is the hour's budget smaller than what is left to be done.
  engine.at(history.quietAt, () => {
    if (meta.variants.appCallsPerHour !== null) meta.variants.appCallsPerHour = 5000;
    if (meta.variants.wabaCallsPerHour !== null) meta.variants.wabaCallsPerHour = 200;
  });
  // A person goes through the dead letters once all is repaired, and again.
  for (const afterMs of [1_800_000, 9_000_000]) {
    engine.at(history.quietAt + afterMs, () => {
      resume();
      redrive(false);
    });
  }

  return { table, meta, messages, bus, audit, logged, secrets, stream, isPublished: () => published === stream.length };
}

function policyOf(history: History): Policy {
  return {
    partnerBusinessId,
    creditLineId,
    settleWindowMs,
    clockSkewMs,
    verifyGraceMs: [30_000, 120_000, 600_000, 3_600_000],
    currencies: ["EUR", "USD", "GBP"],
    onPartnerRemoved: "revoke-unless-siblings",
    breaker: { removals: 20, windowMs: 600_000 },
    ...history.policy,
  };
}

function tokenOf(secret: string, generation: number): string {
  return `EAAcanary${secret.replaceAll(/[^a-z0-9]/gi, "")}Generation${generation}`;
}

function createMeta(history: History): MetaModel {
  const variants = parseVariants(history.variants);
  if (!variants.success) throw new Error("The variants are not valid");
  const world: World = {
    partnerBusinessId,
    appSecret: undefined,
    businesses: [
      { id: partnerBusinessId, name: "Partner" },
      ...history.customers.map(({ businessId }) => ({ id: businessId, name: `Customer ${businessId}` })),
    ],
    lines: [
      { id: creditLineId, ownerBusinessId: partnerBusinessId, legalEntityName: "Partner Ltd", accessRevoked: false },
    ],
    tokens: [
      { value: tokenOf("system", 0), kind: "system", expiresAt: 0, dead: false, lacksPermission: false },
      ...history.customers.map(({ secret, wabas }) => ({
        value: tokenOf(secret, 0),
        kind: "business" as const,
        wabaIds: wabas.map(({ wabaId }) => wabaId),
        expiresAt: 0,
        dead: false,
        lacksPermission: false,
      })),
    ],
    wabas: history.customers.flatMap(({ businessId, wabas }) =>
      wabas.map(
        ({ wabaId, currency, foreignFundingId: primaryFundingId = null, partnerSwitch = false, visible }): Waba => ({
          id: wabaId,
          ownerBusinessId: businessId,
          currency,
          name: "Customer WABA",
          sharedWithPartner: visible,
          systemUserAssigned: true,
          subscribed: false,
          primaryFundingId,
          partnerSwitch,
        }),
      ),
    ),
    allocations: [],
  };
  return createMetaModel(world, variants.data, history.startAt);
}

function emptyWorld(): World {
  return { partnerBusinessId, appSecret: undefined, businesses: [], lines: [], tokens: [], wabas: [], allocations: [] };
}

function changeWaba(meta: MetaModel, wabaId: string, change: Partial<Waba>, now: number): void {
  const waba = meta.wabas.get(wabaId);
  if (waba !== undefined) upsertWorld(meta, { ...emptyWorld(), wabas: [{ ...waba, ...change }] }, now);
}

function shareByHand(meta: MetaModel, wabaId: string, now: number): void {
  const waba = meta.wabas.get(wabaId);
  if (waba === undefined || foreignFundingId(meta, waba, now) !== undefined) return;
  if (attachmentsOf(meta, wabaId).some(({ to }) => to === undefined)) return;
  const live = liveAllocations(meta, creditLineId, waba.ownerBusinessId, now).at(0);
  attachWaba(meta, live ?? shareWithBusiness(meta, creditLineId, waba.ownerBusinessId, { now }), waba, { now });
}

function reviveByHand(meta: MetaModel, businessId: string, now: number): void {
  const dead = [...meta.allocations.values()].findLast(
    ({ receivingBusinessId, spans }) => receivingBusinessId === businessId && spans.at(-1)?.to !== undefined,
  );
  if (dead === undefined) return;
  const { spans: _spans, ...record } = dead;
  upsertWorld(meta, { ...emptyWorld(), allocations: [{ ...record, status: "live", wabaIds: [] }] }, now);
}

/** As the stream shows it, less what `publish` does not look at. */
function streamRecordOf({ before, after }: TableChange, number: number): object {
  const { transition, pk } = after;
  if (transition === undefined) throw new Error("The stream shows only what announces");
  const { id: transitionId, version, changedAt, events } = transition;
  return {
    dynamodb: {
      SequenceNumber: String(number),
      NewImage: {
        pk: { S: pk },
        transitionId: { S: transitionId },
        version: { N: String(version) },
        changedAt: { N: String(changedAt) },
        ...(events.length === 0 ? { events: { L: [] } } : marshall({ events })),
      },
      ...(before?.transition === undefined ? {} : { OldImage: { transitionId: { S: before.transition.id } } }),
    },
  };
}
