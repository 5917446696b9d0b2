import { createHash, randomUUID } from "node:crypto";
import { DeleteItemCommand, DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { EventBridgeClient } from "@aws-sdk/client-eventbridge";
import { SQSClient } from "@aws-sdk/client-sqs";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Conclusion, Request } from "../../shared/domain/business.ts";
import { BlockedError, LaterError, ReusedError, ThrottledError } from "../../shared/errors.ts";
import { createEventBus } from "../../shared/event-bus.ts";
import { createLogger } from "../../shared/logging.ts";
import { type Flow, queueHandler, type QueueHandlerDeps, type Turn } from "../../shared/queue-handler.ts";
import { createUsageMeter } from "../../shared/graph/usage.ts";
import { createQuota } from "../../shared/quota.ts";
import { createQueues } from "../../shared/queues.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { revokeCommand, shareCommand } from "../support/commands.ts";
import { failuresOf, lambdaContext } from "../support/lambda.ts";
import { captureLogs } from "../support/logs.ts";
import { type QuietStack, sqsRecord, startQuietStack } from "../support/quiet-stack.ts";

const maxReceiveCount = 5;
const failure = { at: 1, reason: "token_dead", code: 190 } as const;
const hourMs = 3_600_000;

let stack: QuietStack;
let client: DynamoDBClient;
let deps: QueueHandlerDeps;
let urls: { own: string; deadLetters: string };
let logs: ReturnType<typeof captureLogs>;

beforeAll(async () => {
  stack = await startQuietStack();
  client = new DynamoDBClient(stack.client);
  urls = { own: stack.output("ShareQueueUrl"), deadLetters: stack.output("ShareDeadLetterQueueUrl") };
  deps = {
    store: createStateStore({ client, tableName: stack.output("StateTableName"), newId: randomUUID }),
    queues: createQueues(() => new SQSClient(stack.client), {
      own: urls.own,
      ownDeadLetters: urls.deadLetters,
      wake: {},
    }),
    events: createEventBus(() => new EventBridgeClient(stack.client), stack.output("EventBusName")),
    log: createLogger("test"),
    now: Date.now,
    clockSkewMs: 2000,
    maxReceiveCount,
  };
});
afterAll(() => stack?.close());

beforeEach(() => {
  logs = captureLogs();
});
afterEach(async () => {
  logs.restore();
  await removeQuota("graph");
});

async function removeQuota(of: string): Promise<void> {
  const Key = marshall({ pk: `QUOTA#${of}` });
  await client.send(new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key }));
}

/** A handler whose flow does this with every command and continuation, and what it was given. */
function handlerOf(
  does: (turn: Turn, request: Request | undefined) => unknown = () => {},
  type: Flow["type"] = "share",
) {
  const seen: { request: Request | undefined; turn: Turn }[] = [];
  async function serve(turn: Turn, request: Request | undefined): Promise<void> {
    seen.push({ request, turn });
    await does(turn, request);
  }
  const handler = queueHandler(deps, {
    type,
    onCommand: (request, turn) => serve(turn, request),
    onContinuation: (_continuation, turn) => serve(turn, undefined),
  });
  return {
    seen,
    serve: (...records: Parameters<typeof sqsRecord>[0][]) =>
      failuresOf(handler, ...records.map((body) => sqsRecord(body))),
    handler,
  };
}

function continuation() {
  return {
    version: "1",
    type: "continue",
    work: "share",
    commandId: randomUUID(),
    requestedAt: new Date().toISOString(),
    looks: 0,
  };
}

function busEvents(commandId: string): Record<string, unknown>[] {
  const details = stack.events().map(({ detailType, detail }) => ({ detailType, ...(detail as object) }));
  return details.filter((detail) => "commandId" in detail && detail["commandId"] === commandId);
}

async function rowOf(pk: string): Promise<Record<string, unknown> | undefined> {
  const { Item } = await client.send(
    new GetItemCommand({ TableName: stack.output("StateTableName"), Key: marshall({ pk }), ConsistentRead: true }),
  );
  return Item === undefined ? undefined : unmarshall(Item);
}

/** What was recorded of a body that is no command. */
function rejectionOf(body: string): Promise<Record<string, unknown> | undefined> {
  return rowOf(`COMMAND#sha256:${createHash("sha256").update(body).digest("base64url")}`);
}

