import { randomUUID } from "node:crypto";
import {
  type AttributeValue,
  DeleteItemCommand,
  DynamoDBClient,
  GetItemCommand,
  paginateScan,
} from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type { AttributeValue as StreamValue, DynamoDBRecord } from "aws-lambda";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { liveAllocations } from "../../infra/local/meta/meta-model.ts";
import type { Business, Waba } from "../../shared/domain/business.ts";
import { businessSchema } from "../../shared/store/items.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../support/commands.ts";
import { failuresOf, lambdaContext } from "../support/lambda.ts";
import { captureLogs } from "../support/logs.ts";
import { line, type Meta, startMeta, systemToken } from "../support/meta.ts";
import { type QuietStack, sqsRecord, startQuietStack } from "../support/quiet-stack.ts";

/** Each exported handler, with its own middleware and environment, against the stand-ins of AWS and Meta. */
let meta: Meta;
let stack: QuietStack;
let client: DynamoDBClient;
let handlers: Awaited<ReturnType<typeof loadHandlers>>;
let acme: { businessId: string; wabaId: string; token: string };
let bolt: { businessId: string; wabaId: string; token: string };
let logs: ReturnType<typeof captureLogs>;
const sweepAheadMs = 3_600_000;
const acmeSecret = "credit-lines/local/business-token/acme";
const boltSecret = "credit-lines/local/business-token/bolt";

beforeAll(async () => {
  meta = await startMeta();
  acme = await meta.customer();
  bolt = await meta.customer();
  stack = await startQuietStack({
    config: { graphApiBaseUrl: meta.url },
    secrets: { "credit-lines/local/system-token": systemToken, [acmeSecret]: acme.token, [boltSecret]: bolt.token },
  });
  client = new DynamoDBClient(stack.client);
  handlers = await loadHandlers();
});
afterAll(async () => {
  await stack?.close();
  await meta?.close();
});

beforeEach(() => {
  logs = captureLogs();
});
afterEach(async () => {
  logs.restore();
  const written = logs.text() + JSON.stringify([stack.events(), await everyItem()]);
  for (const token of meta.model.tokens.keys()) expect(written).not.toContain(token);
  expect(meta.model.calls.filter(({ violation }) => violation !== undefined)).toEqual([]);
});

/** A handler reads its environment once, as it is loaded. */
async function loadHandlers() {
  function enter(name: string, more: Record<string, string> = {}): void {
    Object.assign(process.env, stack.environmentOf(name), { POWERTOOLS_LOG_LEVEL: "DEBUG" }, more);
  }
  enter("share");
  const share = await import("../../functions/share/handler.ts");
  enter("verify");
  const verify = await import("../../functions/verify/handler.ts");
  enter("revoke");
  const revoke = await import("../../functions/revoke/handler.ts");
  enter("publish");
  const publish = await import("../../functions/publish/handler.ts");
  // Ahead of the others, so that what they left to be looked at later is due.
  enter("reconcile", { CLOCK_OFFSET_MS: String(sweepAheadMs) });
  const reconcile = await import("../../functions/reconcile/handler.ts");
  return {
    share: share.handler,
    verify: verify.handler,
    revoke: revoke.handler,
    publish: publish.handler,
    reconcile: reconcile.handler,
  };
}

async function itemOf(pk: string): Promise<Record<string, AttributeValue>> {
  const { Item } = await client.send(
    new GetItemCommand({ TableName: stack.output("StateTableName"), Key: marshall({ pk }), ConsistentRead: true }),
  );
  if (Item === undefined) throw new Error(`There is no item ${pk}`);
  return Item;
}

async function businessOf(businessId: string): Promise<Business> {
  return businessSchema.parse(unmarshall(await itemOf(`BUSINESS#${businessId}`)));
}

async function wabaOf(businessId: string, wabaId: string): Promise<Waba | undefined> {
  return (await businessOf(businessId)).wabas[wabaId];
}

async function everyItem(): Promise<unknown[]> {
  const items: unknown[] = [];
  for (const TableName of [stack.output("StateTableName"), stack.output("AuditTableName")]) {
    for await (const page of paginateScan({ client }, { TableName })) {
      items.push(...(page.Items ?? []).map((item) => unmarshall(item)));
    }
  }
  return items;
}

