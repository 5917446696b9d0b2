import { Duration, Validations } from "aws-cdk-lib";
import { MathExpression, Metric } from "aws-cdk-lib/aws-cloudwatch";
import type { Table } from "aws-cdk-lib/aws-dynamodb";
import type { EventBus } from "aws-cdk-lib/aws-events";
import { MetricType, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { BlockPublicAccess, Bucket, BucketEncryption } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import { publishEnvironment } from "../../functions/publish/environment.ts";
import { alarm } from "./alarm.ts";
import type { Stage } from "./credit-lines-function.ts";
import { creditLinesFunction, removalPolicy } from "./credit-lines-function.ts";

const impact = "Upstream services do not learn what became of their commands";

/** The function on the State table's stream, and the bucket that keeps what it could not deliver. */
export function publishFunction(
  scope: Construct,
  stage: Stage,
  { state, audit, bus }: { state: Table; audit: Table; bus: EventBus },
): void {
  if (state.tableStreamArn === undefined) throw new Error("The State table needs its stream: events are made from it");
  const construct = new Construct(scope, "Publish");
  const { config } = stage;
  const undelivered = new Bucket(construct, "UndeliveredBucket", {
    encryption: BucketEncryption.S3_MANAGED,
    enforceSSL: true,
    blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
    lifecycleRules: [{ expiration: Duration.days(400) }],
    removalPolicy: removalPolicy(config),
  });
  Validations.of(undelivered).acknowledge({
    id: "AwsSolutions-S1",
    reason: "Only this stack's publish mapping writes here, a few objects in a bad year; each one raises an alarm.",
  });
  const lambda = creditLinesFunction(construct, stage, {
    name: "publish",
    description: "Announces what the State table recorded, and appends it to the Audit table",
    schema: publishEnvironment,
    environment: {
      STAGE: config.stage,
      STATE_TABLE_NAME: state.tableName,
      AUDIT_TABLE_NAME: audit.tableName,
      EVENT_BUS_NAME: bus.eventBusName,
    },
    grants: [
      {
        actions: ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
        resources: [state.tableStreamArn],
      },
      {
        actions: ["dynamodb:ListStreams"],
        resources: [`${state.tableArn}/stream/*`],
        wildcardReason: "Listing is asked of the table: AWS documents this form, and it names no one stream.",
      },
      { actions: ["dynamodb:PutItem"], resources: [audit.tableArn] },
      { actions: ["events:PutEvents"], resources: [bus.eventBusArn] },
      {
        actions: ["s3:PutObject"],
        resources: [undelivered.arnForObjects("aws/lambda/*")],
        wildcardReason: "Lambda chooses the object's name under this prefix: mapping id, date, a random id.",
      },
      { actions: ["s3:ListBucket"], resources: [undelivered.bucketArn] },
    ],
    errorImpact: `${impact} until the stream is read again; what fails for 23 hours goes to the bucket of undelivered records.`,
  });
  const mapping = lambda.addEventSourceMapping("Stream", {
    eventSourceArn: state.tableStreamArn,
    startingPosition: StartingPosition.TRIM_HORIZON,
    batchSize: 100,
    bisectBatchOnError: true,
    reportBatchItemFailures: true,
    // Bounded by age, not by attempts: an hour's outage of the bus must not skip good records (P2). The stream itself
    // forgets after 24 hours, and what is given up a little earlier is kept whole.
    retryAttempts: -1,
    maxRecordAge: Duration.hours(23),
    onFailure: { bind: () => ({ destination: undelivered.bucketArn }) },
    supportS3OnFailureDestination: true,
    metricsConfig: { metrics: [MetricType.EVENT_COUNT] },
  });

  alarm(construct, "LagAlarm", {
    config,
    metric: lambda.metric("IteratorAge", { period: Duration.minutes(5), statistic: "Maximum" }),
    at: Duration.minutes(30).toMilliseconds(),
    impact: `${impact}: announcements are more than 30 minutes late.`,
    runbook: "publish-lag",
  });
  const hour = Duration.hours(1);
  alarm(construct, "StoppedAlarm", {
    config,
    // A stream that nobody reads has no iterator, and so no age: a mapping that is off, or may not read, is silent.
    metric: new MathExpression({
      expression: "IF(FILL(writes, 0) > 0 AND FILL(runs, 0) == 0, 1, 0)",
      usingMetrics: {
        writes: state.metricConsumedWriteCapacityUnits({ period: hour, statistic: "Sum" }),
        runs: lambda.metricInvocations({ period: hour }),
      },
      period: hour,
    }),
    at: 1,
    // The latest hour may have the write and not yet the run; the stream itself forgets after so many hours.
    periods: 24,
    breaching: 2,
    impact: `${impact}: the table was written in two of the last 24 hours, and its stream was not read.`,
    runbook: "publish-lag",
  });
  alarm(construct, "BucketFailsAlarm", {
    config,
    metric: lambda.metric("DestinationDeliveryFailures", { period: Duration.minutes(5), statistic: "Sum" }),
    at: 1,
    impact: `${impact}: records were given up, and could not be put into the bucket.`,
    runbook: "publish-dropped",
  });
  for (const [id, metricName, runbook, what] of [
    [
      "UndeliveredAlarm",
      "OnFailureDestinationDeliveredEventCount",
      "publish-undelivered",
      "records were given up and lie in the bucket",
    ],
    [
      "DroppedAlarm",
      "DroppedEventCount",
      "publish-dropped",
      "records were dropped and are in no bucket; only the scan can repair the gap",
    ],
  ] as const) {
    alarm(construct, id, {
      config,
      metric: new Metric({
        namespace: "AWS/Lambda",
        metricName,
        dimensionsMap: { EventSourceMappingUUID: mapping.eventSourceMappingId },
        period: Duration.minutes(5),
        statistic: "Sum",
      }),
      at: 1,
      impact: `${impact}: ${what}.`,
      runbook,
    });
  }
}
