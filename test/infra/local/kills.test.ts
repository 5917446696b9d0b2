import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  GetQueueAttributesCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { localStage, timeoutSecondsOf } from "../../../infra/config.ts";
import { startLocalStack, type LocalStack } from "../../../infra/local/local-stack.ts";
import type { LedgerCall } from "../../../infra/local/meta/meta-model.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { compareWithLedger, localClient, type Observation, observe, recordOf } from "../../../infra/local/observe.ts";
import { control } from "../../../infra/local/run-steps.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../../support/commands.ts";
import { createKiller, faultsOf, type Moment } from "./killer.ts";

/**
 * Real processes, killed with SIGKILL between their intent and their settle, while customers come, leave and come back.
 * Judged by the ledger of the stand-in for Meta.
 */
const killsMin = 100;

type Customer = {
  businessId: string;
  wabaIds: [string, string];
  twoCalls: boolean;
  token: string;
  secret: string;
  story: "returns" | "leaves" | "leaves twice" | "doubt";
};

const stories = ["returns", "leaves twice", "returns", "returns"] as const;
const secretPrefix = "credit-lines/local/business-token/";
const systemToken = "EAAKillsSystemTokenOfTheStandIn";

const customers = Array.from({ length: 19 }, (_, index): Customer => {
  const number = String(index).padStart(2, "0");
  return {
    businessId: `5100000000000${number}`,
    wabaIds: [`5200000000000${number}`, `5210000000000${number}`],
    twoCalls: index % 4 === 2 || index % 8 === 3,
    token: `EAAKillsBusinessToken${number}`,
    secret: `${secretPrefix}${number}`,
    story: index === 0 ? "doubt" : index % 8 === 7 ? "leaves" : (stories[index % stories.length] ?? "returns"),
  };
});

/** What goes wrong while one share is made: a second POST follows only where the first is proven to have had no effect. */
const ways: readonly (readonly Moment[])[] = [
  ["noted", "acted"],
  ["lost", "answered"],
  ["late"],
  ["noted", "late"],
  ["lost", "acted"],
  ["answered"],
  ["noted", "cut-after"],
  ["lost", "late"],
  ["acted"],
  ["noted", "answered"],
  ["cut-before", "acted"],
  ["lost", "hang-after"],
];
const inDoubt: readonly (readonly Moment[])[] = [
  ["lost", "lost"],
  ["noted", "cut-before"],
];
/** Each must have been hit, of a POST and of a DELETE. */
const expectedMoments = ["E2", "E5"]
  .flatMap((call) => ["noted", "lost", "late", "acted", "answered"].map((moment) => `${call} ${moment}`))
  .concat("E4 noted", "E9 lost", "E9 late", "E9 acted", "E9 answered");

const waysOfDeletes: readonly (readonly Moment[])[] = [
  ["acted", "answered"],
  ["lost", "late"],
  ["answered", "cut-after"],
  ["late", "lost"],
];

const plan = new Map<string, Moment[]>();
let dealt = 0;
function deal(target: string, times: number, from = ways): void {
  const rounds = Array.from({ length: times }, (_, round) => from[(dealt + round) % from.length] ?? []);
  plan.set(target, rounds.flat());
  dealt += times;
}
for (const { businessId, wabaIds, twoCalls, story } of customers) {
  const shares = story === "returns" || story === "leaves twice" ? 2 : 1;
  for (const wabaId of wabaIds) deal(`${twoCalls ? "E5" : "E2"} ${wabaId}`, shares, story === "doubt" ? inDoubt : ways);
  if (twoCalls) deal(`E4 ${businessId}`, shares);
  if (story !== "doubt") deal(`E9 ${businessId}`, story === "leaves twice" ? 2 : 1, waysOfDeletes);
}

const world: WorldInput = {
  partnerBusinessId: localStage.partnerBusinessId,
  lines: [{ id: localStage.creditLineId, ownerBusinessId: localStage.partnerBusinessId }],
  tokens: [
    { value: systemToken, kind: "system" },
    ...customers.map(({ token, wabaIds }) => ({ value: token, kind: "business" as const, wabaIds })),
  ],
  wabas: customers.flatMap(({ businessId, wabaIds }) =>
    wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR" })),
  ),
};

type Sent = { queue: "share" | "verify" | "revoke"; text: string; sentAt: number; commandId: string };

