import { createHmac } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { IncomingMessage } from "node:http";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  DeleteItemCommand,
  DynamoDBClient,
  paginateScan,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import { ReceiveMessageCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { expect, vi } from "vitest";
import { localStage } from "../../../infra/config.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { localClient } from "../../../infra/local/observe.ts";
import { control } from "../../../infra/local/run-steps.ts";
import { revokeCommand, shareCommand, verifyCommand } from "../../support/commands.ts";
import { commandLine } from "../../support/ops.ts";
import { sqsRecord } from "../../support/quiet-stack.ts";
import { createWitness, readTemplate } from "../../support/permissions.ts";

const prefix = "credit-lines/local/business-token/";
const appSecretName = "credit-lines/local/app-secret";
const verifyTokenSecretName = "credit-lines/local/verify-token";

/** Letters that each way of writing a text writes differently, so that no form of a secret looks like another. */
export const secrets = {
  "the system token": String.raw`EAACanarySystem+/="\token`,
  "the app secret": String.raw`canaryApp+/="\secret`,
  "a customer's token": String.raw`EAACanaryBusiness+/="\token`,
  "the verify token": String.raw`canaryVerify+/="\token`,
};

function business(n: number): string {
  return `51000000000${String(n).padStart(2, "0")}`;
}
function waba(n: number): string {
  return `52000000000${String(n).padStart(2, "0")}`;
}

const numbers = Array.from({ length: 20 }, (_, index) => index + 1);
const systemToken = { value: secrets["the system token"], kind: "system" as const };
const world: WorldInput = {
  partnerBusinessId: localStage.partnerBusinessId,
  appSecret: secrets["the app secret"],
  lines: [{ id: localStage.creditLineId, ownerBusinessId: localStage.partnerBusinessId }],
  tokens: [systemToken, { value: secrets["a customer's token"], kind: "business", wabaIds: [waba(3), waba(12)] }],
  wabas: numbers.map((n) => ({ id: waba(n), ownerBusinessId: business(n), currency: "EUR" })),
};

export type Queue = "share" | "verify" | "revoke";
type Command = { commandId: string };
type Event = { detailType: string; detail: { commandId?: string; wabaId?: string; reason?: string } };

/** The steps, each named after what the system does in it. Permissions and places of secrets are told by these names. */
export const steps = {
  shared: "a customer is shared with, and the share is proved",
  again: "a command comes again after its end",
  revoked: "a customer leaves",
  unchanged: "a command changes nothing: it is refused, or true already",
  scanned: "the schedules run, and the scan announces what was never announced",
  rejected: "a body is no command",
  customersToken: "a customer's own token attaches the line",
  due: "Meta's answers are lost, and the due sweep asks again",
  left: "a customer unshares, and Meta's webhook says so",
  alarming: "what a person is woken for",
  tokenDead: "the system token dies and is replaced",
  versionDead: "Meta serves a newer Graph version than was asked for",
} as const;

/** What a run of the whole system on one machine left behind. */
export type Everything = Awaited<ReturnType<typeof runEverything>>;

/** Runs the local stack through all that makes its functions ask something of AWS, one step after the other. */
export async function runEverything() {
  const directory = mkdtempSync(path.join(tmpdir(), "everything-"));
  function file(name: string, content: unknown): string {
    writeFileSync(path.join(directory, name), JSON.stringify(content));
    return path.join(directory, name);
  }
  const witness = createWitness();
  const logs: string[] = [];
  const sent: string[] = [];
  const urls: string[] = [];
  let metaPort = "";
  function onRequest(message: unknown): void {
    const { request } = message as { request: IncomingMessage };
    const { authorization: _authorization, ...headers } = request.headers;
    const isMeta = String(request.socket.localPort) === metaPort && !request.url?.startsWith("/_");
    if (isMeta) urls.push(`${request.method} ${withoutInput(request.url ?? "")} ${JSON.stringify(headers)}`);
  }
  subscribe("http.server.request.start", onRequest);

  const stack = await startLocalStack({
    port: 0,
    stageConfigFile: file("stage.json", {
      appSecretName,
      verifyTokenSecretName,
      dueSweepMinutes: 60,
      breaker: { removals: 1 },
    }),
    worldFile: file("world.json", world),
    secretsFile: file("secrets.json", {
      [appSecretName]: secrets["the app secret"],
      [verifyTokenSecretName]: secrets["the verify token"],
      [`${prefix}customer`]: secrets["a customer's token"],
    }),
    onLog: (line) => {
      logs.push(line);
      witness.onLog(line);
    },
    onCall: async (call, proceed) => {
      witness.onCall(call);
      if (call.service === "sqs" && call.operation.startsWith("SendMessage")) sent.push(call.body);
      return proceed();
    },
    onRoleUse: (use) => witness.onRoleUse(use),
  });
  metaPort = new URL(stack.about.graphUrl).port;
  const template = readTemplate(stack.templateDirectory);
  witness.name(template, stack.aws.resources);
  const sqs = new SQSClient(localClient(stack.aws.endpoint));
  const meta = stack.about.graphUrl;

  async function send(queue: Queue, ...bodies: (Command | string)[]): Promise<void> {
    for (const body of bodies) {
      const MessageBody = typeof body === "string" ? body : JSON.stringify(body);
      await sqs.send(new SendMessageCommand({ QueueUrl: stack.about.queues[queue], MessageBody }));
    }
  }
  function events(): Event[] {
    return stack.aws.events() as unknown as Event[];
  }
  function count(detailType: string, about: Command | string): number {
    const id = typeof about === "string" ? about : about.commandId;
    return events().filter(
      (event) => event.detailType === detailType && [event.detail.commandId, event.detail.wabaId].includes(id),
    ).length;
  }
  /** Until it holds; `sweeping`: with the schedule's minutes as half seconds. */
  async function until(holds: () => boolean | undefined, { sweeping = false } = {}): Promise<void> {
    await vi.waitFor(
      async () => {
        if (sweeping) await stack.aws.invoke("reconcile", { task: "due-sweep" });
        expect(holds(), String(holds)).toBe(true);
      },
      { timeout: 60_000, interval: 300 },
    );
  }

  const share = shareCommand(waba(1));
  const verify = verifyCommand(waba(1));
  const revoke = revokeCommand({ wabaId: waba(1) });

  witness.begin(steps.shared);
  await send("share", share);
  await until(() => count("Share Verified", waba(1)) === 1);
  await send("verify", verify);
  await until(() => count("Share Verified", verify) === 1);

  witness.begin(steps.revoked);
  await send("revoke", revoke);
  await until(() => count("Credit Line Revoked", revoke) === 1, { sweeping: true });

  witness.begin(steps.again);
  await send("share", share);
  await send("verify", verify);
  await send("revoke", revoke);
  await until(
    () =>
      count("Share Accepted", share) > 1 &&
      count("Share Verified", verify) > 1 &&
      count("Credit Line Revoked", revoke) > 1,
  );

  witness.begin(steps.unchanged);
  const refused = {
    share: shareCommand(waba(1)),
    verify: verifyCommand(waba(1)),
    revoke: revokeCommand({ wabaId: waba(1), businessId: business(2) }),
  };
  for (const queue of ["share", "verify", "revoke"] as const) await send(queue, refused[queue]);
  await send("share", shareCommand(waba(2)));
  await until(() => count("Share Verified", waba(2)) === 1);
  const alreadyTrue = shareCommand(waba(2));
  await send("share", alreadyTrue);
  await until(
    () =>
      count("Share Verified", alreadyTrue) === 1 &&
      count("Share Refused", refused.share) === 1 &&
      count("Verify Refused", refused.verify) === 1 &&
      count("Revoke Refused", refused.revoke) === 1,
  );

  witness.begin(steps.scanned);
  await forgetAudit(stack, `BUSINESS#${business(2)}`);
  await until(() => {
    // As the scheduler would, all of them; the scan leaves what is younger than a settle window to publish.
    void stack.aws.invoke("reconcile");
    return witness.has("Reconcile", "dynamodb:PutItem", "<Audit.Arn>");
  });

  witness.begin(steps.rejected);
  await send("share", "{ share");
  await send("verify", "{ verify");
  await send("revoke", "{ revoke");
  await until(() => events().filter(({ detailType }) => detailType === "Command Rejected").length === 3);

  witness.begin(steps.customersToken);
  const businessTokenSecret = `${prefix}customer`;
  const attached = shareCommand(waba(3), { method: "share-then-attach", businessTokenSecret });
  await send("share", attached);
  await until(() => count("Share Verified", waba(3)) === 1);
  const proved = verifyCommand(waba(3), { businessTokenSecret });
  await send("verify", proved);
  await until(() => count("Share Verified", proved) === 1);

  witness.begin(steps.due);
  await send("share", shareCommand(waba(5)), shareCommand(waba(6)));
  await until(() => count("Share Verified", waba(5)) === 1 && count("Share Verified", waba(6)) === 1);
  await control(`${meta}/_faults`, [
    { match: "E2", wabaId: waba(4), kind: "cut-before" },
    { match: "E9", businessId: business(6), kind: "cut-after" },
    // A verification wakes itself while it learns something; when Meta does not answer, the sweep has to.
    { match: "E6", businessId: business(9), kind: "5xx-before", times: 4 },
    { match: "E2", wabaId: waba(15), kind: "cut-before", times: 2 },
  ]);
  const left = revokeCommand({ wabaId: waba(6) });
  await send("share", shareCommand(waba(4)), shareCommand(waba(9)), shareCommand(waba(15)));
  await send("revoke", left);
  await until(
    () =>
      count("Share Verified", waba(4)) === 1 &&
      count("Share Verified", waba(9)) === 1 &&
      count("Credit Line Revoked", left) === 1,
    { sweeping: true },
  );
  await control(`${meta}/_world`, { wabas: [{ id: waba(5), primaryFundingId: "990000000000005" }] });
  const mismatched = verifyCommand(waba(5));
  await send("verify", mismatched);
  await until(() => count("Share Mismatched", waba(5)) > 0, { sweeping: true });

  await spoil(stack, `BUSINESS#${business(14)}`);
  await until(() => logs.some((line) => line.includes("ItemsUnserved")), { sweeping: true });

  witness.begin(steps.left);
  const handshake = new URL(stack.about.webhookUrl ?? "");
  handshake.searchParams.set("hub.mode", "subscribe");
  handshake.searchParams.set("hub.challenge", "4711");
  handshake.searchParams.set("hub.verify_token", secrets["the verify token"]);
  expect(await (await fetch(handshake)).text()).toBe("4711");
  const time = Math.floor(Date.now() / 1000);
  const disabled = { id: waba(2), time, changes: [{ field: "account_update", value: { event: "DISABLED_UPDATE" } }] };
  expect(await deliver(stack, { object: "whatsapp_business_account", entry: [disabled] })).toBe(200);
  await until(() => count("Account Changed", waba(2)) === 1);
  // The same word, from a producer.
  const { type: _type, reason: _reason, requestedBy: _by, ...told } = revokeCommand({ wabaId: waba(2) });
  await send("revoke", { ...told, type: "account", event: "ACCOUNT_DELETED", proof: "forged" } as Command);
  await until(() => count("Command Rejected", told) === 1);
  await send("share", shareCommand(waba(13)), shareCommand(waba(17)));
  await until(() => count("Share Verified", waba(13)) === 1 && count("Share Verified", waba(17)) === 1);
  await control(`${meta}/_world`, { wabas: [{ id: waba(13), sharedWithPartner: false }] });
  await until(() => events().some(({ detail }) => detail.reason === "partner_removed"), { sweeping: true });

  witness.begin(steps.alarming);
  await control(`${meta}/_world`, {
    // One removal more than the breaker lets through, and two shares by hand: one with a business whose item is spoiled.
    wabas: [{ id: waba(17), sharedWithPartner: false }],
    allocations: [14, 16].map((n) => ({
      id: `5300000000000${n}`,
      lineId: localStage.creditLineId,
      receivingBusinessId: business(n),
      wabaIds: [waba(n)],
    })),
  });
  expect(await deliver(stack, { object: "whatsapp_business_account", entry: [{ id: "1", changes: [{}] }] })).toBe(200);
  // Its fifth receive in vain: Meta shows nobody's WABA.
  await stack.aws.invoke("verify", { Records: [sqsRecord(verifyCommand("5299999999999"), { receiveCount: 5 })] });
  const alarming = ["Command Blocked", "Share In Doubt", "Revocation Incomplete", "Revocations Stopped", "Drift Found"];
  await until(
    () => {
      void stack.aws.invoke("reconcile");
      return alarming.every((one) => events().some(({ detailType }) => detailType === one));
    },
    { sweeping: true },
  );

  witness.begin(steps.tokenDead);
  const waiting = {
    Verify: verifyCommand(waba(3)),
    Share: shareCommand(waba(7)),
    Revoke: revokeCommand({ wabaId: waba(3) }),
  };
  // Each alone, so that each is the one to find the token dead.
  for (const [role, command] of Object.entries(waiting)) {
    await control(`${meta}/_world`, { tokens: [{ ...systemToken, dead: true }] });
    await send(role.toLowerCase() as Queue, command);
    await until(
      () =>
        witness.has(role, "sqs:SendMessage", `<${role}Queue.Arn>`) &&
        witness.has(role, "dynamodb:UpdateItem", "<State.Arn>"),
    );
    await stack.aws.invoke("reconcile");
    await control(`${meta}/_world`, { tokens: [{ ...systemToken, dead: false }] });
    await stack.aws.invoke("reconcile");
  }
  await until(() => count("Share Verified", waba(7)) === 1 && count("Credit Line Revoked", waiting.Revoke) === 1, {
    sweeping: true,
  });

  witness.begin(steps.versionDead);
  await control(`${meta}/_variants`, { oldestLivingVersion: 26 });
  const late = verifyCommand(waba(7));
  await send("verify", late);
  await until(() => count("Share Verified", late) === 1);

  expect(urls.filter((url) => url.includes("debug_token"))).toEqual([]);
  const asked = await askOnCall(stack);
  const failed = [
    await stack.aws.invoke("reconcile", { task: secrets["the system token"] }),
    await stack.aws.invoke("webhook", { requestContext: {} }),
  ];
  expect(failed.every(({ ok }) => !ok)).toBe(true);

  async function collect() {
    return {
      logs: logs.join("\n"),
      "the State table": await rows(stack, stack.about.tables.state),
      "the Audit table": await rows(stack, stack.about.tables.audit),
      queues: sent.join("\n"),
      "dead letters": await letters(stack, sqs),
      events: JSON.stringify(stack.aws.events()),
      "the URLs and headers of calls to Meta": urls.join("\n"),
      "the output of the command line": asked.map(({ stdout }) => stdout).join("\n"),
      errors: [...asked.map(({ stderr }) => stderr), JSON.stringify(failed)].join("\n"),
      "the ledger of the stand-in": JSON.stringify(stack.meta?.model.calls),
    };
  }
  const places = await collect();

  // A producer, a person and a program that take a secret for an id: it comes by everywhere.
  const commandId = Buffer.from(secrets["the system token"]).toString("base64url");
  const misnamed = verifyCommand(waba(18), { commandId });
  await send("verify", misnamed, JSON.stringify({ ...misnamed, unknown: true }));
  await until(() => count("Verify Refused", commandId) === 1 && count("Command Rejected", commandId) === 1);
  const creditLines = commandLine(stack.aws.endpoint);
  asked.push(await creditLines("explain", commandId), await creditLines(commandId));
  await fetch(`${meta}/v25.0/${waba(18)}?fields=${commandId}`);
  return {
    template,
    seen: witness.seen,
    places,
    planted: await collect(),
    async close() {
      unsubscribe("http.server.request.start", onRequest);
      sqs.destroy();
      await stack.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** Meta's E15 has the token that it looks at in its address; only a person's `preflight` and `dlq list` ask it. */
function withoutInput(url: string): string {
  return url.includes("/debug_token?") ? url.replace(/input_token=[^&]*/, "input_token=") : url;
}

/** A webhook of Meta's own, whatever it says. Answers the status. */
async function deliver(stack: LocalStack, content: unknown): Promise<number> {
  const body = JSON.stringify(content);
  const signature = createHmac("sha256", secrets["the app secret"]).update(body).digest("hex");
  const headers = { "x-hub-signature-256": `sha256=${signature}` };
  const { status } = await fetch(stack.about.webhookUrl ?? "", { method: "POST", headers, body });
  return status;
}

/** The command line, where it reads much, asks Meta, or fails. */
async function askOnCall(stack: LocalStack) {
  const creditLines = commandLine(stack.aws.endpoint);
  const lines = [
    `explain ${waba(1)} ${waba(3)} ${business(5)} --live`,
    "preflight --json",
    "dlq show",
    "report --month 2000-01",
    `settle ${waba(3)} --why nothing`,
    `share ${waba(8)} --currency EUR --method nonsense`,
    `revoke ${waba(8)} --reason operator`,
  ];
  const asked = [];
  for (const line of lines) asked.push(await creditLines(...line.split(" ")));
  return asked;
}

async function rows(stack: LocalStack, TableName: string): Promise<string> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  const found: string[] = [];
  for await (const { Items = [] } of paginateScan({ client }, { TableName })) {
    found.push(...Items.map((item) => JSON.stringify(unmarshall(item))));
  }
  client.destroy();
  return found.join("\n");
}

/** As if publish had died between the table's change and its announcement, and the record were gone. */
async function forgetAudit(stack: LocalStack, pk: string): Promise<void> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  const TableName = stack.about.tables.audit;
  const KeyConditionExpression = "pk = :pk";
  const rowsOfIt = { TableName, KeyConditionExpression, ExpressionAttributeValues: marshall({ ":pk": pk }) };
  const { Items = [] } = await client.send(new QueryCommand(rowsOfIt));
  for (const { sk } of Items) {
    if (sk !== undefined) await client.send(new DeleteItemCommand({ TableName, Key: { ...marshall({ pk }), sk } }));
  }
  client.destroy();
}

/** An item that no release can read, and that is due. */
async function spoil(stack: LocalStack, pk: string): Promise<void> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  const Item = marshall({ pk, version: 1, status: "of another release", dueShard: "due-0", dueAt: 1 });
  await client.send(new PutItemCommand({ TableName: stack.about.tables.state, Item }));
  client.destroy();
}

async function letters(stack: LocalStack, sqs: SQSClient): Promise<string> {
  const found: string[] = [];
  for (const QueueUrl of Object.values(stack.about.deadLetterQueues)) {
    const { Messages } = await sqs.send(
      new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ["All"] }),
    );
    found.push(JSON.stringify(Messages ?? []));
  }
  return found.join("\n");
}