describe("a body that is no command", () => {
  const wabaId = "120000000000001";
  test.each([
    { what: "is not JSON", body: (id: string) => `{"commandId":"${id}"` },
    {
      what: "lacks a field",
      body: (id: string) => ({ ...shareCommand(wabaId, { commandId: id }), currency: undefined }),
    },
    { what: "has an unknown key", body: (id: string) => shareCommand(wabaId, { commandId: id, token: "x" }) },
    { what: "is another queue's", body: (id: string) => revokeCommand({ commandId: id, wabaId }) },
    { what: "is too large", body: (id: string) => shareCommand(wabaId, { commandId: id, note: "x".repeat(20_000) }) },
    {
      what: "was asked for later than it was sent",
      body: (id: string) =>
        shareCommand(wabaId, { commandId: id, requestedAt: new Date(Date.now() + hourMs).toISOString() }),
    },
  ])("and $what is recorded, put among the dead letters once with its reason, and acknowledged", async ({ body }) => {
    const id = randomUUID();
    const { seen, handler } = handlerOf();
    const attributes = { trace: { stringValue: "abc", dataType: "String" as const } };
    const record = sqsRecord(body(id), { attributes });
    expect(await failuresOf(handler, record)).toEqual([]);
    expect(seen).toEqual([]);

    const [letter, ...others] = await stack.messages(urls.deadLetters, id);
    expect(others).toEqual([]);
    expect(letter?.Body).toBe(record.body);
    expect(letter?.MessageAttributes).toMatchObject({
      reason: { StringValue: "invalid_command" },
      trace: { StringValue: "abc" },
    });
    expect(await stack.messages(urls.own, id)).toEqual([]);
    expect(await rejectionOf(record.body)).toMatchObject({ outcome: "rejected", reason: "invalid_command" });
  });

  test("is announced again, as the same event, when it is sent again", async () => {
    const command = shareCommand(wabaId, { currency: "euro" });
    const { serve } = handlerOf();
    await serve(command);
    expect(busEvents(command.commandId)).toEqual([]);
    await serve(command);
    await serve(command);
    const [first, second, ...others] = busEvents(command.commandId);
    expect(others).toEqual([]);
    expect(first).toMatchObject({
      detailType: "Command Rejected",
      reason: "invalid_command",
      eventId: expect.any(String),
    });
    expect(second).toEqual(first);
  });

  test("changes nothing for its nine neighbours", async () => {
    const { seen, serve } = handlerOf();
    const good = Array.from({ length: 9 }, () => shareCommand(wabaId));
    expect(await serve(...good.slice(0, 4), "no command at all", ...good.slice(4))).toEqual([]);
    // They are served side by side.
    const ids = seen.map(({ request }) => request?.commandId ?? "");
    expect(ids.toSorted((a, b) => a.localeCompare(b))).toEqual(
      good.map(({ commandId }) => commandId).toSorted((a, b) => a.localeCompare(b)),
    );
    expect(await stack.messages(urls.deadLetters, "no command at all")).toHaveLength(1);
  });

  test("shows none of its values in the logs or in the table", async () => {
    const { serve } = handlerOf();
    const command = shareCommand(wabaId, {
      token: "EAAleaked",
      currency: "EAAleaked",
      businessTokenSecret: "arn:EAAleaked",
    });
    await serve(command);
    await serve(`EAAleaked ${command.commandId}`);
    expect(logs.text()).toContain("Command rejected");
    expect(logs.text()).not.toContain("EAAleaked");
    const row = JSON.stringify(await rejectionOf(JSON.stringify(command)));
    expect(row).toContain("currency");
    expect(row).not.toContain("EAAleaked");
  });
});

