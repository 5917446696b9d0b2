import { randomUUID } from "node:crypto";
import middy from "@middy/core";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import type { Context } from "aws-lambda";
import * as z from "zod/mini";
import { awsClient } from "../../shared/aws-clients.ts";
import { buildCallerDeps, clockOf } from "../../shared/command-deps.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { siblingStates } from "../../shared/domain/ages.ts";
import { scanName } from "../../shared/domain/adoption.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { createEventBus } from "../../shared/event-bus.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import { checkSystemToken } from "../../shared/graph/system-token.ts";
import { createLogger } from "../../shared/logging.ts";
import { createMetrics } from "../../shared/metrics.ts";
import { createQueues } from "../../shared/queues.ts";
import { createAuditGaps, createAuditStore } from "../../shared/store/audit-store.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { createFindingStore } from "../../shared/store/finding-store.ts";
import type { Scan } from "../../shared/store/items.ts";
import { createScanStore } from "../../shared/store/scan-store.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { dueSweep } from "./due-sweep.ts";
import { reconcileEnvironment, reconcileTasks } from "./environment.ts";
import { scanEstate } from "./estate-scan.ts";
import { createScanGraph } from "./scan-graph.ts";
import type { ScanDeps } from "./scan-slice.ts";
import { tendTokenBreaker } from "./token-breaker.ts";
import { wakeStopped } from "./wake-stopped.ts";

const environment = parseEnvironment(reconcileEnvironment, process.env);
const client = awsClient(DynamoDBClient);
/** Made in the first run: the client is the heaviest of all. */
let lambda: LambdaClient | undefined;
const now = clockOf(environment);
const log = createLogger("reconcile");
const metrics = createMetrics(environment.STAGE);
const caller = buildCallerDeps(environment, log, metrics, now);

const checkMsMax = 20_000;
/** Left when calls to Meta are aborted, to store how far the scan has come. */
const finishMs = 3000;
const hourMs = 3_600_000;

const { STATE_TABLE_NAME: tableName, AUDIT_TABLE_NAME: auditTableName, DUE_INDEX_NAME: indexName } = environment;
const store = createStateStore({ client, tableName, newId: randomUUID });
const queues = createQueues(async () => awsClient((await import("@aws-sdk/client-sqs")).SQSClient), {
  wake: {
    share: environment.SHARE_QUEUE_URL,
    verify: environment.VERIFY_QUEUE_URL,
    revoke: environment.REVOKE_QUEUE_URL,
  },
});
const settleWindowMs = environment.SETTLE_WINDOW_SECONDS * 1000;

const pauses = createPauseStore(client, tableName);

const deps = {
  store,
  dueIndex: createDueIndex(client, tableName, indexName),
  queues,
  log,
  metrics,
  now,
  settleWindowMs,
  stopAt: { share: environment.SHARES_STOP_AT, verify: environment.VERIFIES_STOP_AT },
  checkToken: () => checkSystemToken(caller, environment.CREDIT_LINE_ID, AbortSignal.timeout(checkMsMax)),
  async feedCommands(enabled: boolean) {
    const aws = await import("@aws-sdk/client-lambda");
    lambda ??= awsClient(aws.LambdaClient);
    const paused = await pauses.loadPauses();
    for (const [index, queue] of (["share", "verify", "revoke"] as const).entries()) {
      const UUID = environment.COMMAND_SOURCE_IDS[index];
      const Enabled = enabled && paused[queue] === undefined;
      const { State = "" } = await lambda.send(new aws.GetEventSourceMappingCommand({ UUID }));
      // An update halts the source for a moment, so only what is not yet as it should be gets one.
      if (Enabled === ["Disabled", "Disabling"].includes(State)) {
        await lambda.send(new aws.UpdateEventSourceMappingCommand({ UUID, Enabled }));
      }
    }
  },
  report(tokenIsDead: boolean) {
    metrics.add(metricDefinitions.systemTokenDead, tokenIsDead ? 1 : 0);
  },
};

