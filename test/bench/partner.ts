import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { localStage, type StageConfigInput } from "../../infra/config.ts";
import { startLocalStack } from "../../infra/local/local-stack.ts";
import type { LedgerCall } from "../../infra/local/meta/meta-model.ts";
import { localClient } from "../../infra/local/observe.ts";
import { createMeter, type Usage } from "./meter.ts";

/** One customer business of the stand-in for Meta. */
export type Customer = { businessId: string; wabaIds: string[]; secret: string };

/** What one command cost: at AWS, and which calls at Meta, from its message until all is quiet. */
export type Spent = Usage & { calls: LedgerCall[] };

type Type = "share" | "verify" | "revoke";

/** The whole local stack with a meter on it, and a partner who sends one command after the other. */
export async function startPartner(
  customers: Customer[],
  config: Partial<StageConfigInput> = {},
  onLog: (line: string) => void = () => {},
) {
  const directory = mkdtempSync(join(tmpdir(), "bench-"));
  const files = { stageConfigFile: {}, worldFile: {}, secretsFile: {} };
  const { partnerBusinessId, creditLineId } = localStage;
  files.stageConfigFile = config;
  files.secretsFile = Object.fromEntries(customers.map(({ secret }) => [secret, tokenOf(secret)]));
  files.worldFile = {
    partnerBusinessId,
    lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId }],
    tokens: [
      { value: "EAABenchSystemTokenOfTheStandIn", kind: "system" },
      ...customers.map(({ secret, wabaIds }) => ({ value: tokenOf(secret), kind: "business", wabaIds })),
    ],
    businesses: customers.map(({ businessId: id }) => ({ id, name: `Customer ${id}` })),
    wabas: customers.flatMap(({ businessId, wabaIds }) =>
      wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR" })),
    ),
  };
  const paths = Object.fromEntries(
    Object.entries(files).map(([name, content]) => {
      const file = join(directory, `${name}.json`);
      writeFileSync(file, JSON.stringify(content));
      return [name, file];
    }),
  );
  const meter = createMeter();
  const stack = await startLocalStack({ port: 0, ...paths, onCall: meter.onCall, onLog });
  meter.connect(stack.aws.endpoint);
  const sqs = new SQSClient(localClient(stack.aws.endpoint));
  let sent = 0;

  return {
    stack,
    /** Sends a command and waits for its event, and until nothing moves any more. */
    async send(type: Type, about: Record<string, unknown>, detailType: string): Promise<Spent> {
      sent += 1;
      // As long as a UUID: every byte of it counts.
      const commandId = `00000000-0000-4000-8000-${String(sent).padStart(12, "0")}`;
      const requestedAt = new Date().toISOString();
      const body = { version: "1", type, commandId, requestedAt, requestedBy: "onboarding-service", ...about };
      const calls = stack.meta?.model.calls ?? [];
      const before = calls.length;
      const heard = stack.aws.events().length;
      meter.take();
      const MessageBody = JSON.stringify(body);
      await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[type], MessageBody }));
      const deadline = Date.now() + 60_000;
      for (;;) {
        const events = stack.aws.events().slice(heard);
        if (events.some((event) => event.detailType === detailType) && meter.idleMs() > 400) break;
        if (Date.now() > deadline) {
          throw new Error(`No ${detailType} in a minute; heard ${events.map((event) => event.detailType).join(", ")}`);
        }
        await sleep(50);
      }
      return { ...meter.take(), calls: calls.slice(before) };
    },
    async close(): Promise<void> {
      sqs.destroy();
      meter.close();
      await stack.close();
      rmSync(directory, { recursive: true });
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
