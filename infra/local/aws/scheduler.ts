import * as z from "zod";
import type { RoleUse } from "./gateway.ts";
import type { InvocationResult, LambdaFunction } from "./lambda.ts";
import type { Stack } from "./stack.ts";

export type Schedule = {
  name: string;
  expression: string;
  enabled: boolean;
  target: LambdaFunction;
  fire: () => Promise<InvocationResult>;
};

const scheduleProperties = z.strictObject({
  Name: z.string().optional(),
  ScheduleExpression: z.string(),
  State: z.enum(["ENABLED", "DISABLED"]).default("ENABLED"),
  Target: z.strictObject({
    Arn: z.string(),
    RoleArn: z.unknown(),
    Input: z.string().default("{}"),
    RetryPolicy: z.unknown().optional(),
    DeadLetterConfig: z.unknown().optional(),
  }),
});
const ignoredProperties = ["Description", "FlexibleTimeWindow", "GroupName", "KmsKeyArn", "ScheduleExpressionTimezone"];

const unitMs = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };
const rateExpression = /^rate\((\d+) (minute|hour|day)s?\)$/;

/** A longer interval would overflow Node's timers and fire at once. */
const intervalMaxMs = 2 ** 31 - 1;

/**
 * EventBridge Scheduler's rates: each schedule invokes its function every interval, the first time after one interval.
 * A failed run is not repeated: the next one comes.
 */
export function startSchedules(stack: Stack, functions: readonly LambdaFunction[], onRoleUse: (use: RoleUse) => void) {
  const planned = stack
    .each("AWS::Scheduler::Schedule", scheduleProperties, ignoredProperties)
    .map(({ resource, properties: { ScheduleExpression, State, Target } }) => {
      const target = functions.find(({ arn }) => arn === Target.Arn);
      if (target === undefined) throw new Error(`${resource.logicalId}: the target ${Target.Arn} is no function here`);
      const input: unknown = JSON.parse(Target.Input);
      const body = JSON.stringify({ FunctionName: target.name });
      const schedule: Schedule = {
        name: resource.name,
        expression: ScheduleExpression,
        enabled: State === "ENABLED",
        target,
        fire: () => {
          onRoleUse({ holder: resource.name, service: "lambda", operation: "InvokeFunction", body });
          return target.invoke(input);
        },
      };
      return { schedule, intervalMs: parseRate(resource.logicalId, ScheduleExpression) };
    });
  const timers = planned
    .filter(({ schedule }) => schedule.enabled)
    .map(({ schedule, intervalMs }) => setInterval(() => void schedule.fire(), intervalMs));
  return {
    schedules: planned.map(({ schedule }) => schedule),
    close: () => timers.forEach((timer) => clearInterval(timer)),
  };
}

function parseRate(logicalId: string, expression: string): number {
  const [, count, unit] = rateExpression.exec(expression) ?? [];
  if (unit !== "minute" && unit !== "hour" && unit !== "day") {
    throw new Error(`${logicalId}: only rate(…) schedules are run locally, not ${expression}`);
  }
  return Math.min(Number(count) * unitMs[unit], intervalMaxMs);
}
