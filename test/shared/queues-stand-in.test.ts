import { setTimeout as sleep } from "node:timers/promises";
import {
  DeleteMessageCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import type { SQSRecord } from "aws-lambda";
import { createQueues } from "../../shared/queues.ts";
import { sqsRecord, startQuietStack } from "../support/quiet-stack.ts";
import { describeQueues, type QueuesUnderTest } from "./queues-contract.ts";

describeQueues("of SQS's stand-in", async (): Promise<QueuesUnderTest> => {
  const stack = await startQuietStack();
  const client = new SQSClient(stack.client);
  const urls = {
    share: stack.output("ShareQueueUrl"),
    verify: stack.output("VerifyQueueUrl"),
    revoke: stack.output("RevokeQueueUrl"),
  };
  const deadLettersUrl = stack.output("ShareDeadLetterQueueUrl");
  for (const QueueUrl of Object.values(urls)) {
    await client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout: "2" } }));
  }

  async function poll(QueueUrl: string, WaitTimeSeconds: number): Promise<Message | undefined> {
    const { Messages = [] } = await client.send(
      new ReceiveMessageCommand({
        QueueUrl,
        WaitTimeSeconds,
        MaxNumberOfMessages: 1,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["All"],
      }),
    );
    return Messages[0];
  }

  return {
    queues: createQueues(() => client, { own: urls.share, ownDeadLetters: deadLettersUrl, wake: urls }),
    async send(body) {
      await client.send(new SendMessageCommand({ QueueUrl: urls.share, MessageBody: body }));
    },
    async receive(work) {
      const message = await poll(urls[work], 10);
      if (message === undefined) throw new Error(`Nothing comes to the ${work} queue`);
      return recordOf(message);
    },
    isEmpty: async (work) => (await poll(urls[work], 0)) === undefined,
    async acknowledge(work, { receiptHandle: ReceiptHandle }) {
      await client.send(new DeleteMessageCommand({ QueueUrl: urls[work], ReceiptHandle }));
    },
    passVisibility: () => sleep(2100),
    async deadLetters(text) {
      const found: Message[] = [];
      for (let next = await poll(deadLettersUrl, 1); next !== undefined; next = await poll(deadLettersUrl, 0)) {
        if (next.Body?.includes(text)) found.push(next);
      }
      return found.map(({ Body = "", MessageAttributes }) => ({
        body: Body,
        reason: MessageAttributes?.["reason"]?.StringValue,
      }));
    },
    now: Date.now,
    async close() {
      client.destroy();
      await stack.close();
    },
  };
});

/** As Lambda hands it over. */
function recordOf({
  MessageId = "",
  ReceiptHandle = "",
  Body = "",
  Attributes = {},
  MessageAttributes = {},
}: Message): SQSRecord {
  const attributes = Object.entries(MessageAttributes).map(([name, { StringValue, DataType }]) => [
    name,
    { stringValue: StringValue, dataType: DataType },
  ]);
  const record = sqsRecord(Body, { attributes: Object.fromEntries(attributes) });
  return {
    ...record,
    messageId: MessageId,
    receiptHandle: ReceiptHandle,
    attributes: { ...record.attributes, ...Attributes },
  };
}
