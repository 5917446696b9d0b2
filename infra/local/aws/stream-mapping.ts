import { randomUUID } from "node:crypto";
import * as z from "zod";
import { failedItems } from "./batch-failures.ts";
import type { DynamoDb } from "./dynamodb.ts";
import type { InvocationResult, LambdaFunction } from "./lambda.ts";
import type { MappingControl } from "./mapping-control.ts";
import { region } from "./template.ts";

const streamAnswer = z.looseObject({
  StreamDescription: z.looseObject({ Shards: z.array(z.looseObject({ ShardId: z.string() })).default([]) }),
});
const iteratorAnswer = z.looseObject({ ShardIterator: z.string() });
const recordSchema = z.looseObject({
  dynamodb: z.looseObject({ SequenceNumber: z.string(), ApproximateCreationDateTime: z.number() }),
});
const recordsAnswer = z.looseObject({
  Records: z.array(recordSchema).default([]),
  NextShardIterator: z.string().nullish(),
});
type StreamRecord = z.output<typeof recordSchema>;

const pollMs = 50;
const shardLookupMs = 1000;
const retryDelayMinMs = 100;
const retryDelayMaxMs = 2000;

export type StreamMapping = {
  uuid: string;
  streamArn: string;
  target: LambdaFunction;
  batchSize: number;
  startingPosition: "TRIM_HORIZON" | "LATEST";
  reportsFailures: boolean;
  bisects: boolean;
  /** Infinity when only the age bounds the retries. */
  retriesMax: number;
  /** Infinity when only the retries bound the age. */
  ageMaxSeconds: number;
  /** Keeps what is given up, whole. */
  keepFailed: ((key: string, body: string) => Promise<void>) | undefined;
  /** The last sequence number that is done with, per shard; what is written survives the stack. */
  checkpoints: { read: (shardId: string) => string | undefined; write: (shardId: string, sequence: string) => void };
  onLog: (line: string) => void;
};

