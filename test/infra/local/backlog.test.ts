import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DynamoDBClient, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { GetQueueAttributesCommand, SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { localStage } from "../../../infra/config.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { compareWithLedger, localClient, observe } from "../../../infra/local/observe.ts";
import { shareCommand } from "../../support/commands.ts";

const count = 500;
/** Two minutes at Meta; seconds here, written where the functions read it. */
const blockMs = 8000;

let stack: LocalStack;
let directory: string;
let sqs: SQSClient;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "backlog-"));
  const worldFile = join(directory, "world.json");
  writeFileSync(worldFile, JSON.stringify(worldOf(count)));
  stack = await startLocalStack({ port: 0, worldFile });
  sqs = new SQSClient(localClient(stack.aws.endpoint));
});
afterAll(async () => {
  sqs?.destroy();
  await stack?.close();
  rmSync(directory, { recursive: true });
});

function worldOf(customers: number): WorldInput {
  const { partnerBusinessId, creditLineId } = localStage;
  const ids = Array.from({ length: customers }, (_, index) => String(index).padStart(4, "0"));
  return {
    partnerBusinessId,
    lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId }],
    tokens: [{ value: "EAABacklogSystemTokenOfTheStandIn", kind: "system" }],
    businesses: ids.map((id) => ({ id: `11000000000${id}`, name: `Customer ${id}` })),
    wabas: ids.map((id) => ({ id: `12000000000${id}`, ownerBusinessId: `11000000000${id}`, currency: "EUR" })),
  };
}

async function blockUntil(blockedUntil: number): Promise<void> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  await client.send(
    new UpdateItemCommand({
      TableName: stack.about.tables.state,
      Key: { pk: { S: "QUOTA#graph" } },
      UpdateExpression: "SET blockedUntil = :until",
      ExpressionAttributeValues: { ":until": { N: String(blockedUntil) } },
    }),
  );
  client.destroy();
}

async function sendShares(wabaIds: string[]): Promise<void> {
  for (let index = 0; index < wabaIds.length; index += 10) {
    const Entries = wabaIds
      .slice(index, index + 10)
      .map((wabaId) => ({ Id: wabaId, MessageBody: JSON.stringify(shareCommand(wabaId)) }));
    await sqs.send(new SendMessageBatchCommand({ QueueUrl: stack.about.queues.share, Entries }));
  }
}

async function messagesIn(queueUrl: string): Promise<number> {
  const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl: queueUrl, AttributeNames: ["All"] }));
  const names = ["", "NotVisible", "Delayed"] as const;
  return names.reduce((sum, name) => sum + Number(Attributes?.[`ApproximateNumberOfMessages${name}`] ?? 0), 0);
}

test("500 shares behind a block of Meta's: no call during it, no dead letter, all verified after it", async () => {
  const wabaIds = worldOf(count).wabas?.map(({ id }) => id ?? "") ?? [];
  const startedAt = Date.now();
  const blockedUntil = startedAt + blockMs;
  await blockUntil(blockedUntil);
  await sendShares(wabaIds);
  expect(Date.now()).toBeLessThan(blockedUntil);

  const reconciling = setInterval(() => void stack.aws.invoke("reconcile", { task: "due-sweep" }), 3000);
  onTestFinished(() => clearInterval(reconciling));
  await expect
    .poll(() => stack.aws.events().filter(({ detailType }) => detailType === "Share Verified").length, {
      timeout: 240_000,
      interval: 250,
    })
    .toBe(count);
  clearInterval(reconciling);

  const observation = await observe(stack);
  const calls = observation.ledger?.calls ?? [];
  expect(calls.filter(({ time }) => time >= startedAt && time < blockedUntil)).toEqual([]);
  expect(calls.filter(({ name }) => name === "E2")).toHaveLength(count);
  const verified = observation.businesses.flatMap(({ wabas }) => Object.values(wabas).map(({ status }) => status));
  expect(verified).toEqual(Array.from({ length: count }, () => "verified"));
  expect(compareWithLedger(observation, stack.config.creditLineId)).toEqual([]);
  for (const queueUrl of Object.values(stack.about.deadLetterQueues)) expect(await messagesIn(queueUrl)).toBe(0);
}, 300_000);