let sequenceNumbers = 0;

/** What the table's stream tells of an item's last write. */
function streamRecord(item: Record<string, AttributeValue>, old?: Record<string, AttributeValue>): DynamoDBRecord {
  sequenceNumbers += 1;
  return {
    eventID: String(sequenceNumbers),
    eventName: old === undefined ? "INSERT" : "MODIFY",
    dynamodb: {
      SequenceNumber: `${sequenceNumbers}00`,
      NewImage: item as Record<string, StreamValue>,
      ...(old === undefined ? {} : { OldImage: old as Record<string, StreamValue> }),
    },
  };
}

function announce(...Records: DynamoDBRecord[]) {
  return handlers.publish({ Records }, lambdaContext());
}

function busEvents(commandId: string): Record<string, unknown>[] {
  const details = stack.events().map(({ detailType, detail }) => ({ detailType, ...(detail as object) }));
  return details.filter((detail) => "commandId" in detail && detail["commandId"] === commandId);
}

/** A customer to whom the line was shared by the handler. */
async function shared() {
  const customer = await meta.customer();
  const command = shareCommand(customer.wabaId);
  expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);
  const allocation = liveAllocations(meta.model, line, customer.businessId, Date.now()).at(0);
  if (allocation === undefined) throw new Error("The line was not shared");
  return { ...customer, command, allocationId: allocation.id };
}

/** As if the time that Meta named had passed. */
async function unblock(): Promise<void> {
  const Key = marshall({ pk: "QUOTA#graph" });
  await client.send(new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key }));
}

/** The bodies of the messages in a queue that concern this id, once there are so many. */
async function bodiesAbout(url: string, id: string, atLeast: number): Promise<Record<string, unknown>[]> {
  const messages = await stack.messages(url, id, { atLeast });
  return messages.map(({ Body }) => JSON.parse(Body ?? ""));
}

describe.each(["share", "verify", "revoke"] as const)("the %s handler", (name) => {
  test("puts what is no command among its own dead letters and acknowledges it", async () => {
    const url = stack.output(`${name[0]?.toUpperCase()}${name.slice(1)}DeadLetterQueueUrl`);
    const before = meta.model.calls.length;
    expect(await failuresOf(handlers[name], sqsRecord('{"version":"2"}'))).toEqual([]);
    const letters = await stack.messages(url, "version");
    expect(letters.map(({ Body, MessageAttributes }) => [Body, MessageAttributes?.["reason"]?.StringValue])).toEqual([
      ['{"version":"2"}', "invalid_command"],
    ]);
    expect(meta.model.calls).toHaveLength(before);
  });
});

