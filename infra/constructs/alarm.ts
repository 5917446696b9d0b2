import type { IMetric } from "aws-cdk-lib/aws-cloudwatch";
import { Alarm, ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import type { Construct } from "constructs";
import type { StageConfig } from "../config.ts";

/**
 * An alarm that says what it costs: `impact` is one sentence on who is hurt and how, for the person it wakes, and `runbook`
 * is what they do: a file of infra/ops/runbooks, without its ending.
 * It rises at the first period in which `metric` is `at` or beyond, or `below` it; with `periods`, when `breaching` of the
 * latest ones (all, unless given) are. Without data it rests, unless silence is the fault.
 */
export function alarm(
  scope: Construct,
  id: string,
  props: {
    config: StageConfig;
    metric: IMetric;
    at: number;
    below?: boolean;
    periods?: number;
    breaching?: number;
    impact: string;
    runbook: string;
    silence?: "rests" | "rises";
  },
): void {
  const created = new Alarm(scope, id, {
    metric: props.metric,
    threshold: props.at,
    evaluationPeriods: props.periods ?? 1,
    ...(props.breaching === undefined ? {} : { datapointsToAlarm: props.breaching }),
    comparisonOperator: props.below
      ? ComparisonOperator.LESS_THAN_THRESHOLD
      : ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
    treatMissingData: props.silence === "rises" ? TreatMissingData.BREACHING : TreatMissingData.NOT_BREACHING,
    alarmDescription: `${props.impact} Runbook: infra/ops/runbooks/${props.runbook}.md`,
  });
  created.addAlarmAction(...props.config.alarmTopicArns.map((arn) => ({ bind: () => ({ alarmActionArn: arn }) })));
}
