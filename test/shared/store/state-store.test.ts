import { randomUUID } from "node:crypto";
import { DynamoDBClient, GetItemCommand, TransactionCanceledException } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { describe, expect, test } from "vitest";
import type { VerifyRequest, Waba } from "../../../shared/domain/business.ts";
import { dueIn, newBusiness } from "../../../shared/domain/business.ts";
import type { Failure } from "../../../shared/domain/reasons.ts";
import { joinedMax, markRevocation } from "../../../shared/domain/revoke.ts";
import { classify } from "../../../shared/graph/errors.ts";
import { createDueIndex } from "../../../shared/store/due-index.ts";
import { transitionSchema } from "../../../shared/store/items.ts";
import { createStateStore, isFull } from "../../../shared/store/state-store.ts";
import { revokeRequest, shareRequest } from "../../support/commands.ts";
import { startQuietStack } from "../../support/quiet-stack.ts";
import { intent, sharingWaba, verifiedWaba } from "../factories.ts";
import { describeStateStore, type StoreUnderTest } from "./state-store-contract.ts";

const reads: { operation: string; consistent: unknown }[] = [];

describeStateStore("on DynamoDB", async (): Promise<StoreUnderTest> => {
  let losing = false;
  let conflicting = false;
  const stack = await startQuietStack({
    onCall: async ({ operation }, proceed) => {
      const answer = await proceed();
      if (!losing || !["PutItem", "UpdateItem", "TransactWriteItems"].includes(operation)) return answer;
      losing = false;
      throw new Error("The answer is lost");
    },
  });
  const client = new DynamoDBClient(stack.client);
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === "GetItemCommand" || commandName === "QueryCommand") {
          reads.push({ operation: commandName, consistent: Reflect.get(args.input, "ConsistentRead") });
        }
        for (const one of Object.values(Reflect.get(args.input, "RequestItems") ?? {})) {
          reads.push({ operation: commandName ?? "", consistent: Reflect.get(one as object, "ConsistentRead") });
        }
        return next(args);
      },
    { step: "initialize" },
  );
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (!conflicting || commandName !== "TransactWriteItemsCommand") return next(args);
        conflicting = false;
        throw new TransactionCanceledException({
          message: "Transaction cancelled",
          CancellationReasons: [{ Code: "TransactionConflict" }, { Code: "None" }],
          $metadata: {},
        });
      },
    { step: "initialize" },
  );
  const TableName = stack.output("StateTableName");
  return {
    store: createStateStore({ client, tableName: TableName, newId: randomUUID }),
    dueIndex: createDueIndex(client, TableName, "DueIndex"),
    async transition(pk) {
      const { Item } = await client.send(
        new GetItemCommand({ TableName, Key: marshall({ pk }), ConsistentRead: true }),
      );
      return Item === undefined ? undefined : transitionSchema.parse(unmarshall(Item));
    },
    loseNextAnswer: () => {
      losing = true;
    },
    conflictNext: () => {
      conflicting = true;
    },
    async close() {
      client.destroy();
      await stack.close();
    },
  };
});

test("H27a: every load of an item is strongly consistent", () => {
  const loads = reads.filter(({ operation }) => operation.includes("GetItemCommand"));
  expect(loads.length).toBeGreaterThan(0);
  expect(loads.filter(({ consistent }) => consistent !== true)).toEqual([]);
});

describe("isFull", () => {
  function businessOf(wabaCount: number) {
    const business = newBusiness("110000000000001", 0);
    for (let index = 0; index < wabaCount; index += 1) {
      const request = shareRequest(String(120_000_000_000_000 + index));
      business.waiting[request.wabaId] = { request, due: { nextAt: 0, looks: 0, sweeps: 0 } };
    }
    return business;
  }

  test("leaves room for all that the WABAs on it may still grow by, and for a revocation (I12)", () => {
    // In bytes, not characters: that is what DynamoDB counts.
    const long = { commandId: "c".repeat(128), requestedBy: "💳".repeat(128), businessTokenSecret: "s".repeat(256) };
    const envelope = { error: { code: 1, message: "借".repeat(1000), fbtrace_id: "t".repeat(1000) } };
    const { reason, message = "", fbtraceId = "" } = classify(500, envelope, [], 1);
    const failure: Failure = { at: 1, code: 1, subcode: 1, reason, fbtraceId, message };
    const business = newBusiness("110000000000001", 0);
    const wabas: Record<string, Waba> = {};
    for (let id = 120_000_000_000_000; !isFull({ ...business, wabas }); id += 1) {
      wabas[id] = verifiedWaba({ request: shareRequest(String(id)) });
    }
    for (const [wabaId, waba] of Object.entries(wabas)) {
      const request = shareRequest(wabaId, long);
      const made = intent({ id: "i".repeat(36), failure, inDoubt: true, absentAt: 1, clearAt: 1 });
      const verify: VerifyRequest = { ...long, type: "verify", wabaId, hash: "h".repeat(43), requestedAt: 1 };
      wabas[wabaId] = {
        ...waba,
        ...sharingWaba({ request, intent: made }),
        due: dueIn(verify, 1),
        lastFailure: failure,
      };
    }
    const revoke = revokeRequest({ commandId: long.commandId, requestedBy: long.requestedBy });
    const { business: marked } = markRevocation({ ...business, wabas }, revoke, 1);
    const { revocation } = marked;
    if (revocation === undefined) throw new Error("There is no revocation");
    const joined = Array.from({ length: joinedMax }, () => revoke);
    expect(Object.keys(wabas).length).toBeGreaterThan(50);
    expect(Buffer.byteLength(JSON.stringify({ ...marked, revocation: { ...revocation, joined } }))).toBeLessThan(
      400 * 1024,
    );
  });

  test("leaves room for a revocation below DynamoDB's 400 KB", () => {
    const entryBytes = JSON.stringify(businessOf(101)).length - JSON.stringify(businessOf(100)).length;
    const below = Math.floor((299 * 1024) / entryBytes);
    expect(isFull(businessOf(below))).toBe(false);
    expect(isFull(businessOf(below + Math.ceil(2048 / entryBytes)))).toBe(true);
  });
});
