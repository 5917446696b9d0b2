import { randomUUID } from "node:crypto";
import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import { CreateTableCommand, DescribeTableCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import type { SQSRecord } from "aws-lambda";
import * as z from "zod/mini";
import { dueSweep } from "../../functions/reconcile/due-sweep.ts";
import { revokeFlow } from "../../functions/revoke/revoke-allocations.ts";
import { shareFlow } from "../../functions/share/share-allocation.ts";
import { verifyFlow } from "../../functions/verify/verify-funding.ts";
import { localStage } from "../../infra/config.ts";
import type { Variants } from "../../infra/local/meta/meta-variants.ts";
import type { Waba } from "../../infra/local/meta/meta-world.ts";
import type { CommandDeps } from "../../shared/command-deps.ts";
import type { Continuation } from "../../shared/contracts/commands.ts";
import { provenNotice } from "../../shared/contracts/content-hash.ts";
import type { Business, Policy } from "../../shared/domain/business.ts";
import { dueAt, dueEntries } from "../../shared/domain/business.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import { createGraph, type Graph } from "../../shared/graph/client.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import { createTokens } from "../../shared/graph/tokens.ts";
import { createTransport } from "../../shared/graph/transport.ts";
import { createLogger } from "../../shared/logging.ts";
import { type Flow, queueHandler } from "../../shared/queue-handler.ts";
import { firstSentAtOf, type Queues, receivesOf } from "../../shared/queues.ts";
import { createProofCheck } from "../../shared/secrets.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { eventSchema } from "../../shared/store/items.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { revokeCommand, shareCommand, verifyCommand } from "./commands.ts";
import { lambdaContext } from "./lambda.ts";
import { line, startMeta, systemToken } from "./meta.ts";
import { type QuietStack, sqsRecord } from "./quiet-stack.ts";

const minuteMs = 60_000;
const maxReceiveCount = 5;
const functionMs = 30_000;
const visibilityMs = 6 * functionMs;
const sweepEveryMs = 5 * minuteMs;
export const appSecret = "the-app-secret-of-the-flows";
export const businessTokenSecret = "business-tokens/customer";

type Work = Continuation["work"];
type Message = { work: Work; record: SQSRecord; visibleAt: number };
type Settings = { variants?: Partial<Variants>; policy?: Partial<Policy> };

/** Stands in for one call to Meta; `call` makes it. */
type Meddling<Name extends keyof Graph> = (
  call: () => ReturnType<Graph[Name]>,
  ...args: Parameters<Graph[Name]>
) => ReturnType<Graph[Name]>;

type Meddlings = Map<string, ((...args: never[]) => unknown)[]>;

/**
 * One customer's life in one process: the flows as they are deployed, the store on the stand-in of DynamoDB, the client on
 * the stand-in of Meta, one clock that only the test moves, and queues that deliver when the test says so. A message that
 * is given back comes again; after its last receive it is among the dead letters.
 */
export async function startFlows(stack: QuietStack, { variants = {}, policy: changed = {} }: Settings = {}) {
  const clock = { now: Date.UTC(2026, 5, 10, 12) };
  function now(): number {
    return clock.now;
  }
  const meta = await startMeta(variants, now);
  const { businessId, wabaIds, token } = await meta.customer(2);
  const [wabaId = "", siblingId = ""] = wabaIds;

  const client = new DynamoDBClient(stack.client);
  const tableName = await copyOfTable(client, stack.output("StateTableName"));
  const announced: RecordedEvent[] = [];
  client.middlewareStack.add(
    (next) => async (args) => {
      const answer = await next(args);
      announced.push(...eventsOf(args.input));
      return answer;
    },
    { step: "initialize" },
  );
  const dueIndex = createDueIndex(client, tableName, "DueIndex");
  const log = createLogger("flows");
  log.setLogLevel("SILENT");

  const secrets: Record<string, string> = { system: systemToken, [businessTokenSecret]: token };
  const tokens = createTokens("system", async (name) => secrets[name] ?? "", now);
  const transport = createTransport({ baseUrl: meta.url, version: "v25.0", timeoutMs: 8000, now });
  const meddlings: Meddlings = new Map();

  const messages: Message[] = [];
  const deadLetters: { body: string; reason: string | undefined }[] = [];
  const repeated: RecordedEvent[] = [];

  let copies = 0;
  function queuesOf(own: Work): Queues {
    return {
      copy: async (record, delayMs) => {
        const attributes = {
          ...record.messageAttributes,
          firstSentAt: { stringValue: String(firstSentAtOf(record)), dataType: "Number" as const },
          receives: { stringValue: String(receivesOf(record) - 1), dataType: "Number" as const },
        };
        const copy = sqsRecord(record.body, { sentAt: now(), attributes });
        copies += 1;
        messages.push({ work: own, record: copy, visibleAt: now() + delayMs });
      },
      deadLetter: async ({ body }, reason) => void deadLetters.push({ body, reason }),
      wake: async (continuation, delayMs) => {
        const record = sqsRecord(continuation, { sentAt: now() });
        messages.push({ work: continuation.work, record, visibleAt: now() + Math.max(delayMs, 0) });
      },
    };
  }

  const policy: Policy = {
    partnerBusinessId: localStage.partnerBusinessId,
    creditLineId: line,
    currencies: ["EUR", "USD"],
    shareMethod: "share-and-attach",
    settleWindowMs: 30 * minuteMs,
    clockSkewMs: 5 * minuteMs,
    secondPost: "auto",
    verifyGraceMs: [30_000, 2 * minuteMs, 10 * minuteMs],
    onPartnerRemoved: "revoke-unless-siblings",
    breaker: { removals: 20, windowMs: 10 * minuteMs },
    ...changed,
  };
  const common: Omit<CommandDeps, "queues"> = {
    store: createStateStore({ client, tableName, newId: randomUUID }),
    graph: meddledGraph(createGraph({ transport, tokens, now }), meddlings),
    portfolio: createPortfolio({ transport, tokens, now }),
    events: { send: async (events) => void repeated.push(...events) },
    log,
    now,
    newId: randomUUID,
    policy,
    graphTimeoutMs: 8000,
    clockSkewMs: policy.clockSkewMs,
    maxReceiveCount,
    businessTokenSecretPrefix: "business-tokens/",
  };
  function handlerOf(work: Work, flow: (deps: CommandDeps) => Flow) {
    const deps = { ...common, queues: queuesOf(work) };
    return queueHandler({ ...deps, isProven: createProofCheck(async () => appSecret, now) }, flow(deps));
  }
  const handlers = {
    share: handlerOf("share", shareFlow),
    verify: handlerOf("verify", verifyFlow),
    revoke: handlerOf("revoke", revokeFlow),
  };
  const { store } = common;

  /** One receive. What is given back becomes visible again, until it was received too often. */
  async function receive({ work, record }: Message): Promise<"acknowledged" | "returned"> {
    const { batchItemFailures } = await handlers[work]({ Records: [record] }, lambdaContext(functionMs));
    if (batchItemFailures.length === 0) return "acknowledged";
    const receiveCount = Number(record.attributes.ApproximateReceiveCount);
    if (receiveCount >= maxReceiveCount) deadLetters.push({ body: record.body, reason: undefined });
    else {
      const attributes = { ...record.attributes, ApproximateReceiveCount: String(receiveCount + 1) };
      messages.push({ work, record: { ...record, attributes }, visibleAt: now() + visibilityMs });
    }
    return "returned";
  }

  async function sweep(): Promise<void> {
    await dueSweep({ store, dueIndex, queues: queuesOf("share"), log, now, settleWindowMs: policy.settleWindowMs });
  }

  async function receiveVisible(): Promise<void> {
    for (;;) {
      const index = messages.findIndex(({ visibleAt }) => visibleAt <= now());
      const [message] = index === -1 ? [] : messages.splice(index, 1);
      if (message === undefined) return;
      await receive(message);
    }
  }

  /** When a sweep next finds something due. */
  async function nextSweepAt(): Promise<number> {
    const business = await store.loadBusiness(businessId);
    const pointers = await Promise.all(wabaIds.map((id) => store.loadPointer(id)));
    const times = [
      business === undefined ? undefined : dueAt(business),
      ...pointers.map((pointer) => pointer?.pendingRevoke?.due.nextAt),
    ];
    const earliest = Math.min(...times.filter((time) => time !== undefined));
    return Math.max(Math.ceil(earliest / sweepEveryMs), Math.floor(now() / sweepEveryMs) + 1) * sweepEveryMs;
  }

  function requestedAt(): { requestedAt: string } {
    return { requestedAt: new Date(now()).toISOString() };
  }

  return {
    meta,
    store,
    policy,
    businessId,
    wabaId,
    siblingId,
    now,
    /** What the table's stream tells, in the order of the writes. */
    announced,
    /** What was sent again of commands that were concluded before. */
    repeated,
    messages,
    deadLetters,
    /** How often a message that must wait was sent again. */
    copied: () => copies,

    share: (overrides: Record<string, unknown> = {}) => shareCommand(wabaId, { ...requestedAt(), ...overrides }),
    verify: (overrides: Record<string, unknown> = {}) => verifyCommand(wabaId, { ...requestedAt(), ...overrides }),
    revoke: (overrides: Record<string, unknown> = {}) =>
      revokeCommand({ ...requestedAt(), ...("wabaId" in overrides ? {} : { businessId }), ...overrides }),

    /** Sends a command, or what Meta tells of an account, and delivers it at once. */
    deliver: (command: Record<string, unknown> & { type: string }, { isForged = false } = {}) => {
      const isNotice = command.type === "account";
      const body = isNotice && !isForged ? provenNotice(command as never, appSecret) : command;
      const work = isNotice ? "revoke" : (command.type as Work);
      return receive({ work, record: sqsRecord(body, { sentAt: now() }), visibleAt: now() });
    },
    /** Changes what Meta knows of the WABA, or of another one of the customer's. */
    changeWaba: (changes: Partial<Waba>) => meta.world({ wabas: [{ id: wabaId, ...changes } as Waba] }),
    /** Moves the clock; nothing happens meanwhile. */
    pass: (ms: number) => {
      clock.now += ms;
    },
    /** Lets time go on, with every delivery at its moment and a due sweep every five minutes. */
    async live(ms: number): Promise<void> {
      for (const end = clock.now + ms; clock.now < end;) {
        const sweepAt = await nextSweepAt();
        clock.now = Math.max(clock.now, Math.min(sweepAt, end, ...messages.map(({ visibleAt }) => visibleAt)));
        if (clock.now >= sweepAt) await sweep();
        await receiveVisible();
      }
    },
    /** The next call of this kind is the meddling's; several are taken in turn. */
    meddle<Name extends keyof Graph>(name: Name, meddling: Meddling<Name>): void {
      const queued = meddlings.get(name) ?? [];
      meddlings.set(name, [...queued, meddling]);
    },

    async business(): Promise<Business> {
      const business = await store.loadBusiness(businessId);
      if (business === undefined) throw new Error("The business is not stored");
      return business;
    },
    /** How a command ended: `done`, `refused: <reason>`, `blocked: <reason>`, or undefined while nothing is recorded. */
    async fate({ commandId }: { commandId: string }): Promise<string | undefined> {
      const row = await store.loadCommand(commandId);
      if (row === undefined) return undefined;
      return [row.outcome ?? "blocked", row.reason].filter((part) => part !== undefined).join(": ");
    },
    /** Every place that holds a command (I3); none means that it is lost. */
    async whereabouts({ commandId }: { commandId: string }): Promise<string[]> {
      const inQueue = messages.some(({ record }) => isCommand(record.body, commandId));
      const isDead = deadLetters.some(({ body }) => isCommand(body, commandId));
      const business = await store.loadBusiness(businessId);
      const isOnItem = business !== undefined && dueEntries(business).some((entry) => entry.commandId === commandId);
      const row = await store.loadCommand(commandId);
      const isOver = row?.outcome !== undefined;
      const places = { queue: inQueue, "dead letters": isDead, item: isOnItem, outcome: isOver };
      return Object.entries(places).flatMap(([place, isThere]) => (isThere ? [place] : []));
    },
    /** The detail types announced in a command's name. */
    said: ({ commandId }: { commandId: string }): string[] =>
      announced.filter((event) => event.commandId === commandId).map(({ detailType }) => detailType),
    /** The POSTs that share, as Meta received them. */
    posts: () => meta.model.calls.filter(({ method }) => method === "POST"),
    deletes: () => meta.model.calls.filter(({ method }) => method === "DELETE"),

    async close(): Promise<void> {
      client.destroy();
      await meta.close();
    },
  };
}

function meddledGraph(graph: Graph, meddlings: Meddlings): Graph {
  const calls = Object.entries(graph).map(([name, real]) => {
    function call(...args: unknown[]): unknown {
      function proceed(): unknown {
        return Reflect.apply(real, graph, args);
      }
      const meddling = meddlings.get(name)?.shift();
      return meddling === undefined ? proceed() : Reflect.apply(meddling, undefined, [proceed, ...args]);
    }
    return [name, call];
  });
  return Object.fromEntries(calls) as Graph;
}

/** The command itself, not a message that asks for a look at it. */
function isCommand(body: string, commandId: string): boolean {
  return body.includes(`"${commandId}"`) && !body.includes('"type":"continue"');
}

/** A table of the same keys and indexes, so that neither items nor the throttle of another world are in it. */
async function copyOfTable(client: DynamoDBClient, original: string): Promise<string> {
  const { Table } = await client.send(new DescribeTableCommand({ TableName: original }));
  const TableName = `flows-${randomUUID()}`;
  await client.send(
    new CreateTableCommand({
      TableName,
      BillingMode: "PAY_PER_REQUEST",
      KeySchema: Table?.KeySchema,
      AttributeDefinitions: Table?.AttributeDefinitions,
      GlobalSecondaryIndexes: Table?.GlobalSecondaryIndexes?.map(({ IndexName, KeySchema, Projection }) => ({
        IndexName,
        KeySchema,
        Projection,
      })),
    }),
  );
  return TableName;
}

/** What a write announces, item by item, as the stream would show it. */
function eventsOf(input: object): RecordedEvent[] {
  const { TransactItems } = input as { TransactItems?: { Put?: object; Update?: object }[] };
  const writes = TransactItems?.flatMap(({ Put, Update }) => [Put ?? Update ?? {}]) ?? [input];
  return writes.flatMap((write) => {
    const { Item, ExpressionAttributeValues: values } = write as Record<string, Record<string, AttributeValue>>;
    const events = Item?.["events"] ?? values?.[":events"];
    return events === undefined ? [] : z.array(eventSchema).parse(unmarshall({ events })["events"]);
  });
}
