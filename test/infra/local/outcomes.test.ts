import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { ReceiveMessageCommand, SendMessageCommand, SetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startLocalStack, type LocalStack } from "../../../infra/local/local-stack.ts";
import { localClient, observe } from "../../../infra/local/observe.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { localStage } from "../../../infra/config.ts";
import { control } from "../../../infra/local/run-steps.ts";

/**
 * Every row of the outcome table (design.md §3), sent through the queue. The README's contract table is these rows.
 */
type Queue = "share" | "verify" | "revoke";
type Row = {
  cause: string;
  queue: Queue;
  /** What Meta is told before: hands in its console, or faults. */
  world?: Record<string, unknown>;
  faults?: Record<string, unknown>[];
  /** Commands that must have ended before, with their own outcome. */
  first?: { queue: Queue; body: Record<string, unknown>; pauseMs?: number }[];
  body: Record<string, unknown> | string;
  outcome: "done" | "refused" | "rejected" | "blocked" | "none yet";
  reason: string;
  event: string;
  deadLetter: "none" | "rejected" | "exhausted";
  /** What Meta is told would trouble the others: sent when they have ended. */
  last?: true;
};

const partner = localStage.partnerBusinessId;
const line = localStage.creditLineId;
const otherLine = "200000000000009";
const token = "EAAOutcomeTableSystemToken";
const deadToken = "EAAOutcomeTableDeadBusinessToken";
const tokenPrefix = "credit-lines/local/business-token/";

function business(n: number): string {
  return `3100000000000${String(n).padStart(2, "0")}`;
}
function waba(n: number): string {
  return `3200000000000${String(n).padStart(2, "0")}`;
}

const numbers = Array.from({ length: 40 }, (_, index) => index + 1);
const world: WorldInput = {
  partnerBusinessId: partner,
  lines: [
    { id: line, ownerBusinessId: partner },
    { id: otherLine, ownerBusinessId: partner },
  ],
  tokens: [
    { value: token, kind: "system" },
    { value: deadToken, kind: "business", wabaIds: [waba(34)], dead: true },
  ],
  wabas: [
    // Number 28 left before anybody was subscribed to Meta's webhook, which would name its owner.
    ...numbers.map((n) => ({
      id: waba(n),
      ownerBusinessId: business(n),
      currency: "USD",
      sharedWithPartner: n !== 28,
    })),
    { id: "320000000000099", ownerBusinessId: partner, currency: "USD" },
  ],
  allocations: [{ id: "330000000000008", lineId: otherLine, receivingBusinessId: business(8), wabaIds: [waba(8)] }],
};

function share(n: number, id: string, more: Record<string, unknown> = {}) {
  return { type: "share", commandId: id, wabaId: waba(n), currency: "USD", ...more };
}
function revoke(n: number, id: string, more: Record<string, unknown> = {}) {
  return { type: "revoke", commandId: id, wabaId: waba(n), reason: "operator", ...more };
}
const longAgo = "2026-01-01T00:00:00Z";

