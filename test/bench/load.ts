import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { OnCall } from "../../infra/local/aws/gateway.ts";
import { localClient, observe } from "../../infra/local/observe.ts";
import type { CommandType } from "../../shared/contracts/commands.ts";
import { keys } from "../../shared/store/items.ts";
import { randomOf } from "../simulation/random.ts";
import { drawPlans, judgePlan, type Plan } from "./load-plans.ts";
import { customersOf, startStage } from "./partner.ts";
import { quantile, row } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const commandsAlone = 20_000;
const commandsAmongOthers = 2000;
/** What the producer keeps under way. Each share waits a second or two for its proof, and the functions must not idle meanwhile. */
const underWay = 200;
const sampleMs = 5000;
/** So long without any event, what has not ended by then never will. */
const patienceMs = 120_000;

export const loadSuite: Suite = {
  name: "load",
  about:
    `Mixed commands on the local stack (${commandsAlone} alone, ${commandsAmongOthers} in a complete run), 2 % faults, ` +
    `1 % duplicates, whose outcome the seed tells; the producer keeps ${underWay} under way, Meta answers at once`,
  run: measureLoad,
};

const wabaIdPattern = /12\d{14}/g;
const commandRow = /"COMMAND#([^"]+)"/g;
const named = z.object({ commandId: z.string().optional() });

async function measureLoad({ add, plot, progress, isComplete }: Bench): Promise<void> {
  const total = isComplete ? commandsAmongOthers : commandsAlone;
  const plans = drawPlans(randomOf("load"), customersOf(total, 1));
  const faults = plans.flatMap(({ customer, steps }) =>
    steps.flatMap(({ fault }) => (fault ? [{ customer, fault }] : [])),
  );
  const watch = watchTable(
    faults.flatMap(({ customer, fault }) => (fault.at === "table" ? (customer.wabaIds[0] ?? []) : [])),
  );
  const dataDirectory = mkdtempSync(join(roomyDirectory(), "bench-"));
  const stage = await startStage(
    plans.map(({ customer }) => customer),
    { dataDirectory, onCall: watch.onCall, config: { concurrency: { share: 4, verify: 2, revoke: 2 } } },
  );
  const { stack, meta } = stage;
  try {
    await stage.control("_variants", { appCallsPerHour: null });
    await stage.control(
      "_faults",
      faults.flatMap(({ customer, fault }) =>
        fault.at === "Meta" ? [{ match: fault.call, kind: fault.kind, times: 1, businessId: customer.businessId }] : [],
      ),
    );
    const startedAt = performance.now();
    const awaited = new Map<string, { plan: Plan; ends: string }>();
    const samples: { seconds: number; ended: number; oldestMs: number; heapMb: number; functionMb: number }[] = [];
    let [next, ended, heard] = [0, 0, 0];
    let newsAt = Date.now();

    async function tellNext(plan: Plan): Promise<void> {
      const step = plan.steps[plan.commandIds.length];
      if (step === undefined) return;
      const commandId = stage.nextCommandId();
      plan.commandIds.push(commandId);
      awaited.set(commandId, { plan, ends: step.ends });
      watch.sent(commandId);
      await stage.tell(step.type, { ...step.about, commandId }, step.copies);
    }

    for (let sampledAt = -Infinity; ;) {
      while (awaited.size < underWay && next < plans.length) {
        const plan = plans[next];
        next += 1;
        if (plan !== undefined) await tellNext(plan);
      }
      const events = stack.aws.events(heard);
      heard += events.length;
      if (events.length > 0) newsAt = Date.now();
      for (const { detailType, detail } of events) {
        const { commandId = "" } = named.parse(detail);
        const one = awaited.get(commandId);
        if (one?.ends !== detailType) continue;
        awaited.delete(commandId);
        ended += 1;
        await tellNext(one.plan);
      }
      if (performance.now() - sampledAt > sampleMs) {
        sampledAt = performance.now();
        const seconds = (sampledAt - startedAt) / 1000;
        const heapMb = process.memoryUsage().heapUsed / 1024 ** 2;
        const functionMb = watch.largestMb(stack.aws.running().map(({ pid }) => pid));
        samples.push({ seconds, ended, oldestMs: watch.oldestMs(), heapMb, functionMb });
        if (samples.length % 12 === 0) progress(`load: ${ended} of ${total} commands have ended`);
      }
      if (next === plans.length && awaited.size === 0) break;
      if (Date.now() - newsAt > patienceMs) break;
      await sleep(20);
    }
    const seconds = (performance.now() - startedAt) / 1000;
    // The copies of the last commands may still do what must not be done.
    while ((await countMessages(stack.about.endpoint, stack.about.queues)) > 0 && Date.now() - newsAt < patienceMs) {
      await sleep(200);
    }
    const wrong = await countMismatches(plans, stage, progress);
    const dead = await countMessages(stack.about.endpoint, stack.about.deadLetterQueues);
    const happened = meta.calls.filter(({ fault }) => fault !== undefined).length + watch.lost();
    add(
      row("load.commands", total, "commands"),
      row("load.faults", happened, "faults"),
      row("load.mismatches", wrong, "commands", { target: { atMost: 0 } }),
      row("load.dead-letters", dead, "messages", { target: { atMost: 0 } }),
      row("load.commands-per-second", total / seconds, "commands/s"),
      row("load.queue-wait.p50", quantile(watch.waits, 0.5), "ms"),
      row("load.queue-wait.p99", quantile(watch.waits, 0.99), "ms"),
      row("load.function-memory", Math.max(...samples.map(({ functionMb }) => functionMb)), "MB"),
    );
    draw(samples);
  } finally {
    await stage.close();
    rmSync(dataDirectory, { recursive: true, force: true });
  }

  function draw(samples: { seconds: number; ended: number; oldestMs: number; heapMb: number; functionMb: number }[]) {
    const x = { label: "seconds" };
    function chart(name: string, title: string, label: string, series: Parameters<typeof plot>[0]["series"]): void {
      plot({ name, title, x, y: { label }, series });
    }
    chart("load-age", "Age of the oldest command that no function has seen", "ms", [
      { name: "age", points: samples.map(({ seconds, oldestMs }) => [seconds, oldestMs]) },
    ]);
    chart("load-throughput", "Commands that ended", "commands a second", [
      {
        name: "commands",
        points: samples.slice(1).map((sample, index): [number, number] => {
          const before = samples[index] ?? sample;
          return [sample.seconds, (sample.ended - before.ended) / (sample.seconds - before.seconds)];
        }),
      },
    ]);
    chart("load-memory", "Memory", "MB", [
      {
        name: "largest process of a function (resident)",
        points: samples.map(({ seconds, functionMb }) => [seconds, functionMb]),
      },
      { name: "heap of the local stack and Meta", points: samples.map(({ seconds, heapMb }) => [seconds, heapMb]) },
    ]);
  }
}

