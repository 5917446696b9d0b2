import { Duration } from "aws-cdk-lib";
import { Metric } from "aws-cdk-lib/aws-cloudwatch";
import { Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { Table } from "aws-cdk-lib/aws-dynamodb";
import { CfnSchedule } from "aws-cdk-lib/aws-scheduler";
import { Construct } from "constructs";
import { metricServiceOf, reconcileEnvironment, tokenDeadMetric } from "../../functions/reconcile/environment.ts";
import { alarm } from "./alarm.ts";
import type { GraphAccess, Stage } from "./credit-lines-function.ts";
import { addGrant, creditLinesFunction } from "./credit-lines-function.ts";
import type { QueueFunction } from "./queue-function.ts";

type ReconcileProps = {
  state: Table;
  dueIndexName: string;
  graph: GraphAccess;
  commands: { share: QueueFunction; verify: QueueFunction; revoke: QueueFunction };
};

/**
 * The function on the schedule: every due entry of the State table becomes a command again (C1), and while the system token
 * is dead the command queues are not read.
 */
export function reconcileFunction(
  scope: Construct,
  stage: Stage,
  { state, dueIndexName, graph, commands }: ReconcileProps,
): void {
  const construct = new Construct(scope, "Reconcile");
  const { config } = stage;
  const { share, verify, revoke } = commands;
  const sources = [share.source, verify.source, revoke.source];
  const impact = "Shares in doubt, verifications and open revocations that wait on the State table are not served";
  const lambda = creditLinesFunction(construct, stage, {
    name: "reconcile",
    description: "Serves what is due on the State table by sending its commands again",
    schema: reconcileEnvironment,
    environment: {
      STAGE: config.stage,
      STATE_TABLE_NAME: state.tableName,
      DUE_INDEX_NAME: dueIndexName,
      SETTLE_WINDOW_SECONDS: String(config.settleWindowSeconds),
      SHARE_QUEUE_URL: share.queue.queueUrl,
      VERIFY_QUEUE_URL: verify.queue.queueUrl,
      REVOKE_QUEUE_URL: revoke.queue.queueUrl,
      SHARES_STOP_AT: String(config.quota.sharesStopAt),
      VERIFIES_STOP_AT: String(config.quota.verifiesStopAt),
      ...graph.environment,
      CREDIT_LINE_ID: config.creditLineId,
      COMMAND_SOURCE_IDS: sources.map((source) => source.eventSourceMappingId).join(","),
    },
    grants: [
      { actions: ["dynamodb:Query"], resources: [`${state.tableArn}/index/${dueIndexName}`] },
      { actions: ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], resources: [state.tableArn] },
      {
        actions: ["sqs:SendMessage"],
        resources: [share.queue.queueArn, verify.queue.queueArn, revoke.queue.queueArn],
      },
      ...graph.grants,
      {
        actions: ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"],
        resources: sources.map((source) => source.eventSourceMappingArn),
      },
    ],
    errorImpact: `${impact} until the next sweep succeeds.`,
  });

  const role = new Role(construct, "ScheduleRole", { assumedBy: new ServicePrincipal("scheduler.amazonaws.com") });
  addGrant(role, { actions: ["lambda:InvokeFunction"], resources: [lambda.functionArn] });
  const period = Duration.minutes(config.dueSweepMinutes);
  const schedule = new CfnSchedule(construct, "DueSweep", {
    scheduleExpression: `rate(${config.dueSweepMinutes} minutes)`,
    flexibleTimeWindow: { mode: "OFF" },
    target: {
      arn: lambda.functionArn,
      roleArn: role.roleArn,
      input: JSON.stringify({ task: "due-sweep" }),
      // The next sweep serves what a lost one did not: no dead letters here, but an alarm when sweeps stay away.
      retryPolicy: { maximumEventAgeInSeconds: period.toSeconds(), maximumRetryAttempts: 2 },
    },
  });
  schedule.node.addDependency(role);

  alarm(construct, "TokenDeadAlarm", {
    config,
    metric: new Metric({
      namespace: tokenDeadMetric.namespace,
      metricName: tokenDeadMetric.name,
      dimensionsMap: { service: metricServiceOf(config.stage) },
      period,
      statistic: "Maximum",
    }),
    at: 1,
    impact:
      "Meta refuses the system token: every share, verification and revocation waits until its secret holds a token that works.",
  });
  alarm(construct, "SilentAlarm", {
    config,
    metric: lambda.metricInvocations({ period: Duration.minutes(Math.max(15, 3 * config.dueSweepMinutes)) }),
    at: 1,
    silence: "rises",
    impact: `${impact}: the due sweep has not run.`,
  });
}