const rows: Row[] = [
  {
    cause: "a body that is no command",
    queue: "share",
    body: "{",
    outcome: "rejected",
    reason: "invalid_command",
    event: "Command Rejected",
    deadLetter: "rejected",
  },
  {
    cause: "a key that no command has",
    queue: "revoke",
    body: revoke(1, "c-key", { force: true }),
    outcome: "rejected",
    reason: "invalid_command",
    event: "Command Rejected",
    deadLetter: "rejected",
  },
  {
    cause: "an id that was used for other content",
    queue: "share",
    first: [{ queue: "share", body: share(1, "c-reused") }],
    body: share(1, "c-reused", { partnerSwitch: true }),
    outcome: "rejected",
    reason: "command_id_reused",
    event: "Command Rejected",
    deadLetter: "rejected",
  },
  {
    cause: "a currency that is not configured",
    queue: "share",
    body: share(2, "c-currency", { currency: "BRL" }),
    outcome: "refused",
    reason: "currency_unsupported",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "the claimed owner is not Meta's",
    queue: "share",
    body: share(3, "c-owner", { businessId: business(4) }),
    outcome: "refused",
    reason: "owner_mismatch",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "the claimed owner is not the stored one",
    queue: "revoke",
    first: [{ queue: "share", body: share(5, "c-owner-first") }],
    body: revoke(5, "c-owner-revoke", { businessId: business(6) }),
    outcome: "refused",
    reason: "owner_mismatch",
    event: "Revoke Refused",
    deadLetter: "none",
  },
  {
    cause: "revoked, and not asked to share again",
    queue: "share",
    first: [
      { queue: "share", body: share(7, "c-revoked-1") },
      { queue: "revoke", body: revoke(7, "c-revoked-2"), pauseMs: 2500 },
    ],
    body: share(7, "c-revoked"),
    outcome: "refused",
    reason: "business_revoked",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "a verification after the revocation",
    queue: "verify",
    first: [
      { queue: "share", body: share(9, "c-vrevoked-1") },
      { queue: "revoke", body: revoke(9, "c-vrevoked-2") },
    ],
    body: { type: "verify", commandId: "c-vrevoked", wabaId: waba(9) },
    outcome: "refused",
    reason: "business_revoked",
    event: "Verify Refused",
    deadLetter: "none",
  },
  {
    cause: "a re-share older than the revocation",
    queue: "share",
    first: [
      { queue: "share", body: share(10, "c-old-1") },
      { queue: "revoke", body: revoke(10, "c-old-2") },
    ],
    body: share(10, "c-old", { requestedAt: longAgo, reshareAfterRevocation: true }),
    outcome: "refused",
    reason: "superseded",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "a revoke older than the re-share",
    queue: "revoke",
    first: [
      { queue: "share", body: share(11, "c-late-1") },
      { queue: "revoke", body: revoke(11, "c-late-2"), pauseMs: 2500 },
      { queue: "share", body: share(11, "c-late-3", { reshareAfterRevocation: true }) },
    ],
    body: revoke(11, "c-late", { requestedAt: longAgo }),
    outcome: "refused",
    reason: "superseded",
    event: "Revoke Refused",
    deadLetter: "none",
  },
  {
    cause: "another line of ours funds it",
    queue: "share",
    body: share(8, "c-line"),
    outcome: "refused",
    reason: "line_conflict",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "the WABA has another currency",
    queue: "share",
    body: share(12, "c-conflict", { currency: "EUR" }),
    outcome: "refused",
    reason: "currency_conflict",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "somebody else funds it",
    queue: "share",
    world: { wabas: [{ id: waba(13), primaryFundingId: "990000000000013" }] },
    body: share(13, "c-funded"),
    outcome: "refused",
    reason: "funded_elsewhere",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "it is the partner's own",
    queue: "share",
    body: share(99, "c-own", { wabaId: "320000000000099" }),
    outcome: "refused",
    reason: "same_business",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "the customer has not shared it with the partner",
    queue: "share",
    world: { wabas: [{ id: waba(14), sharedWithPartner: false }] },
    body: share(14, "c-invisible"),
    outcome: "refused",
    reason: "waba_not_visible",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "a secret outside the stage's prefix",
    queue: "share",
    body: share(15, "c-secret", { businessTokenSecret: "credit-lines/local/system-token" }),
    outcome: "refused",
    reason: "secret_not_allowed",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "Meta names a fault of the command, and nothing came of it",
    queue: "share",
    faults: [{ match: "E2", wabaId: waba(16), kind: "error-before", code: 100 }],
    body: share(16, "c-refused"),
    outcome: "refused",
    reason: "refused_by_meta",
    event: "Share Refused",
    deadLetter: "none",
  },
  {
    cause: "a verification of what was never shared",
    queue: "verify",
    first: [{ queue: "share", body: share(17, "c-never-1", { currency: "EUR" }) }],
    body: { type: "verify", commandId: "c-never", wabaId: waba(17) },
    outcome: "refused",
    reason: "not_shared",
    event: "Verify Refused",
    deadLetter: "none",
  },

  {
    cause: "the system user may not use the line",
    queue: "share",
    faults: [{ match: "E2", wabaId: waba(18), kind: "error-before", code: 200, times: 20 }],
    body: share(18, "c-permission"),
    outcome: "blocked",
    reason: "permission_denied",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "Meta's policy forbids it",
    queue: "share",
    faults: [{ match: "E2", wabaId: waba(19), kind: "error-before", code: 368, times: 20 }],
    body: share(19, "c-policy"),
    outcome: "blocked",
    reason: "policy_block",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "Meta is not available",
    queue: "share",
    faults: [{ match: "E3", wabaId: waba(20), kind: "5xx-before", times: 40 }],
    body: share(20, "c-unavailable"),
    outcome: "blocked",
    reason: "meta_unavailable",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "a verification whose owner nobody knows",
    queue: "verify",
    body: { type: "verify", commandId: "c-unknown", wabaId: waba(21) },
    outcome: "blocked",
    reason: "owner_unknown",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "the business's item is full",
    queue: "share",
    first: [{ queue: "share", body: share(22, "c-full-1") }],
    body: share(23, "c-full"),
    outcome: "blocked",
    reason: "business_full",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "the customer's business token is dead at the attachment",
    queue: "share",
    body: share(34, "c-token", { method: "share-then-attach", businessTokenSecret: `${tokenPrefix}dead` }),
    outcome: "blocked",
    reason: "token_dead",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "Meta has taken the partner's access to the line",
    queue: "share",
    last: true,
    world: { lines: [{ id: line, accessRevoked: true }] },
    body: share(35, "c-access"),
    outcome: "blocked",
    reason: "line_access_revoked",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },
  {
    cause: "the customer's business token is missing for two calls",
    queue: "share",
    body: share(24, "c-two", { method: "share-then-attach" }),
    outcome: "blocked",
    reason: "permission_denied",
    event: "Command Blocked",
    deadLetter: "exhausted",
  },

  {
    cause: "Meta acted, and its answer was lost",
    queue: "share",
    faults: [{ match: "E2", wabaId: waba(25), kind: "cut-after" }],
    body: share(25, "c-lost"),
    outcome: "done",
    reason: "",
    event: "Share Accepted",
    deadLetter: "none",
  },
  {
    cause: "two POSTs were lost, and no trace is found",
    queue: "share",
    faults: [{ match: "E2", wabaId: waba(26), kind: "cut-before", times: 2 }],
    body: share(26, "c-doubt"),
    outcome: "none yet",
    reason: "meta_unavailable",
    event: "Share In Doubt",
    deadLetter: "none",
  },
  {
    cause: "a re-share while the revocation settles",
    queue: "share",
    first: [
      { queue: "share", body: share(27, "c-wait-1") },
      { queue: "revoke", body: revoke(27, "c-wait-2"), pauseMs: 2500 },
    ],
    body: share(27, "c-wait", { reshareAfterRevocation: true }),
    outcome: "done",
    reason: "",
    event: "Share Accepted",
    deadLetter: "none",
  },
  {
    cause: "a revoke whose owner is not known yet",
    queue: "revoke",
    body: revoke(28, "c-pending"),
    outcome: "none yet",
    reason: "",
    event: "none yet",
    deadLetter: "none",
  },

  {
    cause: "a new customer",
    queue: "share",
    body: share(29, "c-new"),
    outcome: "done",
    reason: "",
    event: "Share Accepted",
    deadLetter: "none",
  },
  {
    cause: "already shared",
    queue: "share",
    first: [{ queue: "share", body: share(30, "c-shared-1") }],
    body: share(30, "c-shared"),
    outcome: "done",
    reason: "",
    event: "Share Verified",
    deadLetter: "none",
  },
  {
    cause: "a verification",
    queue: "verify",
    first: [{ queue: "share", body: share(31, "c-verify-1") }],
    body: { type: "verify", commandId: "c-verify", wabaId: waba(31) },
    outcome: "done",
    reason: "",
    event: "Share Verified",
    deadLetter: "none",
  },
  {
    cause: "a revocation",
    queue: "revoke",
    first: [{ queue: "share", body: share(32, "c-revoke-1") }],
    body: revoke(32, "c-revoke"),
    outcome: "done",
    reason: "",
    event: "Credit Line Revoked",
    deadLetter: "none",
  },
  {
    cause: "a revocation of nothing",
    queue: "revoke",
    body: revoke(33, "c-nothing"),
    outcome: "done",
    reason: "",
    event: "Credit Line Revoked",
    deadLetter: "none",
  },
];

