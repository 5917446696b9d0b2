import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { localStage, type StageConfigInput } from "../../infra/config.ts";
import type { LocalEvent } from "../../infra/local/aws/event-bridge.ts";
import { type LocalStackOptions, startLocalStack } from "../../infra/local/local-stack.ts";
import type { LedgerCall } from "../../infra/local/meta/meta-model.ts";
import { localClient } from "../../infra/local/observe.ts";
import { createMeter, type Usage } from "./meter.ts";

/** One customer business of the stand-in for Meta. */
export type Customer = {
  businessId: string;
  wabaIds: string[];
  secret: string;
  /** One that the customer has not shared with the partner yet. */
  nextWabaId?: string;
};

/** What one command cost: at AWS, and which calls at Meta, from its message until all is quiet. */
export type Spent = Usage & { calls: LedgerCall[] };

type Type = "share" | "verify" | "revoke";

/** The whole local stack, what Meta knows of the customers, and a producer. */
export async function startStage(
  customers: readonly Customer[],
  options: Pick<LocalStackOptions, "onCall" | "onLog" | "dataDirectory"> & { config?: Partial<StageConfigInput> } = {},
) {
  const { config = {}, ...listeners } = options;
  const directory = mkdtempSync(join(tmpdir(), "bench-"));
  const { partnerBusinessId, creditLineId } = localStage;
  const files = {
    stageConfigFile: config,
    secretsFile: Object.fromEntries(customers.map(({ secret }) => [secret, tokenOf(secret)])),
    worldFile: {
      partnerBusinessId,
      lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId }],
      tokens: [
        { value: "EAABenchSystemTokenOfTheStandIn", kind: "system" },
        ...customers.map(({ secret, wabaIds }) => ({ value: tokenOf(secret), kind: "business", wabaIds })),
      ],
      businesses: customers.map(({ businessId: id }) => ({ id, name: `Customer ${id}` })),
      wabas: customers.flatMap(({ businessId: ownerBusinessId, wabaIds, nextWabaId }) => [
        ...wabaIds.map((id) => ({ id, ownerBusinessId, currency: "EUR" })),
        ...(nextWabaId === undefined
          ? []
          : [{ id: nextWabaId, ownerBusinessId, currency: "EUR", sharedWithPartner: false }]),
      ]),
    },
  };
  const paths = Object.fromEntries(
    Object.entries(files).map(([name, content]) => {
      const file = join(directory, `${name}.json`);
      writeFileSync(file, JSON.stringify(content));
      return [name, file];
    }),
  );
  const stack = await startLocalStack({ port: 0, ...paths, ...listeners });
  const { meta } = stack;
  if (meta === undefined) throw new Error("The stack has no stand-in for Meta");
  const sqs = new SQSClient(localClient(stack.aws.endpoint));
  let sent = 0;
  /** As long as a UUID: every byte of it counts. */
  function nextCommandId(): string {
    sent += 1;
    return `00000000-0000-4000-8000-${String(sent).padStart(12, "0")}`;
  }

  return {
    stack,
    meta: meta.model,
    nextCommandId,
    /** Sends a command, the same message several times if so wanted. `about` may bring its commandId. */
    async tell(type: Type, about: Record<string, unknown>, copies = 1): Promise<void> {
      const requestedAt = new Date().toISOString();
      const common = { version: "1", type, commandId: nextCommandId(), requestedAt, requestedBy: "onboarding-service" };
      const MessageBody = JSON.stringify({ ...common, ...about });
      const message = new SendMessageCommand({ QueueUrl: stack.about.queues[type], MessageBody });
      for (let copy = 0; copy < copies; copy += 1) await sqs.send(message);
    },
    /** Drives the stand-in by one of its controls: `_world`, `_faults` or `_variants`. */
    async control(name: string, body: unknown): Promise<void> {
      const answer = await fetch(`${meta.url}/${name}`, { method: "POST", body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(`${name}: ${await answer.text()}`);
    },
    /**
     * Waits until enough such events came after the first `heard` of the bus, and answers the last of them.
     * @throws Error after a minute without any event.
     */
    async hear(
      detailType: string,
      { heard = 0, count = 1, alsoUntil }: { heard?: number; count?: number; alsoUntil?: () => boolean } = {},
    ): Promise<LocalEvent> {
      let news = heard;
      let deadline = Date.now() + 60_000;
      for (;;) {
        const events = stack.aws.events(heard);
        const wanted = events.filter((event) => event.detailType === detailType)[count - 1];
        if (wanted !== undefined && alsoUntil?.() !== false) return wanted;
        if (events.length + heard > news) deadline = Date.now() + 60_000;
        news = events.length + heard;
        if (Date.now() > deadline) {
          throw new Error(`No ${detailType} in a minute; heard ${events.map((event) => event.detailType).join(", ")}`);
        }
        await sleep(20);
      }
    },
    async close(): Promise<void> {
      sqs.destroy();
      await stack.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** Nothing was asked of AWS for so long: a command and what it set off are over. */
const quietMs = 400;

/** A stage with a meter on it, and a partner who sends one command after the other. */
export async function startPartner(
  customers: readonly Customer[],
  config: Partial<StageConfigInput> = {},
  onLog: (line: string) => void = () => {},
) {
  const meter = createMeter();
  const stage = await startStage(customers, { config, onLog, onCall: meter.onCall });
  const { stack, meta } = stage;
  meter.connect(stack.aws.endpoint);

  return {
    /** Sends a command and waits for its event, and until nothing moves any more. */
    async send(type: Type, about: Record<string, unknown>, detailType: string): Promise<Spent> {
      const before = meta.calls.length;
      const heard = stack.aws.events().length;
      meter.take();
      await stage.tell(type, about);
      await stage.hear(detailType, { heard, alsoUntil: () => meter.idleMs() > quietMs });
      return { ...meter.take(), calls: meta.calls.slice(before) };
    },
    /** The customer shares a WABA with the partner; Meta tells the webhook, and that is noted. */
    async arrive(wabaId: string): Promise<void> {
      meter.take();
      await stage.control("_world", { wabas: [{ id: wabaId, sharedWithPartner: true }] });
      while (meter.take().requests["dynamodb.UpdateItem"] === undefined) await sleep(50);
      while (meter.idleMs() <= quietMs) await sleep(50);
    },
    async close(): Promise<void> {
      meter.close();
      await stage.close();
    },
  };
}

export function customersOf(count: number, wabaCount: number): Customer[] {
  return Array.from({ length: count }, (_, index) => {
    const number = String(index + 1).padStart(6, "0");
    return {
      businessId: `1100000${number}001`,
      wabaIds: Array.from({ length: wabaCount }, (__, waba) => `1200000${number}${String(waba).padStart(3, "0")}`),
      secret: `credit-lines/local/business-token/${number}`,
    };
  });
}

function tokenOf(secret: string): string {
  return `EAABenchBusinessToken${secret.split("/").at(-1)}`;
}
