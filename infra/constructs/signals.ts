import { Duration, Stack } from "aws-cdk-lib";
import type { IMetric, IWidget } from "aws-cdk-lib/aws-cloudwatch";
import {
  Alarm,
  AlarmStatusWidget,
  Dashboard,
  GraphWidget,
  MathExpression,
  Metric,
  SingleValueWidget,
} from "aws-cdk-lib/aws-cloudwatch";
import { Function as LambdaFunction } from "aws-cdk-lib/aws-lambda";
import { LogGroup, QueryDefinition, QueryString } from "aws-cdk-lib/aws-logs";
import { Queue } from "aws-cdk-lib/aws-sqs";
import { Construct } from "constructs";
import type { DetailType, Reason } from "../../shared/contracts/events.ts";
import type { MetricDefinition } from "../../shared/contracts/metrics.ts";
import { metricDefinitions, metricNamespace, metricServiceOf } from "../../shared/contracts/metrics.ts";
import type { StageConfig } from "../config.ts";
import { alarm } from "./alarm.ts";

/** What a person is woken for although no message died: by the event that says so, or by one reason of it. */
const alarmingEvents: readonly { outcome: DetailType; reason?: Reason; impact: string; runbook: string }[] = [
  {
    outcome: "Share In Doubt",
    impact:
      "Nobody can tell whether a customer's share took effect: it may not be funded, and its share is held until a person decides.",
    runbook: "share-in-doubt",
  },
  {
    outcome: "Share Mismatched",
    impact: "A customer whose share Meta accepted is not funded by our line and cannot send messages.",
    runbook: "finding-unfunded",
  },
  {
    outcome: "Revocation Incomplete",
    impact:
      "The partner may keep paying for a customer who left or does not pay: a revocation cannot be proved complete.",
    runbook: "revocation-incomplete",
  },
  {
    outcome: "Revocations Stopped",
    impact:
      "So many customers were removed at once that automatic revocations wait for a person: the partner keeps paying for them.",
    runbook: "revocations-stopped",
  },
  {
    outcome: "Revoke Refused",
    reason: "owner_mismatch",
    impact:
      "A revoke names another business than the owner of its WABA: nothing was taken back, and the partner may keep paying.",
    runbook: "owner-mismatch",
  },
  {
    // A revoke that waits on the WABA's own item: after a day it is a person's, and it is no dead letter.
    outcome: "Command Blocked",
    reason: "owner_unknown",
    impact:
      "Nobody knows the business of a WABA: a revoke of it waits for its name, and the partner may keep paying meanwhile.",
    runbook: "owner-unknown",
  },
  {
    outcome: "Drift Found",
    impact:
      "Meta and the table disagree about a customer: somebody is funded who should not be, or is not who should be.",
    runbook: "drift-found",
  },
];

/** A metric of the functions' own, for the stage as a whole or for one value of its dimensions. */
export function ownMetric(
  config: StageConfig,
  { name, unit }: MetricDefinition,
  { of = {}, period = Duration.minutes(5) }: { of?: Record<string, string>; period?: Duration } = {},
): Metric {
  return new Metric({
    namespace: metricNamespace,
    metricName: name,
    dimensionsMap: { service: metricServiceOf(config.stage), ...of },
    period,
    statistic: unit === "Count" ? "Sum" : "Maximum",
  });
}

