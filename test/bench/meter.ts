import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import type { OnCall } from "../../infra/local/aws/gateway.ts";
import { localClient } from "../../infra/local/observe.ts";
import { indexUnits, type Item, itemBytes, readUnits, writeUnits } from "./units.ts";

/** What the functions asked of AWS since the meter was set to zero. */
export type Usage = {
  /** Items written, each item of a transaction for one. */
  writes: number;
  /** On-demand request units: of the tables, with what transactions cost twice, and of the index. */
  writeUnits: number;
  indexUnits: number;
  auditUnits: number;
  readUnits: number;
  /** Of the largest image of a business that was written. */
  itemBytes: number;
  /** Requests by `service.operation`. */
  requests: Record<string, number>;
};

const item = z.record(z.string(), z.custom<AttributeValue>());
const write = z.object({ TableName: z.string(), Item: item.optional(), Key: item.optional() });
const batch = z.object({ RequestItems: z.record(z.string(), z.object({ Keys: z.array(item) })) });
const transaction = z.object({
  TransactItems: z.array(z.object({ Put: write, Update: write, ConditionCheck: write }).partial()),
});
const indexKeys = ["dueShard", "dueAt"];

/**
 * Reads the image of every item before and after each write of a function, and bills what DynamoDB would. It must see one
 * write at a time: a benchmark that counts sends one command after the other.
 */
export function createMeter() {
  let usage = none();
  let client: DynamoDBClient | undefined;
  let lastCallAt = 0;

  async function imageOf(TableName: string, keyed: Item): Promise<Item | undefined> {
    const key = Object.fromEntries(Object.entries(keyed).filter(([name]) => name === "pk" || name === "sk"));
    const answer = await client?.send(new GetItemCommand({ TableName, Key: key, ConsistentRead: true }));
    return answer?.Item;
  }

  async function onCall(...[call, proceed]: Parameters<OnCall>): ReturnType<OnCall> {
    const { service, operation, body, functionName } = call;
    if (functionName === undefined || client === undefined) return proceed();
    lastCallAt = Date.now();
    const name = `${service}.${operation}`;
    usage.requests[name] = (usage.requests[name] ?? 0) + 1;
    if (service !== "dynamodb") return proceed();
    const input: unknown = JSON.parse(body);
    if (operation === "GetItem") {
      const { TableName, Key = {} } = write.parse(input);
      usage.readUnits += readUnits(await imageOf(TableName, Key));
      return proceed();
    }
    if (operation === "BatchGetItem") {
      for (const [TableName, { Keys }] of Object.entries(batch.parse(input).RequestItems)) {
        for (const Key of Keys) usage.readUnits += readUnits(await imageOf(TableName, Key));
      }
      return proceed();
    }
    const isTransaction = operation === "TransactWriteItems";
    const writes = isTransaction
      ? transaction.parse(input).TransactItems.map(({ Put, Update, ConditionCheck }) => Put ?? Update ?? ConditionCheck)
      : [write.parse(input)];
    const known = writes.filter((one) => one !== undefined);
    const before = await Promise.all(known.map((one) => imageOf(one.TableName, one.Item ?? one.Key ?? {})));
    const answer = await proceed();
    for (const [index, one] of known.entries()) {
      const after = await imageOf(one.TableName, one.Item ?? one.Key ?? {});
      const units = writeUnits(before[index], after) * (isTransaction ? 2 : 1);
      usage.writes += 1;
      if (after?.["sk"] === undefined) usage.writeUnits += units;
      else usage.auditUnits += units;
      // The index follows the table by itself: no part of the transaction.
      usage.indexUnits += indexUnits(before[index], after, indexKeys);
      if (after?.["pk"]?.S?.startsWith("BUSINESS#") === true) {
        usage.itemBytes = Math.max(usage.itemBytes, itemBytes(after));
      }
    }
    return answer;
  }

  return {
    onCall,
    connect(endpoint: string): void {
      client = new DynamoDBClient(localClient(endpoint));
    },
    /** From now on calls pass unseen. */
    close(): void {
      client?.destroy();
      client = undefined;
    },
    /** What was used since the last time. */
    take(): Usage {
      const taken = usage;
      usage = none();
      return taken;
    },
    idleMs: () => Date.now() - lastCallAt,
  };
}

function none(): Usage {
  return {
    writes: 0,
    writeUnits: 0,
    indexUnits: 0,
    auditUnits: 0,
    readUnits: 0,
    itemBytes: 0,
    requests: {},
  };
}