describe("a command id that comes again", () => {
  test.each([
    {
      what: "with other content",
      again: (id: string) => shareCommand("120000000000002", { commandId: id }),
      type: "share",
    },
    {
      what: "as another command",
      again: (id: string) => revokeCommand({ commandId: id, wabaId: "120000000000001" }),
      type: "revoke",
    },
  ] as const)("$what is rejected, and the first command's record stays", async ({ again, type }) => {
    const command = shareCommand("120000000000001");
    await handlerOf(() => Promise.reject(new BlockedError(failure))).serve(command);
    const before = await rowOf(`COMMAND#${command.commandId}`);
    const { seen, serve } = handlerOf(undefined, type);
    expect(await serve(again(command.commandId))).toEqual([]);
    expect(seen).toEqual([]);
    const letters = await stack.messages(urls.deadLetters, command.commandId);
    expect(letters.map(({ MessageAttributes }) => MessageAttributes?.["reason"]?.StringValue)).toEqual([
      "command_id_reused",
    ]);
    expect(await rowOf(`COMMAND#${command.commandId}`)).toEqual(before);
  });

  test("with other content than the item holds is rejected too, and announced", async () => {
    const command = shareCommand("120000000000001");
    const { seen, serve } = handlerOf(() => Promise.reject(new ReusedError()));
    expect(await serve(command)).toEqual([]);
    const letters = await stack.messages(urls.deadLetters, command.commandId);
    expect(letters.map(({ MessageAttributes }) => MessageAttributes?.["reason"]?.StringValue)).toEqual([
      "command_id_reused",
    ]);
    expect(await rowOf(`COMMAND#sha256:${seen[0]?.request?.hash}`)).toMatchObject({
      outcome: "rejected",
      reason: "command_id_reused",
      events: [{ detailType: "Command Rejected", commandId: command.commandId }],
    });
    expect(await rowOf(`COMMAND#${command.commandId}`)).toBeUndefined();
  });

  test("after it was concluded gets the same event again, and nothing is written", async () => {
    const command = shareCommand("120000000000001");
    const { seen, serve } = handlerOf((_turn, request) => deps.store.conclude(conclusionOf(request), Date.now()));
    expect(await serve(command)).toEqual([]);
    const before = await rowOf(`COMMAND#${command.commandId}`);
    expect(busEvents(command.commandId)).toEqual([]);

    expect(await serve(command)).toEqual([]);
    expect(await serve(command)).toEqual([]);
    expect(seen).toHaveLength(1);
    expect(await rowOf(`COMMAND#${command.commandId}`)).toEqual(before);
    const eventId = (before as { event: { eventId: string } }).event.eventId;
    expect(busEvents(command.commandId).map((event) => event["eventId"])).toEqual([eventId, eventId]);
  });

  test("after it was concluded is judged by the state when it is a revoke", async () => {
    const command = revokeCommand({ wabaId: "120000000000001" });
    const { seen, serve } = handlerOf(
      (turn, request) => turn.concluded ?? deps.store.conclude(conclusionOf(request), Date.now()),
      "revoke",
    );
    await serve(command);
    await serve(command);
    expect(seen.map(({ turn }) => turn.concluded?.outcome)).toEqual([undefined, "done"]);
    expect(busEvents(command.commandId)).toEqual([]);
  });

  test("is given back to its queue when its event cannot be sent", async () => {
    const command = shareCommand("120000000000001");
    await handlerOf((_turn, request) => deps.store.conclude(conclusionOf(request), Date.now())).serve(command);
    const events = createEventBus(() => new EventBridgeClient(stack.client), "no-such-bus");
    const flow = { type: "share", onCommand: async () => {}, onContinuation: async () => {} } as const;
    const record = sqsRecord(command);
    expect(await failuresOf(queueHandler({ ...deps, events }, flow), record)).toEqual([record.messageId]);
  });

  function conclusionOf(request: Request | undefined): Conclusion {
    if (request === undefined) throw new Error("There is no command to conclude");
    const { commandId } = request;
    return { request, outcome: "done", event: { detailType: "Share Accepted", commandId } };
  }
});

