import { randomUUID } from "node:crypto";
import { EventBridgeClient } from "@aws-sdk/client-eventbridge";
import { DeleteItemCommand, DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { shareEnvironment } from "../../functions/share/environment.ts";
import { shareFlow } from "../../functions/share/share-allocation.ts";
import { verifyEnvironment } from "../../functions/verify/environment.ts";
import { verifyFlow } from "../../functions/verify/verify-funding.ts";
import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { LaterError } from "../../shared/errors.ts";
import { createEventBus } from "../../shared/event-bus.ts";
import { createLogger } from "../../shared/logging.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { createUsageMeter } from "../../shared/graph/usage.ts";
import { createQuota } from "../../shared/quota.ts";
import { createStateStore, type StateStore } from "../../shared/store/state-store.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../support/commands.ts";
import { failuresOf } from "../support/lambda.ts";
import { captureLogs } from "../support/logs.ts";
import { type Meta, startMeta, systemToken } from "../support/meta.ts";
import { type QuietStack, sqsRecord, startQuietStack } from "../support/quiet-stack.ts";

/** Commands at the exported handlers, while the table or Meta's answers say how much of the hour's calls is used. */
let meta: Meta;
let stack: QuietStack;
let client: DynamoDBClient;
let store: StateStore;
let handlers: Awaited<ReturnType<typeof loadHandlers>>;
let logs: ReturnType<typeof captureLogs>;
const minuteMs = 60_000;
const appCallsPerHour = 1000;

beforeAll(async () => {
  meta = await startMeta({ appCallsPerHour });
  stack = await startQuietStack({
    config: { graphApiBaseUrl: meta.url },
    secrets: { "credit-lines/local/system-token": systemToken },
  });
  client = new DynamoDBClient(stack.client);
  store = createStateStore({ client, tableName: stack.output("StateTableName"), newId: randomUUID });
  handlers = await loadHandlers();
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
  await meta?.close();
});

beforeEach(async () => {
  logs = captureLogs();
  useCalls(0);
  await meta.faults();
  const Key = marshall({ pk: "QUOTA#graph" });
  await client.send(new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key }));
});
afterEach(() => logs.restore());

async function loadHandlers() {
  Object.assign(process.env, stack.environmentOf("share"));
  const share = await import("../../functions/share/handler.ts");
  Object.assign(process.env, stack.environmentOf("verify"));
  const verify = await import("../../functions/verify/handler.ts");
  Object.assign(process.env, stack.environmentOf("revoke"));
  const revoke = await import("../../functions/revoke/handler.ts");
  return { share: share.handler, verify: verify.handler, revoke: revoke.handler };
}

/** As in a process of its own, which remembers nothing. */
function freshShare() {
  const { SHARES_STOP_AT: stopAt, ...environment } = parseEnvironment(shareEnvironment, stack.environmentOf("share"));
  const share = { currencies: ["EUR"], shareMethod: environment.SHARE_METHOD, secondPost: environment.SECOND_POST };
  const wake = { verify: environment.VERIFY_QUEUE_URL };
  const deps = buildCommandDeps("share", environment, { wake, share, stopAt });
  return queueHandler(deps, shareFlow(deps));
}
function freshVerify() {
  const { VERIFIES_STOP_AT: stopAt, ...environment } = parseEnvironment(
    verifyEnvironment,
    stack.environmentOf("verify"),
  );
  const deps = buildCommandDeps("verify", environment, { stopAt });
  return queueHandler(deps, verifyFlow(deps));
}

/** What Meta has counted of the app's calls within the hour. */
function useCalls(fraction: number): void {
  meta.model.usage.set("app", { used: fraction * appCallsPerHour, at: Date.now() });
}

async function quotaItem(wabaId = "graph"): Promise<Record<string, unknown> | undefined> {
  const Key = marshall({ pk: `QUOTA#${wabaId}` });
  const TableName = stack.output("StateTableName");
  const { Item } = await client.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }));
  return Item === undefined ? undefined : unmarshall(Item);
}

