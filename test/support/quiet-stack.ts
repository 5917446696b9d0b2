import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetQueueAttributesCommand, ReceiveMessageCommand, SQSClient, type Message } from "@aws-sdk/client-sqs";
import type { SQSRecord } from "aws-lambda";
import * as z from "zod";
import { localStage, parseStageConfig, type StageConfigInput, systemTokenSecretName } from "../../infra/config.ts";
import type { OnCall } from "../../infra/local/aws/gateway.ts";
import { startLocalAws } from "../../infra/local/aws/local-aws.ts";
import { loadStack } from "../../infra/local/aws/stack.ts";
import { synthesizeStage } from "../../infra/synth.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";

/**
 * The stage `local`, as it is synthesized, with nothing that runs by itself: no mapping polls and no schedule fires, so
 * that a test alone decides when a handler sees what.
 */
export async function startQuietStack(
  options: { config?: Partial<StageConfigInput>; secrets?: Record<string, string>; onCall?: OnCall } = {},
) {
  const templateDirectory = mkdtempSync(join(tmpdir(), "quiet-stack-"));
  const config = parseStageConfig({ ...localStage, ...options.config }, "the test");
  await synthesizeStage(config, templateDirectory);
  silence(join(templateDirectory, `credit-lines-${config.stage}.template.json`));
  const aws = await startLocalAws({
    templateDirectory,
    port: 0,
    secrets: options.secrets ?? {},
    ...(options.onCall === undefined ? {} : { onCall: options.onCall }),
  });
  const { endpoint, outputs } = aws;
  const client = { endpoint, region: "us-east-1", credentials: { accessKeyId: "test", secretAccessKey: "test" } };
  const sqs = new SQSClient(client);
  const taken: Record<string, Message[]> = {};
  // A sweep would let the command queues feed their functions again, but for those that a person has paused.
  const dynamo = new DynamoDBClient(client);
  const pauses = createPauseStore(dynamo, required(outputs["StateTableName"], "the state table"));
  for (const queue of ["share", "verify", "revoke"] as const) {
    await pauses.savePause(queue, { by: "the test", why: "it delivers by itself", since: 0 });
  }
  dynamo.destroy();

  async function take(url: string, waitSeconds: number): Promise<Message[]> {
    const { Messages } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: url,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: waitSeconds,
        VisibilityTimeout: 43_200,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["All"],
      }),
    );
    return Messages ?? [];
  }

  return {
    ...aws,
    config,
    client,
    systemTokenSecret: systemTokenSecretName(config.stage),
    output: (name: string) => required(outputs[name], `the output ${name}`),

    /** What Lambda would put into the environment of a function: the template's variables and where AWS is. */
    environmentOf(name: string): Record<string, string> {
      const functions = loadStack(templateDirectory, endpoint).each("AWS::Lambda::Function", functionSchema, []);
      const found = functions.find(({ properties }) => properties.Handler === `${name}/handler.handler`);
      const { Variables } = required(found, `the function ${name}`).properties.Environment;
      return {
        ...Variables,
        AWS_ENDPOINT_URL: endpoint,
        AWS_REGION: client.region,
        AWS_ACCESS_KEY_ID: "test",
        AWS_SECRET_ACCESS_KEY: "test",
      };
    },

    /**
     * The messages that the queue has shown so far and whose body holds `text`; waits until there are `atLeast` so many.
     * What it sees is taken for good, and kept here for whoever asks next.
     */
    async messages(url: string, text: string, { atLeast = 0 } = {}): Promise<Message[]> {
      const all = (taken[url] ??= []);
      const deadline = Date.now() + 5000;
      for (;;) {
        const page = await take(url, 0);
        all.push(...page);
        const found = all.filter(({ Body }) => Body?.includes(text));
        if (page.length === 0 && (found.length >= atLeast || Date.now() > deadline)) return found;
        if (page.length === 0) all.push(...(await take(url, 1)));
      }
    },

    async counts(url: string): Promise<{ visible: number; delayed: number }> {
      const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ["All"] }));
      return {
        visible: Number(Attributes?.ApproximateNumberOfMessages),
        delayed: Number(Attributes?.ApproximateNumberOfMessagesDelayed),
      };
    },

    async close(): Promise<void> {
      sqs.destroy();
      await aws.close();
      rmSync(templateDirectory, { recursive: true });
    },
  };
}

export type QuietStack = Awaited<ReturnType<typeof startQuietStack>>;

let messagesMade = 0;

/** A message as Lambda hands it to a function. */
export function sqsRecord(
  body: unknown,
  options: { receiveCount?: number; sentAt?: number; attributes?: SQSRecord["messageAttributes"] } = {},
): SQSRecord {
  const { receiveCount = 1, sentAt = Date.now(), attributes = {} } = options;
  messagesMade += 1;
  return {
    messageId: `message-${messagesMade}`,
    receiptHandle: "handle",
    body: typeof body === "string" ? body : JSON.stringify(body),
    attributes: {
      ApproximateReceiveCount: String(receiveCount),
      SentTimestamp: String(sentAt),
      SenderId: "producer",
      ApproximateFirstReceiveTimestamp: String(sentAt),
    },
    messageAttributes: attributes,
    md5OfBody: "",
    eventSource: "aws:sqs",
    eventSourceARN: "arn:aws:sqs:us-east-1:000000000000:commands",
    awsRegion: "us-east-1",
  };
}

const functionSchema = z.looseObject({
  Handler: z.string(),
  Environment: z.looseObject({ Variables: z.record(z.string(), z.string()) }),
});

const templateSchema = z.looseObject({
  Resources: z.record(z.string(), z.looseObject({ Type: z.string(), Properties: z.record(z.string(), z.unknown()) })),
});

function silence(file: string): void {
  const template = templateSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  for (const { Type, Properties } of Object.values(template.Resources)) {
    if (Type === "AWS::Lambda::EventSourceMapping") Properties["Enabled"] = false;
    if (Type === "AWS::Scheduler::Schedule") Properties["State"] = "DISABLED";
  }
  writeFileSync(file, JSON.stringify(template));
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`There is no ${what}`);
  return value;
}
