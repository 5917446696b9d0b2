import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
import {
  CreateSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AwsCall } from "../../../../infra/local/aws/gateway.ts";
import type { LocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { clientConfig, details, startSampleStack } from "./sample-stack.ts";

let aws: LocalAws;
const lines: string[] = [];
const calls: AwsCall[] = [];

beforeAll(async () => {
  aws = await startSampleStack({
    secrets: { "sample/token": "a token", "sample/customers/1": "another" },
    environment: { CLOCK_OFFSET_MS: "5000" },
    onLog: (line) => lines.push(line),
    onCall: (call, proceed) => {
      calls.push(call);
      return proceed();
    },
  });
});
afterAll(() => aws.close());

async function runTool(payload: object) {
  const result = await aws.invoke("tool", payload);
  if (!result.ok) throw new Error(result.error.errorMessage);
  return result.payload as {
    event: unknown;
    context: Record<string, unknown>;
    environment: Record<string, string>;
    remainingMs: number;
    pid: number;
    execPath: string;
    execArgv: string[];
  };
}

describe("a function", () => {
  test("sees the template's variables, the given ones and Lambda's own, and nothing of ours", async () => {
    const { environment } = await runTool({});
    const own = Object.entries(environment).filter(([name]) => !/^(AWS_|_|LAMBDA_|LANG$|PATH$|TZ$)/.test(name));
    expect(Object.fromEntries(own)).toEqual({
      BUS_NAME: "sample-events",
      CLOCK_OFFSET_MS: "5000",
      TOKEN_ARN: expect.stringMatching(/^arn:aws:secretsmanager:us-east-1:000000000000:secret:sample\/token-.{6}$/),
      WORK_QUEUE_URL: `${aws.endpoint}/000000000000/sample-work`,
    });
    expect(environment).toMatchObject({
      AWS_ENDPOINT_URL: aws.endpoint,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "256",
      AWS_LAMBDA_FUNCTION_NAME: "sample-tool",
      AWS_REGION: "us-east-1",
      _HANDLER: "tool.handler",
    });
  });

  test("has a heap of nine tenths of its memory, as Lambda starts Node", async () => {
    const { execArgv } = await runTool({});
    expect(execArgv).toContain("--max-old-space-size=230");
  });

  test("gets Lambda's context", async () => {
    const { context, remainingMs } = await runTool({});
    expect(context).toMatchObject({
      awsRequestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      functionName: "sample-tool",
      invokedFunctionArn: "arn:aws:lambda:us-east-1:000000000000:function:sample-tool",
      memoryLimitInMB: "256",
    });
    expect(remainingMs).toBeGreaterThan(10_000);
    expect(remainingMs).toBeLessThanOrEqual(20_000);
  });

  test("runs on this very Node, in a process that is kept and does one thing at a time", async () => {
    const first = await runTool({});
    const second = await runTool({});
    const [third, fourth] = await Promise.all([runTool({}), runTool({})]);
    expect(first.execPath).toBe(process.execPath);
    expect(second.pid).toBe(first.pid);
    expect(third.pid).not.toBe(fourth.pid);
  });

  test("fails with the error its handler throws, and its process goes on", async () => {
    const { pid } = await runTool({});
    const result = await aws.invoke("tool", { does: "throw" });
    expect(result).toMatchObject({ ok: false, error: { errorType: "RangeError", errorMessage: "as asked" } });
    expect((await runTool({})).pid).toBe(pid);
  });

  test.each([
    ["exit", "Runtime.ExitError"],
    ["reject-later", "Runtime.UnhandledPromiseRejection"],
  ])("loses its process when it does %s, and the next invocation gets a new one", async (does, errorType) => {
    const result = await aws.invoke("tool", { does });
    expect(result).toMatchObject({ ok: false, error: { errorType } });
    await runTool({});
  });

  test("reports why it cannot be loaded", async () => {
    const result = await aws.invoke("sample-broken", {});
    expect(result).toMatchObject({ ok: false, error: { errorMessage: "SyntaxError: broken at load" } });
  });

  test("has its output in the log behind its name", async () => {
    await runTool({ word: "hello" });
    await expect.poll(() => lines).toContain('[sample-tool] tool says {"word":"hello"}');
  });

  test("is known by name to whoever watches its calls", async () => {
    await aws.invoke("worker", { Records: [{ body: '{"id":"watched"}' }] });
    expect(details(aws, "left")).toContainEqual({ id: "watched" });
    const by = { accessKeyId: "local-sample-worker", functionName: "sample-worker" };
    const call = { service: "events", operation: "PutEvents", ...by };
    expect(calls).toContainEqual({ ...call, body: expect.stringContaining("watched") });
  });

  test("answers HTTP requests at its URL", async () => {
    const response = await fetch(`${aws.outputs["WebhookUrl"]}hooks?a=1`, { method: "POST", body: "signed text" });
    expect(response.status).toBe(201);
    expect(response.headers.get("x-echo")).toBe("/hooks");
    expect(await response.json()).toMatchObject({
      version: "2.0",
      rawPath: "/hooks",
      queryStringParameters: { a: "1" },
      body: "signed text",
      isBase64Encoded: false,
      requestContext: { http: { method: "POST" } },
    });
  });
});

describe("the local controls", () => {
  test("invoke a function by a short name, with its schedule's input unless a body is given", async () => {
    const scheduled = await fetch(`${aws.endpoint}/_local/invoke/tool`, { method: "POST" });
    expect(await scheduled.json()).toMatchObject({ event: { task: "sweep" } });
    const given = await fetch(`${aws.endpoint}/_local/invoke/TOOLFUNCTION`, {
      method: "POST",
      body: '{"task":"mine"}',
    });
    expect(await given.json()).toMatchObject({ event: { task: "mine" } });
    const failed = await fetch(`${aws.endpoint}/_local/invoke/tool`, { method: "POST", body: '{"does":"throw"}' });
    expect(failed.status).toBe(500);
    expect(await failed.json()).toMatchObject({ errorMessage: "as asked" });
    const unknown = await fetch(`${aws.endpoint}/_local/invoke/nobody`, { method: "POST" });
    expect(unknown.status).toBe(400);
    expect(await unknown.text()).toContain("sample-tool");
  });

  test("name the process of an invocation that is under way, so that it can be killed", async () => {
    const payload = { Records: [{ body: '{"id":"held","does":"hang"}' }] };
    const held = aws.invoke("worker", payload);
    function received() {
      return details(aws, "received").find(({ id }) => id === "held");
    }
    await expect.poll(received).toBeDefined();
    const pid = Number(received()?.["pid"]);
    const response = await fetch(`${aws.endpoint}/_local/running`);
    const running = await response.json();
    const about = { requestId: expect.any(String), sessionToken: expect.any(String) };
    expect(running).toEqual([{ functionName: "sample-worker", pid, payload, ...about }]);
    process.kill(pid, "SIGKILL");
    expect(await held).toMatchObject({ ok: false, error: { errorMessage: expect.stringContaining("SIGKILL") } });
    expect(aws.running()).toEqual([]);
  });

  test("give the events of the bus after a given one", async () => {
    const events = new EventBridgeClient(clientConfig(aws));
    const seen = aws.events().length;
    for (const count of [1, 2]) {
      const Entries = [
        { EventBusName: "sample-events", Source: "test", DetailType: "Counted", Detail: `{"count":${count}}` },
      ];
      expect(await events.send(new PutEventsCommand({ Entries }))).toMatchObject({ FailedEntryCount: 0 });
    }
    const response = await fetch(`${aws.endpoint}/_local/events?after=${seen + 1}`);
    expect(await response.json()).toEqual([
      { n: seen + 2, detailType: "Counted", detail: { count: 2 }, time: expect.stringMatching(/^\d{4}-.*Z$/) },
    ]);
  });

  test("pause an event source mapping as Lambda's API does", async () => {
    const { EventSourceMappings } = (await (
      await fetch(`${aws.endpoint}/2015-03-31/event-source-mappings/`)
    ).json()) as { EventSourceMappings: { UUID: string; State: string }[] };
    const uuid = EventSourceMappings[0]?.UUID;
    for (const [Enabled, State] of [
      [false, "Disabled"],
      [true, "Enabled"],
    ]) {
      const paused = await fetch(`${aws.endpoint}/2015-03-31/event-source-mappings/${uuid}`, {
        method: "PUT",
        body: JSON.stringify({ Enabled }),
      });
      expect(await paused.json()).toMatchObject({ UUID: uuid, State });
    }
  });
});

describe("EventBridge", () => {
  const entry = { EventBusName: "sample-events", Source: "test", DetailType: "Limit", Detail: "{}" };

  test("refuses more than ten entries or 256 KB", async () => {
    const events = new EventBridgeClient(clientConfig(aws));
    const many = new PutEventsCommand({ Entries: Array.from({ length: 11 }, () => entry) });
    await expect(events.send(many)).rejects.toMatchObject({ name: "ValidationException" });
    const large = new PutEventsCommand({
      Entries: [{ ...entry, Detail: JSON.stringify({ text: "x".repeat(262_144) }) }],
    });
    await expect(events.send(large)).rejects.toMatchObject({ name: "ValidationException" });
    expect(details(aws, "Limit")).toEqual([]);
  });

  test("counts the entries it cannot take, and takes the others", async () => {
    const events = new EventBridgeClient(clientConfig(aws));
    const answer = await events.send(
      new PutEventsCommand({
        Entries: [{ ...entry, DetailType: "Mixed" }, { ...entry, Detail: "{" }, { Detail: "{}" }],
      }),
    );
    expect(answer).toMatchObject({
      FailedEntryCount: 2,
      Entries: [{ EventId: expect.any(String) }, { ErrorCode: "MalformedDetail" }, { ErrorCode: "InvalidArgument" }],
    });
    expect(details(aws, "Mixed")).toHaveLength(1);
  });

  test("refuses a bus that the stack does not have", async () => {
    const events = new EventBridgeClient(clientConfig(aws));
    const elsewhere = new PutEventsCommand({ Entries: [{ ...entry, EventBusName: "nobody" }] });
    await expect(events.send(elsewhere)).rejects.toMatchObject({ name: "ResourceNotFoundException" });
  });
});

describe("Secrets Manager", () => {
  test("finds a secret by name and by ARN, and shows its newest value", async () => {
    const secrets = new SecretsManagerClient(clientConfig(aws));
    const { ARN, SecretString } = await secrets.send(new GetSecretValueCommand({ SecretId: "sample/token" }));
    expect(SecretString).toBe("a token");
    const { environment } = await runTool({});
    expect(ARN).toBe(environment["TOKEN_ARN"]);
    await secrets.send(new PutSecretValueCommand({ SecretId: "sample/token", SecretString: "rotated" }));
    expect(await secrets.send(new GetSecretValueCommand({ SecretId: ARN }))).toMatchObject({ SecretString: "rotated" });
  });

  test("knows secrets that are not in the template, and new ones", async () => {
    const secrets = new SecretsManagerClient(clientConfig(aws));
    const given = await secrets.send(new GetSecretValueCommand({ SecretId: "sample/customers/1" }));
    expect(given).toMatchObject({ SecretString: "another" });
    const unknown = new GetSecretValueCommand({ SecretId: "sample/customers/2" });
    await expect(secrets.send(unknown)).rejects.toMatchObject({ name: "ResourceNotFoundException" });
    await secrets.send(new CreateSecretCommand({ Name: "sample/customers/2", SecretString: "new" }));
    expect(await secrets.send(unknown)).toMatchObject({ SecretString: "new" });
  });
});