describe("a throttle", () => {
  test("H25: is remembered, and the message waits as a copy that knows when, and under which id, it was first sent", async () => {
    const sentAt = Date.now() - hourMs;
    const command = shareCommand("120000000000001", { requestedAt: new Date(sentAt).toISOString() });
    const until = Date.now() + 1000;
    const { handler } = handlerOf(() => Promise.reject(new ThrottledError(until)));
    const record = sqsRecord(command, { sentAt, receiveCount: 4 });
    expect(await failuresOf(handler, record)).toEqual([]);
    expect(await deps.store.loadBlockedUntil()).toBe(until);

    expect(await stack.messages(urls.own, command.commandId)).toEqual([]);
    const [copy, ...others] = await stack.messages(urls.own, command.commandId, { atLeast: 1 });
    expect(others).toEqual([]);
    expect(Date.now()).toBeGreaterThanOrEqual(until);
    expect(copy?.Body).toBe(JSON.stringify(command));
    expect(copy?.MessageAttributes).toEqual({
      firstSentAt: { DataType: "Number", StringValue: String(sentAt) },
      receives: { DataType: "Number", StringValue: "3" },
      firstMessageId: { DataType: "String", StringValue: record.messageId },
    });
    expect(await rowOf(`COMMAND#${command.commandId}`)).toBeUndefined();
  });

  test.each([
    ["40 minutes", 40, 10],
    ["2 days, but never longer than the hour over which Meta counts", 48 * 60, 60],
  ])("of one WABA alone, after %s, is asked after ever less often", async (_waited, waitedMinutes, minutes) => {
    const copies: number[] = [];
    const queues = { ...deps.queues, copy: async (_record: unknown, delayMs: number) => void copies.push(delayMs) };
    const quota = createQuota({ ...deps, meter: createUsageMeter({ ownIds: [], now: Date.now }) });
    const wabaId = "120000000000007";
    const flow: Flow = {
      type: "share",
      onCommand: () => Promise.reject(new ThrottledError(Date.now() + 1000)),
      onContinuation: async () => {},
    };
    const sentAt = Date.now() - waitedMinutes * 60_000;
    const attributes = { firstSentAt: { stringValue: String(sentAt), dataType: "Number" as const } };
    const command = shareCommand(wabaId, { requestedAt: new Date(sentAt).toISOString() });
    await removeQuota(wabaId);
    expect(
      await failuresOf(queueHandler({ ...deps, queues, quota }, flow), sqsRecord(command, { attributes })),
    ).toEqual([]);
    expect(copies).toHaveLength(1);
    expect(copies[0]).toBeGreaterThanOrEqual(Math.min(minutes * 60_000, 900_000) / 2);
    // What the message cannot be delayed for in one go, the table holds up.
    const until = (await deps.store.loadBlockedUntil(wabaId)) ?? 0;
    expect(Math.round((until - Date.now()) / 60_000)).toBe(minutes);
    expect(await deps.store.loadBlockedUntil()).toBeUndefined();
  });

  test("of one WABA holds what else is asked about it, commands and what is on an item, but for a revocation", async () => {
    const [busy, calm] = ["120000000000008", "120000000000009"];
    await deps.store.saveBlockedUntil(Date.now() + hourMs, busy);
    const { seen, serve } = handlerOf();
    const { delayed } = await stack.counts(urls.own);
    const onItem = { ...continuation(), wabaId: busy };
    expect(await serve(shareCommand(busy), onItem, shareCommand(calm), { ...onItem, wabaId: calm })).toEqual([]);
    expect(seen).toHaveLength(2);
    expect((await stack.counts(urls.own)).delayed).toBe(delayed + 1);
    const revoke = handlerOf(() => {}, "revoke");
    await revoke.serve(revokeCommand({ wabaId: busy }));
    expect(revoke.seen).toHaveLength(1);
    await removeQuota(busy);
  });

  test("holds every other command, before it does anything, and lets what is on an item go", async () => {
    await deps.store.saveBlockedUntil(Date.now() + hourMs);
    const { seen, serve } = handlerOf();
    const { delayed } = await stack.counts(urls.own);
    expect(await serve(shareCommand("120000000000001"), shareCommand("120000000000002"), continuation())).toEqual([]);
    expect(seen).toEqual([]);
    expect((await stack.counts(urls.own)).delayed).toBe(delayed + 2);
  });

  test("ends at its time", async () => {
    await deps.store.saveBlockedUntil(Date.now());
    const { seen, serve } = handlerOf();
    await serve(shareCommand("120000000000001"));
    expect(seen).toHaveLength(1);
  });
});

