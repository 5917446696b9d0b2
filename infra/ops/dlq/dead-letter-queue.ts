import type { Message, MessageAttributeValue, SQSClient } from "@aws-sdk/client-sqs";
import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
} from "@aws-sdk/client-sqs";
import { ownAttributes } from "../../../shared/queues.ts";

/** A message of a dead-letter queue, held by us until it is given back or its time is over. */
export type Letter = {
  messageId: string;
  body: string;
  attributes: Record<string, MessageAttributeValue>;
  /** When it was sent: to the command queue (SQS moved it here), or to this one (we did). SQS deletes it 14 days after that. */
  sentAt: number;
};

/** The id that its sender was given: what we copied, rejected or replayed has had another one since. */
export function firstIdOf({ attributes, messageId }: Letter): string {
  return attributes[ownAttributes.firstMessageId]?.StringValue ?? messageId;
}

/** SQS's own batch limit. */
export const batchMax = 10;

/**
 * SQS has no peek: who reads a message hides it from everybody else. So what is read is held, and what is not taken is given
 * back; if this process dies, everything comes back by itself when `holdSeconds` are over.
 */
export type HeldQueue = {
  /** Messages not shown before, up to `count`; empty at the end of the queue. */
  next(count: number): Promise<Letter[]>;
  /** Deletes messages that were shown. Answers the ids of those that are still there. */
  remove(letters: readonly Letter[]): Promise<string[]>;
  /** How many messages are hidden by us. */
  heldCount(): number;
  /** Gives back everything that was shown and not removed. Answers how many could not be: they come back when their time is over. */
  release(): Promise<number>;
};

/** Enough that one call at a time does not set the pace of a walk through thousands. */
const receivesAtOnce = 4;

/** A long poll asks all of SQS's servers, a short one only some: empty it is the end. */
const pollSeconds = 1;

export function holdQueue(sqs: SQSClient, url: string, { holdSeconds }: { holdSeconds: number }): HeldQueue {
  /** The last receipt of each message counts. */
  const held = new Map<string, string>();
  const shown = new Set<string>();

  async function receive(count: number): Promise<Message[]> {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: url,
        MaxNumberOfMessages: Math.min(count, batchMax),
        WaitTimeSeconds: pollSeconds,
        VisibilityTimeout: holdSeconds,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["SentTimestamp"],
      }),
    );
    return Messages;
  }

  async function next(count: number): Promise<Letter[]> {
    const calls = Math.min(Math.ceil(count / batchMax), receivesAtOnce);
    for (;;) {
      const received = await Promise.all(Array.from({ length: calls }, () => receive(Math.ceil(count / calls))));
      const messages = received.flat();
      const letters = messages.flatMap(hold);
      // What is received again, because its time was over, is no news; and no sign of the end.
      if (letters.length > 0 || messages.length === 0) return letters;
    }
  }

  function hold({ MessageId, ReceiptHandle, Body = "", MessageAttributes = {}, Attributes }: Message): Letter[] {
    if (MessageId === undefined || ReceiptHandle === undefined) throw new Error("SQS gave a message without its id");
    held.set(MessageId, ReceiptHandle);
    if (shown.has(MessageId)) return [];
    shown.add(MessageId);
    const sentAt = Number(Attributes?.SentTimestamp);
    return [{ messageId: MessageId, body: Body, attributes: MessageAttributes, sentAt }];
  }

  return {
    next,
    heldCount: () => held.size,

    async remove(letters) {
      const left: string[] = [];
      for (const batch of chunks(letters, batchMax)) {
        const Entries = batch.map(({ messageId }, index) => ({
          Id: String(index),
          ReceiptHandle: held.get(messageId),
        }));
        const { Failed = [] } = await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: url, Entries }));
        const failed = new Set(Failed.map(({ Id }) => batch[Number(Id)]?.messageId));
        for (const { messageId } of batch) {
          if (failed.has(messageId)) left.push(messageId);
          else held.delete(messageId);
        }
      }
      return left;
    },

    async release() {
      let kept = 0;
      for (const batch of chunks([...held.values()], batchMax)) {
        const Entries = batch.map((ReceiptHandle, index) => ({
          Id: String(index),
          ReceiptHandle,
          VisibilityTimeout: 0,
        }));
        const { Failed = [] } = await sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: url, Entries }));
        kept += Failed.length;
      }
      held.clear();
      return kept;
    },
  };
}

/**
 * Takes `wanted.size` messages out of a queue, up to `size` at a time: `act` does what must come before, then removes them.
 * Messages that somebody else hides (a process that died while it held them, say) are waited for until they are back.
 * @returns when all were shown, when the queue has no more, or when `signal` says so.
 */
export async function takeOut(
  { sqs, url, held }: { sqs: SQSClient; url: string; held: HeldQueue },
  {
    wanted,
    size,
    signal,
    onWait,
  }: { wanted: ReadonlySet<string>; size: number; signal: AbortSignal; onWait: (hidden: number) => void },
  act: (letters: readonly Letter[]) => Promise<void>,
): Promise<void> {
  let open = wanted.size;
  while (open > 0 && !signal.aborted) {
    const letters = await held.next(size);
    if (letters.length === 0) {
      const hidden = (await depthOf(sqs, url)) - held.heldCount();
      if (hidden <= 0) return;
      onWait(hidden);
      continue;
    }
    const found = letters.filter(({ messageId }) => wanted.has(messageId));
    open -= found.length;
    if (found.length > 0) await act(found);
  }
}

/** About how many messages a queue holds, waiting, in flight or delayed. */
export async function depthOf(sqs: SQSClient, url: string): Promise<number> {
  const { Attributes = {} } = await sqs.send(
    new GetQueueAttributesCommand({
      QueueUrl: url,
      AttributeNames: [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
      ],
    }),
  );
  return Object.values(Attributes).reduce((sum, count) => sum + Number(count), 0);
}

export function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
