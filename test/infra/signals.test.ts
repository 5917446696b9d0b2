import { existsSync } from "node:fs";
import type { Template } from "aws-cdk-lib/assertions";
import { describe, expect, test } from "vitest";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { detailTypes } from "../../shared/domain/events.ts";
import { deployedStage, flatten, templateOf } from "./stages.ts";

const template = templateOf(deployedStage({ alarmTopicArns: ["arn:aws:sns:eu-west-1:111111111111:alarms"] }));

type Properties = ReturnType<Template["findResources"]>[string];

function propertiesOf(type: string): Properties[] {
  return Object.values(template.findResources(type)).map(({ Properties }) => Properties ?? {});
}

describe("alarms over the functions' own metrics", () => {
  const own = propertiesOf("AWS::CloudWatch::Alarm").filter(({ Namespace }) => Namespace === "CreditLines");

  test("watch metrics that a function tells, under dimensions that it tells them by", () => {
    const definitions = Object.values(metricDefinitions);
    for (const { MetricName, Dimensions } of own) {
      const definition = definitions.find(({ name }) => name === MetricName);
      const names: string[] = Dimensions.map(({ Name }: { Name: string }) => Name).filter(
        (name: string) => name !== "service",
      );
      expect(definition?.by.slice(0, names.length), MetricName).toEqual(names);
      expect(Dimensions).toContainEqual({ Name: "service", Value: "credit-lines-prod" });
    }
  });

  test("and all others name a runbook that exists", () => {
    const names = propertiesOf("AWS::CloudWatch::Alarm").map(
      ({ AlarmDescription }) => /Runbook: (.*)$/.exec(AlarmDescription)?.[1] ?? "none",
    );
    expect(names.filter((name) => !existsSync(name))).toEqual([]);
  });

  test.each(["Share In Doubt", "Share Mismatched", "Revocation Incomplete", "Revocations Stopped", "Drift Found"])(
    "rise at the first %s, which is an event that is announced",
    (outcome) => {
      expect(detailTypes).toContain(outcome);
      const alarms = own.filter(({ Dimensions }) => JSON.stringify(Dimensions).includes(`"${outcome}"`));
      expect(alarms).toMatchObject([{ Threshold: 1, Statistic: "Sum", TreatMissingData: "notBreaching" }]);
    },
  );

  test.each([
    ["Revoke Refused", "owner_mismatch"],
    ["Command Blocked", "owner_unknown"],
  ])("rise at the first %s for %s: it waits for a person, and no dead letter tells of it", (outcome, reason) => {
    expect(detailTypes).toContain(outcome);
    const Dimensions = Object.entries({ outcome, reason, service: "credit-lines-prod" }).map(([Name, Value]) => ({
      Name,
      Value,
    }));
    const alarms = own.filter((alarm) => JSON.stringify(alarm["Dimensions"]) === JSON.stringify(Dimensions));
    expect(alarms).toMatchObject([{ Threshold: 1, Statistic: "Sum", TreatMissingData: "notBreaching" }]);
  });

  test("rise when something has been unsettled for longer than it should", () => {
    const thresholds = own.map(({ MetricName, Threshold }) => [MetricName, Threshold]);
    expect(thresholds).toEqual(
      expect.arrayContaining([
        ["OldestIntent", 3600],
        ["OldestUnverified", 3600 + 30 + 120 + 600 + 3600],
        ["OldestRevocation", 6 * 3600],
        ["QuotaUsed", 80],
        ["SystemTokenDead", 1],
        ["EffectUnseen", 600],
        ["ItemsUnserved", 1],
        ["AnsweredByOtherVersion", 1],
        ["OldestUnsharedButFunded", (48 + 6) * 3600],
      ]),
    );
  });
});

describe("the dashboard", () => {
  const [body] = propertiesOf("AWS::CloudWatch::Dashboard").map(({ DashboardBody }) => flatten(DashboardBody));
  const { widgets } = JSON.parse(body ?? "{}") as {
    widgets: { y: number; properties: { title: string; metrics: unknown } }[];
  };

  test("answers in its first row whether customers are being funded", () => {
    const first = widgets.filter(({ y }) => y === 0);
    expect(first.map(({ properties }) => properties.title)).toEqual([
      "Are customers being funded? Today",
      "Accepted by Meta, and proved to fund",
      "The customer who has waited longest (s)",
    ]);
    const text = JSON.stringify(first);
    for (const word of ["Share Accepted", "Share Verified", "Share Mismatched", "Share In Doubt", "OldestUnverified"]) {
      expect(text).toContain(word);
    }
  });

  test("shows every function, every queue and every alarm of the stack", () => {
    const count = { "AWS::SQS::Queue": "Oldest message (s)", "AWS::Lambda::Function": "Failed invocations" };
    for (const [type, title] of Object.entries(count)) {
      const shown = widgets.find(({ properties }) => properties.title === title)?.properties.metrics;
      expect(shown).toHaveLength(Object.keys(template.findResources(type)).length);
    }
    const alarms = Object.keys(template.findResources("AWS::CloudWatch::Alarm"));
    for (const alarm of alarms) expect(body).toContain(`<${alarm.replace(/[0-9A-F]{8}$/, "")}.Arn>`);
  });
});

test("saved queries look through the logs of all functions", () => {
  const groups = Object.keys(template.findResources("AWS::Logs::LogGroup"));
  const saved = propertiesOf("AWS::Logs::QueryDefinition");
  expect(saved.map(({ Name }) => String(Name)).toSorted()).toEqual(
    [
      "what Meta refused",
      "what became of a command",
      "what commands cost in calls to Meta",
      "what happened to a customer",
      "what went wrong",
    ].map((name) => `credit-lines-prod/${name}`),
  );
  for (const { LogGroupNames } of saved) expect(LogGroupNames).toHaveLength(groups.length);
});