describe("a command that must wait and is on no item", () => {
  test("is copied with the time its first copy carried", async () => {
    const command = shareCommand("120000000000001");
    const { handler } = handlerOf(() => Promise.reject(new LaterError("not yet", 10)));
    const firstSentAt = Date.now() - 2 * hourMs;
    const attributes = { firstSentAt: { stringValue: String(firstSentAt), dataType: "Number" as const } };
    expect(await failuresOf(handler, sqsRecord(command, { attributes }))).toEqual([]);
    const [copy] = await stack.messages(urls.own, command.commandId, { atLeast: 1 });
    expect(copy?.MessageAttributes?.["firstSentAt"]?.StringValue).toBe(String(firstSentAt));
  });

  test("waits no longer than SQS lets a message wait", async () => {
    const { delayed } = await stack.counts(urls.own);
    const { serve } = handlerOf(() => Promise.reject(new LaterError("not today", 24 * hourMs)));
    expect(await serve(shareCommand("120000000000001"))).toEqual([]);
    expect((await stack.counts(urls.own)).delayed).toBe(delayed + 1);
  });

  test("is recorded when it is given up after three days of a throttle, before which it never came to its flow", async () => {
    await deps.store.saveBlockedUntil(Date.now() + hourMs);
    const firstSentAt = Date.now() - 72 * hourMs - 1000;
    const command = shareCommand("120000000000001", { requestedAt: new Date(firstSentAt).toISOString() });
    const copied = { dataType: "Number", stringValue: String(firstSentAt) } as const;
    const record = sqsRecord(command, { attributes: { firstSentAt: copied } });
    const { seen, handler } = handlerOf();
    expect(await failuresOf(handler, record)).toEqual([record.messageId]);
    expect(seen).toEqual([]);
    expect(await rowOf(`COMMAND#${command.commandId}`)).toMatchObject({
      reason: "meta_unavailable",
      blockedAnnounced: true,
    });
  });

  test("is left to the dead letters after three days, and announced", async () => {
    const firstSentAt = Date.now() - 72 * hourMs - 1000;
    const command = shareCommand("120000000000001", { requestedAt: new Date(firstSentAt).toISOString() });
    const { delayed } = await stack.counts(urls.own);
    const { handler } = handlerOf(() => Promise.reject(new LaterError("not yet", 10)));
    const copied = { dataType: "Number", stringValue: String(firstSentAt) } as const;
    const record = sqsRecord(command, { attributes: { firstSentAt: copied } });
    expect(await failuresOf(handler, record)).toEqual([record.messageId]);
    expect((await stack.counts(urls.own)).delayed).toBe(delayed);
    expect(await rowOf(`COMMAND#${command.commandId}`)).toMatchObject({
      reason: "meta_unavailable",
      events: [{ detailType: "Command Blocked" }],
    });
  });
});

describe("a blocked command", () => {
  test("is given back with its attempts counted, and announced once: at its last receive", async () => {
    const command = shareCommand("120000000000001");
    const { handler } = handlerOf(() => Promise.reject(new BlockedError(failure, "110000000000001")));
    for (let receiveCount = 1; receiveCount <= maxReceiveCount + 1; receiveCount += 1) {
      const record = sqsRecord(command, { receiveCount });
      expect(await failuresOf(handler, record)).toEqual([record.messageId]);
      const row = await rowOf(`COMMAND#${command.commandId}`);
      expect(row).toMatchObject({ attempts: receiveCount, failure, businessId: "110000000000001" });
      const announced = (row as { events: { detailType: string }[] }).events.map(({ detailType }) => detailType);
      expect(announced).toEqual(receiveCount === maxReceiveCount ? ["Command Blocked"] : []);
    }
  });

  test("H25: is announced at its last try, however often it waited in between", async () => {
    const command = shareCommand("120000000000001");
    const { handler } = handlerOf(() => Promise.reject(new BlockedError(failure)));
    const receives = { dataType: "Number", stringValue: String(maxReceiveCount - 1) } as const;
    await handler({ Records: [sqsRecord(command, { attributes: { receives } })] }, lambdaContext());
    expect(await rowOf(`COMMAND#${command.commandId}`)).toMatchObject({ attempts: 1, blockedAnnounced: true });
  });

  test("H27j: does not take its neighbours back with it", async () => {
    const { handler } = handlerOf((_turn, request) => {
      if (request?.requestedBy === "unlucky") throw new BlockedError(failure);
    });
    const records = ["a", "unlucky", "c"].map((requestedBy) =>
      sqsRecord(shareCommand("120000000000001", { requestedBy })),
    );
    expect(await failuresOf(handler, ...records)).toEqual([records[1]?.messageId]);
  });

  test("on an item is acknowledged, and announced once the sweeps have tried as often as a queue would", async () => {
    const request = shareCommand("120000000000001");
    const asked = {
      ...request,
      hash: "hash",
      requestedAt: 1,
      type: "share",
      reshareAfterRevocation: false,
      partnerSwitch: false,
    } as const;
    for (const sweeps of [maxReceiveCount - 1, maxReceiveCount]) {
      const { serve } = handlerOf((turn) => {
        turn.request = asked;
        turn.sweeps = sweeps;
        throw new BlockedError(failure);
      });
      expect(await serve(continuation())).toEqual([]);
      const row = await rowOf(`COMMAND#${request.commandId}`);
      expect(row?.["events"]).toHaveLength(sweeps === maxReceiveCount ? 1 : 0);
    }
  });
});

