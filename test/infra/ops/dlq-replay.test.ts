import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { text as readText } from "node:stream/consumers";
import { SendMessageBatchCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type * as z from "zod";
import { localStage } from "../../../infra/config.ts";
import type { OnCall } from "../../../infra/local/aws/gateway.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { compareWithLedger, localClient, observe } from "../../../infra/local/observe.ts";
import { chunks, depthOf } from "../../../infra/ops/dlq/dead-letter-queue.ts";
import { deadLettersShape, discardShape, replayShape } from "../../../infra/ops/dlq/commands.ts";
import { shareCommand, verifyCommand } from "../../support/commands.ts";

/**
 * A replay of many dead letters by the real command line, while the functions run: interrupted by SIGINT, then killed between
 * a send and its delete, then resumed. `npm test` takes a few hundred; `DEAD_LETTERS=10000 npx vitest run
 * test/infra/ops/dlq-replay.test.ts` is the whole proof, some minutes.
 */
const count = Number(process.env["DEAD_LETTERS"] ?? 300);
const isWhole = count > 1000;
const patienceMs = isWhole ? 3_600_000 : 180_000;

const { partnerBusinessId, creditLineId } = localStage;
const shared = 10;

function wabaId(index: number): string {
  return `1200000${String(index).padStart(8, "0")}`;
}

const world: WorldInput = {
  partnerBusinessId,
  lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId }],
  tokens: [{ value: "EAADeadLettersSystemToken", kind: "system" }],
  wabas: Array.from({ length: count + shared }, (_, index) => ({
    id: wabaId(index),
    ownerBusinessId: `1100000${String(index).padStart(8, "0")}`,
    currency: "EUR",
  })),
};

/**
 * Ten kinds in turn. Three need a POST; three are copies of those, one asks for the same under another id, one for what is
 * shared already; one is no command; and one is blocked: nobody knows its WABA's owner.
 */
type Kind = "post" | "copy" | "rival" | "done" | "invalid" | "blocked";
const kinds: Kind[] = ["post", "post", "post", "copy", "copy", "copy", "rival", "done", "invalid", "blocked"];

function letters(): { kind: Kind; queue: "share" | "verify"; body: string }[] {
  const posts = new Map<number, string>();
  return Array.from({ length: count }, (_, index) => {
    const kind = kinds[index % kinds.length] ?? "post";
    const first = index - (index % kinds.length);
    function body(): string {
      if (kind === "post") return JSON.stringify(shareCommand(wabaId(index)));
      if (kind === "copy") return posts.get(first + (index % 3)) ?? "";
      if (kind === "rival") return JSON.stringify(shareCommand(wabaId(first + 2)));
      if (kind === "done") return JSON.stringify(shareCommand(wabaId(count + (index % shared))));
      if (kind === "blocked") return JSON.stringify(verifyCommand(wabaId(index)));
      return JSON.stringify({ ...shareCommand(wabaId(index)), token: `EAASecretThatAProducerSent${index}` });
    }
    const text = body();
    if (kind === "post") posts.set(index, text);
    return { kind, queue: kind === "blocked" ? "verify" : "share", body: text };
  });
}

const all = letters();
function countOf(...wanted: Kind[]): number {
  return all.filter(({ kind }) => wanted.includes(kind)).length;
}
const selected = countOf("post", "copy", "rival", "done");

let stack: LocalStack;
let sqs: SQSClient;
let directory: string;
/** What happens to the next delete from the dead letters of shares. */
let onDelete: (() => Promise<void>) | undefined;
let onSend: (() => void) | undefined;