async function putReading(used: number, ageMs = 0): Promise<void> {
  const Item = marshall({ pk: "QUOTA#graph", used, readAt: Date.now() - ageMs });
  await client.send(new PutItemCommand({ TableName: stack.output("StateTableName"), Item }));
}

type Work = "share" | "verify" | "revoke";

/** How it went with one message of its own invocation: served by calls to Meta, or waiting as a delayed copy. */
async function serve(work: Work, ...commands: unknown[]): Promise<{ calls: number; copies: number }> {
  return serveBy(handlers[work], work, ...commands);
}

async function serveBy(handler: Parameters<typeof failuresOf>[0], work: Work, ...commands: unknown[]) {
  const queue = stack.output(`${work[0]?.toUpperCase()}${work.slice(1)}QueueUrl`);
  const before = { calls: meta.model.calls.length, ...(await stack.counts(queue)) };
  expect(await failuresOf(handler, ...commands.map((command) => sqsRecord(command)))).toEqual([]);
  const after = await stack.counts(queue);
  return { calls: meta.model.calls.length - before.calls, copies: after.delayed - before.delayed };
}

/** A command of each kind about a customer whose line is shared. */
async function commandsOfAShared() {
  const { wabaId } = await meta.customer();
  await serve("share", shareCommand(wabaId));
  await client.send(
    new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key: marshall({ pk: "QUOTA#graph" }) }),
  );
  const { wabaId: another } = await meta.customer();
  return { share: shareCommand(another), verify: verifyCommand(wabaId), revoke: revokeCommand({ wabaId }) };
}

describe("while the hour's calls are nearly used", () => {
  test.each([
    [0.79, ["share", "verify", "revoke"]],
    [0.8, ["verify", "revoke"]],
    [0.89, ["verify", "revoke"]],
    [0.9, ["revoke"]],
    [1.3, ["revoke"]],
  ] as const)("of %d, only these go on: %j", async (used, going) => {
    const commands = await commandsOfAShared();
    useCalls(Math.min(used, 0.95));
    await putReading(used);
    for (const work of ["share", "verify", "revoke"] as const) {
      const { calls, copies } = await serve(work, commands[work]);
      const goes = going.some((one) => one === work);
      expect([work, calls > 0, copies]).toEqual([work, goes, goes ? 0 : 1]);
    }
  });

  test.each([
    { what: "a reading's minute", delayMs: minuteMs, from: minuteMs, to: 1.5 * minuteMs },
    { what: "two minutes", delayMs: 2 * minuteMs, from: 2 * minuteMs, to: 3 * minuteMs },
    { what: "an hour, in stages of up to 15 minutes", delayMs: 60 * minuteMs, from: 7.5 * minuteMs, to: 15 * minuteMs },
  ])("what waits for $what does not come back in one moment", async ({ delayMs, from, to }) => {
    const delays: number[] = [];
    const queues = { copy: async (_record: unknown, ms: number) => void delays.push(ms) };
    const handler = queueHandler(
      {
        store,
        queues: { ...queues, deadLetter: async () => {}, wake: async () => {} },
        events: createEventBus(() => new EventBridgeClient(stack.client), stack.output("EventBusName")),
        log: createLogger("test"),
        now: Date.now,
        clockSkewMs: 2000,
        maxReceiveCount: 5,
      },
      {
        type: "share",
        onCommand: () => Promise.reject(new LaterError("later", delayMs)),
        onContinuation: async () => {},
      },
    );
    const commands = Array.from({ length: 50 }, () => sqsRecord(shareCommand("120000000000001")));
    expect(await failuresOf(handler, ...commands)).toEqual([]);
    expect(delays).toHaveLength(50);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(from);
    expect(Math.max(...delays)).toBeLessThanOrEqual(to);
    expect(Math.max(...delays) - Math.min(...delays)).toBeGreaterThan((to - from) / 2);
  });

  test("a continuation is acknowledged and not copied: its item holds it", async () => {
    await putReading(0.85);
    const requestedAt = new Date().toISOString();
    const continuation = { version: "1", type: "continue", work: "share", commandId: "c", requestedAt, looks: 0 };
    expect(await serve("share", continuation)).toEqual({ calls: 0, copies: 0 });
  });

  test("one invocation goes ahead of a reading that is a minute old, and what it reads lets all others go", async () => {
    await putReading(0.85, minuteMs);
    useCalls(0.4);
    const shares = await Promise.all(
      Array.from({ length: 6 }, async () => shareCommand((await meta.customer()).wabaId)),
    );
    const { calls } = await serve("share", shares[0]);
    expect(calls).toBeGreaterThan(0);
    expect((await quotaItem())?.["used"]).toBe(0.4);
    for (const share of shares.slice(1)) expect(await serve("share", share)).toMatchObject({ copies: 0 });
  });

  test("one whose work asks nothing of Meta asks all the same how much is used, or the old reading would stand", async () => {
    await putReading(0.95, minuteMs);
    useCalls(0.4);
    const nobodys = sqsRecord(verifyCommand("120000000099999"));
    expect(await failuresOf(handlers.verify, nobodys)).toHaveLength(1);
    expect((await quotaItem())?.["used"]).toBe(0.4);
  });

  test("the others wait as long as nobody knows better, and then one goes again", async () => {
    await putReading(0.85, minuteMs + 1);
    useCalls(0.9);
    const quotas = Array.from({ length: 5 }, () => createQuota({ store, now: Date.now, stopAt: 0.8 }));
    const holds = await Promise.all(quotas.map((quota) => quota.hold(AbortSignal.timeout(5000))));
    expect(holds.filter((hold) => hold === undefined)).toHaveLength(1);
    expect(await createQuota({ store, now: Date.now, stopAt: 0.8 }).hold(AbortSignal.timeout(5000))).toBeDefined();
    const later = createQuota({ store, now: () => Date.now() + minuteMs, stopAt: 0.8 });
    expect(await later.hold(AbortSignal.timeout(5000))).toBeUndefined();
  });
});

