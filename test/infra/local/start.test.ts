import { execFile } from "node:child_process";
import { appendFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { ReceiveMessageCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterEach, describe, expect, test } from "vitest";
import { startLocalStack, type LocalStack } from "../../../infra/local/local-stack.ts";
import { localClient, observe } from "../../../infra/local/observe.ts";
import { runSteps } from "../../../infra/local/run-steps.ts";
import { drift, firstDay } from "../../../infra/local/sample/drift.ts";
import { morning, type Step } from "../../../infra/local/sample/morning.ts";
import { currencyOf, wabaId } from "../../../infra/local/sample/world.ts";

const stacks: LocalStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.close();
});

async function start(): Promise<LocalStack> {
  const stack = await startLocalStack({ port: 0 });
  stacks.push(stack);
  return stack;
}

function shareStep(expected: Record<string, string>): Step {
  const body = { type: "share", commandId: "share-21", wabaId: wabaId(21), currency: currencyOf(21) };
  return {
    title: "one share",
    commands: [{ queue: "share", body, expected: { outcome: "done", ...expected } as never }],
  };
}

const quick = { say: () => {}, patienceMs: 8000 };

describe("npm start", () => {
  test("ends with 0 when every command of the sample morning has its outcome, and prints one JSON object a command", async () => {
    const { stdout, stderr } = await promisify(execFile)("node", ["infra/local/start.ts", "--json"], {
      timeout: 150_000,
    });
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(rows).toHaveLength(morning.flatMap((step) => step.commands).length);
    expect(rows.find((row) => row.commandId === "share-19")).toMatchObject({
      type: "share",
      wabaId: wabaId(19),
      outcome: "done",
      status: "verified",
    });
    expect(rows.every((row) => typeof row.graphCalls === "number")).toBe(true);
    // Progress says only what changed, and nothing of a step without commands.
    const lines = stderr.trim().split("\n");
    expect(lines.filter((line, index) => line === lines[index - 1])).toEqual([]);
    expect(lines).not.toContain("    0 of 0 commands ended");
    expect(lines.filter((line) => line.endsWith("commands ended")).length).toBeGreaterThan(3);
  }, 160_000);

  test.each([
    ["--drift", drift],
    ["--import", firstDay],
  ])(
    "%s: what was done by hand is found, healed, and revoked where a customer left",
    async (_option, steps) => {
      const stack = await start();
      const { faults } = await runSteps(steps, stack, { say: () => {}, patienceMs: 60_000 });
      expect(faults).toEqual([]);
    },
    160_000,
  );

  test("says which expectation does not hold", async () => {
    const stack = await start();
    const { faults } = await runSteps([shareStep({ status: "mismatched" })], stack, quick);
    expect(faults).toEqual([`share-21: expected WABA ${wabaId(21)} to be mismatched, found verified`]);
  });

  test("finds a ledger that says otherwise than the table", async () => {
    const stack = await start();
    const { faults: before } = await runSteps([shareStep({ status: "verified" })], stack, quick);
    expect(before).toEqual([]);
    const changes = stack.meta?.model.changes ?? [];
    changes.splice(
      changes.findIndex((change) => change.kind === "waba_attached" && change.wabaId === wabaId(21)),
      1,
    );
    const { faults } = await runSteps([{ title: "nothing more", commands: [] }], stack, quick);
    expect(faults).toEqual([expect.stringContaining(`WABA ${wabaId(21)} is verified by`)]);
  });

  test("finds that a broken handler leaves a command without an outcome", async () => {
    const stack = await start();
    breakHandler(stack.templateDirectory);
    const { faults } = await runSteps([shareStep({ status: "verified" })], stack, quick);
    expect(faults).toEqual(["share-21: has no outcome"]);
  });
});

describe("The running stack", () => {
  test("changes nothing when all messages of the morning come again at once under new ids", async () => {
    const stack = await start();
    const [first, , third, , , leave] = morning;
    const steps = [first, third, leave].filter((step) => step !== undefined);
    const { sent, faults } = await runSteps(steps, stack, quick);
    expect(faults).toEqual([]);

    const settled = await observe(stack);
    const sqs = new SQSClient(localClient(stack.aws.endpoint));
    const copies = sent.flatMap(({ queue, text }) => [
      { queue, text },
      { queue, text },
    ]);
    const { queues } = stack.about;
    await Promise.all(
      copies.map(({ queue, text }) => sqs.send(new SendMessageCommand({ QueueUrl: queues[queue], MessageBody: text }))),
    );
    await expect
      .poll(() => announcements(stack), { timeout: 20_000 })
      .toBeGreaterThanOrEqual(settled.announced.size + copies.length - rejectedCopies(copies.length, sent));
    sqs.destroy();

    const after = await observe(stack);
    expect(after.ledger?.changes).toEqual(settled.ledger?.changes);
    expect(after.businesses).toEqual(settled.businesses);
    expect(after.announced).toEqual(settled.announced);
  }, 60_000);

  test("keeps a malformed body among the dead letters with its reason, at its first receive", async () => {
    const stack = await start();
    const step: Step = {
      title: "one bad body",
      commands: [{ queue: "verify", body: "{", expected: { outcome: "rejected", reason: "invalid_command" } }],
    };
    const { faults } = await runSteps([step], stack, quick);
    expect(faults).toEqual([]);
    const sqs = new SQSClient(localClient(stack.aws.endpoint));
    const { Messages } = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: stack.about.deadLetterQueues.verify,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["ApproximateReceiveCount"],
      }),
    );
    sqs.destroy();
    expect(Messages).toHaveLength(1);
    expect(Messages?.[0]?.MessageAttributes?.["reason"]?.StringValue).toBe("invalid_command");
    expect(Messages?.[0]?.Attributes?.ApproximateReceiveCount).toBe("1");
  });
});

/** All events ever put on the bus, repeats included. */
async function announcements(stack: LocalStack): Promise<number> {
  return stack.aws.events().length;
}

/** A rejected body is announced once, by its record; its copies only become dead letters. */
function rejectedCopies(copies: number, sent: readonly { commandId: string }[]): number {
  const rejected = sent.filter(({ commandId }) => commandId.startsWith("(") || commandId.startsWith("share-18"));
  return Math.min(copies, 2 * (rejected.length + 1));
}

function breakHandler(directory: string): void {
  const assets = readdirSync(directory, { recursive: true, encoding: "utf8" });
  const handlers = assets.filter((file) => file.endsWith(path.join("share", "handler.mjs")));
  for (const file of handlers) appendFileSync(path.join(directory, file), '\nthrow new Error("broken on purpose");\n');
}