const scanDeps: ScanDeps = {
  store,
  scans: createScanStore({ client, tableName }),
  findings: createFindingStore({ client, tableName, indexName, newId: randomUUID }),
  portfolio: createPortfolio(caller),
  graph: createScanGraph(caller, [environment.PARTNER_BUSINESS_ID, environment.CREDIT_LINE_ID]),
  async command({ requestedAt, ...command }) {
    const common = { version: "1", requestedAt: new Date(requestedAt).toISOString(), requestedBy: scanName };
    await queues.command(command.type, { ...common, ...command });
  },
  unaudited: createAuditGaps(client, auditTableName),
  announcing: {
    events: createEventBus(
      async () => awsClient((await import("@aws-sdk/client-eventbridge")).EventBridgeClient),
      environment.EVENT_BUS_NAME,
    ),
    audit: createAuditStore(client, auditTableName),
    log,
    metrics,
  },
  log,
  now,
  policy: {
    partnerBusinessId: environment.PARTNER_BUSINESS_ID,
    creditLineId: environment.CREDIT_LINE_ID,
    settleWindowMs,
    clockSkewMs: environment.CLOCK_SKEW_SECONDS * 1000,
    callsPerHour: environment.SCAN_CALLS_PER_HOUR,
    // What the scan does can always wait: shares go before it.
    stopAt: environment.SHARES_STOP_AT,
    shrinkLimit: environment.SHRINK_LIMIT,
    verifications: {
      ageMs: environment.VERIFICATION_AGE_DAYS * 24 * hourMs,
      scanEveryMs: environment.ESTATE_SCAN_HOURS * hourMs,
      spreadMs: environment.VERIFICATION_SPREAD_SECONDS * 1000,
    },
    mayStart: environment.RECONCILE_MAY_START,
  },
};

async function sweep() {
  const isWaiting = await tendTokenBreaker(deps);
  if (isWaiting) return { served: 0, items: 0 };
  // First what is due: the walk for what the breaker held reads the whole table, and may take all of the run.
  const swept = await dueSweep(deps);
  await wakeStopped(deps);
  return swept;
}

async function scan(mayBegin: boolean, context: Context) {
  const runMs = Math.max(context.getRemainingTimeInMillis() - finishMs, 0);
  const turn = { endsAt: now() + runMs, signal: AbortSignal.timeout(runMs) };
  const { scan: state, ...report } = await scanEstate(mayBegin, turn, scanDeps);
  if (state !== undefined) reportScan(state);
  return report;
}

function reportScan({ completed }: Pick<Scan, "completed">): void {
  if (completed === undefined) return;
  const { startedAt, oldestCheckedAt, unsharedSince = {}, cannotTell, announced } = completed;
  metrics.add(metricDefinitions.estateScanAge, (now() - startedAt) / hourMs);
  metrics.add(metricDefinitions.estateScanCannotTell, cannotTell.length === 0 ? 0 : 1);
  metrics.add(metricDefinitions.announcedLate, announced);
  metrics.add(
    metricDefinitions.oldestVerificationAge,
    oldestCheckedAt === undefined ? 0 : (now() - oldestCheckedAt) / hourMs,
  );
  for (const siblings of siblingStates) {
    const since = unsharedSince[siblings] ?? now();
    metrics.add(metricDefinitions.oldestUnshared, (now() - since) / 1000, { siblings });
  }
}

const eventSchema = z.object({ task: z.enum(reconcileTasks) });

/** Throws what it cannot do: a schedule's failure must be seen in the function's errors. */
export const handler = middy<unknown, Record<string, unknown>>().handler(async (event: unknown, context: Context) => {
  const { task } = eventSchema.parse(event);
  try {
    return await (task === "due-sweep" ? sweep() : scan(task === "estate-scan", context));
  } finally {
    metrics.flush();
  }
});
