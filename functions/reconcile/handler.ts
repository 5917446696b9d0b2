import { randomUUID } from "node:crypto";
import middy from "@middy/core";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetEventSourceMappingCommand, LambdaClient, UpdateEventSourceMappingCommand } from "@aws-sdk/client-lambda";
import { SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod/mini";
import { buildCallerDeps, clockOf } from "../../shared/command-deps.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { checkSystemToken } from "../../shared/graph/system-token.ts";
import { createLogger } from "../../shared/logging.ts";
import { createMetrics } from "../../shared/metrics.ts";
import { createQueues } from "../../shared/queues.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { dueSweep } from "./due-sweep.ts";
import { reconcileEnvironment } from "./environment.ts";
import { tendTokenBreaker } from "./token-breaker.ts";
import { wakeStopped } from "./wake-stopped.ts";

const environment = parseEnvironment(reconcileEnvironment, process.env);
const client = new DynamoDBClient();
const lambda = new LambdaClient();
const now = clockOf(environment);
const log = createLogger("reconcile");
const metrics = createMetrics(environment.STAGE);
const caller = buildCallerDeps(environment, log, metrics, now);

const checkMsMax = 20_000;

const pauses = createPauseStore(client, environment.STATE_TABLE_NAME);

const deps = {
  store: createStateStore({ client, tableName: environment.STATE_TABLE_NAME, newId: randomUUID }),
  dueIndex: createDueIndex(client, environment.STATE_TABLE_NAME, environment.DUE_INDEX_NAME),
  queues: createQueues(new SQSClient(), {
    wake: {
      share: environment.SHARE_QUEUE_URL,
      verify: environment.VERIFY_QUEUE_URL,
      revoke: environment.REVOKE_QUEUE_URL,
    },
  }),
  log,
  metrics,
  now,
  settleWindowMs: environment.SETTLE_WINDOW_SECONDS * 1000,
  stopAt: { share: environment.SHARES_STOP_AT, verify: environment.VERIFIES_STOP_AT },
  checkToken: () => checkSystemToken(caller, environment.CREDIT_LINE_ID, AbortSignal.timeout(checkMsMax)),
  async feedCommands(enabled: boolean) {
    const paused = await pauses.loadPauses();
    for (const [index, queue] of (["share", "verify", "revoke"] as const).entries()) {
      const UUID = environment.COMMAND_SOURCE_IDS[index];
      const Enabled = enabled && paused[queue] === undefined;
      const { State = "" } = await lambda.send(new GetEventSourceMappingCommand({ UUID }));
      // An update halts the source for a moment, so only what is not yet as it should be gets one.
      if (Enabled === ["Disabled", "Disabling"].includes(State)) {
        await lambda.send(new UpdateEventSourceMappingCommand({ UUID, Enabled }));
      }
    }
  },
  report(tokenIsDead: boolean) {
    metrics.add(metricDefinitions.systemTokenDead, tokenIsDead ? 1 : 0);
  },
};

/** What the schedule passes. */
const taskSchema = z.object({ task: z.literal("due-sweep") });

/** Throws what it cannot do: a schedule's failure must be seen in the function's errors. */
export const handler = middy<unknown, { served: number; items: number }>().handler(async (event: unknown) => {
  taskSchema.parse(event);
  try {
    const isWaiting = await tendTokenBreaker(deps);
    if (isWaiting) return { served: 0, items: 0 };
    await wakeStopped(deps);
    return await dueSweep(deps);
  } finally {
    metrics.flush();
  }
});
