import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import * as z from "zod";
import type { DynamoDb } from "./dynamodb.ts";
import type { RoleUse } from "./gateway.ts";
import type { LambdaFunction } from "./lambda.ts";
import { createMappingControl, type MappingControl } from "./mapping-control.ts";
import { pollQueue } from "./queue-mapping.ts";
import type { Sqs } from "./sqs.ts";
import type { Resource, Stack } from "./stack.ts";
import { pollStream, type StreamMapping } from "./stream-mapping.ts";

export type EventSourceMapping = {
  uuid: string;
  sourceArn: string;
  functionArn: string;
  enabled: () => boolean;
  setEnabled: (enabled: boolean) => void;
};

// FilterCriteria are left out on purpose: a filter deletes what does not match (design.md §8).
const mappingProperties = z.strictObject({
  EventSourceArn: z.string(),
  FunctionName: z.string(),
  BatchSize: z.coerce.number().optional(),
  BisectBatchOnFunctionError: z.boolean().default(false),
  DestinationConfig: z
    .strictObject({ OnFailure: z.strictObject({ Destination: z.string().startsWith("arn:aws:s3:::") }) })
    .optional(),
  Enabled: z.boolean().default(true),
  FunctionResponseTypes: z.array(z.literal("ReportBatchItemFailures")).default([]),
  MaximumRecordAgeInSeconds: z.coerce.number().default(-1),
  MaximumRetryAttempts: z.coerce.number().default(-1),
  ParallelizationFactor: z.literal(1).optional(),
  ScalingConfig: z.strictObject({ MaximumConcurrency: z.coerce.number().optional() }).optional(),
  StartingPosition: z.enum(["TRIM_HORIZON", "LATEST"]).default("TRIM_HORIZON"),
});
type MappingProperties = z.output<typeof mappingProperties>;

/** Batches go out as soon as there is something, so the window is always none. */
const ignoredProperties = ["KmsKeyArn", "MaximumBatchingWindowInSeconds", "MetricsConfig", "Tags"];

/** Lambda starts with five pollers and scales up; one machine need not. */
const pollersDefault = 5;
const queueBatchDefault = 10;
const streamBatchDefault = 100;

export type MappingOptions = {
  stack: Stack;
  functions: readonly LambdaFunction[];
  sqs: Sqs;
  dynamoDb: DynamoDb;
  dataDirectory: string | undefined;
  onLog: (line: string) => void;
  onRoleUse: (use: RoleUse) => void;
};

