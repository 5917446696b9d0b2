import type { SQSRecord } from "aws-lambda";
import { delayMsMax, firstSentAtOf, type Queues, receivesOf } from "../../shared/queues.ts";
import type { Engine, Process } from "./engine.ts";
import { writeFaults } from "./engine.ts";
import type { History, Work } from "./history.ts";
import { randomOf } from "./random.ts";

export type Message = {
  /** Where it comes from: the same in every run of the history. */
  key: string;
  work: Work;
  body: string;
  attributes: SQSRecord["messageAttributes"];
  sentAt: number;
  receiveCount: number;
  /** Raised by each receive: only the latest one makes the message visible again. */
  receipt: number;
  place: "queue" | "dead letters" | "gone";
  /** Of a dead letter that we put there. */
  reason?: string;
};

const batchSize = { share: 1, verify: 10, revoke: 1 } as const;
export const maxReceiveCount = 5;
const slowAfterMs = 4 * 3_600_000;

/**
 * The three command queues and their dead letters, as SQS has them: no order, at least once, a message that is not deleted
 * comes back. It passes the contract suite of the real port (test/shared/queues-contract.ts).
 */
export function createQueueModel(
  history: History,
  engine: Engine,
  { feed, probability }: { feed: (work: Work) => void; probability: Readonly<Record<string, number>> },
) {
  const { now, step } = engine;
  const messages: Message[] = [];
  const ready: Record<Work, Message[]> = { share: [], verify: [], revoke: [] };
  const lineage = new Map<string, number>();

  function put(work: Work, key: string, body: string, delayMs: number, attributes: Message["attributes"] = {}): void {
    const count = (lineage.get(key) ?? 0) + 1;
    lineage.set(key, count);
    const name = count === 1 ? key : `${key}~${count}`;
    const message: Message = {
      key: name,
      work,
      body,
      attributes,
      sentAt: now(),
      receiveCount: 0,
      receipt: 0,
      place: "queue",
    };
    messages.push(message);
    const random = randomOf(`${history.seed} message ${name}`);
    const delayed = Math.ceil(Math.min(Math.max(delayMs, 0), delayMsMax) / 1000) * 1000;
    // No order is promised: most come at once, some overtake others by minutes.
    // In a history of weeks, what still waits for a person is slow to come: each of its turns would be like the one before.
    const lateMs = now() > history.quietAt + slowAfterMs && work !== "revoke" && count > 1 ? 3_600_000 : 0;
    const jitterMs =
      lateMs + (random.chance(0.1) && history.faultRate > 0 ? random.span(1000, 120_000) : random.whole(1, 400));
    show(message, now() + delayed + jitterMs);
    // Delivered twice, though nothing went wrong.
    if (now() < history.quietAt && random.chance((count === 1 ? 0.08 : 0.002) * history.faultRate)) {
      const again = now() + delayed + jitterMs + random.span(1, 20_000);
      engine.at(again, () => {
        if (message.place === "dead letters") return;
        engine.say(message.key, "is delivered once more");
        ready[work].push(message);
        feed(work);
      });
    }
  }

  function show(message: Message, at: number): void {
    const { receipt, work } = message;
    engine.at(at, () => {
      if (message.place !== "queue" || message.receipt !== receipt) return;
      ready[work].push(message);
      // Verifications are gathered for a moment, so that batches have more than one.
      if (batchSize[work] === 1) feed(work);
      else engine.at(now() + 250, () => feed(work));
    });
  }

  function portOf(process: Process, own: Work | undefined): Queues {
    function send(boundary: string, effect: () => void, rate = probability[boundary] ?? 0.01): Promise<void> {
      return step(process, boundary, writeFaults, rate, effect);
    }
    return {
      copy: (record, delayMs) => {
        // What is doubled in a long wait doubles again at every turn: there one must be as seldom as it is.
        const turns = Number(record.messageId.split("~")[1] ?? 1);
        function effect(): void {
          const { firstMessageId } = record.messageAttributes;
          if (own === undefined) throw new Error("No queue of its own");
          put(own, `${rootOf(record.messageId)}+`, record.body, delayMs, {
            ...record.messageAttributes,
            firstSentAt: attribute("Number", String(firstSentAtOf(record))),
            receives: attribute("Number", String(receivesOf(record) - 1)),
            firstMessageId: firstMessageId ?? attribute("String", record.messageId),
          });
        }
        return send("copy", effect, turns > 3 ? 0.0003 : 0.04);
      },
      deadLetter: (record, reason) =>
        send("deadLetter", () => {
          if (own === undefined) throw new Error("No queue of its own");
          messages.push({
            key: `${rootOf(record.messageId)}!`,
            work: own,
            body: record.body,
            attributes: record.messageAttributes,
            sentAt: now(),
            receiveCount: 0,
            receipt: 0,
            place: "dead letters",
            reason,
          });
        }),
      wake: (continuation, delayMs) =>
        send("wake", () => {
          const { work, businessId = "", wabaId = "", commandId, looks } = continuation;
          const key = `look:${work}:${wabaId === "" ? businessId : wabaId}:${commandId}:${looks}`;
          put(work, key, JSON.stringify(continuation), delayMs);
        }),
    };
  }

  /** What one invocation is given. What was received too often goes to the dead letters. */
  function take(work: Work): Message[] {
    const batch: Message[] = [];
    while (batch.length < batchSize[work] && ready[work].length > 0) {
      const message = ready[work].shift();
      if (message === undefined || message.place === "dead letters" || batch.includes(message)) continue;
      if (message.receiveCount >= maxReceiveCount && message.place === "queue") {
        message.place = "dead letters";
        engine.say(message.key, "goes to the dead letters");
        continue;
      }
      batch.push(message);
    }
    return batch;
  }

  function receive(message: Message, visibilityMs: number): void {
    message.receiveCount += 1;
    message.receipt += 1;
    show(message, now() + visibilityMs);
  }

  return { messages, put, portOf, take, receive, isReady: (work: Work) => ready[work].length > 0 };
}

export function recordOf(message: Message): SQSRecord {
  return {
    messageId: message.key,
    receiptHandle: message.key,
    body: message.body,
    attributes: {
      ApproximateReceiveCount: String(message.receiveCount),
      SentTimestamp: String(message.sentAt),
      SenderId: "producer",
      ApproximateFirstReceiveTimestamp: String(message.sentAt),
    },
    messageAttributes: message.attributes,
    md5OfBody: "",
    eventSource: "aws:sqs",
    eventSourceARN: "arn:aws:sqs:us-east-1:000000000000:commands",
    awsRegion: "us-east-1",
  };
}

function rootOf(key: string): string {
  return key.replace(/[+~!].*$/, "");
}

function attribute(dataType: "Number" | "String", stringValue: string) {
  return { stringValue, dataType, binaryListValues: [], stringListValues: [] };
}