/** The alarms over the functions' own metrics, one dashboard and the saved queries: over all functions and queues of the stack. */
export function signals(scope: Construct, config: StageConfig): void {
  const construct = new Construct(scope, "Signals");
  for (const { outcome, reason, impact, runbook } of alarmingEvents) {
    const of = { outcome, ...(reason === undefined ? {} : { reason }) };
    const metric = ownMetric(config, metricDefinitions.outcomes, { of });
    const id = `${Object.values(of)
      .join(" ")
      .replaceAll(/[^a-zA-Z]/g, "")}Alarm`;
    alarm(construct, id, { config, metric, at: 1, impact, runbook });
  }
  const hour = Duration.hours(1);
  // The sweep looks later each time at what does not move, so it tells these ages seldom: the longest of an hour counts.
  alarm(construct, "OldIntentAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.oldestIntent, { period: hour }),
    at: 2 * config.settleWindowSeconds,
    impact: "A share has been under way for twice the settle window: its customer may not be funded.",
    runbook: "share-in-doubt",
  });
  alarm(construct, "UnverifiedAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.oldestUnverified, { period: hour }),
    at: config.verifyGraceSeconds.reduce((sum, seconds) => sum + seconds, 3600),
    impact:
      "A share has not been proved for more than an hour after its last look was due: its customer may not be funded.",
    runbook: "unverified",
  });
  alarm(construct, "OldRevocationAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.oldestRevocation, { period: hour }),
    at: Math.max(6 * 3600, 3 * config.settleWindowSeconds),
    impact:
      "A revocation has been open for hours: the partner may keep paying for a customer who left or does not pay.",
    runbook: "revocation-incomplete",
  });
  alarm(construct, "UnservedAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.unserved),
    at: 1,
    impact:
      "An item of the State table cannot be served: what waits on it, a share, a proof or a revocation, does not go on.",
    runbook: "item-unserved",
  });
  alarm(construct, "EffectUnseenAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.effectUnseen),
    at: config.settleWindowSeconds / 3,
    impact:
      "Meta showed a share later than a third of the settle window: with a longer delay a share could be made twice, or outlive its revocation.",
    runbook: "effect-unseen",
  });
  alarm(construct, "OtherVersionAlarm", {
    config,
    // A process tells it once.
    metric: ownMetric(config, metricDefinitions.otherVersion, { period: hour }),
    at: 1,
    impact:
      "Meta does not serve the Graph version any more that is asked for: its answers may mean something else, for every customer.",
    runbook: "graph-version",
  });
  alarm(construct, "QuotaAlarm", {
    config,
    metric: ownMetric(config, metricDefinitions.quotaUsed),
    at: config.quota.sharesStopAt * 100,
    impact: "The hour's calls to Meta are nearly used: new customers wait for their share until the hour has moved on.",
    runbook: "quota",
  });
  dashboard(construct, config);
  queries(construct, config);
}

