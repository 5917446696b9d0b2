import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type * as z from "zod";
import { deadLettersShape } from "../../../infra/ops/dlq/commands.ts";
import { depthOf } from "../../../infra/ops/dlq/dead-letter-queue.ts";
import { classNames, commandTypes } from "../../../infra/ops/dlq/judge-letters.ts";
import { isSelected, type Selection } from "../../../infra/ops/dlq/plan.ts";
import type { Business, Waba } from "../../../shared/domain/business.ts";
import { newBusiness } from "../../../shared/domain/business.ts";
import type { Reason } from "../../../shared/domain/reasons.ts";
import { parseBody } from "../../../shared/contracts/commands.ts";
import { createStateStore } from "../../../shared/store/state-store.ts";
import { revokeCommand, shareCommand } from "../../support/commands.ts";
import { type Meta, startMeta, systemToken } from "../../support/meta.ts";
import { type QuietStack, startQuietStack } from "../../support/quiet-stack.ts";
import { holdsTranscript } from "../../support/transcript.ts";
import * as factories from "../../shared/factories.ts";

// Each test starts the command line once or more.
vi.setConfig({ testTimeout: 120_000 });

let meta: Meta;
let stack: QuietStack;
let sqs: SQSClient;
let dynamo: DynamoDBClient;
let directory: string;

function wabaId(number: number): string {
  return `1200000000000${number}`;
}
function businessId(number: number): string {
  return `1100000000000${number}`;
}

beforeAll(async () => {
  meta = await startMeta();
  directory = mkdtempSync(path.join(tmpdir(), "dlq-"));
  stack = await startQuietStack({
    config: { graphApiBaseUrl: meta.url },
    secrets: { "credit-lines/local/system-token": systemToken },
  });
  sqs = new SQSClient(stack.client);
  dynamo = new DynamoDBClient(stack.client);
}, 60_000);
afterAll(async () => {
  sqs?.destroy();
  dynamo?.destroy();
  await stack?.close();
  await meta?.close();
  rmSync(directory, { recursive: true });
});

const requestedAt = "2026-01-31T09:30:00Z";

function share(number: number, more: Record<string, unknown> = {}) {
  return shareCommand(wabaId(number), { commandId: `order-47${number}`, requestedAt, ...more });
}

/** Puts a message among the dead letters; with `diedOf` as its command's last failure. */
async function bury(queue: "Share" | "Verify" | "Revoke", body: object | string, diedOf?: Reason): Promise<string> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const type = queue.toLowerCase() as "share" | "verify" | "revoke";
  const parsed = parseBody(type, text, { sentAt: Date.now(), clockSkewMs: 0 });
  const rejected = { MessageAttributes: { reason: { DataType: "String", StringValue: "invalid_command" } } };
  const { MessageId = "" } = await sqs.send(
    new SendMessageCommand({
      QueueUrl: stack.output(`${queue}DeadLetterQueueUrl`),
      MessageBody: text,
      ...(parsed.kind === "invalid" ? rejected : {}),
    }),
  );
  if (parsed.kind === "command" && diedOf !== undefined) {
    await store().block(parsed.request, { at: Date.now(), reason: diedOf }, true, undefined, Date.now());
  }
  // The list is in the order of sending, to the millisecond.
  await sleep(2);
  return MessageId;
}

function store() {
  return createStateStore({ client: dynamo, tableName: stack.output("StateTableName"), newId: () => "test" });
}

/** The state that a business was left in. */
async function remember(number: number, waba: Waba, more: Partial<Business> = {}): Promise<void> {
  const business = { ...newBusiness(businessId(number), Date.now()), wabas: { [wabaId(number)]: waba }, ...more };
  await store().claimOwner(wabaId(number), businessId(number), { overPendingRevoke: false });
  await store().commit(newBusiness(businessId(number), 0), { business, events: [], conclusions: [] }, Date.now());
}

function request(number: number, commandId = `earlier-${number}`) {
  return factories.shareRequest({ commandId, wabaId: wabaId(number), requestedAt: Date.parse(requestedAt) });
}

function creditLines(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const cli = path.resolve("infra/ops/credit-lines.ts");
  const all = [cli, "--endpoint", stack.endpoint, ...args];
  return new Promise((resolve) => {
    const child = execFile(process.execPath, all, { cwd: directory }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? 1, stdout, stderr }),
    );
  });
}

