import { randomUUID } from "node:crypto";
import { DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, expect, test } from "vitest";
import { judgeLetter } from "../../../infra/ops/dlq/judge-letters.ts";
import type { Stage } from "../../../infra/ops/stage.ts";
import { eachBusiness } from "../../../infra/ops/table.ts";
import { newBusiness } from "../../../shared/domain/business.ts";
import { createStateStore, type StateStore } from "../../../shared/store/state-store.ts";
import { ifReadable } from "../../../shared/store/unreadable.ts";
import { shareCommand } from "../../support/commands.ts";
import { policy } from "../../shared/factories.ts";
import { type QuietStack, startQuietStack } from "../../support/quiet-stack.ts";

/** After a rollback an item may be what this release cannot read: that is when somebody looks. */
let stack: QuietStack;
let client: DynamoDBClient;
let store: StateStore;
const [good, spoiled] = ["110000000000001", "110000000000002"];
const wabaId = "120000000000002";

beforeAll(async () => {
  stack = await startQuietStack();
  client = new DynamoDBClient(stack.client);
  const tableName = stack.output("StateTableName");
  store = createStateStore({ client, tableName, newId: randomUUID });
  const fresh = newBusiness(good, 1);
  await store.commit(fresh, { business: { ...fresh, name: "Acme" }, events: [], conclusions: [] }, 1);
  await store.claimOwner(wabaId, spoiled, { overPendingRevoke: false });
  const Item = marshall({ pk: `BUSINESS#${spoiled}`, businessId: spoiled, version: 1, wabas: "of another release" });
  await client.send(new PutItemCommand({ TableName: tableName, Item }));
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
});

test("the whole table is told without it, and that it was left out", async () => {
  const stage = { dynamo: client, tables: { state: stack.output("StateTableName") } } as unknown as Stage;
  const [told, notes]: [string[], string[]] = [[], []];
  const out = { note: (line: string) => void notes.push(line) };
  for await (const { businessId } of eachBusiness(stage, out)) told.push(businessId);
  expect(told).toEqual([good]);
  expect(notes).toEqual([expect.stringMatching(new RegExp(`^BUSINESS#${spoiled} cannot be read`))]);
});

test("a dead letter of its customer is listed as blocked", async () => {
  const letter = { messageId: "m", body: JSON.stringify(shareCommand(wabaId)), attributes: {}, sentAt: Date.now() };
  const causes = {
    common: { systemToken: "works", line: "usable" },
    businessToken: async () => "works" as const,
  } as const;
  const deps = { store, policy: { ...policy, businessTokenSecretPrefix: "tokens/" }, now: Date.now, causes };
  expect(await judgeLetter("share", letter, deps)).toMatchObject({
    class: "blocked",
    businessId: spoiled,
    why: expect.stringContaining("cannot be read"),
  });
});

test("any other failure is none of that kind", async () => {
  expect(await ifReadable(store.loadBusiness(spoiled))).toBe("unreadable");
  await expect(ifReadable(Promise.reject(new Error("no network")))).rejects.toThrow("no network");
});