/** Starts the stack's event source mappings. `close` resolves when none of them does anything any more. */
export function startEventSourceMappings(options: MappingOptions) {
  const { stack, functions, sqs, dynamoDb, dataDirectory, onLog, onRoleUse } = options;
  const prepared = stack
    .each("AWS::Lambda::EventSourceMapping", mappingProperties, ignoredProperties)
    .map(({ resource, properties }) => {
      const target = functions.find(({ name, arn }) => [name, arn].includes(properties.FunctionName));
      const source = [...stack.resources.values()].find(({ attributes }) =>
        [attributes["Arn"], attributes["StreamArn"]].includes(properties.EventSourceArn),
      );
      if (target === undefined)
        throw new Error(`${resource.logicalId}: ${properties.FunctionName} is no function here`);
      const control = createMappingControl(properties.Enabled, onLog);
      const mapping: EventSourceMapping = {
        uuid: resource.ref,
        sourceArn: properties.EventSourceArn,
        functionArn: target.arn,
        enabled: control.enabled,
        setEnabled: control.setEnabled,
      };
      return { mapping, control, poll: preparePoll(resource, source, target, properties, control) };
    });
  // Only now: a mapping that cannot be run must not leave another running.
  const polls = prepared.map(({ poll }) => poll());

  function preparePoll(
    { logicalId, ref: uuid }: Resource,
    source: Resource | undefined,
    target: LambdaFunction,
    properties: MappingProperties,
    control: MappingControl,
  ): () => Promise<void> {
    const reportsFailures = properties.FunctionResponseTypes.length > 0;
    if (source?.type === "AWS::SQS::Queue") {
      const queue = {
        queueUrl: source.ref,
        queueArn: properties.EventSourceArn,
        target,
        batchSize: properties.BatchSize ?? queueBatchDefault,
        concurrency: properties.ScalingConfig?.MaximumConcurrency ?? pollersDefault,
        reportsFailures,
      };
      const asTarget: Sqs = {
        ...sqs,
        call: (operation, input) => {
          onRoleUse({ holder: target.name, service: "sqs", operation, body: JSON.stringify(input) });
          return sqs.call(operation, input);
        },
      };
      return () => pollQueue(queue, asTarget, control);
    }
    if (source?.type !== "AWS::DynamoDB::Table") {
      throw new Error(`${logicalId}: the source ${properties.EventSourceArn} is no queue or stream here`);
    }
    const stream = {
      uuid,
      streamArn: properties.EventSourceArn,
      target,
      batchSize: properties.BatchSize ?? streamBatchDefault,
      startingPosition: properties.StartingPosition,
      reportsFailures,
      bisects: properties.BisectBatchOnFunctionError,
      retriesMax: unlimitedWhenNegative(properties.MaximumRetryAttempts),
      ageMaxSeconds: unlimitedWhenNegative(properties.MaximumRecordAgeInSeconds),
      keepFailed: failureKeeper(logicalId, target, properties),
      checkpoints: createCheckpoints(
        dataDirectory === undefined ? undefined : path.join(dataDirectory, `${uuid}.json`),
      ),
      onLog,
    };
    const asTarget: DynamoDb = {
      ...dynamoDb,
      call: (operation, input) => {
        // An iterator does not name its stream.
        const body = JSON.stringify({ ...input, StreamArn: stream.streamArn });
        const [, name = ""] = operation.split(".");
        onRoleUse({ holder: target.name, service: "dynamodbstreams", operation: name, body });
        return dynamoDb.call(operation, input);
      },
    };
    return () => pollStream(stream, asTarget, control);
  }

  function failureKeeper(
    logicalId: string,
    target: LambdaFunction,
    { DestinationConfig }: MappingProperties,
  ): StreamMapping["keepFailed"] {
    const bucket = DestinationConfig?.OnFailure.Destination.replace("arn:aws:s3:::", "");
    if (bucket === undefined) return undefined;
    if (!sqs.buckets.has(bucket)) throw new Error(`${logicalId}: the stack has no bucket ${bucket}`);
    return (key, body) => {
      const use = { holder: target.name, service: "s3", operation: "PutObject" };
      onRoleUse({ ...use, body: JSON.stringify({ Bucket: bucket, Key: key }) });
      return sqs.putObject(bucket, key, body);
    };
  }

  return {
    mappings: prepared.map(({ mapping }) => mapping),
    /** Tells all to stop; they do when their current poll and invocation end. */
    end: () => prepared.forEach(({ control }) => control.end()),
    ended: () => Promise.all(polls),
  };
}

/** How far each shard was read: in a file, so that a kept table's old records are not announced again. */
function createCheckpoints(file: string | undefined): StreamMapping["checkpoints"] {
  const kept = z.record(z.string(), z.string());
  const sequences = new Map(
    file !== undefined && existsSync(file) ? Object.entries(kept.parse(JSON.parse(readFileSync(file, "utf8")))) : [],
  );
  return {
    read: (shardId) => sequences.get(shardId),
    write: (shardId, sequence) => {
      sequences.set(shardId, sequence);
      if (file === undefined) return;
      writeFileSync(`${file}.new`, JSON.stringify(Object.fromEntries(sequences)));
      renameSync(`${file}.new`, file);
    },
  };
}

function unlimitedWhenNegative(value: number): number {
  return value < 0 ? Infinity : value;
}