describe("an error that nobody expected", () => {
  test("gives the message back, and tells what it was without what it carried", async () => {
    const { handler } = handlerOf(() => {
      const cause = Object.assign(new Error("socket hang up"), { request: { authorization: "Bearer EAAleaked" } });
      throw Object.assign(new Error("boom", { cause }), { token: "EAAleaked" });
    });
    const record = sqsRecord(shareCommand("120000000000001"));
    expect(await failuresOf(handler, record)).toEqual([record.messageId]);
    expect(logs.text()).toContain("Error: boom (Error: socket hang up)");
    expect(logs.text()).not.toContain("EAAleaked");
  });

  test("is recorded and announced at the last receive, before the message is among the dead letters", async () => {
    const command = shareCommand("120000000000001");
    const { handler } = handlerOf(() => Promise.reject(new TypeError("boom")));
    for (let receiveCount = 1; receiveCount < maxReceiveCount; receiveCount += 1) {
      await failuresOf(handler, sqsRecord(command, { receiveCount }));
    }
    expect(await rowOf(`COMMAND#${command.commandId}`)).toBeUndefined();
    const last = sqsRecord(command, { receiveCount: maxReceiveCount });
    expect(await failuresOf(handler, last)).toEqual([last.messageId]);
    const row = await rowOf(`COMMAND#${command.commandId}`);
    expect(row).toMatchObject({
      reason: "meta_unavailable",
      failure: { message: "failed here: TypeError" },
      events: [{ detailType: "Command Blocked", commandId: command.commandId }],
    });
    expect(row?.["outcome"]).toBeUndefined();
  });

  test.each([
    { what: "Error", error: new Error("boom") },
    { what: "LaterError", error: new LaterError("not yet", 10) },
    { what: "ThrottledError", error: new ThrottledError(Date.now() + 100) },
    { what: "BlockedError", error: new BlockedError(failure) },
  ])("or any other ($what) acknowledges a message whose work is on the item, and copies nothing", async ({ error }) => {
    const command = shareCommand("120000000000001");
    const { delayed } = await stack.counts(urls.own);
    const { serve } = handlerOf((turn) => {
      turn.onItem = true;
      throw error;
    });
    expect(await serve(command, continuation())).toEqual([]);
    expect((await stack.counts(urls.own)).delayed).toBe(delayed);
    expect(await stack.messages(urls.own, command.commandId)).toEqual([]);
  });

  test("in recording the failure gives the message back too", async () => {
    const { tableName, ...lost } = { tableName: "no-such-table", client, newId: randomUUID };
    const store = createStateStore({ ...lost, tableName });
    const flow = { type: "share", onCommand: async () => {}, onContinuation: async () => {} } as const;
    const record = sqsRecord("no command");
    expect(await failuresOf(queueHandler({ ...deps, store }, flow), record)).toEqual([record.messageId]);
  });
});

test("every call to Meta is aborted while there is still time to record what is known", async () => {
  const { seen, handler } = handlerOf(async ({ signal }) => {
    const aborted = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => aborted.resolve());
    // On a slow machine the time is over before the flow begins.
    if (!signal.aborted) await aborted.promise;
  });
  const startedAt = Date.now();
  await handler({ Records: [sqsRecord(shareCommand("120000000000001"))] }, lambdaContext(3050));
  expect(seen[0]?.turn.endsAt).toBeGreaterThanOrEqual(startedAt + 50);
  expect(seen[0]?.turn.endsAt).toBeLessThan(startedAt + 3050);
});
