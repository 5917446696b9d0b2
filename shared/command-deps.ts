import { randomUUID } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { awsClient } from "./aws-clients.ts";
import type { Continuation } from "./contracts/commands.ts";
import { unseenForMs } from "./domain/ages.ts";
import type { DueEntry, Policy, Request } from "./domain/business.ts";
import type { EventBus } from "./event-bus.ts";
import { createEventBus } from "./event-bus.ts";
import type { CallerDeps } from "./graph/caller.ts";
import type { Graph } from "./graph/client.ts";
import { createGraph } from "./graph/client.ts";
import type { Portfolio } from "./graph/portfolio.ts";
import { createPortfolio } from "./graph/portfolio.ts";
import { checkSystemToken, watchTokenSource } from "./graph/system-token.ts";
import { createTransport } from "./graph/transport.ts";
import { createUsageMeter } from "./graph/usage.ts";
import { metricDefinitions } from "./contracts/metrics.ts";
import { classOf } from "./graph/errors.ts";
import type { Transport } from "./graph/transport.ts";
import type { Logger } from "./logging.ts";
import { createLogger } from "./logging.ts";
import type { Metrics } from "./metrics.ts";
import { createMetrics } from "./metrics.ts";
import type { Queues } from "./queues.ts";
import { continuationOf, createQueues, delayMsMax } from "./queues.ts";
import type { Quota } from "./quota.ts";
import { createQuota } from "./quota.ts";
import { createCredentials } from "./secrets.ts";
import type { CommandRecord } from "./store/items.ts";
import type { StateStore } from "./store/state-store.ts";
import { createStateStore } from "./store/state-store.ts";

/** What share, verify and revoke work with, built once per cold start. A simulation passes its own. */
export type CommandDeps = {
  store: StateStore;
  graph: Graph;
  /** Only an automatic revocation looks beyond its business. */
  portfolio: Pick<Portfolio, "pageWabas">;
  queues: Queues;
  events: EventBus;
  log: Logger;
  /** Wall clock, ms. */
  now: () => number;
  newId: () => string;
  policy: Policy;
  graphTimeoutMs: number;
  clockSkewMs: number;
  maxReceiveCount: number;
  /** Business token secrets are readable under this prefix only. */
  businessTokenSecretPrefix: string;
  quota?: Quota;
  metrics?: Metrics;
};

type GraphEnvironment = {
  SYSTEM_TOKEN_SECRET_ARN: string;
  APP_SECRET_NAME?: string | undefined;
  GRAPH_API_BASE_URL: string;
  GRAPH_API_VERSION: string;
  GRAPH_TIMEOUT_MS: number;
};

type CommandEnvironment = GraphEnvironment & {
  STAGE: string;
  STATE_TABLE_NAME: string;
  CLOCK_OFFSET_MS?: string | undefined;
  QUEUE_URL: string;
  DEAD_LETTER_QUEUE_URL: string;
  MAX_RECEIVE_COUNT: number;
  EVENT_BUS_NAME: string;
  BUSINESS_TOKEN_SECRET_PREFIX: string;
  PARTNER_BUSINESS_ID: string;
  CREDIT_LINE_ID: string;
  SETTLE_WINDOW_SECONDS: number;
  CLOCK_SKEW_SECONDS: number;
  VERIFY_GRACE_SECONDS: number[];
};

/** The settings that only a share decides by. */
type ShareSettings = Pick<Policy, "currencies" | "shareMethod" | "secondPost" | "systemUserId">;
const noShare: ShareSettings = { currencies: [], shareMethod: "share-and-attach", secondPost: "person" };

/** Those of an automatic revocation. */
type RemovalSettings = Pick<Policy, "onPartnerRemoved" | "breaker">;
const noRemoval: RemovalSettings = { onPartnerRemoved: "hold", breaker: { removals: 0, windowMs: 0 } };

