import { DynamoDBClient, PutItemCommand, QueryCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { LocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { clientConfig, details, startSampleStack } from "./sample-stack.ts";

let aws: LocalAws;
let dynamoDb: DynamoDBClient;

beforeAll(async () => {
  aws = await startSampleStack();
  dynamoDb = new DynamoDBClient(clientConfig(aws));
});
afterAll(() => aws.close());

const TableName = "sample-state";

async function put(pk: string, count = 0): Promise<void> {
  await dynamoDb.send(new PutItemCommand({ TableName, Item: { pk: { S: pk }, count: { N: String(count) } } }));
}

function followed(prefix: string): Record<string, unknown>[] {
  return details(aws, "followed").filter(({ pk }) => String(pk).startsWith(prefix));
}

async function waitFor(check: () => unknown): Promise<void> {
  await vi.waitFor(check, { timeout: 15_000, interval: 25 });
}

/** While one record holds the function, the next ones gather. */
async function putInOneBatch(...keys: string[]): Promise<void> {
  const hold = `hold-before-${keys[0]}`;
  await put(hold);
  await waitFor(() => expect(JSON.stringify(details(aws, "batch"))).toContain(hold));
  for (const pk of keys) await put(pk);
}

function keysOf(payload: string): string[] {
  const { Records } = JSON.parse(payload) as { Records: { dynamodb: { Keys: { pk: { S: string } } } }[] };
  return Records.map(({ dynamodb }) => dynamodb.Keys.pk.S);
}

async function givenUp(): Promise<{ payload: string; requestContext: { condition: string } }[]> {
  const listing = await (await fetch(`${aws.endpoint}/sample-failed?list-type=2`)).text();
  const keys = [...listing.matchAll(/<Key>([^<]+)<\/Key>/g)].map(([, key]) => key);
  return Promise.all(keys.map(async (key) => (await fetch(`${aws.endpoint}/sample-failed/${key}`)).json() as never));
}

describe("a DynamoDB stream event source mapping", () => {
  test("hands on records in order, with both images and in Lambda's shape", async () => {
    for (let count = 1; count <= 12; count += 1) await put("ordered", count);
    await waitFor(() => expect(followed("ordered")).toHaveLength(12));
    const records = followed("ordered").map(({ record }) => record as { dynamodb: Record<string, unknown> });
    expect(records.map(({ dynamodb }) => dynamodb["NewImage"])).toEqual(
      Array.from({ length: 12 }, (_, index) => ({ pk: { S: "ordered" }, count: { N: String(index + 1) } })),
    );
    expect(records[1]).toMatchObject({
      eventID: expect.any(String),
      eventName: "MODIFY",
      eventSource: "aws:dynamodb",
      awsRegion: "us-east-1",
      eventSourceARN: expect.stringMatching(/:table\/sample-state\/stream\//),
      dynamodb: {
        Keys: { pk: { S: "ordered" } },
        OldImage: { pk: { S: "ordered" }, count: { N: "1" } },
        NewImage: { pk: { S: "ordered" }, count: { N: "2" } },
        SequenceNumber: expect.any(String),
        StreamViewType: "NEW_AND_OLD_IMAGES",
        ApproximateCreationDateTime: expect.any(Number),
      },
    });
  });

  test("narrows a failing batch down to the poisoned record, keeps that one whole, and goes on", async () => {
    await putInOneBatch("mixed-1", "mixed-2", "poison", "mixed-3", "mixed-4");
    await waitFor(async () => {
      expect(new Set(followed("mixed").map(({ pk }) => pk)).size).toBe(4);
      expect(await givenUp()).toHaveLength(1);
    });
    const [kept] = await givenUp();
    expect(kept).toMatchObject({
      requestContext: { condition: "RetryAttemptsExhausted", functionArn: expect.stringContaining("sample-follower") },
      responseContext: { statusCode: 200, functionError: "Unhandled" },
      version: "1.0",
      DDBStreamBatchInfo: { batchSize: 1, streamArn: expect.stringContaining("/stream/") },
    });
    expect(keysOf(kept?.payload ?? "")).toEqual(["poison"]);
    expect(kept?.payload).toContain('"NewImage":{');
    const alone = details(aws, "batch").filter((batch) => JSON.stringify(batch["keys"]) === '["poison"]');
    expect(alone).toHaveLength(2);
  });

  test("keeps the order when a record fails at first", async () => {
    await putInOneBatch("stumble", "after-stumble");
    await waitFor(() => expect(followed("after-stumble")).toHaveLength(1));
    const order = details(aws, "followed").map(({ pk }) => String(pk));
    expect(order.filter((pk) => /^(after-)?stumble$/.test(pk))).toEqual(["stumble", "after-stumble"]);
  });

  test("retries from the record that was reported, so that those before it come once", async () => {
    await putInOneBatch("before-reported", "reported", "after-reported");
    await waitFor(async () => {
      // What threw is halved; from what was reported on, all that is left is retried, and at last given up, together.
      expect((await givenUp()).map(({ payload }) => keysOf(payload))).toContainEqual(["reported", "after-reported"]);
    });
    await put("later");
    await waitFor(() => expect(followed("later")).toHaveLength(1));
    expect(followed("before-reported")).toHaveLength(1);
    const batches = details(aws, "batch").map(({ keys }) => keys);
    expect(batches).toContainEqual(["before-reported", "reported", "after-reported"]);
    expect(batches).toContainEqual(["reported", "after-reported"]);
  });
});

describe("a table", () => {
  test("has its index and true conditional writes", async () => {
    const Key = { pk: { S: "due" } };
    await dynamoDb.send(
      new UpdateItemCommand({
        TableName,
        Key,
        UpdateExpression: "SET dueShard = :shard, dueAt = :at",
        ConditionExpression: "attribute_not_exists(pk)",
        ExpressionAttributeValues: { ":shard": { S: "0" }, ":at": { N: "5" } },
      }),
    );
    const { Items } = await dynamoDb.send(
      new QueryCommand({
        TableName,
        IndexName: "DueIndex",
        KeyConditionExpression: "dueShard = :shard AND dueAt < :now",
        ExpressionAttributeValues: { ":shard": { S: "0" }, ":now": { N: "6" } },
      }),
    );
    expect(Items).toEqual([{ ...Key, dueShard: { S: "0" }, dueAt: { N: "5" } }]);
    const again = new PutItemCommand({
      TableName,
      Item: Key,
      ConditionExpression: "attribute_not_exists(pk)",
      ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    });
    await expect(dynamoDb.send(again)).rejects.toMatchObject({
      name: "ConditionalCheckFailedException",
      Item: { dueAt: { N: "5" } },
    });
  });
});
