import { Duration, Stack } from "aws-cdk-lib";
import { Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { Table } from "aws-cdk-lib/aws-dynamodb";
import type { EventBus } from "aws-cdk-lib/aws-events";
import { MathExpression } from "aws-cdk-lib/aws-cloudwatch";
import { CfnSchedule } from "aws-cdk-lib/aws-scheduler";
import { Construct } from "constructs";
import type { reconcileTasks } from "../../functions/reconcile/environment.ts";
import { reconcileEnvironment } from "../../functions/reconcile/environment.ts";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { verificationSpreadSeconds } from "../config.ts";
import { alarm } from "./alarm.ts";
import type { GraphAccess, Stage } from "./credit-lines-function.ts";
import { addGrant, creditLinesFunction } from "./credit-lines-function.ts";
import { ownMetric } from "./signals.ts";
import type { QueueFunction } from "./queue-function.ts";

type ReconcileProps = {
  state: Table;
  audit: Table;
  bus: EventBus;
  dueIndexName: string;
  graph: GraphAccess;
  commands: { share: QueueFunction; verify: QueueFunction; revoke: QueueFunction };
};

/**
 * The function on the schedule: every due entry of the State table becomes a command again (C1), while the system token is
 * dead the command queues are not read, and once a day everything at Meta is compared with the table (C2).
 */
export function reconcileFunction(
  scope: Construct,
  stage: Stage,
  { state, audit, bus, dueIndexName, graph, commands }: ReconcileProps,
): void {
  const construct = new Construct(scope, "Reconcile");
  const { config } = stage;
  const { share, verify, revoke } = commands;
  const sources = [share.source, verify.source, revoke.source];
  const impact = "Shares in doubt, verifications and open revocations that wait on the State table are not served";
  const lambda = creditLinesFunction(construct, stage, {
    name: "reconcile",
    description: "Serves what is due on the State table, and compares the table with Meta",
    schema: reconcileEnvironment,
    environment: {
      STAGE: config.stage,
      STATE_TABLE_NAME: state.tableName,
      DUE_INDEX_NAME: dueIndexName,
      AUDIT_TABLE_NAME: audit.tableName,
      EVENT_BUS_NAME: bus.eventBusName,
      CLOCK_SKEW_SECONDS: String(config.clockSkewSeconds),
      SCAN_CALLS_PER_HOUR: String(Math.floor(config.quota.callsPerHour * config.quota.reconcileShare)),
      ESTATE_SCAN_HOURS: String(config.estateScanHours),
      SHRINK_LIMIT: String(config.shrinkLimit),
      VERIFICATION_AGE_DAYS: String(config.verificationAgeDays),
      VERIFICATION_SPREAD_SECONDS: String(verificationSpreadSeconds(config)),
      RECONCILE_MAY_START: config.reconcileMayStart.join(","),
      SETTLE_WINDOW_SECONDS: String(config.settleWindowSeconds),
      SHARE_QUEUE_URL: share.queue.queueUrl,
      VERIFY_QUEUE_URL: verify.queue.queueUrl,
      REVOKE_QUEUE_URL: revoke.queue.queueUrl,
      SHARES_STOP_AT: String(config.quota.sharesStopAt),
      VERIFIES_STOP_AT: String(config.quota.verifiesStopAt),
      ...graph.environment,
      PARTNER_BUSINESS_ID: config.partnerBusinessId,
      CREDIT_LINE_ID: config.creditLineId,
      COMMAND_SOURCE_IDS: sources.map((source) => source.eventSourceMappingId).join(","),
    },
    grants: [
      { actions: ["dynamodb:Query"], resources: [`${state.tableArn}/index/${dueIndexName}`] },
      {
        actions: [
          "dynamodb:GetItem",
          "dynamodb:BatchGetItem",
          "dynamodb:Scan",
          "dynamodb:PutItem",
          "dynamodb:UpdateItem",
        ],
        resources: [state.tableArn],
      },
      { actions: ["dynamodb:BatchGetItem", "dynamodb:PutItem"], resources: [audit.tableArn] },
      { actions: ["events:PutEvents"], resources: [bus.eventBusArn] },
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
    policies: graph.policies,
    errorImpact: `${impact} until the next sweep succeeds.`,
  });

  const role = new Role(construct, "ScheduleRole", {
    // The scheduler works for every account: only for this one may it take the role.
    assumedBy: new ServicePrincipal("scheduler.amazonaws.com", {
      conditions: { StringEquals: { "aws:SourceAccount": Stack.of(construct).account } },
    }),
  });
  addGrant(role, { actions: ["lambda:InvokeFunction"], resources: [lambda.functionArn] });
  const period = Duration.minutes(config.dueSweepMinutes);
  function schedule(id: string, task: (typeof reconcileTasks)[number], rate: string): void {
    const created = new CfnSchedule(construct, id, {
      scheduleExpression: `rate(${rate})`,
      flexibleTimeWindow: { mode: "OFF" },
      target: {
        arn: lambda.functionArn,
        roleArn: role.roleArn,
        input: JSON.stringify({ task }),
        // The next run does what a lost one did not: no dead letters here, but an alarm when runs stay away.
        retryPolicy: { maximumEventAgeInSeconds: period.toSeconds(), maximumRetryAttempts: 2 },
      },
    });
    created.node.addDependency(role);
  }
  schedule("DueSweep", "due-sweep", `${config.dueSweepMinutes} minutes`);
  schedule("EstateScan", "estate-scan", `${config.estateScanHours} hours`);
  schedule("ScanContinuation", "continue-scan", `${config.dueSweepMinutes} minutes`);

  alarm(construct, "TokenDeadAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.systemTokenDead, { period }),
    at: 1,
    impact:
      "Meta refuses the system token: every share, verification and revocation waits until its secret holds a token that works.",
    runbook: "token-expired",
  });
  const threeSweeps = Duration.minutes(Math.max(15, 3 * config.dueSweepMinutes));
  // Told once by each sweep. Lambda's own count would hear the scan's schedules, too, and call that a sweep.
  const sweeps = ownMetric(config, metricDefinitions.systemTokenDead, { period: threeSweeps }).with({
    statistic: "SampleCount",
  });
  alarm(construct, "SilentAlarm", {
    config,
    // Filled: an alarm that finds a period empty looks for older ones before it takes silence for an answer, and rises late.
    metric: new MathExpression({
      expression: "FILL(sweeps, 0)",
      usingMetrics: { sweeps },
      period: threeSweeps,
    }),
    at: 1,
    below: true,
    // The latest period may not have been told all yet.
    periods: 2,
    silence: "rises",
    impact: `${impact}: the due sweep has not run.`,
    runbook: "sweep-silent",
  });
  alarm(construct, "UnsharedAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.oldestUnshared, {
      of: { siblings: "none" },
      period: Duration.hours(1),
    }),
    // A scan sees that somebody left, the next one confirms it, and the revocation has its time.
    at: (2 * config.estateScanHours + 6) * 3600,
    impact:
      "A customer left days ago and is still on our line: nobody takes it back, and the partner is liable for what is spent.",
    runbook: "unshared-but-funded",
  });
  alarm(construct, "ScanAgeAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.estateScanAge, { period: Duration.hours(1) }),
    at: 2 * config.estateScanHours + 1,
    // Nobody tells an age when no scan has ever ended, or nothing looks after them any more.
    silence: "rises",
    impact: "The estate scan does not come to its end: what is wrong at Meta shows only on the invoice.",
    runbook: "scan-age",
  });
  for (const [id, metric, at, cost, runbook] of [
    [
      "VerificationAgeAlarm",
      metricDefinitions.oldestVerificationAge,
      config.verificationAgeDays * 24 + config.estateScanHours,
      "A funded customer was not verified within the configured age: one that lost its funding may go unnoticed.",
      "verification-age",
    ],
    [
      "CannotTellAlarm",
      metricDefinitions.estateScanCannotTell,
      1,
      "A list of Meta's was cut short, blind or shrunk: the estate scan cannot tell who left or lost the line.",
      "scan-cannot-tell",
    ],
    [
      "AnnouncedLateAlarm",
      metricDefinitions.announcedLate,
      1,
      "Upstream services learned of changes only from the estate scan, up to a day late.",
      "announced-late",
    ],
  ] as const) {
    alarm(construct, id, {
      config,
      metric: ownMetric(config, metric, { period: Duration.hours(1) }),
      at,
      impact: cost,
      runbook,
    });
  }
}
