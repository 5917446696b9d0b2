import type { MetricDefinition } from "./contracts/metrics.ts";
import { metricNamespace, metricServiceOf } from "./contracts/metrics.ts";

export type Metrics = {
  /** @param of a value for each dimension that the metric is told by. */
  add(metric: MetricDefinition, value: number, of?: Readonly<Record<string, string>>): void;
  /** Writes what was added since the last time. At the end of each invocation. */
  flush(): void;
};

type Kept = { metric: MetricDefinition; of: Readonly<Record<string, string>>; value: number };

/**
 * Metrics by CloudWatch's Embedded Metric Format: a line of JSON on the standard output is all it takes, so a library would
 * only cost each cold start its import (Powertools metrics: 5 of some 55 ms). The line goes past `console`, whose lines
 * Lambda puts a time and a request id before.
 */
export function createMetrics(
  stage: string,
  write: (line: string) => unknown = (line) => process.stdout.write(line),
): Metrics {
  let kept = new Map<string, Kept>();
  return {
    add(metric, value, of = {}) {
      const key = [metric.name, ...Object.values(of)].join("|");
      const before = kept.get(key)?.value;
      const sum = metric.unit === "Count" ? (before ?? 0) + value : Math.max(before ?? value, value);
      kept.set(key, { metric, of, value: sum });
    },
    flush() {
      const all = [...kept.values()];
      kept = new Map();
      for (const { metric, of, value } of all) {
        const { name: Name, unit: Unit, by } = metric;
        // Coarse to fine: a sum over a dimension cannot be asked for in an alarm, so each is told of its own.
        const Dimensions = [[], ...by.map((_, index) => by.slice(0, index + 1))].map((set) => ["service", ...set]);
        const about = { Namespace: metricNamespace, Dimensions, Metrics: [{ Name, Unit }] };
        const line = {
          _aws: { Timestamp: Date.now(), CloudWatchMetrics: [about] },
          service: metricServiceOf(stage),
          ...of,
          [Name]: value,
        };
        write(`${JSON.stringify(line)}\n`);
      }
    },
  };
}
