import { expect, test } from "vitest";
import { metricDefinitions } from "../../shared/contracts/metrics.ts";
import { createMetrics } from "../../shared/metrics.ts";

function told(...adds: Parameters<ReturnType<typeof createMetrics>["add"]>[]): Record<string, unknown>[] {
  const lines: string[] = [];
  const metrics = createMetrics("dev", (line) => lines.push(line));
  for (const one of adds) metrics.add(...one);
  metrics.flush();
  metrics.flush();
  return lines.map((line) => JSON.parse(line));
}

const { graphCalls, oldestIntent, outcomes } = metricDefinitions;

test("a metric is one line of JSON in CloudWatch's embedded format, told for the stage and for each dimension", () => {
  const accepted = { outcome: "Share Accepted", reason: "none" };
  expect(told([outcomes, 1, accepted])).toEqual([
    {
      _aws: {
        Timestamp: expect.any(Number),
        CloudWatchMetrics: [
          {
            Namespace: "CreditLines",
            Dimensions: [["service"], ["service", "outcome"], ["service", "outcome", "reason"]],
            Metrics: [{ Name: "Outcomes", Unit: "Count" }],
          },
        ],
      },
      service: "credit-lines-dev",
      ...accepted,
      Outcomes: 1,
    },
  ]);
});

test("counts are summed up over an invocation, each set of dimensions for itself", () => {
  const lines = told(
    [graphCalls, 1, { class: "ok" }],
    [graphCalls, 1, { class: "ok" }],
    [graphCalls, 1, { class: "throttled" }],
  );
  expect(lines.map((line) => [line["class"], line["GraphCalls"]])).toEqual([
    ["ok", 2],
    ["throttled", 1],
  ]);
});

test("of what is no count, the highest value is told", () => {
  expect(told([oldestIntent, 40], [oldestIntent, 90], [oldestIntent, 60])).toMatchObject([{ OldestIntent: 90 }]);
});
