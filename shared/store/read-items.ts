import type { AttributeValue, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { BatchGetItemCommand, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";

/** Reads an item of the State table by its key, strongly consistent. @throws Error, or what DynamoDB throws. */
export type ReadItem = (pk: string) => Promise<Record<string, unknown> | undefined>;

type Asked = PromiseWithResolvers<Record<string, unknown> | undefined>;

/** DynamoDB's limit for one call. */
const keysMax = 100;
/** A throttled table leaves keys out; the SDK's own retries do not see that. */
const triesMax = 5;
const retryDelayMs = 50;

/**
 * What is asked for in the same tick goes as one BatchGetItem: to a warm function a request costs more than what it reads.
 */
export function createItemReader(client: DynamoDBClient, TableName: string): ReadItem {
  let asked = new Map<string, Asked>();

  async function readAll(): Promise<void> {
    const pending = asked;
    asked = new Map();
    const keys = [...pending.keys()];
    for (let start = 0; start < keys.length; start += keysMax) {
      const page = keys.slice(start, start + keysMax);
      try {
        const items = await (page.length === 1 ? readOne(page) : readPage(page));
        for (const pk of page) pending.get(pk)?.resolve(items.get(pk));
      } catch (error) {
        for (const pk of page) pending.get(pk)?.reject(error);
      }
    }
  }

  async function readOne([pk = ""]: string[]): Promise<Map<string, Record<string, unknown>>> {
    const { Item } = await client.send(new GetItemCommand({ TableName, Key: marshall({ pk }), ConsistentRead: true }));
    return byKey(Item === undefined ? [] : [Item]);
  }

  async function readPage(keys: readonly string[]): Promise<Map<string, Record<string, unknown>>> {
    const found: Record<string, AttributeValue>[] = [];
    let Keys = keys.map((pk) => marshall({ pk }));
    for (let tries = 1; ; tries += 1) {
      const RequestItems = { [TableName]: { Keys, ConsistentRead: true } };
      const { Responses, UnprocessedKeys } = await client.send(new BatchGetItemCommand({ RequestItems }));
      found.push(...(Responses?.[TableName] ?? []));
      Keys = UnprocessedKeys?.[TableName]?.Keys ?? [];
      if (Keys.length === 0) return byKey(found);
      // Never taken for "not there".
      if (tries === triesMax) throw new Error(`The table left ${Keys.length} keys unread`);
      await new Promise((resolve) => setTimeout(resolve, retryDelayMs * tries));
    }
  }

  return (pk) => {
    if (asked.size === 0) queueMicrotask(() => void readAll());
    const known = asked.get(pk) ?? Promise.withResolvers();
    asked.set(pk, known);
    return known.promise;
  };
}

function byKey(items: Record<string, AttributeValue>[]): Map<string, Record<string, unknown>> {
  return new Map(items.map((item) => [item["pk"]?.S ?? "", unmarshall(item)]));
}