describe("what Meta's answers tell", () => {
  test("is written when it makes the function wait, and holds the next of its commands", async () => {
    useCalls(0.85);
    const { wabaId } = await meta.customer();
    expect(await serveBy(freshShare(), "share", shareCommand(wabaId))).toMatchObject({ copies: 0 });
    expect(Number((await quotaItem())?.["used"])).toBeCloseTo(0.86, 1);
    expect(await serve("share", shareCommand((await meta.customer()).wabaId))).toEqual({ calls: 0, copies: 1 });
  });

  test("is written nowhere while nobody needs to know", async () => {
    useCalls(0.7);
    const { calls } = await serveBy(freshShare(), "share", shareCommand((await meta.customer()).wabaId));
    expect(calls).toBeGreaterThan(0);
    expect(await quotaItem()).toBeUndefined();
  });

  test("is written when another point is used, and not more often than every five seconds", async () => {
    const clock = { now: Date.now() };
    const used = [0.81, 0.82, 0.83, 0.83, 0.834, 0.84];
    const meter = { ...createUsageMeter({ ownIds: [], now: () => clock.now }), takeUsed: () => used.shift() };
    const quota = createQuota({ store, now: () => clock.now, stopAt: 0.8, meter });
    const written: unknown[] = [];
    for (const ms of [0, 4999, 1, 5000, 5000, 5000]) {
      clock.now += ms;
      await quota.hold(AbortSignal.timeout(5000));
      await quota.finish(AbortSignal.timeout(1000));
      const item = await quotaItem();
      written.push([item?.["used"], Number(item?.["readAt"]) === clock.now]);
    }
    expect(written).toEqual([
      [0.81, true],
      [0.81, false],
      [0.83, true],
      [0.83, false],
      [0.83, false],
      [0.84, true],
    ]);
  });

  test("never takes the place of something read later", async () => {
    await store.saveReading({ used: 0.9, readAt: 2000 });
    await store.saveReading({ used: 0.5, readAt: 1999 });
    await store.saveBlockedUntil(5000);
    expect(await store.loadLimits()).toEqual({
      blockedUntil: 5000,
      reading: { used: 0.9, readAt: 2000 },
      tokenIsDead: false,
    });
  });
});

