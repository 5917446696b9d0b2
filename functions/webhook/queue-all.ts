import type { SQSClient } from "@aws-sdk/client-sqs";
import { SendMessageBatchCommand } from "@aws-sdk/client-sqs";

const batchSize = 10;

/** A thousand updates must be queued while Meta waits. */
const batchesAtOnce = 8;

/** @throws Error unless SQS has every one: Meta then delivers all of them again, under the same ids. */
export async function queueAll(sqs: SQSClient, QueueUrl: string, bodies: readonly string[]): Promise<void> {
  const entries = bodies.map((MessageBody, index) => ({ Id: String(index), MessageBody }));
  const batches = Array.from({ length: Math.ceil(entries.length / batchSize) }, (_, batch) =>
    entries.slice(batch * batchSize, (batch + 1) * batchSize),
  );
  for (let start = 0; start < batches.length; start += batchesAtOnce) {
    const sent = batches.slice(start, start + batchesAtOnce).map(async (Entries) => {
      const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
      if (Failed.length > 0) throw new Error(`SQS did not take ${Failed.length} messages: ${Failed[0]?.Code ?? "?"}`);
    });
    await Promise.all(sent);
  }
}