describe("the share handler", () => {
  test("shares the line once, records it before it asks for the proof, and repeats only its event", async () => {
    const { businessId, wabaId } = acme;
    const command = shareCommand(wabaId, { businessId, businessTokenSecret: acmeSecret });
    expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);

    const [allocation, ...others] = liveAllocations(meta.model, line, businessId, Date.now());
    expect(others).toEqual([]);
    expect(meta.calls("E2", wabaId)).toMatchObject([{ status: 200, query: { waba_currency: "EUR" } }]);
    expect(meta.calls("E3", wabaId).map(({ tokenKind }) => tokenKind)).toEqual(["business"]);
    expect(await wabaOf(businessId, wabaId)).toMatchObject({ status: "shared", allocationId: allocation?.id });
    expect(await bodiesAbout(stack.output("VerifyQueueUrl"), wabaId, 1)).toMatchObject([
      { type: "continue", work: "verify", businessId, wabaId, commandId: command.commandId, looks: 0 },
    ]);

    expect(busEvents(command.commandId)).toEqual([]);
    await announce(streamRecord(await itemOf(`BUSINESS#${businessId}`)));
    expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);
    expect(meta.calls("E2", wabaId)).toHaveLength(1);
    const [announced, again, ...more] = busEvents(command.commandId);
    expect(more).toEqual([]);
    expect(announced).toMatchObject({
      detailType: "Share Accepted",
      schemaVersion: "1",
      businessId,
      wabaId,
      allocationConfigId: allocation?.id,
      status: "shared",
    });
    expect(again?.["eventId"]).toBe(announced?.["eventId"]);
  });

  test("reads a further WABA once when the command names the business whose state it is decided by", async () => {
    const { businessId, wabaIds } = await meta.customer(3);
    const [first = "", named = "", unnamed = ""] = wabaIds;
    await failuresOf(handlers.share, sqsRecord(shareCommand(first)));
    await failuresOf(handlers.share, sqsRecord(shareCommand(named, { businessId })));
    await failuresOf(handlers.share, sqsRecord(shareCommand(unnamed)));
    expect((await wabaOf(businessId, named))?.status).toBe("shared");
    expect(meta.calls("E3", named)).toHaveLength(1);
    // Without the name, the reading that finds the owner is older than the state (I10).
    expect(meta.calls("E3", unnamed)).toHaveLength(2);
  });

  test("goes from the first of two calls to the second by itself, and wakes nobody who would race it", async () => {
    const { businessId, wabaId } = bolt;
    const command = shareCommand(wabaId, { method: "share-then-attach", businessTokenSecret: boltSecret });
    expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);
    expect([meta.calls("E4", businessId), meta.calls("E5", wabaId)].map((calls) => calls.length)).toEqual([1, 1]);
    expect((await wabaOf(businessId, wabaId))?.status).toBe("shared");
    expect(await stack.messages(stack.output("ShareQueueUrl"), wabaId)).toEqual([]);
  });

  test("refuses a secret outside the stage's prefix without reading it", async () => {
    const { wabaId } = await meta.customer();
    const command = shareCommand(wabaId, { businessTokenSecret: "credit-lines/local/system-token" });
    expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);
    expect(meta.calls("E3", wabaId)).toEqual([]);
    expect(unmarshall(await itemOf(`COMMAND#${command.commandId}`))).toMatchObject({
      outcome: "refused",
      reason: "secret_not_allowed",
    });
  });

  test("gives a share back to its queue while Meta is down, and shares when it is up again", async () => {
    const { businessId, wabaId } = await meta.customer();
    await meta.faults({ match: "E3", wabaId, kind: "5xx-before", times: 2 });
    const command = shareCommand(wabaId);
    const record = sqsRecord(command);
    expect(await failuresOf(handlers.share, record)).toEqual([record.messageId]);
    expect(meta.calls("E2", wabaId)).toEqual([]);
    expect(unmarshall(await itemOf(`COMMAND#${command.commandId}`))).toMatchObject({
      reason: "meta_unavailable",
      attempts: 1,
    });
    expect(await failuresOf(handlers.share, sqsRecord(command, { receiveCount: 2 }))).toEqual([]);
    expect(await wabaOf(businessId, wabaId)).toMatchObject({ status: "shared" });
  });

  test("acknowledges a share whose answer was lost: the item is looked at again", async () => {
    const { businessId, wabaId } = await meta.customer();
    await meta.faults({ match: "E2", wabaId, kind: "cut-after" });
    const command = shareCommand(wabaId);
    expect(await failuresOf(handlers.share, sqsRecord(command))).toEqual([]);
    expect(await wabaOf(businessId, wabaId)).toMatchObject({
      status: "sharing",
      intent: { attempt: 1, epoch: 0 },
      due: { looks: 0 },
    });
    const [look] = await bodiesAbout(stack.output("ShareQueueUrl"), wabaId, 1);
    expect(await failuresOf(handlers.share, sqsRecord(look))).toEqual([]);
    expect(await wabaOf(businessId, wabaId)).toMatchObject({ status: "shared" });
    expect(meta.calls("E2", wabaId)).toHaveLength(1);
  });
});