describe("processes that are killed between their intent and its settle", () => {
  const killer = createKiller(plan);
  const sent: Sent[] = [];
  const reshares: { businessId: string; at: number }[] = [];
  const logs: string[] = [];
  /** What was waited for in vain. The tests say what went wrong before it. */
  const stuck: string[] = [];
  let stack: LocalStack;
  let sqs: SQSClient;
  let latest: Observation;
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), "kills-"));
    const worldFile = path.join(directory, "world.json");
    const secretsFile = path.join(directory, "secrets.json");
    writeFileSync(worldFile, JSON.stringify(world));
    writeFileSync(
      secretsFile,
      JSON.stringify(Object.fromEntries(customers.map(({ secret, token }) => [secret, token]))),
    );
    function onLog(line: string): void {
      logs.push(line);
    }
    stack = await startLocalStack({ port: 0, worldFile, secretsFile, onCall: killer.onCall, onLog });
    sqs = new SQSClient(localClient(stack.aws.endpoint));
    // A message comes back as soon as its function must have ended, not six times later.
    const VisibilityTimeout = String(timeoutSecondsOf("local", "share") + 2);
    for (const QueueUrl of Object.values(stack.about.queues)) {
      await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout } }));
    }
    // A repeated POST makes a second record, so that the ledger shows it; each record can be told from its sibling's.
    await control(`${stack.about.graphUrl}/_variants`, { repeatedShare: "second", credentialPer: "waba" });
    await control(`${stack.about.graphUrl}/_faults`, faultsOf(plan));
    killer.start(stack);
    await live();
    await killer.stop();
    const hits = killer.kills.filter(({ hit }) => hit);
    const ofDeletes = hits.filter(({ target }) => target.startsWith("E9")).length;
    console.log(`${hits.length} processes killed between intent and settle, ${ofDeletes} of them over a DELETE`);
  }, 420_000);
  afterAll(async () => {
    sqs?.destroy();
    await stack?.close();
    rmSync(directory, { recursive: true });
  });

  /** All customers at once, until nothing is on its way any more. */
  async function live(): Promise<void> {
    const over = new AbortController();
    async function sweepAndWatch(): Promise<void> {
      while (!over.signal.aborted) {
        await stack.aws.invoke("reconcile", { task: "due-sweep" });
        latest = await observe(stack);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
    latest = await observe(stack);
    const watching = sweepAndWatch();
    try {
      await Promise.all(customers.map(liveOf));
      await until(
        () => "the queues were not emptied",
        async () => (await Promise.all(Object.values(stack.about.queues).map(waitingIn))).every((count) => count === 0),
      );
    } finally {
      over.abort();
      await watching;
    }
    latest = await observe(stack);
  }

  async function liveOf(customer: Customer): Promise<void> {
    const { businessId, story } = customer;
    const shares = [await share(customer, 0), await share(customer, 1)];
    if (story === "doubt") return ended(...shares);
    if (story !== "leaves") {
      await ended(...shares);
      await ended(await send("verify", verifyCommand(customer.wabaIds[0])));
    }
    await ended(...shares, await revoke(customer));
    if (story === "leaves") return;
    // Newer than the revocation by more than the clocks' skew (T1).
    await new Promise((resolve) => setTimeout(resolve, stack.config.clockSkewSeconds * 1000 + 200));
    reshares.push({ businessId, at: Date.now() });
    await ended(...(await Promise.all([share(customer, 0, true), share(customer, 1, true)])));
    if (story === "leaves twice") await ended(await revoke(customer));
  }

  function share({ wabaIds, twoCalls, secret }: Customer, which: 0 | 1, again = false): Promise<Sent> {
    const method = twoCalls ? { method: "share-then-attach" } : {};
    const flags = again ? { reshareAfterRevocation: true } : {};
    // Beside a funded sibling a second POST takes the word of both tokens.
    return send("share", shareCommand(wabaIds[which], { businessTokenSecret: secret, ...method, ...flags }));
  }

  function revoke({ businessId, wabaIds }: Customer): Promise<Sent> {
    return send("revoke", revokeCommand({ businessId, wabaId: wabaIds[0] }));
  }

  async function send(queue: Sent["queue"], command: { commandId: string }): Promise<Sent> {
    const text = JSON.stringify(command);
    const one = { queue, text, sentAt: Date.now(), commandId: command.commandId };
    sent.push(one);
    // Every command comes twice: the second time while the first is held up, or its process dead.
    for (const DelaySeconds of [0, 1]) {
      await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[queue], MessageBody: text, DelaySeconds }));
    }
    return one;
  }

  async function ended(...commands: Sent[]): Promise<void> {
    await until(
      () => JSON.stringify(commands.filter((command) => fateOf(command) === "unknown").map(factsOf)),
      () => commands.every((command) => fateOf(command) !== "unknown"),
    );
  }

  /** What is known of a command that has not ended: its item, and what was done to the processes that served it. */
  function factsOf({ commandId }: Sent): object {
    const items = latest.businesses.filter((item) => JSON.stringify(item).includes(commandId));
    const kills = killer.kills.filter(({ target }) =>
      items.some((item) => JSON.stringify(item).includes(target.slice(3))),
    );
    const record = latest.commands.get(`COMMAND#${commandId}`);
    return { now: Date.now(), commandId, record, items, kills, logs: logs.filter((line) => line.includes(commandId)) };
  }

  /** `in doubt` is an outcome by name too: a person is told. */
  function fateOf(command: Sent): string {
    const record = recordOf(latest, command, stack.config.clockSkewSeconds * 1000);
    if (record?.outcome !== undefined) return `${record.outcome} ${record.reason ?? ""}`.trim();
    const said = stack.aws.events().filter(({ detail }) => commandIdOf(detail) === command.commandId);
    return said.some(({ detailType }) => detailType === "Share In Doubt") ? "in doubt" : "unknown";
  }

  async function until(what: () => string, holds: () => boolean | Promise<boolean>): Promise<void> {
    // Each kill lets the next look come later: on a busy machine some of them together take more than a minute.
    await vi.waitUntil(holds, { timeout: 150_000, interval: 100 }).catch(() => {
      stuck.push(what());
    });
  }

  /** What is delayed asks for a look at an entry that has a due time of its own. */
  async function waitingIn(QueueUrl: string): Promise<number> {
    const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }));
    return Number(Attributes?.ApproximateNumberOfMessages) + Number(Attributes?.ApproximateNumberOfMessagesNotVisible);
  }

  function model() {
    const found = stack.meta?.model;
    if (found === undefined) throw new Error("There is no ledger");
    return found;
  }

  test(`are at least ${killsMin}, at every moment, and DELETEs are among those killed`, () => {
    const hits = killer.kills.filter(({ hit }) => hit);
    const ofPosts = hits.filter(({ target }) => !target.startsWith("E9"));
    expect(ofPosts.length).toBeGreaterThanOrEqual(killsMin);
    const moments = new Set(hits.map(({ target, moment }) => `${target.slice(0, 2)} ${moment}`));
    expect([...moments]).toEqual(expect.arrayContaining(expectedMoments));
  });

  test("leave nothing that is waited for in vain", () => {
    expect(stuck).toEqual([]);
  });

  test("lose no command: each has an outcome that was announced, or is in doubt by name", () => {
    expect(sent.filter((command) => fateOf(command) === "unknown")).toEqual([]);
    expect(sent.filter((command) => fateOf(command) === "in doubt").length).toBeGreaterThanOrEqual(inDoubt.length);
  });

  test("double nothing: for each target and epoch one POST took effect", () => {
    const effects = new Map<string, number>();
    for (const call of model().calls) {
      const key = effectOf(call);
      if (key !== undefined) effects.set(key, (effects.get(key) ?? 0) + 1);
    }
    expect(effects.size).toBeGreaterThan(customers.length * 2);
    expect([...effects].filter(([, times]) => times > 1)).toEqual([]);
  });

  /** What a POST did, and in which epoch; undefined when it did nothing. */
  function effectOf({ name, query, status, time }: LedgerCall): string | undefined {
    if (!["E2", "E4", "E5"].includes(name) || status !== 200) return undefined;
    const subject = query["waba_id"] ?? query["receiving_business_id"] ?? "";
    const owner = model().wabas.get(subject)?.ownerBusinessId ?? subject;
    const epoch = reshares.filter(({ businessId, at }) => businessId === owner && at <= time).length;
    return `${name} ${subject} epoch ${epoch}`;
  }

  test("leave nothing behind: a revoked business has no live record, from its announcement on", () => {
    const { changes } = model();
    const announced = stack.aws.events().filter(({ detailType }) => detailType === "Credit Line Revoked");
    const left = announced.flatMap(({ detail }) => {
      const { businessId, occurredAt } = detail as { businessId: string; occurredAt: string };
      const at = Date.parse(occurredAt);
      const reshared = reshares.find((one) => one.businessId === businessId && one.at > at)?.at ?? Infinity;
      const alive = new Set<string>();
      const own = changes.filter((change) => change.businessId === businessId && change.time < reshared);
      for (const { kind, allocationId = "", time } of own) {
        if (kind === "allocation_deleted") alive.delete(allocationId);
        else if (kind === "allocation_created" || kind === "allocation_revived") alive.add(allocationId);
        if (time > at && alive.size > 0) return [`${businessId}: ${[...alive].join(", ")} after ${occurredAt}`];
      }
      return alive.size > 0 ? [`${businessId}: ${[...alive].join(", ")}`] : [];
    });
    expect(announced.length).toBeGreaterThanOrEqual(customers.length - 1);
    expect(left).toEqual([]);
  });

  test("leave a table that equals the ledger", () => {
    expect(compareWithLedger(latest, stack.config.creditLineId)).toEqual([]);
  });

  test("leave no dead letter", async () => {
    expect(await Promise.all(Object.values(stack.about.deadLetterQueues).map(waitingIn))).toEqual([0, 0, 0]);
  });

  test("spill no token into a log", () => {
    expect(logs.filter((line) => line.includes("EAAKills"))).toEqual([]);
  });
});

function commandIdOf(detail: unknown): unknown {
  return (detail as { commandId?: unknown }).commandId;
}