/** Sees the functions' calls to AWS: when a command is first looked at, and which writes lose their answer. */
function watchTable(losing: readonly string[]) {
  const toLose = new Set(losing);
  const unseen = new Map<string, number>();
  const waits: number[] = [];
  const pids = new Set<number>();
  let lost = 0;

  async function onCall(...[call, proceed]: Parameters<OnCall>): ReturnType<OnCall> {
    const { operation, body, functionName } = call;
    if (functionName === undefined) return proceed();
    if (operation === "BatchGetItem" || operation === "GetItem") {
      for (const [, commandId = ""] of body.matchAll(commandRow)) see(commandId);
      return proceed();
    }
    const isWrite = operation === "PutItem" || operation === "UpdateItem" || operation === "TransactWriteItems";
    const wabaId = isWrite && toLose.size > 0 ? body.match(wabaIdPattern)?.find((id) => toLose.has(id)) : undefined;
    const answer = await proceed();
    if (wabaId === undefined || !toLose.delete(wabaId)) return answer;
    lost += 1;
    throw new Error("The answer is lost");
  }

  function see(commandId: string): void {
    const sentAt = unseen.get(commandId);
    if (sentAt === undefined) return;
    unseen.delete(commandId);
    waits.push(Date.now() - sentAt);
  }

  return {
    onCall,
    waits,
    lost: () => lost,
    sent: (commandId: string) => unseen.set(commandId, Date.now()),
    oldestMs(): number {
      const [oldest = Date.now()] = unseen.values();
      return Date.now() - oldest;
    },
    /** Of the processes seen at work so far. */
    largestMb(running: readonly number[]): number {
      for (const pid of running) pids.add(pid);
      return Math.max(0, ...[...pids].map(residentMb));
    },
  };
}

/** As Linux tells; elsewhere the local DynamoDB does not run either. */
function residentMb(pid: number): number {
  const file = `/proc/${pid}/status`;
  if (!existsSync(file)) return 0;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(file, "utf8"))?.[1] ?? 0) / 1024;
}

/** The tables of 20,000 commands take some hundred MB; in memory they cost no disk's patience. */
function roomyDirectory(): string {
  const shared = "/dev/shm";
  if (!existsSync(shared)) return tmpdir();
  const { bavail, bsize } = statfsSync(shared);
  return bavail * bsize > 3 * 1024 ** 3 ? shared : tmpdir();
}

/** Every command's record and announcement, every WABA's status, and what is live at Meta, beside what the seed told. */
async function countMismatches(
  plans: readonly Plan[],
  { stack, meta }: Awaited<ReturnType<typeof startStage>>,
  progress: Bench["progress"],
): Promise<number> {
  const { commands, businesses, announced } = await observe(stack);
  const byId = new Map(businesses.map((one) => [one.businessId, one]));
  const made = madeBy(meta.changes);
  let wrong = 0;
  for (const plan of plans) {
    const { customer, commandIds } = plan;
    const { businessId, wabaIds } = customer;
    const records = (meta.byBusiness.get(businessId) ?? []).filter(({ spans }) => spans.at(-1)?.to === undefined);
    const mismatches = judgePlan(plan, {
      status: byId.get(businessId)?.wabas[wabaIds[0] ?? ""]?.status,
      made: made.get(businessId) ?? 0,
      live: records.length,
      records: plan.steps.map((_, index) => commands.get(keys.command(commandIds[index] ?? ""))),
      announced,
    });
    wrong += mismatches.length;
    for (const mismatch of mismatches) progress(`load: ${mismatch}`);
  }
  return wrong;
}

/** How often a record was made for a business, whatever became of it: never twice. */
function madeBy(changes: readonly { kind: string; businessId?: string }[]): Map<string, number> {
  const made = new Map<string, number>();
  for (const { kind, businessId = "" } of changes) {
    if (kind !== "allocation_created" && kind !== "allocation_revived") continue;
    made.set(businessId, (made.get(businessId) ?? 0) + 1);
  }
  return made;
}

/** Messages that wait for a receive or are being served; not those that are delayed. */
async function countMessages(endpoint: string, queues: Record<CommandType, string>): Promise<number> {
  const sqs = new SQSClient(localClient(endpoint));
  const AttributeNames = ["ApproximateNumberOfMessages" as const, "ApproximateNumberOfMessagesNotVisible" as const];
  let count = 0;
  for (const QueueUrl of Object.values(queues)) {
    const { Attributes = {} } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames }));
    for (const name of AttributeNames) count += Number(Attributes[name] ?? 0);
  }
  sqs.destroy();
  return count;
}