describe("a throttle", () => {
  test("stops revocations too, and nothing is asked of Meta before its end", async () => {
    const commands = await commandsOfAShared();
    await store.saveBlockedUntil(Date.now() + minuteMs);
    for (const work of ["share", "verify", "revoke"] as const) {
      expect(await serve(work, commands[work])).toEqual({ calls: 0, copies: 1 });
    }
  });

  test("of the app is remembered for all until its end, and adds one call of an invocation to the block", async () => {
    const { verify } = await commandsOfAShared();
    const { wabaId } = await meta.customer();
    // E8 is the second call of a first share; whatever came after it would be throttled too.
    await meta.faults({ match: "E8", kind: "throttle", times: 5, ms: 2 * minuteMs });
    const before = Date.now();
    const share = freshShare();
    const { calls, copies } = await serveBy(share, "share", shareCommand(wabaId));
    expect([calls, copies]).toEqual([2, 1]);
    const until = Number((await quotaItem())?.["blockedUntil"]);
    expect(until).toBeGreaterThanOrEqual(before + 2 * minuteMs);
    expect(until).toBeLessThanOrEqual(Date.now() + 2 * minuteMs);
    expect(await serve("verify", verify)).toEqual({ calls: 0, copies: 1 });
    // This process sends nothing more either, whatever the table says.
    await client.send(
      new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key: marshall({ pk: "QUOTA#graph" }) }),
    );
    expect(await serveBy(share, "share", shareCommand(wabaId))).toEqual({ calls: 0, copies: 1 });
    expect(Number((await quotaItem())?.["blockedUntil"])).toBe(until);
  });

  test("of one WABA stops what else is asked about it, other than a revocation, and nothing about others", async () => {
    const { wabaId: busy } = await meta.customer();
    const { wabaId: calm } = await meta.customer();
    await serveBy(freshShare(), "share", shareCommand(busy), shareCommand(calm));
    await meta.faults({ match: "E7", wabaId: busy, kind: "throttle", times: 1 });
    const { copies } = await serveBy(freshVerify(), "verify", verifyCommand(busy), verifyCommand(calm));
    expect(copies).toBe(1);
    expect((await quotaItem())?.["blockedUntil"]).toBeUndefined();
    // In another process, whoever asks.
    for (const _ of [1, 2]) {
      expect(await serveBy(freshVerify(), "verify", verifyCommand(busy))).toEqual({ calls: 0, copies: 1 });
    }
    expect(await serveBy(freshShare(), "share", shareCommand(busy))).toEqual({ calls: 0, copies: 1 });
    expect(await serveBy(freshVerify(), "verify", verifyCommand(calm))).toMatchObject({ copies: 0 });
    const own = await quotaItem(busy);
    expect(Number(own?.["blockedUntil"])).toBeGreaterThan(Date.now());
    expect(Number(own?.["expiresAt"]) * 1000).toBeGreaterThanOrEqual(Number(own?.["blockedUntil"]));

    const revoked = await serve("revoke", revokeCommand({ wabaId: busy }));
    expect(revoked.copies).toBe(0);
    expect(revoked.calls).toBeGreaterThan(0);
  });

  test("of one WABA ends at its time", async () => {
    const { wabaId } = await meta.customer();
    await serveBy(freshShare(), "share", shareCommand(wabaId));
    await store.saveBlockedUntil(Date.now(), wabaId);
    const { calls, copies } = await serveBy(freshVerify(), "verify", verifyCommand(wabaId));
    expect([calls > 0, copies]).toEqual([true, 0]);
  });
});
