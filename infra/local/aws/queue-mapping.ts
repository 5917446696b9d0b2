import * as z from "zod";
import { failedItems } from "./batch-failures.ts";
import type { LambdaFunction } from "./lambda.ts";
import type { MappingControl } from "./mapping-control.ts";
import type { Sqs } from "./sqs.ts";
import { region } from "./template.ts";

const attributeValue = z.looseObject({
  DataType: z.string(),
  StringValue: z.string().optional(),
  BinaryValue: z.string().optional(),
});
const received = z.looseObject({
  Messages: z
    .array(
      z.looseObject({
        MessageId: z.string(),
        ReceiptHandle: z.string(),
        Body: z.string(),
        MD5OfBody: z.string(),
        MD5OfMessageAttributes: z.string().optional(),
        Attributes: z.record(z.string(), z.string()).default({}),
        MessageAttributes: z.record(z.string(), attributeValue).default({}),
      }),
    )
    .default([]),
});
type Message = z.output<typeof received>["Messages"][number];

/** Short, so that pausing and closing need not abort a poll: an aborted one would still take messages. */
const pollSeconds = 1;
const receiveMax = 10;

export type QueueMapping = {
  queueUrl: string;
  queueArn: string;
  target: LambdaFunction;
  batchSize: number;
  concurrency: number;
  reportsFailures: boolean;
};

/**
 * Feeds a queue to a function as Lambda's pollers do. What succeeded is deleted; what failed stays until its
 * visibility ends, and SQS counts its receives.
 */
export async function pollQueue(mapping: QueueMapping, sqs: Sqs, control: MappingControl): Promise<void> {
  await Promise.all(Array.from({ length: mapping.concurrency }, () => control.persist(poller)));

  async function poller(): Promise<void> {
    while (await control.active()) {
      const messages = await receive();
      if (messages.length > 0) await deliver(messages);
    }
  }

  async function receive(): Promise<Message[]> {
    const messages: Message[] = [];
    while (messages.length < mapping.batchSize) {
      const { Messages } = received.parse(
        await sqs.call("ReceiveMessage", {
          QueueUrl: mapping.queueUrl,
          MaxNumberOfMessages: Math.min(receiveMax, mapping.batchSize - messages.length),
          WaitTimeSeconds: messages.length === 0 ? pollSeconds : 0,
          MessageSystemAttributeNames: ["All"],
          MessageAttributeNames: ["All"],
        }),
      );
      messages.push(...Messages);
      if (Messages.length < receiveMax) break;
    }
    return messages;
  }

  async function deliver(messages: readonly Message[]): Promise<void> {
    const result = await mapping.target.invoke({ Records: messages.map(toRecord) });
    if (!result.ok) return;
    const identifiers = messages.map(({ MessageId }) => MessageId);
    const failed = mapping.reportsFailures ? failedItems(result.payload, identifiers) : [];
    for (const { MessageId, ReceiptHandle } of messages) {
      if (failed.includes(MessageId)) continue;
      await sqs.call("DeleteMessage", { QueueUrl: mapping.queueUrl, ReceiptHandle });
    }
  }

  function toRecord(message: Message) {
    const attributes = Object.entries(message.MessageAttributes).map(([name, value]) => [
      name,
      {
        ...(value.StringValue === undefined ? {} : { stringValue: value.StringValue }),
        ...(value.BinaryValue === undefined ? {} : { binaryValue: value.BinaryValue }),
        stringListValues: [],
        binaryListValues: [],
        dataType: value.DataType,
      },
    ]);
    return {
      messageId: message.MessageId,
      receiptHandle: message.ReceiptHandle,
      body: message.Body,
      attributes: message.Attributes,
      messageAttributes: Object.fromEntries(attributes),
      md5OfBody: message.MD5OfBody,
      ...(message.MD5OfMessageAttributes === undefined
        ? {}
        : { md5OfMessageAttributes: message.MD5OfMessageAttributes }),
      eventSource: "aws:sqs",
      eventSourceARN: mapping.queueArn,
      awsRegion: region,
    };
  }
}