async function json(...args: string[]) {
  const { stdout, stderr } = await creditLines("--json", ...args);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout);
}

async function depth(): Promise<number> {
  const names = ["Share", "Verify", "Revoke"];
  const depths = names.map((name) => depthOf(sqs, stack.output(`${name}DeadLetterQueueUrl`)));
  return (await Promise.all(depths)).reduce((sum, one) => sum + one, 0);
}

describe("the dead letters of a night", () => {
  let listed: z.output<typeof deadLettersShape>;
  const messageIds = new Map<string, string>();

  beforeAll(async () => {
    await remember(12, factories.verifiedWaba({ request: request(12), creditLineId: stack.config.creditLineId }));
    await remember(13, factories.revokedWaba({ request: request(13) }), {
      epoch: 1,
      revocation: factories.doneRevocation({ requestedAt: Date.parse(requestedAt) + 60_000 }),
    });
    await remember(14, factories.sharingWaba({ request: request(14, "order-4714") }));
    await bury("Share", share(11), "permission_denied");
    messageIds.set("order-4712", await bury("Share", share(12), "permission_denied"));
    await bury("Share", share(13), "permission_denied");
    await bury("Share", { ...share(14), commandId: "order-4714-again" }, "meta_unavailable");
    messageIds.set("order-4715", await bury("Share", share(15, { token: "EAAProducersMistake123" })));
    messageIds.set("order-4716", await bury("Share", share(16), "policy_block"));
    await bury(
      "Revoke",
      revokeCommand({ commandId: "leave-4712", requestedAt, wabaId: wabaId(12) }),
      "meta_unavailable",
    );
  });

  test("are listed with what each would do now, as the README shows, and stay visible", async () => {
    const { code, stdout, stderr } = await creditLines("dlq", "list");
    expect(stderr).toBe("");
    expect(code).toBe(0);
    holdsTranscript("README.md", "dlq list", "credit-lines dlq list", stdout);
    listed = deadLettersShape.parse(await json("dlq", "list"));
    expect(listed.classes).toEqual({
      safe: 2,
      "already-done": 1,
      superseded: 1,
      "needs-probe": 1,
      "never-valid": 1,
      blocked: 1,
    });
  });

  test.each([
    ["a queue", { queues: ["revoke"] }, ["leave-4712"]],
    ["classes", { classes: ["safe", "needs-probe"] }, ["order-4711", "order-4714-again", "leave-4712"]],
    ["what they died of", { reasons: ["permission_denied"] }, ["order-4711", "order-4712", "order-4713"]],
    ["what they would end with", { reasons: ["business_revoked"] }, ["order-4713"]],
    ["a WABA", { wabaIds: [wabaId(12)] }, ["order-4712", "leave-4712"]],
    ["a business", { businessIds: [businessId(13)] }, ["order-4713"]],
    ["a command", { ids: ["order-4716"] }, ["order-4716"]],
    ["their age: old ones", { sentBefore: Date.now() - 3_600_000 }, []],
    ["their age: new ones", { sentSince: Date.now() - 3_600_000, classes: ["blocked"] }, ["order-4716"]],
  ] satisfies [string, Partial<Selection>, string[]][])("are chosen by %s", (_what, wanted, expected) => {
    const all: Selection = { queues: [...commandTypes], classes: [...classNames] };
    const chosen = listed.letters.filter((letter) => isSelected(letter, { ...all, ...wanted }));
    expect(chosen.map(({ commandId }) => commandId)).toEqual(expected);
  });

  test("are chosen by the options of the command line", async () => {
    const options = ["--reason", "permission_denied", "--class", "superseded", "safe", "--newer-than", "1h"];
    const { letters } = await json("dlq", "list", ...options, "--waba", wabaId(11), wabaId(13));
    expect(letters.map(({ commandId }: { commandId: string }) => commandId)).toEqual(["order-4711", "order-4713"]);
    expect(await creditLines("dlq", "list", "--older-than", "a week")).toMatchObject({ code: 2 });
  });

  test("are shown whole, but for what looks like a token", async () => {
    const { stdout } = await creditLines("dlq", "show", "order-4715");
    expect(stdout).toContain('"token":"[token]"');
    expect(stdout).not.toContain("EAAProducers");
    expect(stdout).toMatch(/class +never-valid/);
    expect(await json("dlq", "show", "order-4711")).toMatchObject([
      { class: "safe", record: { reason: "permission_denied", attempts: 1 } },
    ]);
  });

  test.each([
    [
      "order-4712",
      { class: "already-done", diedOf: "permission_denied" },
      { command: { outcome: "blocked", reason: "permission_denied" }, wabas: [{ status: "verified" }] },
      "dlq replay --message",
    ],
    ["order-4715", { class: "never-valid", kind: "rejected" }, { wabas: [] }, "dlq discard --message"],
    ["order-4716", { class: "blocked", reason: "policy_block" }, { wabas: [] }, "dlq replay --message"],
  ])("are explained by their message's id: %s", async (commandId, letter, more, task) => {
    const messageId = messageIds.get(commandId)!;
    const { code, stdout } = await creditLines("explain", messageId, "--json");
    const value = JSON.parse(stdout);
    expect(code).toBe(1);
    expect(value).toMatchObject({ asked: { id: messageId, is: "message" }, letter: { commandId, ...letter }, ...more });
    expect(value.tasks[0].command).toBe(`${task} ${messageId} --yes`);
    expect((await creditLines("explain", messageId)).stdout).toMatch(
      new RegExp(`^Message ${messageId}.*\n\nDead letter\n  .*${commandId}`),
    );
    expect(await depth()).toBe(7);
  });

  test("that nobody has are told where a message's command is to be found", async () => {
    const { code, stderr } = await creditLines("explain", "9f0f8c2e-7b51-4c56-a2c4-5d9e6b1f0a77", "--json");
    expect(code).toBe(1);
    expect(JSON.parse(stderr).error).toMatchObject({ reason: "unknown_id", remedy: expect.stringContaining("logs") });
  });

  test("of a line that Meta has taken away are blocked, and of one that cannot be asked about as well", async () => {
    const { creditLineId: id, partnerBusinessId: ownerBusinessId } = stack.config;
    await meta.world({ lines: [{ id, ownerBusinessId, accessRevoked: true }] });
    const revoked = deadLettersShape.parse(await json("dlq", "list"));
    await meta.world({ lines: [{ id, ownerBusinessId, accessRevoked: false }] });
    await meta.faults({ match: "E14", kind: "5xx-before", times: 20 });
    const unknown = await json("dlq", "list", "--command", "order-4711");
    await meta.faults();
    expect(revoked.letters.map((one) => [one.commandId, one.class, one.reason])).toContainEqual([
      "order-4711",
      "blocked",
      "line_access_revoked",
    ]);
    expect(revoked.classes).toMatchObject({ blocked: 2, safe: 1 });
    expect(unknown.letters).toMatchObject([{ class: "blocked", reason: "permission_denied" }]);
  });

  test("are not sent by a dry run, which says what it leaves", async () => {
    const { code, stderr, stdout } = await creditLines("dlq", "replay");
    expect(code).toBe(0);
    expect(stderr).toContain("Not chosen: 1 never-valid, 1 blocked");
    expect(stdout).toContain("5 dead letters");
    expect(await depth()).toBe(7);
  });

  test("are replayed with the replay's mark and without what they died of", async () => {
    const url = stack.output("ShareQueueUrl");
    const replayed = await json("dlq", "replay", "--command", "order-4711", "order-4715", "--wait", "0", "--yes");
    expect(replayed).toMatchObject({ dryRun: false, selected: 2, replayed: 2, open: [] });
    const messages = await stack.messages(url, "order-47", { atLeast: 2 });
    const ids = ["order-4711", "order-4715"].map((id) => listed.letters.find((one) => one.commandId === id)?.messageId);
    expect(messages.map(({ MessageAttributes }) => MessageAttributes)).toEqual(
      ids.map((id) => ({
        firstMessageId: { DataType: "String", StringValue: id },
        replayId: { DataType: "String", StringValue: replayed.replayId },
      })),
    );
    expect(await depth()).toBe(5);
  });

  test("are discarded into a file", async () => {
    const options = ["--command", "order-4716", "--to", "gone.jsonl", "--yes"];
    expect(await json("dlq", "discard", ...options)).toMatchObject({ selected: 1, discarded: 1 });
    const lines = readFileSync(path.join(directory, "gone.jsonl"), "utf8").trim().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { commandId: "order-4716", class: "blocked", body: JSON.stringify(share(16)) },
    ]);
    expect(await depth()).toBe(4);
  });
});
