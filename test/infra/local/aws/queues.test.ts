import {
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { LocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { clientConfig, details, maxReceiveCount, startSampleStack, type trialNames } from "./sample-stack.ts";

let aws: LocalAws;
let sqs: SQSClient;
let workUrl: string;
let deadLettersUrl: string;

beforeAll(async () => {
  aws = await startSampleStack();
  sqs = new SQSClient(clientConfig(aws));
  workUrl = aws.outputs["WorkQueueUrl"] ?? "";
  deadLettersUrl = Object.values(aws.resources).find(({ name }) => name === "sample-dead-letters")?.url ?? "";
});
afterAll(() => aws.close());

type Order = { id: string; does?: string; holdMs?: number };

async function send(trial: (typeof trialNames)[number], ...orders: Order[]): Promise<void> {
  const Entries = orders.map((order) => ({ Id: order.id, MessageBody: JSON.stringify(order) }));
  const QueueUrl = workUrl.replace("sample-work", `sample-${trial}`);
  await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
}

function receives(id: string) {
  return details(aws, "received").filter((detail) => detail["id"] === id);
}

async function waitFor(check: () => unknown): Promise<void> {
  await vi.waitFor(check, { timeout: 15_000, interval: 25 });
}

async function messagesLeft(queueUrl: string): Promise<number> {
  const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ["All"] }));
  return Number(Attributes?.ApproximateNumberOfMessages) + Number(Attributes?.ApproximateNumberOfMessagesNotVisible);
}

async function deadLetter(id: string): Promise<void> {
  await waitFor(async () => {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({ QueueUrl: deadLettersUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 0 }),
    );
    expect(Messages.map(({ Body }) => JSON.parse(Body ?? "").id)).toContain(id);
  });
}

describe("an SQS event source mapping", () => {
  test("hands a message to the function in Lambda's shape and deletes it when it succeeds", async () => {
    await sqs.send(
      new SendMessageCommand({
        QueueUrl: workUrl,
        MessageBody: JSON.stringify({ id: "plain" }),
        MessageAttributes: {
          reason: { DataType: "String", StringValue: "because" },
          raw: { DataType: "Binary", BinaryValue: Buffer.from("bytes") },
        },
      }),
    );
    await waitFor(() => expect(details(aws, "left")).toContainEqual({ id: "plain" }));
    expect(receives("plain")[0]?.["record"]).toEqual({
      messageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      receiptHandle: expect.any(String),
      body: '{"id":"plain"}',
      attributes: {
        ApproximateFirstReceiveTimestamp: expect.stringMatching(/^\d{13}$/),
        ApproximateReceiveCount: "1",
        SenderId: "000000000000",
        SentTimestamp: expect.stringMatching(/^\d{13}$/),
      },
      messageAttributes: {
        reason: { dataType: "String", stringValue: "because", stringListValues: [], binaryListValues: [] },
        raw: { dataType: "Binary", binaryValue: "Ynl0ZXM=", stringListValues: [], binaryListValues: [] },
      },
      md5OfBody: expect.stringMatching(/^[0-9a-f]{32}$/),
      md5OfMessageAttributes: expect.stringMatching(/^[0-9a-f]{32}$/),
      eventSource: "aws:sqs",
      eventSourceARN: "arn:aws:sqs:us-east-1:000000000000:sample-work",
      awsRegion: "us-east-1",
    });
    await waitFor(async () => expect(await messagesLeft(workUrl)).toBe(0));
  });

  test.concurrent("brings back alone the record that was reported, and after its last receive moves it to the DLQ", async () => {
    await send("reported", { id: "good-1" }, { id: "bad", does: "fail" }, { id: "good-2" });
    await deadLetter("bad");
    expect(receives("bad").map(({ batch }) => batch)).toEqual([3, 1]);
    expect(receives("bad")).toHaveLength(maxReceiveCount);
    expect(receives("good-1")).toHaveLength(1);
    expect(receives("good-2")).toHaveLength(1);
  });

  test.concurrent("takes an answer that names an unknown message as a failure of the whole batch", async () => {
    await send("nonsense", { id: "nonsense", does: "answer-nonsense" }, { id: "neighbour-of-nonsense" });
    await deadLetter("nonsense");
    await deadLetter("neighbour-of-nonsense");
  });

  test.concurrent("fails the whole batch when the function throws", async () => {
    await send("thrown", { id: "thrower", does: "throw" }, { id: "neighbour-of-thrower" });
    await waitFor(() => expect(receives("thrower")).toHaveLength(maxReceiveCount));
  });

  test.concurrent("kills a process that takes too long, which costs the message one receive", async () => {
    await send("hanging", { id: "hanging", does: "hang" });
    await deadLetter("hanging");
    const processes = receives("hanging").map(({ pid }) => Number(pid));
    expect(new Set(processes).size).toBe(maxReceiveCount);
    for (const pid of processes) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  test.concurrent("never invokes above its maximum concurrency, and reaches it", async () => {
    const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: narrowName() }));
    const orders = Array.from({ length: 8 }, (_, index) => ({ id: `narrow-${index}`, holdMs: 100 }));
    for (const order of orders) {
      await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: JSON.stringify(order) }));
    }
    await waitFor(() => expect(narrowSteps().filter((step) => step === "left")).toHaveLength(orders.length));
    let inside = 0;
    const counts = narrowSteps().map((step) => (inside += step === "received" ? 1 : -1));
    expect(Math.max(...counts)).toBe(2);
  });
});

function narrowName(): string {
  return Object.entries(aws.resources).find(([logicalId]) => logicalId.startsWith("Narrow"))?.[1].name ?? "";
}

