import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setImmediate } from "node:timers/promises";
import * as z from "zod";
import type { QueryOperation } from "./account.ts";
import type { DynamoDb } from "./dynamodb.ts";
import type { LocalEvent } from "./event-bridge.ts";
import type { EventSourceMapping } from "./event-source-mappings.ts";
import type { FunctionUrl } from "./function-url.ts";
import type { InvocationResult, LambdaFunction, RunningInvocation } from "./lambda.ts";
import { type Answer, errorAnswer, jsonAnswer, type Operation } from "./protocol.ts";
import type { Schedule } from "./scheduler.ts";
import { parseQueryCall, queryAnswer } from "./sqs-query-protocol.ts";
import type { Sqs } from "./sqs.ts";

/** What the gateway passes calls on to. */
export type Services = {
  sqs: Sqs;
  dynamoDb: DynamoDb;
  secretsManager: Readonly<Record<string, Operation>>;
  eventBridge: Readonly<Record<string, Operation>>;
  account: Readonly<Record<string, QueryOperation>>;
  functionUrls: readonly FunctionUrl[];
  mappings: readonly EventSourceMapping[];
  schedules: readonly Schedule[];
  eventsAfter: (n: number) => LocalEvent[];
  running: () => RunningInvocation[];
  findFunction: (name: string) => LambdaFunction;
  /** Invokes with the payload; without one as its schedules would. */
  invokeNow: (name: string, payload: unknown) => Promise<InvocationResult>;
};

/**
 * A call to an AWS service, with its JSON as it came (of a REST call: what its path says, as JSON). Who makes it is known of
 * the stack's functions and their processes.
 */
export type AwsCall = {
  service: string;
  operation: string;
  body: string;
  /** Of the caller's credentials: it is who one is here. */
  accessKeyId?: string | undefined;
  functionName?: string | undefined;
  sessionToken?: string | undefined;
};

/**
 * Sees every AWS call, may delay it, replace its answer before or after it took effect, or throw: the caller then
 * loses the connection.
 */
export type OnCall = (call: AwsCall, proceed: () => Promise<Answer>) => Promise<Answer>;

/** What Lambda's pollers and EventBridge Scheduler ask of AWS by themselves, with the role of a function or of a schedule. */
export type RoleUse = { holder: string; service: string; operation: string; body: string };

export type Gateway = {
  endpoint: string;
  /** Before this, calls are answered with 503. */
  serve: (services: Services) => void;
  close: () => Promise<void>;
};

type Call = { method: string; url: string; headers: Record<string, string>; body: Buffer; gone: () => boolean };

const servicesByPrefix: Record<string, string> = {
  AmazonSQS: "sqs",
  DynamoDB_20120810: "dynamodb",
  DynamoDBStreams_20120810: "dynamodbstreams",
  secretsmanager: "secretsmanager",
  AWSEvents: "events",
};

const bodyMaxBytes = 16 * 1024 * 1024;
/** Long: clients that hold a connection, such as a function between two invocations, must not find it closed. */
const keepAliveTimeoutMs = 600_000;