const readme = "README.md";
const marks = [
  "<!-- contract table: written by test/infra/local/outcomes.test.ts -->",
  "<!-- end of the contract table -->",
] as const;

function contractTable(): string {
  const cells = rows.map(({ cause, queue, outcome, reason, event, deadLetter }) => {
    const why = reason === "" ? "" : ` \`${reason}\``;
    const announced = event.includes("none") ? event : `\`${event}\``;
    return `| ${queue} | ${cause} | ${outcome}${why} | ${announced} | ${deadLetter === "none" ? "–" : deadLetter} |`;
  });
  return ["| Queue | Cause | Outcome | Event | Dead letter |", "|---|---|---|---|---|", ...cells].join("\n");
}

describe("The outcome table, sent through the queues,", () => {
  let stack: LocalStack;
  let sqs: SQSClient;
  const letters: { queue: Queue; body: string; reason: string | undefined }[] = [];

  beforeAll(async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "outcomes-"));
    const worldFile = path.join(directory, "world.json");
    writeFileSync(worldFile, JSON.stringify(world));
    const secretsFile = path.join(directory, "secrets.json");
    writeFileSync(secretsFile, JSON.stringify({ [`${tokenPrefix}dead`]: deadToken }));
    stack = await startLocalStack({ port: 0, worldFile, secretsFile });
    sqs = new SQSClient(localClient(stack.aws.endpoint));
    // Five receives of a blocked command must not take five minutes.
    for (const QueueUrl of Object.values(stack.about.queues)) {
      await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { VisibilityTimeout: "3" } }));
    }
    await prepare();
  }, 150_000);
  afterAll(() => stack.close());

  /** Everything is sent at once, in three waves: what comes first, what comes after it, and the rows themselves. */
  async function prepare(): Promise<void> {
    const url = stack.meta?.url ?? "";
    const early = rows.filter(({ last }) => last !== true);
    for (const row of early) if (row.world !== undefined) await control(`${url}/_world`, row.world);
    await control(
      `${url}/_faults`,
      rows.flatMap((row) => row.faults ?? []),
    );
    const waves = Math.max(...rows.map((row) => row.first?.length ?? 0));
    for (let wave = 0; wave < waves; wave += 1) {
      const now = rows.flatMap((row) => row.first?.[wave] ?? []);
      for (const { queue, body } of now) await send(queue, body);
      await ended(now.map(({ body }) => String(body["commandId"])));
      const pauseMs = Math.max(0, ...now.map((one) => one.pauseMs ?? 0));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    const record = { epoch: 0, state: "live", recordedAt: 1 };
    const foreign = { ...record, creditLineId: line, foreign: true };
    const many = Array.from({ length: 3500 }, (_, index) => [`34000000000${10_000 + index}`, foreign]);
    await putBusiness(23, Object.fromEntries(many));
    await putBusiness(8, { "330000000000008": { ...record, creditLineId: otherLine } });
    for (const { queue, body } of early) await send(queue, body);
    await ended(commandIdsOf(early));
    await swept(() => {
      expect(events().some(({ detailType }) => detailType === "Share In Doubt")).toBe(true);
    });
    for (const row of rows.filter(({ last }) => last === true)) {
      await control(`${url}/_world`, row.world);
      await send(row.queue, row.body);
      await ended(commandIdsOf([row]));
    }
    await collectLetters();
  }

  function commandIdsOf(some: Row[]): string[] {
    const certain = some.filter(({ outcome }) => outcome !== "none yet");
    return certain.flatMap(({ body }) => (typeof body === "string" ? [] : [String(body["commandId"])]));
  }

  async function send(queue: Queue, body: Record<string, unknown> | string): Promise<void> {
    const common = { version: "1", requestedAt: new Date().toISOString(), requestedBy: "outcomes" };
    const MessageBody = typeof body === "string" ? body : JSON.stringify({ ...common, ...body });
    await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[queue], MessageBody }));
  }

  /** Every one of these commands was answered on the bus, by whatever event ends or blocks it. */
  async function ended(commandIds: readonly string[]): Promise<void> {
    const endings = /Accepted|Verified|Refused|Rejected|Blocked|Revoked$/;
    await swept(() => {
      const endingEvents = events().filter(({ detailType }) => endings.test(detailType));
      const answered = new Set(endingEvents.map(({ detail }) => detail.commandId));
      expect(commandIds.filter((id) => !answered.has(id))).toEqual([]);
    });
  }

  /** Waits, with the schedule's minutes as half seconds. */
  async function swept(assertion: () => void): Promise<void> {
    await vi.waitFor(
      async () => {
        await stack.aws.invoke("reconcile", { task: "due-sweep" });
        assertion();
      },
      { timeout: 100_000, interval: 500 },
    );
  }

  function events(): { detailType: string; detail: { commandId?: string; reason?: string; eventId: string } }[] {
    return stack.aws.events() as never;
  }

  /** An item as an earlier time left it: a business with very many records, and one that an earlier line was shared with. */
  async function putBusiness(n: number, records: Record<string, object>): Promise<void> {
    const dynamo = new DynamoDBClient(localClient(stack.aws.endpoint));
    const businessId = business(n);
    const about = { pk: `BUSINESS#${businessId}`, businessId, version: 1, epoch: 0, changedAt: 1, listedAt: 1 };
    const Item = marshall({ ...about, records, wabas: {}, waiting: {} });
    await dynamo.send(new PutItemCommand({ TableName: stack.about.tables.state, Item }));
    dynamo.destroy();
  }

  async function collectLetters(): Promise<void> {
    await vi.waitFor(
      async () => {
        for (const queue of ["share", "verify", "revoke"] as const) {
          const { Messages = [] } = await sqs.send(
            new ReceiveMessageCommand({
              QueueUrl: stack.about.deadLetterQueues[queue],
              MaxNumberOfMessages: 10,
              VisibilityTimeout: 600,
              MessageAttributeNames: ["All"],
            }),
          );
          for (const { Body = "", MessageAttributes } of Messages) {
            letters.push({ queue, body: Body, reason: MessageAttributes?.["reason"]?.StringValue });
          }
        }
        expect(letters).toHaveLength(rows.filter(({ deadLetter }) => deadLetter !== "none").length);
      },
      { timeout: 60_000, interval: 300 },
    );
  }

  test.each(rows)("$queue: $cause → $outcome $reason", async (row) => {
    const id = typeof row.body === "string" ? undefined : String(row.body["commandId"]);
    const own = events().filter(({ detail }) => detail.commandId === id);
    const { commands } = await observe(stack);
    const records = [...commands.values()].filter(
      (one) => one.commandId === id && (row.reason !== "command_id_reused" || one.outcome === "rejected"),
    );

    if (row.outcome === "none yet") {
      expect(records).toEqual([]);
      expect(own.filter(({ detailType }) => detailType !== row.event)).toEqual([]);
      if (row.event !== "none yet")
        expect(own).toMatchObject([{ detailType: row.event, detail: { reason: row.reason } }]);
    } else {
      expect(records).toHaveLength(1);
      const [record] = records;
      if (row.outcome === "blocked") expect(record).toMatchObject({ reason: row.reason, blockedAnnounced: true });
      else expect(record).toMatchObject({ outcome: row.outcome, ...(row.reason === "" ? {} : { reason: row.reason }) });
      const matching = own.filter(({ detailType }) => detailType === row.event);
      expect(new Set(matching.map(({ detail }) => detail.eventId)).size).toBe(1);
      if (row.reason !== "") expect(matching[0]?.detail.reason).toBe(row.reason);
    }

    const letter = letters.filter(({ body }) => (id === undefined ? body === row.body : body.includes(`"${id}"`)));
    const ownLetters =
      row.reason === "command_id_reused" ? letter.filter(({ reason }) => reason !== undefined) : letter;
    expect(ownLetters.map(({ reason }) => (reason === undefined ? "exhausted" : "rejected"))).toEqual(
      row.deadLetter === "none" ? [] : [row.deadLetter],
    );
    if (row.deadLetter === "rejected") expect(ownLetters[0]?.reason).toBe(row.reason);
  });

  test("shares nothing twice on the way: one accepted POST for each WABA that is shared once", () => {
    const calls = stack.meta?.model.calls ?? [];
    const doubled = numbers.filter((n) => {
      const posts = calls.filter(
        ({ name, query, status }) => name === "E2" && query["waba_id"] === waba(n) && status === 200,
      );
      return posts.length > ([11, 27].includes(n) ? 2 : 1);
    });
    expect(doubled).toEqual([]);
  });
});

test("the README's contract table is the rows of this file", () => {
  const text = readFileSync(readme, "utf8");
  const [start, end] = marks;
  const written = `${start}\n${contractTable()}\n${end}`;
  if (process.env["UPDATE_README"] === "1") {
    const from = text.indexOf(start);
    writeFileSync(readme, text.slice(0, from) + written + text.slice(text.indexOf(end) + end.length));
  }
  expect(readFileSync(readme, "utf8")).toContain(written);
});
