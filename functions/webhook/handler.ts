import middy from "@middy/core";
import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { SQSClient } from "@aws-sdk/client-sqs";
import type { LambdaFunctionURLEvent, LambdaFunctionURLResult } from "aws-lambda";
import { awsClient } from "../../shared/aws-clients.ts";
import { clockOf } from "../../shared/command-deps.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { createTokenSource } from "../../shared/graph/tokens.ts";
import { createLogger } from "../../shared/logging.ts";
import { createMetrics } from "../../shared/metrics.ts";
import { parseAppSecrets, readSecret, readSecretText } from "../../shared/secrets.ts";
import { webhookEnvironment } from "./environment.ts";
import { queueAll } from "./queue-all.ts";
import { receiveWebhook } from "./receive-webhook.ts";

const environment = parseEnvironment(webhookEnvironment, process.env);
const secrets = awsClient(SecretsManagerClient);
const sqs = awsClient(SQSClient);
const now = clockOf(environment);
const metrics = createMetrics(environment.STAGE);
// A new app secret stands here before Meta signs with it: what is kept is five minutes old at most.
const appSecrets = createTokenSource(() => readSecretText(secrets, environment.APP_SECRET_NAME), now);
const verifyToken = createTokenSource(() => readSecret(secrets, environment.VERIFY_TOKEN_SECRET_NAME), now);

const deps = {
  appSecrets: async () => parseAppSecrets(await appSecrets.read()),
  verifyToken: () => verifyToken.read(),
  queue: (bodies: readonly string[]) => queueAll(sqs, environment.REVOKE_QUEUE_URL, bodies),
  count(updates: Readonly<Record<string, number>>) {
    for (const [fate, count] of Object.entries(updates)) metrics.add(metricDefinitions.webhookUpdates, count, { fate });
    metrics.flush();
  },
  log: createLogger("webhook"),
  now,
  partnerBusinessId: environment.PARTNER_BUSINESS_ID,
  clockSkewMs: environment.CLOCK_SKEW_SECONDS * 1000,
};

export const handler = middy<LambdaFunctionURLEvent, LambdaFunctionURLResult>().handler(
  (event: LambdaFunctionURLEvent) => receiveWebhook(event, deps),
);
