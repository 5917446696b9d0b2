import { randomUUID } from "node:crypto";
import { DeleteItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { revokeEnvironment } from "../../functions/revoke/environment.ts";
import { revokeFlow } from "../../functions/revoke/revoke-allocations.ts";
import { shareEnvironment } from "../../functions/share/environment.ts";
import { shareFlow } from "../../functions/share/share-allocation.ts";
import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { createStateStore, type StateStore } from "../../shared/store/state-store.ts";
import { revokeCommand, shareCommand } from "../support/commands.ts";
import { failuresOf } from "../support/lambda.ts";
import { captureLogs } from "../support/logs.ts";
import { type Meta, startMeta, systemToken } from "../support/meta.ts";
import { type QuietStack, sqsRecord, startQuietStack } from "../support/quiet-stack.ts";

/** How functions find out that the system token is dead, and that it is not. */
let meta: Meta;
let stack: QuietStack;
let client: DynamoDBClient;
let secrets: SecretsManagerClient;
let store: StateStore;
let logs: ReturnType<typeof captureLogs>;
const customerSecret = "credit-lines/local/business-token/customer";
const businessToken = "EAAbusinessTokenThatIsDead";

beforeAll(async () => {
  meta = await startMeta();
  stack = await startQuietStack({
    config: { graphApiBaseUrl: meta.url },
    secrets: { "credit-lines/local/system-token": systemToken, [customerSecret]: businessToken },
  });
  client = new DynamoDBClient(stack.client);
  secrets = new SecretsManagerClient(stack.client);
  store = createStateStore({ client, tableName: stack.output("StateTableName"), newId: randomUUID });
  Object.assign(process.env, stack.environmentOf("share"));
});
afterAll(async () => {
  client?.destroy();
  secrets?.destroy();
  await stack?.close();
  await meta?.close();
});

beforeEach(async () => {
  logs = captureLogs();
  const Key = marshall({ pk: "BREAKER#system-token" });
  await client.send(new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key }));
  await setToken(systemToken);
  await meta.world({ tokens: [{ value: systemToken, kind: "system", dead: false }] });
});
afterEach(() => {
  expect(logs.text()).not.toContain("EAA");
  logs.restore();
});

async function setToken(value: string): Promise<void> {
  await secrets.send(new PutSecretValueCommand({ SecretId: stack.systemTokenSecret, SecretString: value }));
}

function killToken(value: string): Promise<void> {
  return meta.world({ tokens: [{ value, kind: "system", dead: true }] });
}

/** In a process of its own. */
function freshShare(method: "share-and-attach" | "share-then-attach" = "share-and-attach") {
  const environment = parseEnvironment(shareEnvironment, stack.environmentOf("share"));
  const share = { currencies: ["EUR"], shareMethod: method, secondPost: environment.SECOND_POST };
  const wake = { verify: environment.VERIFY_QUEUE_URL };
  const deps = buildCommandDeps("share", environment, { wake, share, stopAt: environment.SHARES_STOP_AT });
  return queueHandler(deps, shareFlow(deps));
}
function freshRevoke() {
  const deps = buildCommandDeps("revoke", parseEnvironment(revokeEnvironment, stack.environmentOf("revoke")));
  return queueHandler(deps, revokeFlow(deps));
}

type Handler = ReturnType<typeof freshShare>;

async function serve(handler: Handler, command: { type: string }) {
  const queue = stack.output(command.type === "share" ? "ShareQueueUrl" : "RevokeQueueUrl");
  const before = { calls: meta.model.calls.length, ...(await stack.counts(queue)) };
  const failures = await failuresOf(handler, sqsRecord(command));
  const copies = (await stack.counts(queue)).delayed - before.delayed;
  return {
    fate: failures.length > 0 ? "given back" : copies > 0 ? "waits" : "done",
    calls: meta.model.calls.length - before.calls,
    breaker: (await store.loadBreaker())?.state,
  };
}

test("a command that meets a dead token waits, and tells all others to", async () => {
  await killToken(systemToken);
  const { wabaId } = await meta.customer();
  const command = shareCommand(wabaId);
  expect(await serve(freshShare(), command)).toMatchObject({ fate: "waits", breaker: "open" });
  expect(await store.loadCommand(command.commandId)).toMatchObject({ failure: { reason: "token_dead", code: 190 } });
  expect((await store.loadCommand(command.commandId))?.blockedAnnounced).toBeUndefined();
  expect(await serve(freshShare(), command)).toEqual({ fate: "waits", calls: 0, breaker: "open" });
  expect(await serve(freshRevoke(), revokeCommand({ wabaId }))).toEqual({ fate: "waits", calls: 0, breaker: "open" });
});

test("a revocation, whose item holds what failed, tells of it too", async () => {
  const { businessId, wabaId } = await meta.customer();
  expect(await serve(freshShare(), shareCommand(wabaId))).toMatchObject({ fate: "done", breaker: undefined });
  await killToken(systemToken);
  const revoked = await serve(freshRevoke(), revokeCommand({ businessId }));
  expect(revoked.fate).not.toBe("given back");
  expect(revoked.breaker).toBe("open");
  expect((await store.loadBusiness(businessId))?.revocation?.state).toBe("open");
});

test("a token that was replaced in time is read anew, and nobody waits", async () => {
  const share = freshShare();
  const [first, second] = [await meta.customer(), await meta.customer()];
  await serve(share, shareCommand(first.wabaId));
  const next = "EAAsystemTokenOfTheNextYear";
  await killToken(systemToken);
  await meta.world({ tokens: [{ value: next, kind: "system" }] });
  await setToken(next);
  expect(await serve(share, shareCommand(second.wabaId))).toMatchObject({ fate: "done", breaker: undefined });
});

test("a secret that holds no token is as good as a dead one", async () => {
  await setToken(" ");
  const { wabaId } = await meta.customer();
  expect(await serve(freshShare(), shareCommand(wabaId))).toEqual({ fate: "waits", calls: 0, breaker: "open" });
});

test("Meta's silence is no dead token", async () => {
  await killToken(systemToken);
  const { wabaId } = await meta.customer();
  await meta.faults({ match: "E14", kind: "5xx-before", times: 2 });
  expect(await serve(freshShare(), shareCommand(wabaId))).toMatchObject({ fate: "given back", breaker: undefined });
});

test("a customer's dead token stops nobody but the command that needs it", async () => {
  const { wabaId } = await meta.customer();
  await meta.world({ tokens: [{ value: businessToken, kind: "business", wabaIds: [wabaId], dead: true }] });
  const command = shareCommand(wabaId, { method: "share-then-attach", businessTokenSecret: customerSecret });
  const checks = meta.calls("E14").length;
  const served = await serve(freshShare("share-then-attach"), command);
  expect(meta.calls("E5", wabaId).map(({ status }) => status)).toEqual([401]);
  expect([served.fate, served.breaker]).toEqual(["given back", undefined]);
  expect(meta.calls("E14").length).toBe(checks + 1);
});
