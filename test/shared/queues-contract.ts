import { randomUUID } from "node:crypto";
import type { SQSRecord } from "aws-lambda";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Continuation } from "../../shared/contracts/commands.ts";
import { firstSentAtOf, type Queues, receivesOf } from "../../shared/queues.ts";

type Work = Continuation["work"];

/** The port of the share function, whose queue and dead letters are its own, and what the contract needs to see behind it. */
export type QueuesUnderTest = {
  queues: Queues;
  /** What a producer sends to the share queue. */
  send(body: string): Promise<void>;
  /** The next message, as Lambda hands it to a function; waits for it. */
  receive(work: Work): Promise<SQSRecord>;
  /** Whether a message could be received at this moment. */
  isEmpty(work: Work): Promise<boolean>;
  acknowledge(work: Work, record: SQSRecord): Promise<void>;
  /** Lets what was received become visible again. */
  passVisibility(): Promise<void>;
  /** Those of the share queue that hold `text`. */
  deadLetters(text: string): Promise<{ body: string; reason: string | undefined }[]>;
  /** The clock of the queues, ms. */
  now(): number;
  close(): Promise<void>;
};

const maxReceiveCount = 5;

/** What every way to the command queues must do, whatever it is made of. */
export function describeQueues(name: string, create: () => Promise<QueuesUnderTest>): void {
  let subject: QueuesUnderTest;
  beforeAll(async () => {
    subject = await create();
  });
  afterAll(() => subject?.close());

  /** A message of the share queue, received once. */
  async function received(): Promise<SQSRecord> {
    await subject.send(JSON.stringify({ commandId: randomUUID() }));
    return subject.receive("share");
  }

  async function acknowledged(record: SQSRecord): Promise<void> {
    await subject.acknowledge("share", record);
  }

  function continuationOf(work: Work): Continuation {
    const requestedAt = "2026-06-10T12:00:00.000Z";
    return { version: "1", type: "continue", work, commandId: randomUUID(), requestedAt, looks: 3, businessId: "110" };
  }

  describe(`the command queues ${name}`, () => {
    test("deliver what was sent, with the time of its sending and the count of its receives", async () => {
      const before = subject.now();
      const body = JSON.stringify({ commandId: randomUUID(), text: "ä€" });
      await subject.send(body);
      const record = await subject.receive("share");
      expect(record).toMatchObject({ body, attributes: { ApproximateReceiveCount: "1" } });
      expect(Number(record.attributes.SentTimestamp)).toBeGreaterThanOrEqual(before);
      expect(firstSentAtOf(record)).toBe(Number(record.attributes.SentTimestamp));
      await acknowledged(record);
    });

    test("show a received message to nobody else until its visibility ends; then again, counted", async () => {
      const record = await received();
      expect(await subject.isEmpty("share")).toBe(true);
      await subject.passVisibility();
      const again = await subject.receive("share");
      expect(again).toMatchObject({ body: record.body, messageId: record.messageId });
      expect(again.attributes.ApproximateReceiveCount).toBe("2");
      expect(again.attributes.SentTimestamp).toBe(record.attributes.SentTimestamp);
      await acknowledged(again);
    });

    test("never show again what was acknowledged", async () => {
      await acknowledged(await received());
      await subject.passVisibility();
      expect(await subject.isEmpty("share")).toBe(true);
    });

    test("copy a message for later: the same body, when it was first sent, and a count that begins anew", async () => {
      const record = await received();
      await subject.queues.copy(record, 1000);
      await acknowledged(record);
      expect(await subject.isEmpty("share")).toBe(true);
      const copy = await subject.receive("share");
      expect(copy).toMatchObject({ body: record.body, attributes: { ApproximateReceiveCount: "1" } });
      expect(subject.now() - Number(copy.attributes.SentTimestamp)).toBeGreaterThanOrEqual(1000);
      expect(firstSentAtOf(copy)).toBe(Number(record.attributes.SentTimestamp));

      await subject.queues.copy(copy, 0);
      await acknowledged(copy);
      const second = await subject.receive("share");
      expect(firstSentAtOf(second)).toBe(Number(record.attributes.SentTimestamp));
      await acknowledged(second);
    });

    test("H25: tell of a copy how often it was tried before: waiting is no try", async () => {
      const record = await received();
      await subject.passVisibility();
      const tried = await subject.receive("share");
      expect([receivesOf(record), receivesOf(tried)]).toEqual([1, 2]);
      await subject.queues.copy(tried, 0);
      await acknowledged(tried);
      const copy = await subject.receive("share");
      expect(receivesOf(copy)).toBe(2);
      await subject.queues.copy(copy, 0);
      await acknowledged(copy);
      await subject.receive("share");
      await subject.passVisibility();
      const again = await subject.receive("share");
      expect(receivesOf(again)).toBe(3);
      await acknowledged(again);
    });

    test("put what can never be obeyed among the dead letters, whole and with its reason", async () => {
      const record = await received();
      await subject.queues.deadLetter(record, "invalid_command");
      await acknowledged(record);
      expect(await subject.deadLetters(record.body)).toEqual([{ body: record.body, reason: "invalid_command" }]);
    });

    test("tell of a copy under which id its sender knows it", async () => {
      const record = await received();
      await subject.queues.copy(record, 0);
      await acknowledged(record);
      const copy = await subject.receive("share");
      await subject.queues.copy(copy, 0);
      await acknowledged(copy);
      const second = await subject.receive("share");
      expect(second.messageAttributes["firstMessageId"]?.stringValue).toBe(record.messageId);
      await acknowledged(second);
    });

    test("put what was received five times among the dead letters, whole and without a reason", async () => {
      const { body } = await received();
      for (let count = 2; count <= maxReceiveCount; count += 1) {
        await subject.passVisibility();
        const { attributes } = await subject.receive("share");
        expect(attributes.ApproximateReceiveCount).toBe(String(count));
      }
      await subject.passVisibility();
      expect(await subject.isEmpty("share")).toBe(true);
      expect(await subject.deadLetters(body)).toEqual([{ body, reason: undefined }]);
    });

    test.each(["share", "verify", "revoke"] as const)(
      "bring a look for %s to its queue, not before its delay",
      async (work) => {
        const continuation = continuationOf(work);
        await subject.queues.wake(continuation, 1000);
        expect(await subject.isEmpty(work)).toBe(true);
        const record = await subject.receive(work);
        expect(JSON.parse(record.body)).toEqual(continuation);
        expect(subject.now() - Number(record.attributes.SentTimestamp)).toBeGreaterThanOrEqual(1000);
        await subject.acknowledge(work, record);
      },
    );

    test("bring a look that is overdue at once", async () => {
      const continuation = continuationOf("verify");
      await subject.queues.wake(continuation, -5000);
      const record = await subject.receive("verify");
      expect(JSON.parse(record.body)).toEqual(continuation);
      await subject.acknowledge("verify", record);
    });
  });
}
