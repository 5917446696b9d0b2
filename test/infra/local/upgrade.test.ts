import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { DynamoDBClient, paginateScan } from "@aws-sdk/client-dynamodb";
import {
  GetQueueAttributesCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { bundleFunctions } from "../../../infra/bundle.ts";
import { localStage, timeoutSecondsOf } from "../../../infra/config.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import { compareWithLedger, localClient, observe } from "../../../infra/local/observe.ts";
import { deadLettersShape } from "../../../infra/ops/dlq/commands.ts";
import type { JudgedLetter } from "../../../infra/ops/dlq/judge-letters.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../../support/commands.ts";
import { commandLine, type Ran } from "../../support/ops.ts";

/**
 * A release is replaced by the next one while its functions work, and comes back: what each of them leaves unfinished or writes
 * in its own way is the other's to go on with. The next release is this one, with a field of its own on each business and WABA;
 * the one before is this one without the key `method` of a share.
 */
const customers = Array.from({ length: 12 }, (_, index) => {
  const number = String(index + 1).padStart(2, "0");
  return {
    businessId: `5300000000000${number}`,
    wabaIds: [`5400000000000${number}`, `5410000000000${number}`] as const,
    token: `EAAUpgradeBusinessToken${number}`,
    secret: `credit-lines/local/business-token/upgrade-${number}`,
  };
});

/** Shared by a command that the release before does not understand. */
const lateWabaIds = ["542000000000001", "542000000000002"];

type Queue = "share" | "verify" | "revoke";
type Stored = Record<string, unknown> & { version: number; wabas: Record<string, Record<string, unknown>> };

let directory: string;
let stack: LocalStack;
let sqs: SQSClient;
const sent: { queue: Queue; commandId: string }[] = [];
const processes = new Set<number>();
/** Killed by a deployment in the middle of an invocation. */
let interrupted = 0;
/** What the next release had written when it was rolled back. */
let left: Map<string, Stored>;
/** What the command line said of the dead letters of a rollback, once it was over, and of their replay. */
let judged: JudgedLetter[];
let replayed: Ran;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "upgrade-"));
  const worldFile = path.join(directory, "world.json");
  const secretsFile = path.join(directory, "secrets.json");
  const wabas = [...customers, { businessId: "530000000000099", wabaIds: lateWabaIds }].flatMap(
    ({ businessId, wabaIds }) => wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR" })),
  );
  const { partnerBusinessId, creditLineId } = localStage;
  const lines = [{ id: creditLineId, ownerBusinessId: partnerBusinessId }];
  const tokens = [
    { value: "EAAUpgradeSystemToken", kind: "system" },
    ...customers.map(({ wabaIds: own, token }) => ({ value: token, kind: "business", wabaIds: own })),
  ];
  writeFileSync(worldFile, JSON.stringify({ partnerBusinessId, lines, tokens, wabas }));
  writeFileSync(secretsFile, JSON.stringify(Object.fromEntries(customers.map(({ secret, token }) => [secret, token]))));
  const present = await bundleFunctions({ outdir: path.join(directory, "present") });
  const next = await bundleFunctions({ outdir: path.join(directory, "next") });
  replaceIn(next, {
    "toItem({pk,...business,": 'toItem({pk,...business,newerField:"of the business",',
    // Whatever writes a WABA, a settle too, which writes no more than its entry.
    "return{...rest,request:Object.fromEntries(told),":
      'return{...rest,newerField:"of the WABA",request:Object.fromEntries(told),',
  });
  const before = await bundleFunctions({ outdir: path.join(directory, "before") });
  const method = 'method:optional(_enum(["share-and-attach","share-then-attach"]).check(';
  replaceIn(before, { [method]: `not_yet_${method}` });

  stack = await startLocalStack({
    port: 0,
    worldFile,
    secretsFile,
    onCall: (_call, proceed) => {
      for (const { pid } of stack?.aws.running() ?? []) processes.add(pid);
      return proceed();
    },
  });
  sqs = new SQSClient(localClient(stack.aws.endpoint));
  // A message comes back as soon as its function must have ended, not six times later.
  const VisibilityTimeout = String(timeoutSecondsOf("local", "share") + 2);
  for (const QueueUrl of Object.values(stack.about.queues)) {
    await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout } }));
  }
  const sweeping = new AbortController();
  const swept = sweep(sweeping.signal);
  try {
    await live(present, next);
    await liveWithTheOneBefore(before, present);
  } finally {
    sweeping.abort();
    await swept;
  }
}, 240_000);
afterAll(async () => {
  sqs?.destroy();
  await stack?.close();
  rmSync(directory, { recursive: true });
});