describe("the verify handler", () => {
  test("proves a share by record and funding, whatever else is in its batch", async () => {
    const { businessId, wabaId, allocationId } = await shared();
    const command = verifyCommand(wabaId);
    const unknown = sqsRecord(verifyCommand("129999999999999"));
    expect(await failuresOf(handlers.verify, sqsRecord("nonsense"), sqsRecord(command), unknown)).toEqual([
      unknown.messageId,
    ]);
    const credential = meta.model.allocations.get(allocationId)?.receivingCredentialId;
    expect(await wabaOf(businessId, wabaId)).toMatchObject({
      status: "verified",
      evidence: { receivingCredentialId: credential, primaryFundingId: credential, verifiedAt: expect.any(Number) },
    });
    expect(unmarshall(await itemOf(`COMMAND#${command.commandId}`))).toMatchObject({
      outcome: "done",
      event: { detailType: "Share Verified", status: "verified", previousStatus: "shared" },
    });
    expect(unmarshall(await itemOf("COMMAND#" + JSON.parse(unknown.body).commandId))).toMatchObject({
      reason: "owner_unknown",
      attempts: 1,
    });
  });
});

describe("the revoke handler", () => {
  test("deletes the record of the business, proves it and says so", async () => {
    const { businessId, wabaId, allocationId } = await shared();
    const bystander = await shared();
    const command = revokeCommand({ wabaId });
    expect(await failuresOf(handlers.revoke, sqsRecord(command))).toEqual([]);

    expect(meta.calls("E9", allocationId)).toHaveLength(1);
    expect(liveAllocations(meta.model, line, businessId, Date.now())).toEqual([]);
    expect(meta.calls("E9", bystander.allocationId)).toEqual([]);
    const business = await businessOf(businessId);
    expect(business).toMatchObject({
      epoch: 1,
      revocation: { state: "done" },
      wabas: { [wabaId]: { status: "revoked" } },
    });
    expect(unmarshall(await itemOf(`BUSINESS#${businessId}`))["events"]).toMatchObject([
      { detailType: "Credit Line Revoked", commandId: command.commandId, businessId, wabaIds: [wabaId] },
    ]);
    expect(business.records[allocationId]).toMatchObject({ state: "deleted", deleteAnswered: { epoch: 1 } });
  });

  test("acknowledges a revocation whose DELETE was not answered, and ends it at the next look", async () => {
    const { businessId, wabaId, allocationId } = await shared();
    await meta.faults({ match: "E9", businessId, kind: "cut-before" });
    const command = revokeCommand({ businessId });
    expect(await failuresOf(handlers.revoke, sqsRecord(command))).toEqual([]);
    const { revocation } = await businessOf(businessId);
    expect(revocation).toMatchObject({ state: "open", openReason: "not_confirmed", due: { looks: 1 } });
    expect(await wabaOf(businessId, wabaId)).toMatchObject({ status: "revoking" });

    const [look] = await bodiesAbout(stack.output("RevokeQueueUrl"), businessId, 1);
    expect(await failuresOf(handlers.revoke, sqsRecord(look))).toEqual([]);
    expect(await businessOf(businessId)).toMatchObject({ revocation: { state: "done" } });
    expect(liveAllocations(meta.model, line, businessId, Date.now())).toEqual([]);
    expect(meta.calls("E9", allocationId)).toHaveLength(2);
  });

  test("keeps a revocation open while Meta throttles, and sends no further DELETE", async () => {
    const { businessId, allocationId } = await shared();
    const [second, third] = [`97${businessId.slice(2)}`, `96${businessId.slice(2)}`];
    await meta.world({
      allocations: [second, third].map((id) => ({ id, lineId: line, receivingBusinessId: businessId })),
    });
    await meta.faults({ match: "E9", businessId, kind: "throttle", times: 3 });
    try {
      expect(await failuresOf(handlers.revoke, sqsRecord(revokeCommand({ businessId })))).toEqual([]);
      expect(meta.calls("E9", allocationId, second, third)).toHaveLength(1);
      const { revocation } = await businessOf(businessId);
      expect(revocation).toMatchObject({ state: "open", due: { nextAt: expect.any(Number) } });
    } finally {
      await meta.faults();
      await unblock();
    }
  });
});

