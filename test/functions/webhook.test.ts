import { createHmac } from "node:crypto";
import type { LambdaFunctionURLEvent } from "aws-lambda";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createLogger } from "../../shared/logging.ts";
import { parseBody } from "../../shared/contracts/commands.ts";
import type { receiveWebhook as Receive } from "../../functions/webhook/receive-webhook.ts";
import { receiveWebhook } from "../../functions/webhook/receive-webhook.ts";
import { lambdaContext } from "../support/lambda.ts";
import { captureLogs } from "../support/logs.ts";
import { type QuietStack, startQuietStack } from "../support/quiet-stack.ts";
import { expectedRemovals, mutate, partnerId, updatesBody } from "./webhook-mutations.ts";

const newSecret = "the-new-app-secret-0123456789";
const oldSecret = "the-old-app-secret-9876543210";
const verifyToken = "the-verify-token-of-this-stage";
const secondsNow = 1_781_092_800;
const now = secondsNow * 1000;

type Answer = Awaited<ReturnType<typeof Receive>>;

function requestOf(body: Buffer, signature: string | undefined, isBase64Encoded = true): LambdaFunctionURLEvent {
  return {
    requestContext: { http: { method: "POST", path: "/" } },
    headers: signature === undefined ? {} : { "x-hub-signature-256": signature },
    body: body.toString(isBase64Encoded ? "base64" : "utf8"),
    isBase64Encoded,
  } as unknown as LambdaFunctionURLEvent;
}

function handshakeOf(query: Record<string, string>): LambdaFunctionURLEvent {
  return {
    requestContext: { http: { method: "GET", path: "/" } },
    headers: {},
    queryStringParameters: query,
    isBase64Encoded: false,
  } as unknown as LambdaFunctionURLEvent;
}

