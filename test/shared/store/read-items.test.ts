import { BatchWriteItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { jsonAnswer } from "../../../infra/local/aws/protocol.ts";
import { createItemReader, type ReadItem } from "../../../shared/store/read-items.ts";
import { type QuietStack, startQuietStack } from "../../support/quiet-stack.ts";

let stack: QuietStack;
let client: DynamoDBClient;
let read: ReadItem;
/** The reads that reached the table. */
let requests: { operation: string; body: string }[] = [];
/** How many of the next batches leave their last key out, as a throttled table does. */
let leavingOut = 0;

beforeAll(async () => {
  stack = await startQuietStack({
    onCall: async ({ operation, body }, proceed) => {
      if (!operation.includes("GetItem")) return proceed();
      requests.push({ operation, body });
      if (leavingOut === 0) return proceed();
      leavingOut -= 1;
      return jsonAnswer({ Responses: {}, UnprocessedKeys: JSON.parse(body).RequestItems });
    },
  });
  client = new DynamoDBClient(stack.client);
  const TableName = stack.output("StateTableName");
  for (let start = 0; start < 120; start += 20) {
    const puts = Array.from({ length: 20 }, (_, index) => {
      const number = start + index;
      return { PutRequest: { Item: marshall({ pk: `ITEM#${number}`, number }) } };
    });
    await client.send(new BatchWriteItemCommand({ RequestItems: { [TableName]: puts } }));
  }
  read = createItemReader(client, TableName);
});
afterAll(async () => {
  client.destroy();
  await stack.close();
});
beforeEach(() => {
  requests = [];
});

test("what is asked for at the same time is read by one request, strongly consistent, each key once", async () => {
  const items = await Promise.all([read("ITEM#1"), read("ITEM#nobody"), read("ITEM#2"), read("ITEM#1")]);
  expect(items.map((item) => item?.["number"])).toEqual([1, undefined, 2, 1]);
  expect(requests).toHaveLength(1);
  const [{ Keys, ConsistentRead }] = Object.values(JSON.parse(requests[0]?.body ?? "").RequestItems) as [
    { Keys: unknown[]; ConsistentRead: boolean },
  ];
  expect({ keys: Keys.length, ConsistentRead }).toEqual({ keys: 3, ConsistentRead: true });
});

test("one item alone is one GetItem, and what is asked for later is read anew", async () => {
  await read("ITEM#1");
  await read("ITEM#1");
  expect(requests.map(({ operation }) => operation)).toEqual(["GetItem", "GetItem"]);
});

test("more than a request may name are read by several", async () => {
  const items = await Promise.all(Array.from({ length: 120 }, (_, number) => read(`ITEM#${number}`)));
  expect(items.map((item) => item?.["number"])).toEqual(Array.from({ length: 120 }, (_, number) => number));
  expect(requests).toHaveLength(2);
});

test("a key that the table leaves out is asked for again", async () => {
  leavingOut = 1;
  expect(await Promise.all([read("ITEM#1"), read("ITEM#2")])).toMatchObject([{ number: 1 }, { number: 2 }]);
  expect(requests).toHaveLength(2);
});

test("a key that the table leaves out every time is an error, not an item that is not there", async () => {
  leavingOut = 5;
  const results = await Promise.allSettled([read("ITEM#1"), read("ITEM#2")]);
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});