describe("the publish handler", () => {
  test("announces a change on the bus and then appends it to the audit table", async () => {
    const { businessId, command } = await shared();
    const item = await itemOf(`BUSINESS#${businessId}`);
    expect(await announce(streamRecord(item))).toEqual({ batchItemFailures: [] });
    const { version, transitionId, events } = unmarshall(item);
    expect(busEvents(command.commandId)).toMatchObject([{ eventId: `${transitionId}-0`, aggregateVersion: version }]);
    const rows = await everyItem();
    expect(rows).toContainEqual(
      expect.objectContaining({ sk: expect.stringContaining(transitionId), version, events }),
    );
  });

  test("says nothing of a write that announces nothing, of one told before and of an item that is gone", async () => {
    const { businessId, wabaId, command } = await shared();
    const item = await itemOf(`BUSINESS#${businessId}`);
    const before = stack.events().length;
    const removed: DynamoDBRecord = { eventName: "REMOVE", dynamodb: { SequenceNumber: "1", OldImage: item as never } };
    expect(await announce(streamRecord(await itemOf(`WABA#${wabaId}`)), streamRecord(item, item), removed)).toEqual({
      batchItemFailures: [],
    });
    expect(stack.events()).toHaveLength(before);
    expect(busEvents(command.commandId)).toEqual([]);
  });

  test("H21: keeps a change that cannot be read whole, and goes on with the next", async () => {
    const { businessId, command } = await shared();
    const item = await itemOf(`BUSINESS#${businessId}`);
    const poison = streamRecord({ ...item, events: { S: "not a list" } });
    expect(await announce(poison, streamRecord(item))).toEqual({ batchItemFailures: [] });
    expect(busEvents(command.commandId)).toHaveLength(1);
    const kept = (await everyItem()).find((row) => (row as { sk?: string }).sk === poison.dynamodb?.SequenceNumber);
    expect(JSON.parse((kept as { record: string }).record)).toEqual(JSON.parse(JSON.stringify(poison)));
  });

  test("stops at a change that the bus does not take, so that events stay in order", async () => {
    const [first, second, third] = [await shared(), await shared(), await shared()];
    const items = await Promise.all([first, second, third].map(({ businessId }) => itemOf(`BUSINESS#${businessId}`)));
    const records = items.map((item) => streamRecord(item));
    const tooLarge = { ...unmarshall(items[1] ?? {}), events: Array.from({ length: 3 }, () => largeEvent()) };
    records[1] = streamRecord(marshall(tooLarge));
    expect(await announce(...records)).toEqual({
      batchItemFailures: [{ itemIdentifier: records[1].dynamodb?.SequenceNumber }],
    });
    expect(busEvents(first.command.commandId)).toHaveLength(1);
    expect(busEvents(third.command.commandId)).toEqual([]);
  });

  function largeEvent() {
    return { detailType: "Drift Found", eventId: randomUUID(), occurredAt: 1, reason: "x".repeat(100_000) };
  }
});

describe("the reconcile handler", () => {
  test("asks for a look at each due entry, in the name of its command, and moves its due time", async () => {
    const { businessId, wabaId, command } = await shared();
    // The share has asked for its look by itself; whoever serves it may have died.
    const asked = await bodiesAbout(stack.output("VerifyQueueUrl"), wabaId, 1);
    const posts = meta.model.calls.filter(({ method }) => method !== "GET").length;

    const sweptAt = Date.now() + sweepAheadMs;
    expect((await handlers.reconcile({ task: "due-sweep" }, lambdaContext())).served).toBeGreaterThan(0);
    const [, look, ...others] = await bodiesAbout(stack.output("VerifyQueueUrl"), wabaId, 2);
    expect(others).toEqual([]);
    const { commandId, requestedAt } = command;
    expect(look).toMatchObject({ type: "continue", work: "verify", businessId, commandId, requestedAt, looks: 0 });
    expect(asked).toEqual([look]);
    const waba = await wabaOf(businessId, wabaId);
    expect(waba?.due?.sweeps).toBe(1);
    expect(waba?.due?.nextAt).toBeGreaterThan(sweptAt);
    expect(meta.model.calls.filter(({ method }) => method !== "GET")).toHaveLength(posts);
  });

  test("fails for a task that it does not know, so that its errors show it", async () => {
    await expect(handlers.reconcile({ task: "tidy-up" }, lambdaContext())).rejects.toThrow();
  });
});