/** Makes another release of a bundle: each text is in it once. */
function replaceIn(bundle: string, places: Record<string, string>): void {
  for (const [known, other] of Object.entries(places)) {
    const files = readdirSync(path.join(bundle, "chunks")).map((name) => path.join(bundle, "chunks", name));
    const holding = files.filter((file) => readFileSync(file, "utf8").split(known).length === 2);
    expect(holding, known).toHaveLength(1);
    for (const file of holding) writeFileSync(file, readFileSync(file, "utf8").replace(known, other));
  }
}

/** As Lambda: the next invocations run the new code; here, those under way die with their processes. */
function deploy(bundle: string): void {
  const [asset = ""] = readdirSync(stack.templateDirectory).filter((name) => name.startsWith("asset."));
  cpSync(bundle, path.join(stack.templateDirectory, asset), { recursive: true });
  interrupted += stack.aws.running().length;
  for (const pid of processes) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended before.
    }
  }
  processes.clear();
}

async function live(present: string, next: string): Promise<void> {
  for (const customer of customers) await shareOf(customer, 0);
  await until(() => told("Share Accepted") >= 4 && isAtWork());
  deploy(next);
  await until(() => told("Share Verified") >= 4);

  // One that a deployment kills beside a live sibling is sent again only on the word of both tokens; else it is a person's.
  for (const customer of customers) await shareOf(customer, 1);
  for (const { businessId } of customers.slice(0, 4)) await send("revoke", revokeCommand({ businessId }));
  await until(() => told("Share Accepted") >= 16 && told("Credit Line Revoked") >= 1 && isAtWork());
  left = new Map([...(await businesses())].filter(([, { newerField }]) => newerField !== undefined));
  deploy(present);

  for (const { wabaIds } of customers) await send("verify", verifyCommand(wabaIds[0]));
  for (const { businessId } of customers.slice(4, 6)) await send("revoke", revokeCommand({ businessId }));
  await untilAnswered();
}

async function shareOf({ wabaIds, secret }: (typeof customers)[number], which: 0 | 1): Promise<void> {
  await send("share", shareCommand(wabaIds[which], { businessTokenSecret: secret }));
}

/** Back to a release that does not understand what producers send already, and forward again. */
async function liveWithTheOneBefore(before: string, present: string): Promise<void> {
  deploy(before);
  for (const wabaId of lateWabaIds) await send("share", shareCommand(wabaId, { method: "share-and-attach" }));
  await until(async () => told("Command Rejected") >= 2 && (await waiting(stack.about.deadLetterQueues)) === 2);
  deploy(present);
  const journal = path.join(directory, "replay.jsonl");
  const creditLines = commandLine(stack.aws.endpoint);
  const { stdout } = await creditLines("dlq", "list", "--json");
  ({ letters: judged } = deadLettersShape.parse(JSON.parse(stdout)));
  replayed = await creditLines("dlq", "replay", "--class", "safe", "--yes", "--journal", journal);
  await untilAnswered();
}

async function untilAnswered(): Promise<void> {
  await vi.waitFor(async () => expect(await unanswered()).toEqual([]), { timeout: 90_000, interval: 200 });
}

/** Commands whose outcome was not announced yet, with what stands in the table of them, and how many messages are left. */
async function unanswered(): Promise<unknown[]> {
  const { commands, businesses: stored } = await observe(stack);
  const heard = announced();
  const open = sent.flatMap(({ commandId, queue }) => {
    const record = commands.get(`COMMAND#${commandId}`);
    if (heard.has(record?.event?.eventId ?? "")) return [];
    return [{ commandId, queue, record, items: stored.filter((item) => JSON.stringify(item).includes(commandId)) }];
  });
  const messages = await waiting(stack.about.queues);
  return messages === 0 ? open : [...open, { messages }];
}

function announced(): ReadonlySet<string> {
  return new Set(stack.aws.events().map(({ detail }) => (detail as { eventId: string }).eventId));
}