function sign(body: Buffer, secret = newSecret): string {
  return `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
}

describe("the deployed handler", () => {
  let stack: QuietStack;
  let handler: (event: LambdaFunctionURLEvent, context: ReturnType<typeof lambdaContext>) => Promise<Answer>;
  let refusedEntries = 0;
  let logs: ReturnType<typeof captureLogs>;

  beforeAll(async () => {
    stack = await startQuietStack({
      config: { webhook: true, appSecretName: "my/app-secret", verifyTokenSecretName: "my/verify-token" },
      secrets: { "my/app-secret": JSON.stringify([newSecret, oldSecret]), "my/verify-token": verifyToken },
      onCall: async (call, proceed) => {
        if (call.operation !== "SendMessageBatch" || refusedEntries === 0) return proceed();
        const answer = await proceed();
        const told = JSON.parse(answer.body.toString());
        const Failed = told.Successful.slice(0, refusedEntries).map(({ Id }: { Id: string }) => ({
          Id,
          SenderFault: false,
          Code: "InternalError",
        }));
        refusedEntries = 0;
        return { ...answer, body: Buffer.from(JSON.stringify({ ...told, Failed })) };
      },
    });
    Object.assign(process.env, stack.environmentOf("webhook"), { POWERTOOLS_LOG_LEVEL: "DEBUG" });
    ({ handler } = (await import("../../functions/webhook/handler.ts")) as never);
  });
  afterAll(() => stack?.close());
  beforeEach(() => {
    logs = captureLogs();
    return () => {
      logs.restore();
      for (const secret of [newSecret, oldSecret, verifyToken]) expect(logs.text()).not.toContain(secret);
    };
  });

  function send(event: LambdaFunctionURLEvent): Promise<Answer> {
    return handler(event, lambdaContext());
  }

  function removal(wabaId: string, more: Record<string, unknown> = {}): Buffer {
    return updatesBody([{ event: "PARTNER_REMOVED", wabaId, ownerId: "110000000000001", time: secondsNow, ...more }]);
  }

  async function queued(wabaId: string, atLeast: number) {
    const found = await stack.messages(stack.output("RevokeQueueUrl"), wabaId, { atLeast });
    return found.map(({ Body = "" }) => parseBody("revoke", Body, { sentAt: Date.now() + now, clockSkewMs: 0 }));
  }

  test("shakes hands with who knows the verify token, and with nobody else", async () => {
    const asked = { "hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": verifyToken };
    expect(await send(handshakeOf(asked))).toMatchObject({ statusCode: 200, body: "1158201444" });
    for (const wrong of [
      { "hub.verify_token": "another" },
      { "hub.mode": "unsubscribe" },
      { "hub.verify_token": "" },
    ]) {
      expect(await send(handshakeOf({ ...asked, ...wrong }))).toMatchObject({ statusCode: 403, body: "" });
    }
    expect(await send(handshakeOf({}))).toMatchObject({ statusCode: 403, body: "" });
  });

  test("queues a removal as a revoke command, and the owner to note beside it, under ids that a repetition repeats", async () => {
    const body = removal("120000000000101");
    for (const _ of [1, 2]) expect(await send(requestOf(body, sign(body)))).toMatchObject({ statusCode: 200 });
    const messages = await queued("120000000000101", 4);
    const commands = messages.flatMap((one) => (one.kind === "command" ? [one.request] : []));
    expect(commands).toHaveLength(2);
    expect(commands[0]).toEqual(commands[1]);
    expect(commands[0]).toMatchObject({
      type: "revoke",
      commandId: `removed:120000000000101:${secondsNow}`,
      reason: "partner_removed",
      wabaId: "120000000000101",
      businessId: "110000000000001",
      requestedAt: now,
    });
    expect(messages.filter(({ kind }) => kind === "notice")).toHaveLength(2);
  });

  test("takes both app secrets of a rotation, over the bytes as they came, and refuses any other signature with nothing said", async () => {
    const body = removal("120000000000102");
    expect(await send(requestOf(body, sign(body, oldSecret)))).toMatchObject({ statusCode: 200 });
    expect(await send(requestOf(body, sign(body, oldSecret), false))).toMatchObject({ statusCode: 200 });
    const spoiled = [
      undefined,
      "",
      "sha256=",
      sign(body).slice("sha256=".length),
      sign(body).slice(0, -2),
      `${sign(body)}00`,
      sign(body).replace("sha256", "sha1"),
      sign(body, "another-secret"),
      sign(Buffer.concat([body, Buffer.from(" ")])),
    ];
    for (const signature of spoiled) {
      expect(await send(requestOf(body, signature)), String(signature)).toMatchObject({ statusCode: 403, body: "" });
    }
    expect(await queued("120000000000102", 4)).toHaveLength(4);
  });

  test("answers 5xx when SQS does not take all of it, so that Meta delivers again", async () => {
    const body = removal("120000000000103");
    refusedEntries = 1;
    await expect(send(requestOf(body, sign(body)))).rejects.toThrow("SQS did not take 1");
    expect(await send(requestOf(body, sign(body)))).toMatchObject({ statusCode: 200 });
  });

  test("queues a thousand updates of three megabytes", async () => {
    const updates = Array.from({ length: 1000 }, (_, index) => ({
      event: "PARTNER_REMOVED",
      wabaId: `1300000000${String(index).padStart(5, "0")}`,
      time: secondsNow,
      padding: "x".repeat(2800),
    }));
    const body = updatesBody(updates);
    expect(body.length).toBeGreaterThan(2_900_000);
    expect(await send(requestOf(body, sign(body)))).toMatchObject({ statusCode: 200 });
    const messages = await queued("1300000000", 1000);
    expect(new Set(messages.map((one) => one.kind === "command" && one.request.wabaId)).size).toBe(1000);
  }, 60_000);
});

describe("of Meta's updates", () => {
  async function queuedOf(body: Buffer): Promise<Record<string, unknown>[]> {
    const { answer, bodies } = await receive(requestOf(body, sign(body)));
    expect(answer.statusCode).toBe(200);
    return bodies.map((text) => JSON.parse(text));
  }

  test.each([
    "ACCOUNT_OFFBOARDED",
    "ACCOUNT_RECONNECTED",
    "PARTNER_APP_UNINSTALLED",
    "ACCOUNT_VIOLATION",
    "SOMETHING_NEW",
  ])("%s asks for nothing", async (event) => {
    expect(await queuedOf(updatesBody([{ event, wabaId: "120000000000001", time: secondsNow }]))).toEqual([]);
  });

  test.each(["ACCOUNT_DELETED", "DISABLED_UPDATE", "PARTNER_ADDED"])(
    "%s is to be noted, and never revokes",
    async (event) => {
      const queued = await queuedOf(updatesBody([{ event, wabaId: "120000000000001", time: secondsNow }]));
      expect(queued).toMatchObject([{ type: "account", event, wabaId: "120000000000001" }]);
    },
  );

  test("a removal from another partner's solution is not ours", async () => {
    const update = { event: "PARTNER_REMOVED", wabaId: "120000000000001", time: secondsNow };
    expect(await queuedOf(updatesBody([{ ...update, partnerIds: ["999999999999999"] }]))).toEqual([]);
    expect(await queuedOf(updatesBody([{ ...update, partnerIds: ["999999999999999", partnerId] }]))).toHaveLength(1);
  });

  test("one from a time to come is taken as of now: it must not win every comparison for ever (H6d)", async () => {
    const update = { event: "PARTNER_REMOVED", wabaId: "120000000000001", time: secondsNow + 3600 };
    expect(await queuedOf(updatesBody([update]))).toMatchObject([{ requestedAt: new Date(now).toISOString() }]);
  });
});

/** `WEBHOOK_BODIES=10000 npx vitest run test/functions/webhook.test.ts` is the whole proof; `npm test` takes a tenth of it. */
const bodyCount = Number(process.env["WEBHOOK_BODIES"] ?? 1000);

test(`of ${bodyCount} mutated bodies, half of them signed after it, exactly the removals that a second reading finds are queued`, async () => {
  let removals = 0;
  const answers: Record<string, number> = {};
  for (let seed = 0; seed < bodyCount; seed += 1) {
    const { original, mutated } = mutate(seed);
    const isSignedAfter = seed % 2 === 0;
    const event = requestOf(mutated, sign(isSignedAfter ? mutated : original), seed % 3 > 0);
    const { answer, bodies } = await receive(event);
    const counted = isSignedAfter || mutated.equals(original);
    // A body that is no text loses bytes where the gateway passes it on as text.
    const asReceived = event.isBase64Encoded ? mutated : Buffer.from(mutated.toString("utf8"));
    const isValid = counted && (event.isBase64Encoded || asReceived.equals(mutated));
    expect(answer.statusCode, `seed ${seed}`).toBe(isValid ? 200 : 403);
    answers[String(answer.statusCode)] = (answers[String(answer.statusCode)] ?? 0) + 1;
    const revokes = bodies.map((text) => JSON.parse(text)).filter(({ type }) => type === "revoke");
    const found = revokes.map(({ wabaId, businessId }) => `${wabaId} of ${businessId ?? "?"}`);
    expect(found.toSorted(), `seed ${seed}: ${mutated.toString().slice(0, 2000)}`).toEqual(
      isValid ? expectedRemovals(mutated.toString()) : [],
    );
    for (const text of bodies) {
      const parsed = parseBody("revoke", text, { sentAt: now, clockSkewMs: 300_000 });
      expect(parsed.kind, `seed ${seed}: ${text}`).not.toBe("invalid");
    }
    removals += revokes.length;
  }
  expect(removals).toBeGreaterThan(bodyCount / 3);
  expect(Object.keys(answers).toSorted()).toEqual(["200", "403"]);
}, 300_000);

const silent = createLogger("webhook-test");
silent.setLogLevel("SILENT");

async function receive(event: LambdaFunctionURLEvent) {
  const bodies: string[] = [];
  const answer = await receiveWebhook(event, {
    appSecrets: async () => [newSecret],
    verifyToken: async () => verifyToken,
    queue: async (queued) => void bodies.push(...queued),
    count: () => {},
    log: silent,
    now: () => now,
    partnerBusinessId: partnerId,
    clockSkewMs: 300_000,
  });
  return { answer, bodies };
}
