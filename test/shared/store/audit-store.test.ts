import { DynamoDBClient, paginateQuery } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditStore, createAuditStore } from "../../../shared/store/audit-store.ts";
import type { Transition } from "../../../shared/store/items.ts";
import { type QuietStack, startQuietStack } from "../../support/quiet-stack.ts";

let stack: QuietStack;
let client: DynamoDBClient;
let audit: AuditStore;

beforeAll(async () => {
  stack = await startQuietStack();
  client = new DynamoDBClient(stack.client);
  audit = createAuditStore(client, stack.output("AuditTableName"));
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
});

function transitionOf(pk: string, version: number, transitionId = `transition-${version}`): Transition {
  const event = { detailType: "Share Accepted", eventId: `${transitionId}-0`, occurredAt: 7, wabaId: "120" } as const;
  return { pk, version, transitionId, changedAt: 7, events: [event] };
}

async function rowsOf(pk: string): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  const pages = paginateQuery(
    { client },
    {
      TableName: stack.output("AuditTableName"),
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: marshall({ ":pk": pk }),
    },
  );
  for await (const page of pages) rows.push(...(page.Items ?? []).map((item) => unmarshall(item)));
  return rows;
}

describe("the audit store", () => {
  test("keeps one row of a change that is appended twice", async () => {
    const transition = transitionOf("BUSINESS#1", 3);
    await audit.append(transition);
    await audit.append(transition);
    const { events, changedAt, version } = transition;
    expect(await rowsOf("BUSINESS#1")).toEqual([
      { pk: "BUSINESS#1", sk: "000000000003#transition-3", version, changedAt, events },
    ]);
  });

  test("lists the changes of an item by their numbers, not by their digits", async () => {
    for (const version of [10, 2, 1_000_000, 9]) await audit.append(transitionOf("BUSINESS#2", version));
    expect((await rowsOf("BUSINESS#2")).map(({ version }) => version)).toEqual([2, 9, 10, 1_000_000]);
  });

  test("H20: keeps both histories of a version that comes again after a restore", async () => {
    await audit.append(transitionOf("BUSINESS#3", 1, "before"));
    await audit.append(transitionOf("BUSINESS#3", 1, "after"));
    expect(await rowsOf("BUSINESS#3")).toHaveLength(2);
  });

  test("keeps what a command or a finding tells under the WABA and the business that it names, too", async () => {
    const event = { detailType: "Share Refused", eventId: "refusal-0", occurredAt: 7, commandId: "order-1" } as const;
    const named = { ...event, wabaId: "125", businessId: "115" };
    await audit.append({ ...transitionOf("COMMAND#order-1", 1_000_000, "refusal"), events: [event, named] });
    expect((await rowsOf("COMMAND#order-1")).map(({ events }) => events)).toEqual([[event, named]]);
    for (const pk of ["WABA#125", "BUSINESS#115"]) {
      expect((await rowsOf(pk)).map(({ events }) => events)).toEqual([[named]]);
    }
    await audit.append({ ...transitionOf("BUSINESS#115", 2), events: [named] });
    expect(await rowsOf("WABA#125")).toHaveLength(1);
  });

  test("keeps one that is more than a row may hold in several", async () => {
    const wabas = {
      M: Object.fromEntries(Array.from({ length: 300 }, (_, n) => [String(n), { S: "ä€".repeat(600) }])),
    };
    const images = { NewImage: { pk: { S: "BUSINESS#4" }, wabas }, OldImage: { pk: { S: "BUSINESS#4" }, wabas } };
    const record = { eventID: "1", dynamodb: { SequenceNumber: "77", ...images } };
    await audit.keepPoison(record, 7);
    const rows = (await rowsOf("POISON")).filter(({ sk }) => String(sk).startsWith("77"));
    expect(rows.length).toBeGreaterThan(1);
    const ordered = rows.toSorted(
      (one, other) => Number(String(one["sk"]).split("#")[1] ?? 0) - Number(String(other["sk"]).split("#")[1] ?? 0),
    );
    expect(JSON.parse(ordered.map((row) => String(row["record"])).join(""))).toEqual(record);
  });

  test("keeps a record that cannot be read whole, once", async () => {
    const record = { eventID: "1", dynamodb: { SequenceNumber: "42", NewImage: { pk: { S: "BUSINESS#4" } } } };
    await audit.keepPoison(record, 7);
    await audit.keepPoison(record, 7);
    const [row, ...others] = (await rowsOf("POISON")).filter(({ sk }) => !String(sk).startsWith("77"));
    expect(others).toEqual([]);
    expect(row).toMatchObject({ sk: "42", changedAt: 7 });
    expect(JSON.parse(String(row?.["record"]))).toEqual(record);
  });
});