export function buildCommandDeps(
  work: Continuation["work"],
  environment: CommandEnvironment,
  others: {
    wake?: Partial<Record<Continuation["work"], string>>;
    share?: ShareSettings;
    removal?: RemovalSettings;
    stopAt?: number;
  } = {},
): CommandDeps {
  const now = clockOf(environment);
  const log = createLogger(work);
  const metrics = createMetrics(environment.STAGE);
  const store = watchingEffects(
    createStateStore({
      client: awsClient(DynamoDBClient),
      tableName: environment.STATE_TABLE_NAME,
      newId: randomUUID,
    }),
    metrics,
  );
  const { PARTNER_BUSINESS_ID: partnerBusinessId, CREDIT_LINE_ID: creditLineId } = environment;
  const { transport, ...credentials } = buildCallerDeps(environment, log, metrics, now);
  const { tokens } = credentials;
  const meter = createUsageMeter({ ownIds: [partnerBusinessId, creditLineId], now });
  const watch = watchTokenSource(tokens.system);
  const caller = { ...credentials, transport: meter.meter(transport), tokens: { ...tokens, system: watch.source } };
  const systemToken = { ...watch, check: (signal: AbortSignal) => checkSystemToken(caller, creditLineId, signal) };
  return {
    store,
    graph: createGraph(caller),
    portfolio: createPortfolio(caller),
    quota: createQuota({ store, now, stopAt: others.stopAt, meter, systemToken, metrics }),
    queues: createQueues(async () => awsClient((await import("@aws-sdk/client-sqs")).SQSClient), {
      own: environment.QUEUE_URL,
      ownDeadLetters: environment.DEAD_LETTER_QUEUE_URL,
      wake: { ...others.wake, [work]: environment.QUEUE_URL },
    }),
    events: createEventBus(
      async () => awsClient((await import("@aws-sdk/client-eventbridge")).EventBridgeClient),
      environment.EVENT_BUS_NAME,
    ),
    log,
    metrics,
    now,
    newId: randomUUID,
    policy: {
      partnerBusinessId,
      creditLineId,
      settleWindowMs: environment.SETTLE_WINDOW_SECONDS * 1000,
      clockSkewMs: environment.CLOCK_SKEW_SECONDS * 1000,
      verifyGraceMs: environment.VERIFY_GRACE_SECONDS.map((seconds) => seconds * 1000),
      ...(others.share ?? noShare),
      ...(others.removal ?? noRemoval),
    },
    graphTimeoutMs: environment.GRAPH_TIMEOUT_MS,
    clockSkewMs: environment.CLOCK_SKEW_SECONDS * 1000,
    maxReceiveCount: environment.MAX_RECEIVE_COUNT,
    businessTokenSecretPrefix: environment.BUSINESS_TOKEN_SECRET_PREFIX,
  };
}

/** How a function reaches Meta. */
export function buildCallerDeps(
  environment: GraphEnvironment,
  log: Logger,
  metrics: Metrics,
  now: () => number,
): CallerDeps {
  const transport = createTransport({
    baseUrl: environment.GRAPH_API_BASE_URL,
    version: environment.GRAPH_API_VERSION,
    timeoutMs: environment.GRAPH_TIMEOUT_MS,
    now,
    // A dead version is silently served by the oldest living one: its answers may mean something else.
    onVersionMismatch(asked, answered) {
      log.error("Meta answers with another version than asked", { asked, answered });
      metrics.add(metricDefinitions.otherVersion, 1);
    },
  });
  return {
    transport: counted(transport, metrics, now),
    now,
    ...createCredentials(awsClient(SecretsManagerClient), environment, now),
  };
}

/** Tells what a written decision shows of Meta's delays: whether the settle window is long enough rests on it (A3). */
function watchingEffects(store: StateStore, metrics: Metrics): StateStore {
  return {
    ...store,
    async commit(loaded, change, now) {
      const written = await store.commit(loaded, change, now);
      const unseenMs = written.saved ? unseenForMs(loaded, written.business) : undefined;
      if (unseenMs !== undefined) metrics.add(metricDefinitions.effectUnseen, unseenMs / 1000);
      return written;
    },
  };
}

/** Calls of one process, by what came of them. Whoever looks on costs nobody an answer: `add` and `classOf` do not throw. */
function counted(transport: Transport, metrics: Metrics, now: () => number): Transport {
  return async (request, options) => {
    const answer = await transport(request, options);
    metrics.add(metricDefinitions.graphCalls, 1, { class: classOf(answer, now()) });
    return answer;
  };
}

/** The wall clock; only the stage `local` may run ahead of it. */
export function clockOf(environment: { STAGE: string; CLOCK_OFFSET_MS?: string | undefined }): () => number {
  const offsetMs = environment.STAGE === "local" ? Number(environment.CLOCK_OFFSET_MS ?? 0) : 0;
  return () => Date.now() + offsetMs;
}

/** The record of this very command, once it is concluded (T2). One of the same id and other content is not its own. */
export async function loadConclusion(
  { commandId, hash }: Pick<Request, "commandId" | "hash">,
  { store }: Pick<CommandDeps, "store">,
): Promise<CommandRecord | undefined> {
  const row = await store.loadCommand(commandId);
  return row?.outcome !== undefined && row.hash === hash ? row : undefined;
}

/**
 * Asks for an entry's next look by a delayed message. It only makes the look quicker than the sweep; what makes it sure is
 * the due time, so a failure is logged and the turn goes on.
 */
export async function wakeSoon(
  deps: Pick<CommandDeps, "queues" | "now">,
  log: Logger,
  entry: DueEntry | undefined,
  businessId: string,
): Promise<void> {
  if (entry === undefined) return;
  const delayMs = entry.due.nextAt - deps.now();
  if (delayMs > delayMsMax) return;
  try {
    await deps.queues.wake(continuationOf(entry, businessId), delayMs);
  } catch (error) {
    log.warn("A look could not be asked for; the sweep will", {
      error: error instanceof Error ? error.name : "unknown",
    });
  }
}