async function watchCalls(...[{ service, operation, body }, proceed]: Parameters<OnCall>): ReturnType<OnCall> {
  if (service === "sqs" && operation === "SendMessageBatch" && body.includes("replayId")) onSend?.();
  const dead = service === "sqs" && operation === "DeleteMessageBatch" && body.includes("DeadLetter");
  if (dead && onDelete !== undefined) {
    await onDelete();
    throw new Error("Its caller is dead");
  }
  return proceed();
}

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "dead-letters-"));
  const worldFile = path.join(directory, "world.json");
  writeFileSync(worldFile, JSON.stringify(world));
  // A busy machine must not be taken for a Meta that does not answer: what is in doubt is on its item, and not yet done.
  const stageConfigFile = path.join(directory, "stage.json");
  writeFileSync(stageConfigFile, JSON.stringify({ ...localStage, graphTimeoutMs: 3000 }));
  // Tables in a file: there each write of thousands is as quick as the first.
  stack = await startLocalStack({
    port: 0,
    worldFile,
    stageConfigFile,
    dataDirectory: path.join(directory, "data"),
    onCall: watchCalls,
  });
  sqs = new SQSClient(localClient(stack.aws.endpoint));
  const { queues, deadLetterQueues } = stack.about;
  for (let index = 0; index < shared; index += 1) {
    const MessageBody = JSON.stringify(shareCommand(wabaId(count + index)));
    await sqs.send(new SendMessageCommand({ QueueUrl: queues.share, MessageBody }));
  }
  await vi.waitFor(async () => expect(await depthOf(sqs, queues.share)).toBe(0), { timeout: 20_000 });
  for (const batch of chunks(all, 10)) {
    for (const queue of ["share", "verify"] as const) {
      const own = batch.filter((letter) => letter.queue === queue);
      const Entries = own.map(({ body }, index) => ({ Id: String(index), MessageBody: body, ...attributes(body) }));
      await sqs.send(new SendMessageBatchCommand({ QueueUrl: deadLetterQueues[queue], Entries }));
    }
  }
}, 120_000);
afterAll(async () => {
  sqs?.destroy();
  await stack?.close();
  rmSync(directory, { recursive: true });
});

/** The mark of what we rejected; or what a producer gave along. */
function attributes(body: string) {
  const [name, StringValue] = body.includes("EAA") ? ["reason", "invalid_command"] : ["trace", "abc"];
  return { MessageAttributes: { [name]: { DataType: "String", StringValue } } };
}

type Run = { code: number | null; stdout: string; stderr: string };

function start(...args: string[]): { child: ChildProcess; ended: Promise<Run> } {
  const global = ["--endpoint", stack.aws.endpoint, "--json", "dlq"];
  const cli = path.resolve("infra/ops/credit-lines.ts");
  const child = spawn(process.execPath, [cli, ...global, ...args], { cwd: directory });
  const ended = Promise.all([readText(child.stdout), readText(child.stderr), once(child, "exit")]);
  return { child, ended: ended.then(([stdout, stderr]) => ({ code: child.exitCode, stdout, stderr })) };
}

async function run<S extends z.ZodType>(shape: S, ...args: string[]): Promise<Run & { value: z.output<S> }> {
  const result = await start(...args).ended;
  if (result.stdout === "") throw new Error(result.stderr);
  return { ...result, value: shape.parse(JSON.parse(result.stdout)) };
}

async function deadLetters(): Promise<number> {
  const { share, verify, revoke } = stack.about.deadLetterQueues;
  const depths = await Promise.all([share, verify, revoke].map((url) => depthOf(sqs, url)));
  return depths.reduce((sum, depth) => sum + depth, 0);
}

function journalLines(): { kind: string; messageId?: string; messageIds?: string[] }[] {
  const file = readdirSync(path.join(directory, ".credit-lines")).find((name) => name.startsWith("replay-")) ?? "";
  const lines = readFileSync(path.join(directory, ".credit-lines", file), "utf8")
    .trim()
    .split("\n");
  return lines.map((line) => JSON.parse(line));
}

function messageIds(kind: string): string[] {
  return journalLines().flatMap((line) => (line.kind === kind ? (line.messageIds ?? [line.messageId ?? ""]) : []));
}

