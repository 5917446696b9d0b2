import { setTimeout as sleep } from "node:timers/promises";
import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import { DescribeTableCommand } from "@aws-sdk/client-dynamodb";
import {
  DescribeStreamCommand,
  DynamoDBStreamsClient,
  GetRecordsCommand,
  GetShardIteratorCommand,
} from "@aws-sdk/client-dynamodb-streams";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import type { Command } from "commander";
import * as z from "zod";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import { transitionSchema } from "../../shared/store/items.ts";
import { examples, onStage } from "./command.ts";
import { eventShape, shownEvent } from "./event.ts";
import type { Stage } from "./stage.ts";

const options = z.object({
  seconds: z.coerce.number("must be a number").positive().default(Infinity),
});

export function addTail(program: Command): void {
  program
    .command("tail")
    .description("events as they are recorded, until Ctrl-C")
    .option("--seconds <n>", "end after so long")
    .addHelpText("after", examples("tail", "tail --json --seconds 60"))
    .addHelpText(
      "after",
      "\nReads the State table's stream, from which the events are made: also what publish could not announce yet.",
    )
    .action(
      onStage(options, async ({ stage, out }, _args, { seconds }) => {
        const end = Date.now() + seconds * 1000;
        for await (const event of follow(stage, end, () => out.note("Listening. Ctrl-C ends it."))) {
          out.result(eventShape, shownEvent(event), render);
        }
      }),
    );
}

function render({ at, event, businessId, wabaId, commandId, reason, by }: z.output<typeof eventShape>): string {
  const about = [
    wabaId === undefined ? undefined : `WABA ${wabaId}`,
    businessId === undefined ? undefined : `business ${businessId}`,
    commandId === undefined ? undefined : `command ${commandId}`,
    reason,
    by === undefined ? undefined : `by ${by}`,
  ];
  return [at, event.padEnd(22), about.filter((part) => part !== undefined).join(", ")].join("  ");
}

const pauseMs = 1000;
const describeEveryMs = 15_000;

/**
 * What is recorded from now on. The Audit table cannot be read by time without reading all of it, and a rule of our own on
 * the bus would be left behind by a crash: the stream needs neither, and a second reader does not slow the first.
 */
async function* follow(stage: Stage, end: number, onReady: () => void): AsyncGenerator<RecordedEvent> {
  const streams = new DynamoDBStreamsClient(stage.clientConfig);
  const { Table } = await stage.dynamo.send(new DescribeTableCommand({ TableName: stage.tables.state }));
  const StreamArn = Table?.LatestStreamArn;
  if (StreamArn === undefined) throw new Error("The State table has no stream");
  const known = new Set<string>();
  const iterators = new Map<string, string>();

  /** What was there before is read from its end, what comes later from its beginning. */
  async function findShards(ShardIteratorType: "LATEST" | "TRIM_HORIZON"): Promise<void> {
    let ExclusiveStartShardId: string | undefined;
    do {
      const page = await streams.send(new DescribeStreamCommand({ StreamArn, ExclusiveStartShardId }));
      for (const { ShardId = "" } of page.StreamDescription?.Shards ?? []) {
        if (known.has(ShardId)) continue;
        known.add(ShardId);
        const { ShardIterator } = await streams.send(
          new GetShardIteratorCommand({ StreamArn, ShardId, ShardIteratorType }),
        );
        if (ShardIterator !== undefined) iterators.set(ShardId, ShardIterator);
      }
      ExclusiveStartShardId = page.StreamDescription?.LastEvaluatedShardId;
    } while (ExclusiveStartShardId !== undefined);
  }

  try {
    await findShards("LATEST");
    onReady();
    for (let describedAt = Date.now(); Date.now() < end; await sleep(pauseMs)) {
      if (Date.now() - describedAt > describeEveryMs) {
        await findShards("TRIM_HORIZON");
        describedAt = Date.now();
      }
      for (const [shardId, ShardIterator] of iterators) {
        const { Records = [], NextShardIterator } = await streams.send(new GetRecordsCommand({ ShardIterator }));
        if (NextShardIterator === undefined) iterators.delete(shardId);
        else iterators.set(shardId, NextShardIterator);
        for (const { dynamodb } of Records) yield* eventsOf(dynamodb?.NewImage, dynamodb?.OldImage);
      }
    }
  } finally {
    streams.destroy();
  }
}

type Image = Record<string, AttributeValue> | undefined;

function eventsOf(next: Image, old: Image): RecordedEvent[] {
  const id = next?.["transitionId"]?.S;
  if (next === undefined || id === undefined || id === old?.["transitionId"]?.S) return [];
  return transitionSchema.safeParse(unmarshall(next)).data?.events ?? [];
}
