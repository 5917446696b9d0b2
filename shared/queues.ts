import type { SQSRecord } from "aws-lambda";
import type { MessageAttributeValue, SQSClient } from "@aws-sdk/client-sqs";
import type { Continuation } from "./contracts/commands.ts";
import type { DueEntry } from "./domain/business.ts";

/** The sending side of the command queues. */
export type Queues = {
  /** Sends the same message again, later (at most 15 minutes a time), with what it has gone through (Q1, H25). */
  copy(record: SQSRecord, delayMs: number): Promise<void>;
  /** Puts a message that can never be obeyed among the dead letters, with its reason. */
  deadLetter(record: SQSRecord, reason: string): Promise<void>;
  /** Asks for a look at an entry of the item. */
  wake(continuation: Continuation, delayMs: number): Promise<void>;
};

/** SQS delays a message by at most 15 minutes. */
export const delayMsMax = 900_000;

/** @param client made when the first message is sent: few invocations send any, and a cold start should not load it. */
export function createQueues(
  client: () => SQSClient | Promise<SQSClient>,
  urls: { own?: string; ownDeadLetters?: string; wake: Partial<Record<Continuation["work"], string>> },
): Queues & { command(work: Continuation["work"], body: Record<string, unknown>): Promise<void> } {
  let made: SQSClient | undefined;

  async function send(
    url: string | undefined,
    body: string,
    delayMs: number,
    attributes: Record<string, MessageAttributeValue>,
  ) {
    if (url === undefined) throw new Error("This function was given no such queue");
    const { SendMessageCommand } = await import("@aws-sdk/client-sqs");
    made ??= await client();
    await made.send(
      new SendMessageCommand({
        QueueUrl: url,
        MessageBody: body,
        DelaySeconds: Math.ceil(Math.min(Math.max(delayMs, 0), delayMsMax) / 1000),
        MessageAttributes: attributes,
      }),
    );
  }
  return {
    async copy(record, delayMs) {
      // The receive that ends in waiting is no try, and SQS counts those of a copy anew.
      const numbers = { firstSentAt: firstSentAtOf(record), receives: receivesOf(record) - 1 };
      const own = Object.entries(numbers).flatMap(([name, value]) =>
        value === 0 ? [] : [[name, { DataType: "Number", StringValue: String(value) }] as const],
      );
      await send(urls.own, record.body, delayMs, attributesOf(record, Object.fromEntries(own)));
    },
    async deadLetter(record, reason) {
      const own = { reason: { DataType: "String", StringValue: reason } };
      await send(urls.ownDeadLetters, record.body, 0, attributesOf(record, own));
    },
    async wake(continuation, delayMs) {
      await send(urls.wake[continuation.work], JSON.stringify(continuation), delayMs, {});
    },
    async command(work, body) {
      await send(urls.wake[work], JSON.stringify(body), 0, {});
    },
  };
}

/** When the message was first sent, by the attribute of its copies or by SQS. */
export function firstSentAtOf(record: SQSRecord): number {
  return carriedBy(record, ownAttributes.firstSentAt) ?? Number(record.attributes.SentTimestamp);
}

/** How often the message was received, this time too, without those receives that ended in waiting. */
export function receivesOf(record: SQSRecord): number {
  return (carriedBy(record, ownAttributes.receives) ?? 0) + Number(record.attributes.ApproximateReceiveCount);
}

function carriedBy(record: SQSRecord, name: string): number | undefined {
  const value = Number(record.messageAttributes[name]?.stringValue);
  return Number.isFinite(value) && value > 0 ? value : undefined;
}

/** The message that asks for a look at a due entry (C1). */
export function continuationOf(entry: DueEntry, businessId: string | undefined): Continuation {
  return {
    version: "1",
    type: "continue",
    work: entry.work,
    commandId: entry.commandId,
    requestedAt: new Date(entry.requestedAt).toISOString(),
    looks: entry.due.looks,
    ...(businessId === undefined ? {} : { businessId }),
    ...(entry.wabaId === undefined ? {} : { wabaId: entry.wabaId }),
  };
}

/**
 * The message attributes that are ours: since when a copy waits, how often it was tried before, the id of the message that it
 * copies, why we put it among the dead letters, and the replay that took it out of them. A producer has what is left of SQS's
 * ten.
 */
export const ownAttributes = {
  firstSentAt: "firstSentAt",
  receives: "receives",
  firstMessageId: "firstMessageId",
  reason: "reason",
  replayId: "replayId",
} as const;

const attributesMax = 10;

/**
 * What a copy carries: `own`, the replay's mark, so that what comes back is known, what the producer gave, and, where there
 * is room, the id under which the producer knows it.
 */
function attributesOf(
  record: SQSRecord,
  own: Record<string, MessageAttributeValue>,
): Record<string, MessageAttributeValue> {
  const carried = Object.entries(record.messageAttributes).flatMap(
    ([name, value]): [string, MessageAttributeValue][] => {
      const ours = Object.values<string>(ownAttributes).includes(name) && name !== ownAttributes.replayId;
      return ours || value.stringValue === undefined
        ? []
        : [[name, { DataType: value.dataType, StringValue: value.stringValue }]];
    },
  );
  const markFirst = carried.toSorted(
    ([one], [other]) => Number(other === ownAttributes.replayId) - Number(one === ownAttributes.replayId),
  );
  const firstId = record.messageAttributes[ownAttributes.firstMessageId]?.stringValue ?? record.messageId;
  const all = [
    ...Object.entries(own),
    ...markFirst,
    [ownAttributes.firstMessageId, { DataType: "String", StringValue: firstId }] as const,
  ];
  return Object.fromEntries(all.slice(0, attributesMax));
}
