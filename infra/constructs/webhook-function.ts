import { Duration, Stack } from "aws-cdk-lib";
import type { Policy } from "aws-cdk-lib/aws-iam";
import { FunctionUrlAuthType } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import { webhookEnvironment } from "../../functions/webhook/environment.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { alarm } from "./alarm.ts";
import type { Stage } from "./credit-lines-function.ts";
import { creditLinesFunction, namedSecret } from "./credit-lines-function.ts";
import type { QueueFunction } from "./queue-function.ts";
import { ownMetric } from "./signals.ts";

/**
 * The function behind the address that Meta's webhooks are sent to. A function URL, not an API Gateway: its answer is all
 * that Meta wants, it takes 6 MB, and it hands over the body as it came. It is public because Meta signs no AWS request;
 * the signature over the body is what opens it.
 * @returns the address.
 */
export function webhookFunction(
  scope: Construct,
  stage: Stage,
  { revoke, appSecretName, appSecret, verifyTokenSecretName }: { revoke: QueueFunction } & WebhookSecrets,
): string {
  const construct = new Construct(scope, "Webhook");
  const { config } = stage;
  const lambda = creditLinesFunction(construct, stage, {
    name: "webhook",
    description: "Takes Meta's account webhooks, and queues what they ask for",
    schema: webhookEnvironment,
    environment: {
      STAGE: config.stage,
      REVOKE_QUEUE_URL: revoke.queue.queueUrl,
      PARTNER_BUSINESS_ID: config.partnerBusinessId,
      CLOCK_SKEW_SECONDS: String(config.clockSkewSeconds),
      APP_SECRET_NAME: appSecretName,
      VERIFY_TOKEN_SECRET_NAME: verifyTokenSecretName,
    },
    grants: [
      { actions: ["sqs:SendMessage"], resources: [revoke.queue.queueArn] },
      namedSecret(Stack.of(scope), verifyTokenSecretName),
    ],
    policies: appSecret,
    // What is turned away Meta delivers again. On one machine there is no account to protect.
    reservedConcurrency: config.stage === "local" ? undefined : (config.concurrency.webhook ?? undefined),
    errorImpact:
      "Meta's webhooks are not taken: customers who left stay funded until Meta delivers again, or the estate scan finds them.",
  });
  alarm(construct, "UnreadableAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.webhookUpdates, { of: { fate: "unreadable" } }),
    at: 1,
    impact:
      "Meta signed updates that cannot be read: a customer who left may stay funded until the estate scan finds it.",
    runbook: "webhook-unreadable",
  });
  alarm(construct, "ThrottledAlarm", {
    config,
    metric: lambda.metricThrottles({ period: Duration.minutes(5) }),
    at: 1,
    impact:
      "Webhooks are turned away: customers who left stay funded until Meta delivers again, or the estate scan finds them.",
    runbook: "webhook-throttled",
  });
  return lambda.addFunctionUrl({ authType: FunctionUrlAuthType.NONE }).url;
}

/** `appSecret`: the policies by which it can be read. */
export type WebhookSecrets = { appSecretName: string; appSecret: Policy[]; verifyTokenSecretName: string };