function dashboard(construct: Construct, config: StageConfig): void {
  const all = Stack.of(construct).node.findAll();
  const queues = all.filter((one) => one instanceof Queue);
  const functions = all.filter((one) => one instanceof LambdaFunction);
  const alarms = all.filter((one) => one instanceof Alarm);
  const day = Duration.days(1);

  function outcome(detailType: DetailType, period?: Duration): Metric {
    const of = { outcome: detailType };
    const metric = ownMetric(config, metricDefinitions.outcomes, { of, ...(period === undefined ? {} : { period }) });
    return metric.with({ label: detailType });
  }
  function each({ name }: MetricDefinition, ...dimensions: string[]): MathExpression {
    const schema = [metricNamespace, "service", ...dimensions].join(",");
    const service = metricServiceOf(config.stage);
    return new MathExpression({
      expression: `SEARCH('{${schema}} service="${service}" MetricName="${name}"', 'Sum')`,
      label: "",
      usingMetrics: {},
      period: Duration.minutes(5),
    });
  }
  function under(part: string): LambdaFunction[] {
    return functions.filter(({ node }) => node.path.includes(`/${part}/`));
  }
  function graph(title: string, metrics: IMetric[]): IWidget {
    return new GraphWidget({ title, width: 8, left: metrics });
  }

  const board = new Dashboard(construct, "Dashboard", { dashboardName: `credit-lines-${config.stage}` });
  board.addWidgets(
    new SingleValueWidget({
      title: "Are customers being funded? Today",
      width: 8,
      height: 6,
      metrics: [
        outcome("Share Accepted", day),
        outcome("Share Verified", day),
        outcome("Share Mismatched", day),
        outcome("Share In Doubt", day),
      ],
      period: day,
    }),
    graph("Accepted by Meta, and proved to fund", [outcome("Share Accepted"), outcome("Share Verified")]),
    graph("The customer who has waited longest (s)", [
      ownMetric(config, metricDefinitions.oldestIntent),
      ownMetric(config, metricDefinitions.oldestUnverified),
      ...queues
        .filter(({ node }) => node.path.includes("/Share/Queue"))
        .map((queue) => queue.metricApproximateAgeOfOldestMessage({ label: "oldest share command" })),
    ]),
  );
  board.addWidgets(new AlarmStatusWidget({ title: "Alarms", width: 24, alarms }));
  board.addWidgets(
    graph("Outcomes by reason", [each(metricDefinitions.outcomes, "outcome", "reason")]),
    graph(
      "Oldest message (s)",
      queues.map((queue) => queue.metricApproximateAgeOfOldestMessage({ label: labelOf(queue) })),
    ),
    graph(
      "Messages that wait",
      queues.map((queue) => queue.metricApproximateNumberOfMessagesVisible({ label: labelOf(queue) })),
    ),
  );
  board.addWidgets(
    graph("Calls to Meta by what came of them", [each(metricDefinitions.graphCalls, "class")]),
    graph("The hour's calls that are used (%)", [ownMetric(config, metricDefinitions.quotaUsed)]),
    graph("Oldest open revocation, and who left and is still funded (s)", [
      ownMetric(config, metricDefinitions.oldestRevocation),
      ...["none", "funded"].map((siblings) =>
        ownMetric(config, metricDefinitions.oldestUnshared, { of: { siblings } }).with({
          label: `unshared but funded, siblings: ${siblings}`,
        }),
      ),
    ]),
  );
  board.addWidgets(
    graph("How long after a share Meta did not show it yet (s)", [ownMetric(config, metricDefinitions.effectUnseen)]),
    graph("Scans: hours since the last whole one, and since the oldest proof", [
      ownMetric(config, metricDefinitions.estateScanAge),
      ownMetric(config, metricDefinitions.oldestVerificationAge),
    ]),
    graph("What Meta's webhook told, and what was refused (4xx)", [
      each(metricDefinitions.webhookUpdates, "fate"),
      ...under("Webhook").map((webhook) => webhook.metric("Url4xxCount", { statistic: "Sum" })),
    ]),
  );
  board.addWidgets(
    graph(
      "How far announcements are behind (ms)",
      under("Publish").map((publish) => publish.metric("IteratorAge", { statistic: "Maximum" })),
    ),
    graph(
      "Failed invocations",
      functions.map((one) => one.metricErrors({ label: labelOf(one) })),
    ),
    graph(
      "How long an invocation takes (ms)",
      functions.map((one) => one.metricDuration({ label: labelOf(one), statistic: "p99" })),
    ),
  );
}

function labelOf({ node }: Construct): string {
  return node.path.split("/").slice(1).join(" ");
}

function queries(construct: Construct, config: StageConfig): void {
  const logGroups = Stack.of(construct)
    .node.findAll()
    .filter((one) => one instanceof LogGroup);
  for (const [name, queryString] of Object.entries({
    "what became of a command": {
      fields: ["@timestamp", "service", "message", "reason", "decision", "wabaId", "receiveCount", "xray_trace_id"],
      filterStatements: ['commandId = "PUT THE ID HERE"'],
    },
    "what happened to a customer": {
      fields: ["@timestamp", "service", "message", "commandId", "reason", "decision", "verdict"],
      filterStatements: ['wabaId = "PUT THE ID HERE" or businessId = "PUT THE ID HERE"'],
    },
    "what went wrong": {
      fields: ["@timestamp", "service", "message", "reason", "code", "fbtraceId", "error", "commandId", "wabaId"],
      filterStatements: ['level in ["ERROR", "WARN"]'],
    },
    "what Meta refused": {
      fields: ["@timestamp", "service", "reason", "code", "fbtraceId", "commandId"],
      filterStatements: ["ispresent(code)"],
    },
    "what commands cost in calls to Meta": {
      filterStatements: ['message = "Message served"'],
      statsStatements: [
        "count(*) as messages, sum(graphCalls) as calls, avg(graphCalls) as average by service, bin(1h)",
      ],
    },
  })) {
    const sorted = "fields" in queryString ? { ...queryString, sort: "@timestamp desc", limit: 200 } : queryString;
    new QueryDefinition(construct, name.replaceAll(/[^a-zA-Z]/g, ""), {
      queryDefinitionName: `credit-lines-${config.stage}/${name}`,
      queryString: new QueryString(sorted),
      logGroups,
    });
  }
}