async function send(queue: Queue, command: { commandId: string }): Promise<void> {
  sent.push({ queue, commandId: command.commandId });
  const QueueUrl = stack.about.queues[queue];
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: JSON.stringify(command) }));
}

async function sweep(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function told(detailType: string): number {
  return stack.aws.events().filter((event) => event.detailType === detailType).length;
}

function isAtWork(): boolean {
  return stack.aws.running().length > 0;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitUntil(holds, { timeout: 90_000, interval: 50 });
}

async function waiting(queues: Record<string, string>): Promise<number> {
  const counts = Object.values(queues).map(async (QueueUrl) => {
    const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }));
    return Number(Attributes?.ApproximateNumberOfMessages) + Number(Attributes?.ApproximateNumberOfMessagesNotVisible);
  });
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

async function businesses(): Promise<Map<string, Stored>> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  const found = new Map<string, Stored>();
  for await (const { Items = [] } of paginateScan({ client }, { TableName: stack.about.tables.state })) {
    for (const item of Items.map((one) => unmarshall(one))) {
      if (String(item["pk"]).startsWith("BUSINESS#")) found.set(item["pk"], item as Stored);
    }
  }
  client.destroy();
  return found;
}

describe("a release that is replaced while it works, and comes back", () => {
  test("leaves work in the middle, and an item that the other release goes on with", async () => {
    expect(interrupted).toBeGreaterThan(0);
    expect(left.size).toBeGreaterThan(4);
    const now = await businesses();
    const goneOn = [...left].filter(([pk, { version }]) => (now.get(pk)?.version ?? 0) > version);
    expect(goneOn.length).toBeGreaterThan(4);
  });

  test("loses no command and answers each once", async () => {
    const { commands } = await observe(stack);
    const outcomes = sent.map(({ commandId }) => commands.get(`COMMAND#${commandId}`));
    expect(outcomes.filter((one) => one?.outcome === undefined)).toEqual([]);
    expect(outcomes.filter((one) => one?.outcome === "rejected")).toEqual([]);
    const heard = announced();
    expect(outcomes.filter((one) => !heard.has(one?.event?.eventId ?? ""))).toEqual([]);
    expect(await waiting(stack.about.deadLetterQueues)).toBe(0);
  });

  test("has what only the newer one understands among the dead letters, and a replay after the upgrade obeys it", async () => {
    const letter = { kind: "rejected", diedOf: "invalid_command", class: "safe" };
    const letters = lateWabaIds.map((wabaId) => ({ ...letter, wabaId }));
    expect(judged.toSorted((one, other) => `${one.wabaId}`.localeCompare(`${other.wabaId}`))).toMatchObject(letters);
    expect(replayed).toMatchObject({ code: 0 });
    const accepted = stack.aws.events().filter(({ detailType }) => detailType === "Share Accepted");
    const shared = accepted.map(({ detail }) => (detail as { wabaId: string }).wabaId);
    expect(lateWabaIds.filter((wabaId) => !shared.includes(wabaId))).toEqual([]);
  });

  test("shares nothing twice, and leaves nothing shared that was revoked", async () => {
    expect(compareWithLedger(await observe(stack), stack.config.creditLineId)).toEqual([]);
    const calls = stack.meta?.model.calls ?? [];
    for (const wabaId of [...customers.flatMap(({ wabaIds }) => [...wabaIds]), ...lateWabaIds]) {
      const shares = calls.filter(({ name, query, status }) => {
        return name === "E2" && query["waba_id"] === wabaId && status === 200;
      });
      expect(shares.length, wabaId).toBeLessThanOrEqual(1);
    }
  });

  test("keeps what the other one wrote, whether or not it knows it, until a new attempt begins an entry anew", async () => {
    const now = await businesses();
    let kept = 0;
    for (const [pk, { wabas, version }] of left) {
      expect(now.get(pk), pk).toMatchObject({ newerField: "of the business" });
      for (const [wabaId, { newerField, intendedAt }] of Object.entries(wabas)) {
        const waba = now.get(pk)?.wabas[wabaId];
        if (newerField === undefined || waba?.["intendedAt"] !== intendedAt) continue;
        expect(waba, `${pk} ${wabaId}`).toMatchObject({ newerField: "of the WABA" });
        if ((now.get(pk)?.version ?? 0) > version) kept += 1;
      }
    }
    expect(kept).toBeGreaterThan(6);
  });
});
