import { randomUUID } from "node:crypto";
import middy from "@middy/core";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod/mini";
import { clockOf } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { createLogger } from "../../shared/logging.ts";
import { createQueues } from "../../shared/queues.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { dueSweep } from "./due-sweep.ts";
import { reconcileEnvironment } from "./environment.ts";

const environment = parseEnvironment(reconcileEnvironment, process.env);
const client = new DynamoDBClient();
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
  log: createLogger("reconcile"),
  now: clockOf(environment),
  settleWindowMs: environment.SETTLE_WINDOW_SECONDS * 1000,
};

/** What the schedule passes. */
const taskSchema = z.object({ task: z.literal("due-sweep") });

/** Throws what it cannot do: a schedule's failure must be seen in the function's errors. */
export const handler = middy<unknown, { served: number; items: number }>().handler((event: unknown) => {
  taskSchema.parse(event);
  return dueSweep(deps);
});