function narrowSteps(): string[] {
  const narrow = aws.events().filter(({ detail }) => JSON.stringify(detail).includes('"id":"narrow-'));
  return narrow.map(({ detailType }) => detailType);
}

describe("the gateway", () => {
  test("names queues by its own address, whatever region the caller signs for", async () => {
    const elsewhere = new SQSClient({ ...clientConfig(aws), region: "eu-west-1" });
    const { QueueUrl } = await elsewhere.send(new GetQueueUrlCommand({ QueueName: "sample-work" }));
    expect(QueueUrl).toBe(`${aws.endpoint}/000000000000/sample-work`);
  });

  test("makes a message visible again at once when whoever polled for it has gone", async () => {
    const { QueueUrl } = await createQueue("abandoned");
    const call = { QueueUrl, WaitTimeSeconds: 20, VisibilityTimeout: 3600 };
    const gone = AbortSignal.timeout(200);
    await expect(jsonCall("ReceiveMessage", call, gone)).rejects.toThrow("abort");
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "still here" }));
    await waitFor(async () => {
      const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl }));
      expect(Messages.map(({ Body }) => Body)).toEqual(["still here"]);
    });
  });

  test("says clearly which call it does not know", async () => {
    const response = await fetch(aws.endpoint, {
      method: "POST",
      headers: { "x-amz-target": "Kinesis_20131202.PutRecord" },
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain("Kinesis_20131202.PutRecord");
  });
});

async function jsonCall(operation: string, input: object, signal?: AbortSignal): Promise<Response> {
  const headers = { "content-type": "application/x-amz-json-1.0", "x-amz-target": `AmazonSQS.${operation}` };
  const body = JSON.stringify(input);
  return fetch(aws.endpoint, { method: "POST", headers, body, ...(signal === undefined ? {} : { signal }) });
}

async function createQueue(QueueName: string): Promise<{ QueueUrl: string }> {
  const response = await jsonCall("CreateQueue", { QueueName });
  return (await response.json()) as { QueueUrl: string };
}

describe("the SQS query protocol", () => {
  async function query(form: Record<string, string>) {
    const response = await fetch(`${aws.endpoint}/`, {
      method: "POST",
      body: new URLSearchParams({ Version: "2012-11-05", ...form }),
    });
    return { status: response.status, xml: await response.text() };
  }

  test("sends, receives and deletes a message with its attributes", async () => {
    const { QueueUrl } = await createQueue("queried");
    const body = 'a <b> & "c"';
    const sent = await query({
      Action: "SendMessage",
      QueueUrl,
      MessageBody: body,
      "MessageAttribute.1.Name": "reason",
      "MessageAttribute.1.Value.DataType": "String",
      "MessageAttribute.1.Value.StringValue": "why not",
    });
    expect(sent.xml).toMatch(/^<SendMessageResponse .*<MessageId>[0-9a-f-]{36}<\/MessageId><MD5OfMessageBody>/);
    const counted = await query({
      Action: "GetQueueAttributes",
      QueueUrl,
      "AttributeName.1": "ApproximateNumberOfMessages",
    });
    expect(counted.xml).toContain("<Attribute><Name>ApproximateNumberOfMessages</Name><Value>1</Value></Attribute>");
    const received = await query({
      Action: "ReceiveMessage",
      QueueUrl,
      MaxNumberOfMessages: "10",
      "AttributeName.1": "ApproximateReceiveCount",
      "MessageAttributeName.1": "All",
    });
    expect(received.xml).toContain("<Body>a &lt;b&gt; &amp; &quot;c&quot;</Body>");
    expect(received.xml).toContain("<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>");
    expect(received.xml).toMatch(/<MessageAttribute><Name>reason<\/Name><Value>.*<StringValue>why not<\/StringValue>/);
    const handle = /<ReceiptHandle>(.*)<\/ReceiptHandle>/.exec(received.xml)?.[1] ?? "";
    const hidden = await query({
      Action: "ChangeMessageVisibility",
      QueueUrl,
      ReceiptHandle: handle,
      VisibilityTimeout: "60",
    });
    expect(hidden.status).toBe(200);
    expect((await query({ Action: "DeleteMessage", QueueUrl, ReceiptHandle: handle })).status).toBe(200);
    expect(await messagesLeft(QueueUrl)).toBe(0);
  });

  test("sends batches, purges, and finds queues", async () => {
    const { QueueUrl } = await createQueue("batched");
    const sent = await query({
      Action: "SendMessageBatch",
      QueueUrl,
      "SendMessageBatchRequestEntry.1.Id": "one",
      "SendMessageBatchRequestEntry.1.MessageBody": "1",
      "SendMessageBatchRequestEntry.2.Id": "two",
      "SendMessageBatchRequestEntry.2.MessageBody": "2",
    });
    expect(sent.xml.match(/<SendMessageBatchResultEntry><Id>(one|two)<\/Id>/g)).toHaveLength(2);
    expect(await messagesLeft(QueueUrl)).toBe(2);
    await query({ Action: "PurgeQueue", QueueUrl });
    expect(await messagesLeft(QueueUrl)).toBe(0);
    expect((await query({ Action: "GetQueueUrl", QueueName: "batched" })).xml).toContain(
      `<QueueUrl>${QueueUrl}</QueueUrl>`,
    );
    expect((await query({ Action: "ListQueues" })).xml).toContain(`<QueueUrl>${QueueUrl}</QueueUrl>`);
  });

  test("reports an error under SQS's own code", async () => {
    const { status, xml } = await query({ Action: "GetQueueUrl", QueueName: "nobody" });
    expect(status).toBe(400);
    expect(xml).toContain("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>");
  });
});