/** The one address of the local AWS, on the loopback interface only. @throws Error when the port is taken. */
export async function startGateway(port: number, onCall: OnCall): Promise<Gateway> {
  let services: Services | undefined;
  const server = createServer({ keepAliveTimeout: keepAliveTimeoutMs }, (request, response) => {
    void respond(request, response);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening").catch((error: unknown) => {
    throw new Error(`Port ${port} cannot be used; does another local stack run?`, { cause: error });
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The gateway has no address");

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const call = { ...(await readCall(request)), gone: () => response.destroyed };
      const { status, headers, body } = services === undefined ? notReady() : await route(call, services, onCall);
      response.writeHead(status, { ...headers, "content-length": body.length }).end(body);
    } catch {
      // Only the hook throws here, on purpose: the caller shall not learn what became of its call.
      response.destroy();
    }
  }

  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    serve: (ready) => {
      services = ready;
    },
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function route(call: Call, services: Services, onCall: OnCall): Promise<Answer> {
  const path = call.url.split("?")[0] ?? "/";
  if (path.startsWith("/_local/")) return guarded(() => local(call, path, services));
  const accessKeyId = /Credential=([^/]+)\//.exec(call.headers["authorization"] ?? "")?.[1];
  const functionName = /^local-(.+)/.exec(accessKeyId ?? "")?.[1];
  const caller = { accessKeyId, functionName, sessionToken: call.headers["x-amz-security-token"] };
  if (path.startsWith("/schedules/")) {
    const body = JSON.stringify({ Name: decodeURIComponent(path.slice("/schedules/".length)) });
    return onCall({ service: "scheduler", operation: "GetSchedule", body, ...caller }, () =>
      guarded(() => getSchedule(path, services)),
    );
  }
  if (path.startsWith("/2015-03-31/")) {
    return onCall({ service: "lambda", ...lambdaOperation(call, path), ...caller }, () =>
      guarded(() => lambdaApi(call, path, services)),
    );
  }

  const form = call.headers["content-type"]?.startsWith("application/x-www-form-urlencoded") === true;
  const target = call.headers["x-amz-target"];
  const [, bucket = "", ...key] = path.split("/");
  if (target === undefined && !form && services.sqs.buckets.has(bucket)) {
    const operation = s3Operation(call.method, key.length > 0 && key[0] !== "");
    const body = JSON.stringify({ Bucket: bucket, Key: key.join("/") });
    return onCall({ service: "s3", operation, body, ...caller }, () => services.sqs.s3(call));
  }

  if (target === undefined && form) {
    const query = new URLSearchParams(call.body.toString());
    const action = query.get("Action") ?? "";
    const ask = services.account[action];
    if (ask !== undefined) {
      const service = action === "GetCallerIdentity" ? "sts" : "cloudformation";
      const asked = JSON.stringify(Object.fromEntries(query));
      return onCall({ service, operation: action, body: asked, ...caller }, async () =>
        ask(query, accessKeyId ?? "nobody"),
      );
    }
    const { operation, input } = parseQueryCall(call.body.toString());
    const body = JSON.stringify(input);
    const answer = await onCall({ service: "sqs", operation, body, ...caller }, () =>
      guarded(() => sqs(operation, body, call, services)),
    );
    return queryAnswer(operation, answer);
  }
  const [prefix = "", operation = ""] = target?.split(".") ?? [];
  const service = servicesByPrefix[prefix];
  if (service === undefined) {
    return errorAnswer("UnknownOperationException", `The local AWS knows no ${target ?? `${call.method} ${path}`}`);
  }
  const body = call.body.toString();
  return onCall({ service, operation, body, ...caller }, () =>
    guarded(() => {
      if (service === "sqs") return sqs(operation, body, call, services);
      if (service === "secretsmanager") return operate(services.secretsManager, operation, call);
      if (service === "events") return operate(services.eventBridge, operation, call);
      return dynamoDb(call, services);
    }),
  );
}

async function sqs(operation: string, body: string, { gone }: Call, services: Services): Promise<Answer> {
  const answer = await services.sqs.answer(operation, body);
  if (operation !== "ReceiveMessage") return answer;
  // The message may have arrived together with the end of the poller's connection: let Node see both.
  await setImmediate();
  if (gone()) await giveBack(body, answer, services);
  return answer;
}

/** Whoever polled has gone, so nobody will ever handle these messages: they need not wait for their visibility's end. */
async function giveBack(request: string, { body }: Answer, services: Services): Promise<void> {
  const { QueueUrl } = z.looseObject({ QueueUrl: z.string() }).parse(JSON.parse(request));
  const received = z.looseObject({ Messages: z.array(z.looseObject({ ReceiptHandle: z.string() })).default([]) });
  for (const { ReceiptHandle } of received.parse(JSON.parse(body.toString())).Messages) {
    await services.sqs.call("ChangeMessageVisibility", { QueueUrl, ReceiptHandle, VisibilityTimeout: 0 });
  }
}

function dynamoDb({ headers, body }: Call, services: Services): Promise<Answer> {
  const passedOn = ["x-amz-target", "content-type", "authorization", "x-amz-date"];
  const kept = Object.entries(headers).filter(([name]) => passedOn.includes(name));
  return services.dynamoDb.answer(Object.fromEntries(kept), body.toString());
}

async function operate(
  operations: Readonly<Record<string, Operation>>,
  operation: string,
  { body }: Call,
): Promise<Answer> {
  const run = operations[operation];
  if (run === undefined) {
    return errorAnswer("UnknownOperationException", `${operation} is not one of ${Object.keys(operations).join(", ")}`);
  }
  return run(JSON.parse(body.toString() || "{}"));
}

async function local(call: Call, path: string, services: Services): Promise<Answer> {
  const [, , resource, name = ""] = path.split("/");
  if (resource === "events" && call.method === "GET") {
    const after = Number(new URL(call.url, "http://localhost").searchParams.get("after") ?? 0);
    return jsonAnswer(services.eventsAfter(after));
  }
  if (resource === "running" && call.method === "GET") return jsonAnswer(services.running());
  if (resource === "invoke" && call.method === "POST") {
    const text = call.body.toString().trim();
    return invocationAnswer(
      await services.invokeNow(decodeURIComponent(name), text === "" ? undefined : JSON.parse(text)),
    );
  }
  const functionUrl = services.functionUrls.find((candidate) => resource === "url" && candidate.name === name);
  if (functionUrl !== undefined) {
    const { method, headers, body } = call;
    return functionUrl.serve({ method, headers, body, target: call.url.slice(`/_local/url/${name}`.length) || "/" });
  }
  return errorAnswer("NotFound", `There is no ${call.method} ${path}`, 404);
}

function s3Operation(method: string, hasKey: boolean): string {
  if (!hasKey) return "ListObjectsV2";
  return { GET: "GetObject", HEAD: "HeadObject", PUT: "PutObject", DELETE: "DeleteObject" }[method] ?? method;
}

/** The call's name in Lambda's API, and whom it concerns. */
function lambdaOperation({ method }: Call, path: string): { operation: string; body: string } {
  const [, , collection, name = "", action] = path.split("/").map(decodeURIComponent);
  if (collection === "functions" && action === "invocations") {
    return { operation: "InvokeFunction", body: JSON.stringify({ FunctionName: name }) };
  }
  const verb = method === "PUT" ? "Update" : "Get";
  if (collection === "functions") {
    const operation = action === "configuration" ? "GetFunctionConfiguration" : "GetFunction";
    return { operation, body: JSON.stringify({ FunctionName: name }) };
  }
  if (name === "") return { operation: "ListEventSourceMappings", body: "{}" };
  return { operation: `${verb}EventSourceMapping`, body: JSON.stringify({ UUID: name }) };
}

/** Of Lambda's REST API: invoking a function, reading its environment, listing mappings and pausing one. */
async function lambdaApi(call: Call, path: string, services: Services): Promise<Answer> {
  const [, , collection, name = "", action] = path.split("/").map(decodeURIComponent);
  const input: unknown = JSON.parse(call.body.toString() || "{}");
  if (collection === "functions" && action === "invocations" && call.method === "POST") {
    const target = services.findFunction(name);
    if (call.headers["x-amz-invocation-type"] !== "Event") return invocationAnswer(await target.invoke(input), 200);
    void target.invoke(input);
    return { status: 202, headers: {}, body: Buffer.alloc(0) };
  }
  if (collection === "functions" && action === "configuration" && call.method === "GET") {
    const { name: FunctionName, arn: FunctionArn, variables: Variables } = services.findFunction(name);
    return jsonAnswer({ FunctionName, FunctionArn, State: "Active", Environment: { Variables } });
  }
  if (collection === "event-source-mappings" && call.method === "GET" && name === "") {
    const wanted = new URL(call.url, "http://localhost").searchParams.get("FunctionName");
    const arn = wanted === null ? undefined : services.findFunction(wanted).arn;
    const found = services.mappings.filter(({ functionArn }) => arn === undefined || functionArn === arn);
    return jsonAnswer({ EventSourceMappings: found.map(describeMapping) });
  }
  const mapping = services.mappings.find(({ uuid }) => collection === "event-source-mappings" && uuid === name);
  if (mapping === undefined) return errorAnswer("ResourceNotFoundException", `There is no ${path}`, 404);
  if (call.method === "PUT") mapping.setEnabled(z.looseObject({ Enabled: z.boolean() }).parse(input).Enabled);
  return jsonAnswer(describeMapping(mapping));
}

/** Of Scheduler's REST API. */
function getSchedule(path: string, { schedules }: Services): Answer {
  const found = schedules.find(({ name }) => `/schedules/${name}` === decodeURIComponent(path));
  if (found === undefined) return errorAnswer("ResourceNotFoundException", `There is no ${path}`, 404);
  const { name: Name, expression: ScheduleExpression, enabled } = found;
  return jsonAnswer({ Name, ScheduleExpression, State: enabled ? "ENABLED" : "DISABLED" });
}

function describeMapping({ uuid, sourceArn, functionArn, enabled }: EventSourceMapping) {
  return { UUID: uuid, EventSourceArn: sourceArn, FunctionArn: functionArn, State: enabled() ? "Enabled" : "Disabled" };
}

/** A failed invocation is a 500 for whoever calls by hand; Lambda's own API says 200 and tells in a header. */
function invocationAnswer(result: InvocationResult, failedStatus = 500): Answer {
  if (result.ok) return jsonAnswer(result.payload);
  const answer = jsonAnswer(result.error, failedStatus);
  return { ...answer, headers: { ...answer.headers, "x-amz-function-error": "Unhandled" } };
}

/** What a caller got wrong is told to it: bad JSON, a missing member, an unknown name. */
async function guarded(serve: () => Promise<Answer> | Answer): Promise<Answer> {
  try {
    return await serve();
  } catch (error) {
    const message = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    return errorAnswer("ValidationException", message);
  }
}

function notReady(): Answer {
  return errorAnswer("ServiceUnavailable", "The local stack is starting", 503);
}

async function readCall(request: IncomingMessage): Promise<Omit<Call, "gone">> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request) {
    const bytes = Buffer.from(chunk);
    sizeBytes += bytes.length;
    if (sizeBytes > bodyMaxBytes) throw new Error("The body is too large");
    chunks.push(bytes);
  }
  const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
  return {
    method: request.method ?? "GET",
    url: request.url ?? "/",
    headers: Object.fromEntries(headers),
    body: Buffer.concat(chunks),
  };
}
