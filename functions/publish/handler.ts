import middy from "@middy/core";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { EventBridgeClient } from "@aws-sdk/client-eventbridge";
import type { DynamoDBBatchResponse, DynamoDBStreamEvent } from "aws-lambda";
import { awsClient } from "../../shared/aws-clients.ts";
import { clockOf } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { createEventBus } from "../../shared/event-bus.ts";
import { createLogger } from "../../shared/logging.ts";
import { createMetrics } from "../../shared/metrics.ts";
import { createAuditStore } from "../../shared/store/audit-store.ts";
import { publishEnvironment } from "./environment.ts";
import { publishTransitions } from "./publish-transitions.ts";

const environment = parseEnvironment(publishEnvironment, process.env);
const metrics = createMetrics(environment.STAGE);
const deps = {
  events: createEventBus(() => awsClient(EventBridgeClient), environment.EVENT_BUS_NAME),
  audit: createAuditStore(awsClient(DynamoDBClient), environment.AUDIT_TABLE_NAME),
  log: createLogger("publish"),
  now: clockOf(environment),
  metrics,
};

export const handler = middy<DynamoDBStreamEvent, DynamoDBBatchResponse>().handler((event: DynamoDBStreamEvent) =>
  publishTransitions(event, deps).finally(() => metrics.flush()),
);
