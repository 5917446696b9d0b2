import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { ReceiveMessageCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { localStage } from "../../../infra/config.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import { compareWithLedger, localClient, observe } from "../../../infra/local/observe.ts";
import { control } from "../../../infra/local/run-steps.ts";
import { shareCommand, verifyCommand } from "../../support/commands.ts";

/** The system token is replaced twice while commands keep coming: once as the book says, once too late. */
const tokens = ["EAARotationFirst", "EAARotationSecond", "EAARotationThird"].map((value) => ({
  value,
  kind: "system" as const,
}));
const customers = 60;

function waba(n: number): string {
  return `6200000000${String(n).padStart(3, "0")}`;
}

let stack: LocalStack;
let sqs: SQSClient;
let secrets: SecretsManagerClient;
const directory = mkdtempSync(path.join(tmpdir(), "rotation-"));
const commands = Array.from({ length: customers }, (_, n) => ({
  share: shareCommand(waba(n)),
  verify: verifyCommand(waba(n)),
}));

beforeAll(async () => {
  const worldFile = path.join(directory, "world.json");
  const world = {
    partnerBusinessId: localStage.partnerBusinessId,
    lines: [{ id: localStage.creditLineId, ownerBusinessId: localStage.partnerBusinessId }],
    tokens: tokens.slice(0, 1),
    wabas: commands.map((_, n) => ({
      id: waba(n),
      ownerBusinessId: `6100000000${String(n).padStart(3, "0")}`,
      currency: "EUR",
    })),
  };
  writeFileSync(worldFile, JSON.stringify(world));
  stack = await startLocalStack({ port: 0, worldFile });
  sqs = new SQSClient(localClient(stack.aws.endpoint));
  secrets = new SecretsManagerClient(localClient(stack.aws.endpoint));
});
afterAll(async () => {
  sqs?.destroy();
  secrets?.destroy();
  await stack?.close();
  rmSync(directory, { recursive: true });
});

test("a rotation under load refuses nothing, blocks nothing and loses nothing", async () => {
  await send(0, 20);
  await until(() => ended().length >= 5);
  // As Meta and the runbook want it: both tokens work for a moment.
  await meta({ tokens: [tokens[1]] });
  await putSecret(1);
  await meta({ tokens: [{ ...tokens[0], dead: true }] });
  await send(20, 40);
  await until(() => ended().length >= 25);
  // As it should not be: the old one dies first, and nobody has made the new one yet.
  await meta({ tokens: [{ ...tokens[1], dead: true }] });
  await send(40, 60);
  await until(() => stack.meta?.model.calls.some(({ errorCode }) => errorCode === 190) === true);
  await stack.aws.invoke("reconcile");
  await meta({ tokens: [tokens[2]] });
  await putSecret(2);

  await until(() => ended().length === customers, true);
  const details = stack.aws.events().map(({ detailType }) => detailType);
  expect(new Set(details)).toEqual(new Set(["Share Accepted", "Share Verified"]));
  const observation = await observe(stack);
  expect([...observation.commands.values()].filter(({ outcome }) => outcome !== "done")).toEqual([]);
  expect(observation.commands.size).toBe(2 * customers);
  expect(compareWithLedger(observation, stack.config.creditLineId)).toEqual([]);
  const posts = stack.meta?.model.calls.filter(({ name, status }) => name === "E2" && status === 200);
  expect(posts).toHaveLength(customers);
  for (const QueueUrl of Object.values(stack.about.deadLetterQueues)) {
    expect((await sqs.send(new ReceiveMessageCommand({ QueueUrl }))).Messages).toBeUndefined();
  }
}, 150_000);

async function send(from: number, to: number): Promise<void> {
  for (const { share } of commands.slice(from, to)) await put("share", share);
}

/** A verification of each customer whose share is answered, once. */
async function verifyShared(): Promise<void> {
  for (const { share, verify } of commands) {
    if (asked.has(verify.commandId) || eventsOf(share.commandId) === 0) continue;
    asked.add(verify.commandId);
    await put("verify", verify);
  }
}
const asked = new Set<string>();

async function put(queue: "share" | "verify", body: object): Promise<void> {
  await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[queue], MessageBody: JSON.stringify(body) }));
}

async function putSecret(n: number): Promise<void> {
  const SecretString = tokens[n]?.value ?? "";
  await secrets.send(new PutSecretValueCommand({ SecretId: stack.about.secrets.systemToken, SecretString }));
}

async function meta(world: object): Promise<void> {
  await control(`${stack.about.graphUrl}/_world`, world);
}

function eventsOf(commandId: string): number {
  return (stack.aws.events() as unknown as { detail: { commandId?: string } }[]).filter(
    ({ detail }) => detail.commandId === commandId,
  ).length;
}

/** Customers whose verification, which was asked for after their share's answer, is answered too. */
function ended(): unknown[] {
  return commands.filter(({ verify }) => eventsOf(verify.commandId) > 0);
}

async function until(holds: () => boolean, sweeping = false): Promise<void> {
  await vi.waitFor(
    async () => {
      if (sweeping) await stack.aws.invoke("reconcile");
      // Verifications follow their shares, so that there are always some of both on their way.
      await verifyShared();
      expect(holds()).toBe(true);
    },
    { timeout: 100_000, interval: 300 },
  );
}
