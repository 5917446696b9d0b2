import { Duration, Stack } from "aws-cdk-lib";
import { AccountPrincipal, PolicyStatement } from "aws-cdk-lib/aws-iam";
import type { EventSourceMapping } from "aws-cdk-lib/aws-lambda";
import { RecursiveLoop } from "aws-cdk-lib/aws-lambda";
import type { QueueProps } from "aws-cdk-lib/aws-sqs";
import { Queue, QueueEncryption } from "aws-cdk-lib/aws-sqs";
import { Construct } from "constructs";
import type * as z from "zod/mini";
import type { queueFields } from "../../shared/environment.ts";
import { timeoutSecondsOf } from "../config.ts";
import { alarm } from "./alarm.ts";
import type { FunctionProps, Stage } from "./credit-lines-function.ts";
import { creditLinesFunction } from "./credit-lines-function.ts";

const maxReceiveCount = 5;

/**
 * The longest SQS keeps a message. Its clock starts at the first send and runs on in the dead-letter queue, and an
 * expired message is gone without a trace: so both queues have all of it, and an alarm rises well before the end.
 */
const retentionPeriod = Duration.days(14);
/** The longest that CloudWatch looks back. */
const deadLetterDaysAlarm = 7;

export type QueueEnvironment = z.input<z.ZodMiniObject<typeof queueFields>>;

type QueueFunctionProps<Environment> = FunctionProps<Environment> & {
  name: "share" | "verify" | "revoke";
  batchSize: number;
  /** Gets the variables that belong to the queue itself. */
  environment: (own: QueueEnvironment) => NoInfer<Environment> & Record<string, string>;
  /** One sentence for the alarms: who is hurt when commands wait or die here. */
  backlogImpact: string;
};

export type QueueFunction = { queue: Queue; deadLetterQueue: Queue; source: EventSourceMapping };

/** A command queue, its dead-letter queue, the function it feeds, and the alarms over them. */
export function queueFunction<Environment>(
  scope: Construct,
  id: string,
  stage: Stage,
  props: QueueFunctionProps<Environment>,
): QueueFunction {
  const construct = new Construct(scope, id);
  const common = {
    retentionPeriod,
    encryption: QueueEncryption.SQS_MANAGED,
    enforceSSL: true,
  } satisfies QueueProps;
  const queueName = `credit-lines-${stage.config.stage}-${props.name}`;
  const queueArn = Stack.of(scope).formatArn({ service: "sqs", resource: queueName });
  const deadLetterQueue = new Queue(construct, "DeadLetterQueue", {
    ...common,
    // By its name: the queues would else need each other's ARN before either is made.
    redriveAllowPolicy: { sourceQueues: [Queue.fromQueueArn(construct, "Source", queueArn)] },
  });
  const queue = new Queue(construct, "Queue", {
    ...common,
    // Named, so that producers in other accounts can be told its address beforehand.
    queueName,
    // AWS's rule: leaves room for a batch that is throttled, retried and still running.
    visibilityTimeout: Duration.seconds(6 * timeoutSecondsOf(stage.config.stage, props.name)),
    deadLetterQueue: { queue: deadLetterQueue, maxReceiveCount },
  });
  for (const account of stage.config.producers) {
    queue.addToResourcePolicy(
      new PolicyStatement({
        actions: ["sqs:SendMessage"],
        principals: [new AccountPrincipal(account)],
        resources: [queue.queueArn],
      }),
    );
  }

  const lambda = creditLinesFunction(construct, stage, {
    ...props,
    environment: props.environment({
      QUEUE_URL: queue.queueUrl,
      DEAD_LETTER_QUEUE_URL: deadLetterQueue.queueUrl,
      MAX_RECEIVE_COUNT: String(maxReceiveCount),
    }),
    grants: [
      { actions: ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], resources: [queue.queueArn] },
      // Delayed copies to its own queue, rejected commands to its dead letters.
      { actions: ["sqs:SendMessage"], resources: [queue.queueArn, deadLetterQueue.queueArn] },
      ...props.grants,
    ],
    // A message that waits is copied into its own queue as often as it takes (Q1). Lambda would take its 17th round for a mistake,
    // and put it among the dead letters.
    recursiveLoop: RecursiveLoop.ALLOW,
  });
  const source = lambda.addEventSourceMapping("Commands", {
    eventSourceArn: queue.queueArn,
    batchSize: props.batchSize,
    reportBatchItemFailures: true,
    maxConcurrency: stage.config.concurrency[props.name],
  });

  const { config } = stage;
  alarm(construct, "DeadLetterAlarm", {
    config,
    metric: deadLetterQueue.metricApproximateNumberOfMessagesVisible({
      period: Duration.minutes(1),
      statistic: "Maximum",
    }),
    at: 1,
    impact: `A ${props.name} command was rejected or failed ${maxReceiveCount} times and waits for a person. ${props.backlogImpact}`,
    runbook: "dead-letters",
  });
  alarm(construct, "DeadLetterAgeAlarm", {
    config,
    // Not by the age of the oldest: SQS counts that from the day of death, and leaves out what was received three times, while
    // looking at dead letters is receiving them.
    metric: deadLetterQueue.metricApproximateNumberOfMessagesVisible({
      period: Duration.days(1),
      statistic: "Maximum",
    }),
    at: 1,
    periods: deadLetterDaysAlarm,
    impact: `Dead ${props.name} commands have been there every day for ${deadLetterDaysAlarm} days; ${retentionPeriod.toDays()} days after one was first sent SQS deletes it and it can no longer be replayed. ${props.backlogImpact}`,
    runbook: "dead-letters-old",
  });
  // Above the longest delay that SQS gives a copy, so that commands which wait on purpose do not raise it.
  alarm(construct, "BacklogAlarm", {
    config,
    metric: queue.metricApproximateAgeOfOldestMessage({ period: Duration.minutes(5), statistic: "Maximum" }),
    at: Duration.minutes(30).toSeconds(),
    impact: `A ${props.name} command has waited for more than 30 minutes. ${props.backlogImpact}`,
    runbook: "backlog",
  });
  return { queue, deadLetterQueue, source };
}
