import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { SendMessageCommand, SetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { CommandType } from "../../../shared/contracts/commands.ts";
import { localStage } from "../../config.ts";
import { type LocalStack, startLocalStack } from "../../local/local-stack.ts";
import type { Variants } from "../../local/meta/meta-variants.ts";
import type { WorldInput } from "../../local/meta/meta-world.ts";
import { localClient, type Observation, observe } from "../../local/observe.ts";
import { control } from "../../local/run-steps.ts";
import { depthOf } from "../dlq/dead-letter-queue.ts";

/** A local stack on which an incident is played: minutes are seconds, and Meta does as it is told. */
export type Room = {
  stack: LocalStack;
  sqs: SQSClient;
  /** A directory of its own, in which the runbook's commands run. */
  directory: string;
  /** Hands in Meta's console, or the customer's. */
  world(change: Partial<WorldInput>): Promise<void>;
  faults(...faults: object[]): Promise<void>;
  variants(change: Partial<Variants>): Promise<void>;
  /** Sends a command, or a body that is none. Answers the command's id. */
  send(
    queue: CommandType,
    body: Record<string, unknown> | string,
    attributes?: Record<string, string>,
  ): Promise<string>;
  /** The events so far, in the order they were announced. */
  events(): RoomEvent[];
  observe(): Promise<Observation>;
  deadLetters(queue: CommandType): Promise<number>;
  /** Lets the schedule of minutes come round once. */
  sweep(): Promise<void>;
  /** Lets it pass until the condition holds. @throws Error when it does not. */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void>;
  /** Runs a line of a runbook as a shell would. */
  run(command: string): Promise<{ code: number; output: string }>;
  close(): Promise<void>;
};

const eventSchema = z.object({
  commandId: z.string().optional(),
  wabaId: z.string().optional(),
  businessId: z.string().optional(),
  allocationConfigId: z.string().optional(),
  reason: z.string().optional(),
  status: z.string().optional(),
});
export type RoomEvent = z.output<typeof eventSchema> & { detailType: string };

/** Processes of each function: a drill needs no more. */
const atOnce = 2;
const patienceMs = 90_000;
const sweepEveryMs = 400;
const commandMsMax = 180_000;

/** @param webhook whether Meta tells the stage of customers who leave. */
export async function openRoom(webhook: boolean): Promise<Room> {
  const directory = mkdtempSync(path.join(tmpdir(), "credit-lines-drill-"));
  const stageConfigFile = path.join(directory, "stage.json");
  const concurrency = { share: atOnce, verify: atOnce, revoke: atOnce };
  writeFileSync(stageConfigFile, JSON.stringify({ concurrency, webhook }));
  const stack = await startLocalStack({ port: 0, stageConfigFile });
  const sqs = new SQSClient(localClient(stack.aws.endpoint));
  const { queues, deadLetterQueues, graphUrl } = stack.about;
  // Five receives in vain take seconds, not half an hour. Functions that are warm can keep to that.
  const names = ["share", "verify", "revoke"].flatMap((name) => Array.from({ length: atOnce }, () => name));
  await Promise.all(names.map((name) => stack.aws.invoke(name, { Records: [] })));
  for (const QueueUrl of Object.values(queues)) {
    await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout: "4" } }));
  }
  const environment = shellEnvironment(stack, directory);
  /** The sweep alone: an estate scan comes once a day, or when the runbook asks for it. */
  async function sweep(): Promise<void> {
    await stack.aws.invoke("reconcile", { task: "due-sweep" });
  }

  return {
    stack,
    sqs,
    directory,
    world: (change) => control(`${graphUrl}/_world`, change),
    faults: (...faults) => control(`${graphUrl}/_faults`, faults),
    variants: (change) => control(`${graphUrl}/_variants`, change),

    async send(queue, body, attributes = {}) {
      const commandId = typeof body === "string" ? "" : String(body["commandId"]);
      const defaults = {
        version: "1",
        type: queue,
        requestedAt: new Date(stack.now()).toISOString(),
        requestedBy: "drill",
      };
      const MessageAttributes = Object.fromEntries(
        Object.entries(attributes).map(([name, StringValue]) => [name, { DataType: "String", StringValue }]),
      );
      const MessageBody = typeof body === "string" ? body : JSON.stringify({ ...defaults, ...body });
      await sqs.send(new SendMessageCommand({ QueueUrl: queues[queue], MessageBody, MessageAttributes }));
      return commandId;
    },
    events: () => stack.aws.events().map(({ detailType, detail }) => ({ detailType, ...eventSchema.parse(detail) })),
    observe: () => observe(stack),
    sweep,
    deadLetters: (queue) => depthOf(sqs, deadLetterQueues[queue]),

    async until(what, condition) {
      for (const end = Date.now() + patienceMs; !(await condition()); await sleep(sweepEveryMs)) {
        if (Date.now() > end) throw new Error(`It did not come to this: ${what}`);
        await sweep();
      }
    },

    async run(command) {
      const child = spawn("sh", ["-c", command], {
        cwd: directory,
        env: environment,
        stdio: ["ignore", "pipe", "pipe"],
        timeout: commandMsMax,
      });
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
      return { code: child.exitCode ?? 1, output: `${stderr}${stdout}` };
    },

    async close() {
      sqs.destroy();
      await stack.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/**
 * Where a runbook's commands find what they name: `npx credit-lines` is this checkout's, `aws` the little of it that
 * runbooks use, both against the room's stack.
 */
function shellEnvironment({ aws }: LocalStack, directory: string): Record<string, string> {
  const bin = path.join(directory, "bin");
  mkdirSync(bin);
  const node = JSON.stringify(process.execPath);
  const cli = JSON.stringify(path.join(import.meta.dirname, "../credit-lines.ts"));
  const awsCli = JSON.stringify(path.join(import.meta.dirname, "aws-cli.ts"));
  writeFileSync(
    path.join(bin, "npx"),
    `#!/bin/sh\n[ "$1" = credit-lines ] || exit 127\nshift\nexec ${node} ${cli} "$@"\n`,
  );
  writeFileSync(path.join(bin, "aws"), `#!/bin/sh\nexec ${node} ${awsCli} "$@"\n`);
  for (const name of ["npx", "aws"]) chmodSync(path.join(bin, name), 0o700);
  const { accessKeyId, secretAccessKey } = localClient(aws.endpoint).credentials;
  return {
    PATH: `${bin}:${process.env["PATH"] ?? ""}`,
    AWS_ENDPOINT_URL: aws.endpoint,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    CREDIT_LINES_STAGE: localStage.stage,
  };
}
