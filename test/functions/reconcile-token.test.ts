import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { DeleteItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { LambdaClient, ListEventSourceMappingsCommand, UpdateEventSourceMappingCommand } from "@aws-sdk/client-lambda";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { GetQueueAttributesCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { tendTokenBreaker } from "../../functions/reconcile/token-breaker.ts";
import { type LocalStack, startLocalStack } from "../../infra/local/local-stack.ts";
import { compareWithLedger, localClient, observe } from "../../infra/local/observe.ts";
import { businessId, sampleSystemToken, sampleWorld, wabaId } from "../../infra/local/sample/world.ts";
import { createLogger } from "../../shared/logging.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";
import { createStateStore, type StateStore } from "../../shared/store/state-store.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../support/commands.ts";

let stack: LocalStack;
let client: DynamoDBClient;
let store: StateStore;
const lines: string[] = [];

beforeAll(async () => {
  const directory = mkdtempSync(join(tmpdir(), "reconcile-token-"));
  const worldFile = join(directory, "world.json");
  writeFileSync(worldFile, JSON.stringify(sampleWorld));
  stack = await startLocalStack({ port: 0, worldFile, onLog: (line) => void lines.push(line) });
  rmSync(directory, { recursive: true });
  client = new DynamoDBClient(localClient(stack.aws.endpoint));
  store = createStateStore({ client, tableName: stack.about.tables.state, newId: randomUUID });
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
});

beforeEach(async () => {
  for (const pk of ["BREAKER#system-token", "QUOTA#graph"]) {
    await client.send(new DeleteItemCommand({ TableName: stack.about.tables.state, Key: marshall({ pk }) }));
  }
});

describe("the token's breaker", () => {
  /** One run, and what it did. */
  async function tend(token: "works" | "dead" | "unknown", { failsToFeed = false, now = Date.now() } = {}) {
    const did: string[] = [];
    const log = createLogger("test");
    log.setLogLevel("SILENT");
    const run = tendTokenBreaker({
      store,
      checkToken: async () => {
        did.push("check");
        return token;
      },
      feedCommands: async (enabled) => {
        did.push(enabled ? "resume" : "pause");
        if (failsToFeed) throw new Error("Lambda does not answer");
      },
      report: (isDead) => void did.push(isDead ? "report 1" : "report 0"),
      log,
      now: () => now,
    });
    const waits = await run.catch(() => "failed");
    return { waits, did, state: (await store.loadBreaker())?.state };
  }

  test("rests, and asks nothing of Meta, while no function has found the token dead", async () => {
    expect(await tend("dead")).toEqual({ waits: false, did: ["report 0", "resume"], state: undefined });
  });

  test("pauses the event sources on every run while the token is dead, and resumes them once it works", async () => {
    await store.openBreaker(1000);
    await store.openBreaker(2000);
    expect((await store.loadBreaker())?.since).toBe(1000);
    const paused = { waits: true, did: ["report 1", "check", "pause"], state: "open" };
    expect([await tend("dead"), await tend("dead")]).toEqual([paused, paused]);
    expect(await tend("works")).toEqual({ waits: false, did: ["report 1", "check", "resume"], state: "closed" });
    expect(await tend("works")).toEqual({ waits: false, did: ["report 0", "resume"], state: "closed" });
  });

  test("leaves all as it is when Meta does not say, and does not ask during a block", async () => {
    await store.openBreaker(1000);
    expect(await tend("unknown")).toEqual({ waits: true, did: ["report 1", "check"], state: "open" });
    await store.saveBlockedUntil(5000);
    expect(await tend("works", { now: 4999 })).toEqual({ waits: true, did: ["report 1"], state: "open" });
    expect(await tend("works", { now: 5000 })).toMatchObject({ state: "closed" });
  });

  test("is not closed before the sources run, whatever fails in between", async () => {
    await store.openBreaker(1000);
    expect(await tend("works", { failsToFeed: true })).toMatchObject({ waits: "failed", state: "mended" });
    expect((await store.loadLimits()).tokenIsDead).toBe(false);
    expect(await tend("dead")).toEqual({ waits: false, did: ["report 0", "resume"], state: "closed" });
  });

  test("opens again when the token dies anew, and what is left of its first life does not close it", async () => {
    await store.openBreaker(1000);
    await tend("works", { failsToFeed: true });
    const mended = await store.loadBreaker();
    await store.openBreaker(2000);
    if (mended === undefined) throw new Error("The breaker is gone");
    expect(await store.moveBreaker(mended, "closed")).toBe(false);
    expect(await store.loadBreaker()).toEqual({ state: "open", since: 2000 });
    expect((await store.loadLimits()).tokenIsDead).toBe(true);
    await tend("works");
    await store.openBreaker(3000);
    expect((await store.loadLimits()).tokenIsDead).toBe(true);
  });
});

describe("when the system token dies", () => {
  const mended = "EAASampleSystemTokenMadeAnew";
  const sampleShares = Array.from({ length: 8 }, (_, index) => wabaId(21 + index));

  async function world(token: { value: string; dead: boolean }): Promise<void> {
    const body = JSON.stringify({ tokens: [{ ...token, kind: "system" }] });
    await fetch(`${stack.meta?.url}/_world`, { method: "POST", body });
  }
  async function states(): Promise<string[]> {
    const lambda = new LambdaClient(localClient(stack.aws.endpoint));
    const { EventSourceMappings = [] } = await lambda.send(new ListEventSourceMappingsCommand({}));
    lambda.destroy();
    return EventSourceMappings.map(({ FunctionArn, State }) => `${FunctionArn?.split("-").at(-1)} ${State}`).toSorted();
  }
  async function send(queue: "share" | "verify" | "revoke", body: unknown): Promise<void> {
    const sqs = new SQSClient(localClient(stack.aws.endpoint));
    await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[queue], MessageBody: JSON.stringify(body) }));
    sqs.destroy();
  }
  async function deadLetters(): Promise<number[]> {
    const sqs = new SQSClient(localClient(stack.aws.endpoint));
    const answers = await Promise.all(
      Object.values(stack.about.deadLetterQueues).map((QueueUrl) =>
        sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] })),
      ),
    );
    sqs.destroy();
    return answers.map(({ Attributes }) => Number(Attributes?.ApproximateNumberOfMessages));
  }
  async function statuses(): Promise<Record<string, string>> {
    const { businesses } = await observe(stack);
    return Object.fromEntries(
      businesses.flatMap(({ wabas }) => Object.entries(wabas).map(([id, { status }]) => [id, status])),
    );
  }
  /** The values of the metric in what the functions wrote, in order. */
  function metrics(): number[] {
    return lines.flatMap((line) => {
      const found = /"service":"credit-lines-local".*"SystemTokenDead":(\d)/.exec(line);
      return found === null || !line.includes('"Namespace":"CreditLines"') ? [] : [Number(found[1])];
    });
  }

  test("its commands wait, their event sources rest, and all is done once the secret is mended", async () => {
    await send("share", shareCommand(wabaId(30), { currency: "USD" }));
    await expect.poll(async () => (await statuses())[wabaId(30)], { timeout: 20_000 }).toBe("verified");
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    await expect.poll(metrics).toEqual([0]);

    await world({ value: sampleSystemToken, dead: true });
    await send("share", shareCommand(wabaId(21), { currency: "USD" }));
    await expect.poll(async () => (await store.loadBreaker())?.state, { timeout: 10_000 }).toBe("open");
    for (const id of sampleShares.slice(1)) await send("share", shareCommand(id, { currency: "USD" }));
    await send("verify", verifyCommand(wabaId(30)));
    await send("revoke", revokeCommand({ businessId: businessId(30), wabaId: wabaId(30) }));

    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    expect(await states()).toEqual(["publish Enabled", "revoke Disabled", "share Disabled", "verify Disabled"]);
    await expect.poll(metrics).toEqual([0, 1]);
    expect(lines.join("\n")).not.toContain(sampleSystemToken);
    const refused = stack.meta?.model.calls.length;
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    expect(stack.meta?.model.calls.length).toBe(Number(refused) + 1);
    expect(stack.meta?.model.calls.at(-1)).toMatchObject({ name: "E14", status: 401 });

    await world({ value: mended, dead: false });
    const secrets = new SecretsManagerClient(localClient(stack.aws.endpoint));
    await secrets.send(new PutSecretValueCommand({ SecretId: stack.about.secrets.systemToken, SecretString: mended }));
    secrets.destroy();
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    expect(await states()).toEqual(["publish Enabled", "revoke Enabled", "share Enabled", "verify Enabled"]);
    expect(await store.loadBreaker()).toMatchObject({ state: "closed" });

    const wanted = { ...Object.fromEntries(sampleShares.map((id) => [id, "verified"])), [wabaId(30)]: "revoked" };
    await expect
      .poll(
        async () => {
          await stack.aws.invoke("reconcile", { task: "due-sweep" });
          return statuses();
        },
        { timeout: 60_000, interval: 1000 },
      )
      .toMatchObject(wanted);
    expect(await deadLetters()).toEqual([0, 0, 0]);
    // Nor was any message given back, which would have cost it one of its receives.
    const served = lines.filter((line) => line.includes('"message":"Message served"'));
    expect(served.length).toBeGreaterThan(10);
    expect(served.filter((line) => !line.includes('"acknowledged":true'))).toEqual([]);
    const announced = stack.aws.events().map(({ detailType }) => detailType);
    expect(announced).not.toContain("Command Blocked");
    expect(compareWithLedger(await observe(stack), stack.config.creditLineId)).toEqual([]);
    expect(metrics().slice(0, 4)).toEqual([0, 1, 1, 1]);
    expect(metrics().at(-1)).toBe(0);
  }, 90_000);

  test("a source that a late run paused is fed again, one that a person paused is not", async () => {
    const pauses = createPauseStore(client, stack.about.tables.state);
    const lambda = new LambdaClient(localClient(stack.aws.endpoint));
    const { EventSourceMappings = [] } = await lambda.send(new ListEventSourceMappingsCommand({}));
    for (const { UUID } of EventSourceMappings) {
      await lambda.send(new UpdateEventSourceMappingCommand({ UUID, Enabled: false }));
    }
    await pauses.savePause("verify", { by: "on-call", why: "a test", since: 1000 });
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    expect(await states()).toEqual(["publish Disabled", "revoke Enabled", "share Enabled", "verify Disabled"]);
    await pauses.savePause("verify", undefined);
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    expect(await states()).toEqual(["publish Disabled", "revoke Enabled", "share Enabled", "verify Enabled"]);
    for (const { UUID } of EventSourceMappings) {
      await lambda.send(new UpdateEventSourceMappingCommand({ UUID, Enabled: true }));
    }
    lambda.destroy();
  });
});