test(
  `${count} dead letters, replayed with an interruption, a kill between send and delete, and a resume: all that were selected, nothing lost, nothing shared twice`,
  async () => {
    const listed = await run(deadLettersShape, "list");
    expect(listed.stderr).toBe("");
    expect(listed.value).toMatchObject({
      total: count,
      classes: {
        safe: countOf("post", "copy", "rival"),
        "already-done": countOf("done"),
        "never-valid": countOf("invalid"),
        blocked: countOf("blocked"),
      },
    });
    expect(countOf("post")).toBeGreaterThanOrEqual(0.3 * selected);
    // Listing hides nothing: whoever asks next sees it all.
    expect((await run(deadLettersShape, "list")).value.total).toBe(count);

    const dry = await run(replayShape, "replay");
    expect(dry.value).toMatchObject({ dryRun: true, selected, replayed: 0 });
    expect(await deadLetters()).toBe(count);

    // Interrupted in the middle: what was begun is ended, and the way on is told.
    const rate = isWhole ? "2000" : "300";
    const first = start("replay", "--rate", rate, "--hold", "5", "--wait", "0", "--yes");
    let sends = 0;
    onSend = () => {
      sends += 1;
      if (sends === Math.floor(selected / 40)) first.child.kill("SIGINT");
    };
    const interrupted = await first.ended;
    onSend = undefined;
    expect(interrupted.code).toBe(1);
    const resume = /--resume (\S+)/.exec(interrupted.stderr)?.[1] ?? "";
    const after = replayShape.parse(JSON.parse(interrupted.stdout));
    expect(after.replayed).toBeGreaterThan(0);
    expect(after.replayed + after.open.length).toBe(selected);
    expect(after.open.length).toBeGreaterThan(0);

    // Killed when a batch is in its queue, and still among the dead letters too.
    const second = start("replay", "--resume", resume, "--rate", rate, "--hold", "5", "--wait", "0");
    let deletes = 0;
    onDelete = async () => {
      deletes += 1;
      second.child.kill("SIGKILL");
      await second.ended;
    };
    expect(await second.ended).toMatchObject({ code: null });
    onDelete = undefined;
    expect(deletes).toBe(1);
    const sentTwiceOver = messageIds("sent").filter((id) => !messageIds("deleted").includes(id));
    expect(sentTwiceOver.length).toBeGreaterThan(0);

    const last = await run(
      replayShape,
      "replay",
      "--resume",
      resume,
      "--rate",
      rate,
      "--hold",
      "5",
      "--wait",
      String(patienceMs / 1000),
    );
    expect(last.value).toMatchObject({ selected, replayed: selected, open: [] });
    expect(last.value.fates.filter(({ fate }) => fate !== "done")).toEqual([]);
    expect(last.code).toBe(0);
    expect(last.value.fates).toHaveLength(selected);

    // Selected = replayed, by the replay's own journal; each message once.
    const planned = messageIds("planned");
    expect(planned).toHaveLength(selected);
    expect(messageIds("sent").toSorted()).toEqual(planned.toSorted());
    expect(messageIds("deleted").toSorted()).toEqual(planned.toSorted());

    const discarded = await run(discardShape, "discard", "--to", "bad.jsonl", "--yes");
    expect(discarded.value).toMatchObject({ selected: countOf("invalid"), discarded: countOf("invalid") });
    const archived = readFileSync(path.join(directory, "bad.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(archived).toHaveLength(countOf("invalid"));
    expect(JSON.stringify(archived)).not.toContain("EAASecret");
    expect(archived[0]).toMatchObject({ kind: "rejected", diedOf: "invalid_command", class: "never-valid" });

    // Archive + dead letters + queue: every message is in one of them.
    const left = await run(deadLettersShape, "list");
    expect(left.value).toMatchObject({ total: countOf("blocked"), classes: { blocked: countOf("blocked") } });
    expect(archived.length + left.value.total + selected).toBe(count);

    // Judged by Meta's ledger: each WABA once.
    await vi.waitFor(async () => expect(await depthOf(sqs, stack.about.queues.share)).toBe(0), { timeout: patienceMs });
    const observation = await observe(stack);
    expect(compareWithLedger(observation, creditLineId)).toEqual([]);
    const posts = observation.ledger?.calls.filter(({ name }) => name === "E2") ?? [];
    expect(posts).toHaveLength(countOf("post") + shared);
    expect(new Set(posts.map(({ query }) => query["waba_id"])).size).toBe(posts.length);
  },
  isWhole ? 5_400_000 : 480_000,
);
