import { randomUUID } from "node:crypto";
import { Metrics, MetricUnit } from "@aws-lambda-powertools/metrics";
import middy from "@middy/core";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import * as z from "zod/mini";
import { buildCallerDeps, clockOf } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { checkSystemToken } from "../../shared/graph/system-token.ts";
import { createLogger } from "../../shared/logging.ts";
import { createQueues } from "../../shared/queues.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { dueSweep } from "./due-sweep.ts";
import { metricServiceOf, reconcileEnvironment, tokenDeadMetric } from "./environment.ts";
import { tendTokenBreaker } from "./token-breaker.ts";
import { wakeStopped } from "./wake-stopped.ts";

const environment = parseEnvironment(reconcileEnvironment, process.env);
const client = new DynamoDBClient();
/** Made in the first run: the client is the heaviest of all. */
let lambda: LambdaClient | undefined;
const now = clockOf(environment);
const log = createLogger("reconcile");
const caller = buildCallerDeps(environment, log, now);
const metrics = new Metrics({
  namespace: tokenDeadMetric.namespace,
  serviceName: metricServiceOf(environment.STAGE),
});

const checkMsMax = 20_000;

const pauses = createPauseStore(client, environment.STATE_TABLE_NAME);

const deps = {
  store: createStateStore({ client, tableName: environment.STATE_TABLE_NAME, newId: randomUUID }),
  dueIndex: createDueIndex(client, environment.STATE_TABLE_NAME, environment.DUE_INDEX_NAME),
  queues: createQueues(async () => new (await import("@aws-sdk/client-sqs")).SQSClient(), {
    wake: {
      share: environment.SHARE_QUEUE_URL,
      verify: environment.VERIFY_QUEUE_URL,
      revoke: environment.REVOKE_QUEUE_URL,
    },
  }),
  log,
  now,
  settleWindowMs: environment.SETTLE_WINDOW_SECONDS * 1000,
  stopAt: { share: environment.SHARES_STOP_AT, verify: environment.VERIFIES_STOP_AT },
  checkToken: () => checkSystemToken(caller, environment.CREDIT_LINE_ID, AbortSignal.timeout(checkMsMax)),
  async feedCommands(enabled: boolean) {
    const aws = await import("@aws-sdk/client-lambda");
    lambda ??= new aws.LambdaClient();
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
    metrics.addMetric(tokenDeadMetric.name, MetricUnit.Count, tokenIsDead ? 1 : 0);
    metrics.publishStoredMetrics();
  },
};

/** What the schedule passes. */
const taskSchema = z.object({ task: z.literal("due-sweep") });

/** Throws what it cannot do: a schedule's failure must be seen in the function's errors. */
export const handler = middy<unknown, { served: number; items: number }>().handler(async (event: unknown) => {
  taskSchema.parse(event);
  const isWaiting = await tendTokenBreaker(deps);
  if (isWaiting) return { served: 0, items: 0 };
  await wakeStopped(deps);
  return dueSweep(deps);
});