/** Feeds a table's stream to a function as Lambda does: each shard in order, one batch at a time. */
export async function pollStream(mapping: StreamMapping, dynamoDb: DynamoDb, control: MappingControl): Promise<void> {
  const shards = new Map<string, Promise<void>>();
  await control.persist(async () => {
    while (await control.active()) {
      const { StreamDescription } = streamAnswer.parse(await callStreams("DescribeStream", {}));
      for (const { ShardId } of StreamDescription.Shards) {
        if (!shards.has(ShardId))
          shards.set(
            ShardId,
            control.persist(() => readShard(ShardId)),
          );
      }
      await control.sleep(shardLookupMs);
    }
  });
  await Promise.all(shards.values());

  async function readShard(shardId: string): Promise<void> {
    let iterator: string | null | undefined = await firstIterator(shardId);
    // Only a missing iterator ends a shard: dynoxide gives an ending sequence number to open shards too.
    while (typeof iterator === "string" && (await control.active())) {
      const answer = recordsAnswer.parse(
        await callStreams("GetRecords", { ShardIterator: iterator, Limit: mapping.batchSize }, false),
      );
      if (answer.Records.length === 0) await control.sleep(pollMs);
      else await deliver(shardId, answer.Records);
      iterator = answer.NextShardIterator;
    }
  }

  async function firstIterator(shardId: string): Promise<string> {
    const sequence = mapping.checkpoints.read(shardId);
    const position =
      sequence === undefined
        ? { ShardIteratorType: mapping.startingPosition }
        : { ShardIteratorType: "AFTER_SEQUENCE_NUMBER", SequenceNumber: sequence };
    return iteratorAnswer.parse(await callStreams("GetShardIterator", { ShardId: shardId, ...position })).ShardIterator;
  }

  /** Returns when every record was accepted or given up, or the mapping has ended. */
  async function deliver(shardId: string, records: readonly StreamRecord[]): Promise<void> {
    const pending = [{ records, failures: 0 }];
    for (;;) {
      const batch = pending.shift();
      if (batch === undefined || !(await control.active())) return;

      const expired = leading(batch.records, (record) => ageSeconds(record) > mapping.ageMaxSeconds);
      if (expired.length > 0) {
        await giveUp(shardId, expired, "RecordAgeExceeded", batch.failures);
        const rest = batch.records.slice(expired.length);
        if (rest.length > 0) pending.unshift({ records: rest, failures: batch.failures });
        continue;
      }

      const result = await mapping.target.invoke({ Records: batch.records.map(toRecord) });
      const firstFailed = firstFailure(result, batch.records);
      if (firstFailed > 0) checkpoint(shardId, batch.records.slice(0, firstFailed));
      if (firstFailed === batch.records.length) continue;

      const rest = batch.records.slice(firstFailed);
      const failures = firstFailed > 0 ? 1 : batch.failures + 1;
      if (!result.ok && mapping.bisects && rest.length > 1) {
        // A split costs no retry.
        const middle = Math.ceil(rest.length / 2);
        pending.unshift(
          { records: rest.slice(0, middle), failures: batch.failures },
          { records: rest.slice(middle), failures: batch.failures },
        );
      } else if (failures > mapping.retriesMax) {
        await giveUp(shardId, rest, "RetryAttemptsExhausted", failures, result);
        continue;
      } else {
        pending.unshift({ records: rest, failures });
      }
      await control.sleep(Math.min(retryDelayMinMs * 2 ** (failures - 1), retryDelayMaxMs));
    }
  }

  /** How many records from the start are done with: the checkpoint of a partial response, by Lambda's rules. */
  function firstFailure(result: InvocationResult, records: readonly StreamRecord[]): number {
    if (!result.ok) return 0;
    if (!mapping.reportsFailures) return records.length;
    const sequences = records.map(({ dynamodb }) => dynamodb.SequenceNumber);
    const failed = failedItems(result.payload, sequences);
    return failed.length === 0 ? records.length : Math.min(...failed.map((sequence) => sequences.indexOf(sequence)));
  }

  async function giveUp(
    shardId: string,
    records: readonly StreamRecord[],
    condition: "RetryAttemptsExhausted" | "RecordAgeExceeded",
    invokeCount: number,
    result?: InvocationResult,
  ): Promise<void> {
    mapping.onLog(`[${mapping.target.name}] gave up ${records.length} stream record(s): ${condition}`);
    const now = new Date().toISOString();
    const arrivals = records.map((record) =>
      new Date(record.dynamodb.ApproximateCreationDateTime * 1000).toISOString(),
    );
    const functionError = result?.ok === false ? { functionError: "Unhandled" } : {};
    const failedInvocation = {
      requestContext: {
        requestId: result?.requestId ?? randomUUID(),
        functionArn: mapping.target.arn,
        condition,
        approximateInvokeCount: invokeCount,
      },
      responseContext: { statusCode: 200, executedVersion: "$LATEST", ...functionError },
      version: "1.0",
      timestamp: now,
      DDBStreamBatchInfo: {
        shardId,
        startSequenceNumber: records[0]?.dynamodb.SequenceNumber,
        endSequenceNumber: records.at(-1)?.dynamodb.SequenceNumber,
        approximateArrivalOfFirstRecord: arrivals[0],
        approximateArrivalOfLastRecord: arrivals.at(-1),
        batchSize: records.length,
        streamArn: mapping.streamArn,
      },
      payload: JSON.stringify({ Records: records.map(toRecord) }),
    };
    const [day = "", time = ""] = now.split("T");
    const key = [
      `aws/lambda/${mapping.uuid}/${shardId}/${day.replaceAll("-", "/")}`,
      `${day}T${time.slice(0, 8).replaceAll(":", ".")}-${randomUUID()}`,
    ].join("/");
    await mapping.keepFailed?.(key, JSON.stringify(failedInvocation));
    checkpoint(shardId, records);
  }

  function checkpoint(shardId: string, done: readonly StreamRecord[]): void {
    const last = done.at(-1);
    if (last !== undefined) mapping.checkpoints.write(shardId, last.dynamodb.SequenceNumber);
  }

  function toRecord(record: StreamRecord) {
    return { ...record, awsRegion: region, eventSourceARN: mapping.streamArn };
  }

  function callStreams(operation: string, input: Readonly<Record<string, unknown>>, named = true): Promise<unknown> {
    const stream = named ? { StreamArn: mapping.streamArn } : {};
    return dynamoDb.call(`DynamoDBStreams_20120810.${operation}`, { ...stream, ...input });
  }
}

function ageSeconds({ dynamodb }: StreamRecord): number {
  return Date.now() / 1000 - dynamodb.ApproximateCreationDateTime;
}

function leading<T>(items: readonly T[], holds: (item: T) => boolean): readonly T[] {
  const end = items.findIndex((item) => !holds(item));
  return end === -1 ? items : items.slice(0, end);
}
