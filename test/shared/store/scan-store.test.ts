import { randomUUID } from "node:crypto";
import { DynamoDBClient, GetItemCommand, PutItemCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { expect, test } from "vitest";
import { createDueIndex } from "../../../shared/store/due-index.ts";
import { createAuditGaps, createAuditStore } from "../../../shared/store/audit-store.ts";
import { createFindingStore } from "../../../shared/store/finding-store.ts";
import { transitionSchema } from "../../../shared/store/items.ts";
import { createScanStore } from "../../../shared/store/scan-store.ts";
import { createStateStore } from "../../../shared/store/state-store.ts";
import { startQuietStack } from "../../support/quiet-stack.ts";
import { describeScanStore, type ScanStoreUnderTest } from "./scan-store-contract.ts";

describeScanStore("on DynamoDB", async (): Promise<ScanStoreUnderTest> => {
  const stack = await startQuietStack();
  const client = new DynamoDBClient(stack.client);
  const tableName = stack.output("StateTableName");
  return {
    store: createStateStore({ client, tableName, newId: randomUUID }),
    scans: createScanStore({ client, tableName }),
    findings: createFindingStore({ client, tableName, indexName: "DueIndex", newId: randomUUID }),
    async transition(pk) {
      const Key = marshall({ pk });
      const { Item } = await client.send(new GetItemCommand({ TableName: tableName, Key, ConsistentRead: true }));
      return Item === undefined ? undefined : transitionSchema.parse(unmarshall(Item));
    },
    async forgetDue(pk) {
      const UpdateExpression = "REMOVE dueShard, dueAt";
      await client.send(new UpdateItemCommand({ TableName: tableName, Key: marshall({ pk }), UpdateExpression }));
    },
    async close() {
      client.destroy();
      await stack.close();
    },
  };
});

test("an item that cannot be read is named, and does not hide its neighbours; the sweep leaves findings alone", async () => {
  const stack = await startQuietStack();
  const client = new DynamoDBClient(stack.client);
  const tableName = stack.output("StateTableName");
  try {
    const bad = { pk: "BUSINESS#110000000000001", businessId: 7, dueShard: "due-0", dueAt: 1 };
    await client.send(new PutItemCommand({ TableName: tableName, Item: marshall(bad) }));
    const findings = createFindingStore({ client, tableName, indexName: "DueIndex", newId: randomUUID });
    const seen = { version: 1, firstScanId: 1, firstSeenAt: 1, lastScanId: 1, lastSeenAt: 1 };
    const finding = { kind: "waba_left", subject: "120000000000001", state: "suspected", ...seen } as const;
    await findings.saveFinding(undefined, finding, [], 1);
    const scans = createScanStore({ client, tableName });
    const { businesses, unreadable } = await scans.walk(undefined, 0);
    expect({ businesses, unreadable }).toEqual({ businesses: [], unreadable: ["BUSINESS#110000000000001"] });
    expect(await scans.loadBusinesses(["110000000000001", "110000000000002"])).toEqual(
      new Map([["110000000000001", "unreadable"]]),
    );
    await client.send(
      new PutItemCommand({ TableName: tableName, Item: marshall({ pk: "WABA#120000000000001", wabaId: 7 }) }),
    );
    expect(await scans.loadPointers(["120000000000001"])).toEqual(new Map([["120000000000001", "unreadable"]]));
    const due: string[] = [];
    for await (const item of createDueIndex(client, tableName, "DueIndex").dueItems(10)) due.push(item.id);
    expect(due).toEqual(["110000000000001"]);
  } finally {
    client.destroy();
    await stack.close();
  }
});

test("the audit's gaps are the changes without a row, of the very same transition", async () => {
  const stack = await startQuietStack();
  const client = new DynamoDBClient(stack.client);
  try {
    const tableName = stack.output("AuditTableName");
    const audit = createAuditStore(client, tableName);
    const changes = Array.from({ length: 120 }, (_, index) => ({
      pk: `BUSINESS#11000000000${String(index).padStart(4, "0")}`,
      transitionId: `transition-${index}`,
      version: index + 1,
      changedAt: 1,
      events: [],
    }));
    for (const change of changes.slice(0, 110)) await audit.append(change);
    const restored = changes.slice(0, 1).map((change) => ({ ...change, transitionId: "another" }));
    const gaps = await createAuditGaps(client, tableName)([...changes, ...restored]);
    expect(gaps).toEqual([...changes.slice(110), ...restored]);
  } finally {
    client.destroy();
    await stack.close();
  }
});
