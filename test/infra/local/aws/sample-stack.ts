/* oxlint-disable no-new -- a CDK construct attaches itself to its scope */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { App, CfnOutput, Duration, Fn, Stack } from "aws-cdk-lib";
import { AttributeType, BillingMode, StreamViewType, Table } from "aws-cdk-lib/aws-dynamodb";
import { EventBus } from "aws-cdk-lib/aws-events";
import {
  Code,
  Function as LambdaFunction,
  FunctionUrlAuthType,
  Runtime,
  StartingPosition,
} from "aws-cdk-lib/aws-lambda";
import { DynamoEventSource, S3OnFailureDestination, SqsEventSource } from "aws-cdk-lib/aws-lambda-event-sources";
import { Bucket } from "aws-cdk-lib/aws-s3";
import { Schedule, ScheduleExpression, ScheduleTargetInput } from "aws-cdk-lib/aws-scheduler";
import { LambdaInvoke } from "aws-cdk-lib/aws-scheduler-targets";
import { Secret } from "aws-cdk-lib/aws-secretsmanager";
import { Queue } from "aws-cdk-lib/aws-sqs";
import { type LocalAws, type LocalAwsOptions, startLocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { writeSampleFunctions } from "./sample-functions.ts";

const visibilitySeconds = 2;
export const maxReceiveCount = 2;
/** A queue each, so that trials that run at the same time do not share batches. */
export const trialNames = ["reported", "nonsense", "thrown", "hanging"] as const;

/** Synthesizes a small stack that uses all that the local AWS runs. @returns its cdk.out. */
export function synthesizeSampleStack(adjust: (stack: Stack) => void = () => {}): string {
  const outdir = mkdtempSync(path.join(tmpdir(), "sample-stack-"));
  const app = new App({ outdir, builtinCloudFormationValidation: false });
  const stack = new Stack(app, "Sample");

  const bus = new EventBus(stack, "Bus", { eventBusName: "sample-events" });
  const secret = new Secret(stack, "Token", { secretName: "sample/token" });
  const table = new Table(stack, "State", {
    tableName: "sample-state",
    partitionKey: { name: "pk", type: AttributeType.STRING },
    billingMode: BillingMode.PAY_PER_REQUEST,
    stream: StreamViewType.NEW_AND_OLD_IMAGES,
    timeToLiveAttribute: "expiresAt",
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
  });
  table.addGlobalSecondaryIndex({
    indexName: "DueIndex",
    partitionKey: { name: "dueShard", type: AttributeType.STRING },
    sortKey: { name: "dueAt", type: AttributeType.NUMBER },
  });
  const deadLetters = new Queue(stack, "DeadLetters", { queueName: "sample-dead-letters", enforceSSL: true });
  const work = new Queue(stack, "Work", {
    queueName: "sample-work",
    visibilityTimeout: Duration.seconds(visibilitySeconds),
    deadLetterQueue: { queue: deadLetters, maxReceiveCount },
  });
  const trials = trialNames.map(
    (name) =>
      new Queue(stack, `Trial${name}`, {
        queueName: `sample-${name}`,
        visibilityTimeout: Duration.seconds(visibilitySeconds),
        deadLetterQueue: { queue: deadLetters, maxReceiveCount },
      }),
  );
  const narrow = new Queue(stack, "Narrow", { visibilityTimeout: Duration.seconds(30) });
  const failed = new Bucket(stack, "Failed", { bucketName: "sample-failed" });

  const code = Code.fromAsset(writeSampleFunctions());
  function define(name: string, timeoutSeconds: number) {
    return new LambdaFunction(stack, `${name}Function`, {
      functionName: `sample-${name.toLowerCase()}`,
      runtime: Runtime.NODEJS_24_X,
      code,
      handler: `${name.toLowerCase()}.handler`,
      timeout: Duration.seconds(timeoutSeconds),
      memorySize: 256,
      environment: { BUS_NAME: bus.eventBusName, WORK_QUEUE_URL: work.queueUrl, TOKEN_ARN: secret.secretArn },
    });
  }
  const worker = define("Worker", 1);
  for (const queue of [work, ...trials]) {
    worker.addEventSource(
      new SqsEventSource(queue, { batchSize: 10, reportBatchItemFailures: true, maxConcurrency: 5 }),
    );
  }
  worker.addEventSource(new SqsEventSource(narrow, { batchSize: 1, reportBatchItemFailures: true, maxConcurrency: 2 }));
  define("Follower", 5).addEventSource(
    new DynamoEventSource(table, {
      startingPosition: StartingPosition.TRIM_HORIZON,
      batchSize: 100,
      bisectBatchOnError: true,
      reportBatchItemFailures: true,
      retryAttempts: 1,
      maxRecordAge: Duration.hours(23),
      onFailure: new S3OnFailureDestination(failed),
    }),
  );
  const tool = define("Tool", 20);
  define("Broken", 5);
  const url = tool.addFunctionUrl({ authType: FunctionUrlAuthType.NONE });
  new Schedule(stack, "Sweep", {
    schedule: ScheduleExpression.rate(Duration.minutes(5)),
    target: new LambdaInvoke(tool, { input: ScheduleTargetInput.fromObject({ task: "sweep" }) }),
  });

  new CfnOutput(stack, "WorkQueueUrl", { value: work.queueUrl });
  new CfnOutput(stack, "WebhookUrl", { value: url.url });
  new CfnOutput(stack, "WebhookHost", { value: Fn.select(2, Fn.split("/", url.url)) });
  new CfnOutput(stack, "StateArn", { value: Fn.sub("<${Table}>", { Table: table.tableArn }) });
  adjust(stack);
  app.synth();
  return outdir;
}

/** A running sample stack on any free port. */
export async function startSampleStack(options: Partial<LocalAwsOptions> = {}): Promise<LocalAws> {
  const templateDirectory = synthesizeSampleStack();
  const aws = await startLocalAws({ templateDirectory, port: 0, secrets: {}, ...options });
  return {
    ...aws,
    close: async () => {
      await aws.close();
      rmSync(templateDirectory, { recursive: true });
    },
  };
}

/** What an SDK client needs to reach the stack. */
export function clientConfig(aws: LocalAws) {
  return { endpoint: aws.endpoint, region: "us-east-1", credentials: { accessKeyId: "test", secretAccessKey: "test" } };
}

/** The details of the events of one type, in order. */
export function details(aws: LocalAws, detailType: string): Record<string, unknown>[] {
  return aws
    .events()
    .filter((event) => event.detailType === detailType)
    .map(({ detail }) => detail as Record<string, unknown>);
}
