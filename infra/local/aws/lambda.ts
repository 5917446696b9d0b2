import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { type ChildProcesses, killChild } from "./child-processes.ts";
import type { Stack } from "./stack.ts";
import { accountId, region } from "./template.ts";

export type InvocationError = { errorType: string; errorMessage: string; trace?: string[] | undefined };
export type InvocationResult = { requestId: string } & (
  | { ok: true; payload: unknown }
  | { ok: false; error: InvocationError }
);

/** What a process of a function works on at this moment. */
export type RunningInvocation = {
  functionName: string;
  requestId: string;
  pid: number;
  /** Of the process's dummy credentials: its calls to AWS carry it. */
  sessionToken: string;
  payload: unknown;
};

export type LambdaFunction = {
  logicalId: string;
  name: string;
  arn: string;
  /** The template's and the given ones, as Lambda's configuration tells them. */
  variables: Readonly<Record<string, string>>;
  /** Never rejects: what went wrong is in the result. */
  invoke: (payload: unknown) => Promise<InvocationResult>;
  running: () => RunningInvocation[];
};

export type LambdaOptions = {
  stack: Stack;
  endpoint: string;
  /** Given to every function on top of the template's variables. */
  environment: Readonly<Record<string, string>>;
  children: ChildProcesses;
  onLog: (line: string) => void;
};

const functionProperties = z.strictObject({
  FunctionName: z.string().optional(),
  Runtime: z.string().startsWith("nodejs"),
  Handler: z.string(),
  Code: z.strictObject({ S3Bucket: z.string(), S3Key: z.string() }),
  Timeout: z.coerce.number().default(3),
  MemorySize: z.coerce.number().default(128),
  ReservedConcurrentExecutions: z.coerce.number().default(Infinity),
  Environment: z.strictObject({ Variables: z.record(z.string(), z.coerce.string()).default({}) }).optional(),
  LoggingConfig: z
    .looseObject({ LogFormat: z.string().default("Text"), ApplicationLogLevel: z.string().default("INFO") })
    .prefault({}),
});

const ignoredProperties = [
  "Architectures",
  "DeadLetterConfig",
  "Description",
  "EphemeralStorage",
  "KmsKeyArn",
  "RecursiveLoop",
  "Role",
  "RuntimeManagementConfig",
  "Tags",
  "TracingConfig",
];

type FunctionProperties = z.output<typeof functionProperties>;

/** Lambda allows 10 s, but on a busy machine a slow start is no fault of the function. */
const initTimeoutMs = 60_000;

const runtimeFile = fileURLToPath(new URL("lambda-runtime.ts", import.meta.url));

const runtimeMessage = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready") }),
  z.object({ kind: z.literal("result"), payload: z.string() }),
  z.object({
    kind: z.enum(["error", "init-error", "crash"]),
    error: z.object({ errorType: z.string(), errorMessage: z.string(), trace: z.array(z.string()) }),
  }),
]);
type RuntimeMessage = z.output<typeof runtimeMessage>;

/** The dummy key id of a function, from which the gateway knows its calls. */
function accessKeyId(functionName: string): string {
  return `local-${functionName}`;
}

/** The functions of the stack. A process starts when an invocation finds none that is idle, and is kept. */
export function createFunctions(options: LambdaOptions): LambdaFunction[] {
  return options.stack
    .each("AWS::Lambda::Function", functionProperties, ignoredProperties)
    .map(({ resource, properties }) => createFunction(resource, properties, options));
}

function createFunction(
  { logicalId, name }: { logicalId: string; name: string },
  properties: FunctionProperties,
  options: LambdaOptions,
): LambdaFunction {
  const arn = `arn:aws:lambda:${region}:${accountId}:function:${name}`;
  const directory = options.stack.assetPath(properties.Code.S3Key);
  const environment = {
    ...properties.Environment?.Variables,
    ...options.environment,
    ...lambdaEnvironment(name, directory, properties, options.endpoint),
  };
  const timeoutMs = properties.Timeout * 1000;
  const heap = heapFlags(properties.MemorySize);
  const idle: Runtime[] = [];
  const running = new Set<RunningInvocation>();
  let invocations = 0;

  async function invoke(payload: unknown): Promise<InvocationResult> {
    const requestId = randomUUID();
    if (invocations >= properties.ReservedConcurrentExecutions) {
      return { requestId, ok: false, error: { errorType: "TooManyRequestsException", errorMessage: "Rate Exceeded." } };
    }
    invocations += 1;
    try {
      const runtime =
        takeIdle() ?? (await startRuntime({ directory, environment, heap, log, children: options.children }));
      const { pid, sessionToken } = runtime;
      const invocation = { functionName: name, requestId, pid, sessionToken, payload };
      running.add(invocation);
      const outcome = await runtime
        .run({ requestId, payload: JSON.stringify(payload ?? {}), timeoutMs, arn })
        .finally(() => running.delete(invocation));
      if (runtime.alive()) idle.push(runtime);
      if (outcome.ok) return { requestId, ...outcome };
      log(`${requestId} ${outcome.error.errorType}: ${outcome.error.errorMessage}`);
      return { requestId, ...outcome };
    } catch (error) {
      // The function could not be started.
      const errorMessage = error instanceof Error ? error.message : String(error);
      log(`${requestId} ${errorMessage}`);
      return { requestId, ok: false, error: { errorType: "Runtime.InitError", errorMessage } };
    } finally {
      invocations -= 1;
    }
  }

  /** One that has ended meanwhile, by a late exception say, is forgotten. */
  function takeIdle(): Runtime | undefined {
    let runtime = idle.pop();
    while (runtime?.alive() === false) runtime = idle.pop();
    return runtime;
  }

  function log(line: string): void {
    options.onLog(`[${name}] ${line}`);
  }

  const variables = { ...properties.Environment?.Variables, ...options.environment };
  return { logicalId, name, arn, variables, invoke, running: () => [...running] };
}

type Outcome = { ok: true; payload: unknown } | { ok: false; error: InvocationError };
type Runtime = {
  pid: number;
  sessionToken: string;
  run: (invocation: { requestId: string; payload: string; timeoutMs: number; arn: string }) => Promise<Outcome>;
  alive: () => boolean;
};

/**
 * Starts one process of a function and waits until its handler is loaded.
 * @throws Error with the reason when it cannot be loaded.
 */
async function startRuntime(options: {
  directory: string;
  environment: Readonly<Record<string, string>>;
  /** Options of Node. */
  heap: readonly string[];
  log: (line: string) => void;
  children: ChildProcesses;
}): Promise<Runtime> {
  const sessionToken = `local-${randomUUID()}`;
  const child = options.children.start(process.execPath, [...options.heap, runtimeFile], {
    cwd: options.directory,
    env: { ...options.environment, AWS_SESSION_TOKEN: sessionToken },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on("line", options.log);
  }

  /** What the process says next, or how it ended. */
  function next(): Promise<RuntimeMessage> {
    const { promise, resolve } = Promise.withResolvers<RuntimeMessage>();
    function onMessage(message: unknown): void {
      child.off("exit", onExit);
      resolve(runtimeMessage.parse(message));
    }
    function onExit(code: number | null, signal: string | null): void {
      child.off("message", onMessage);
      const errorMessage = `Runtime exited with error: ${code === null ? `signal ${signal}` : `exit status ${code}`}`;
      resolve({ kind: "crash", error: { errorType: "Runtime.ExitError", errorMessage, trace: [] } });
    }
    child.once("message", onMessage);
    child.once("exit", onExit);
    return promise;
  }

  /** The process's next word, or, when it takes too long, its death. */
  async function nextWithin(timeoutMs: number): Promise<RuntimeMessage | "timed-out"> {
    const answered = new AbortController();
    const late = sleep(timeoutMs, "timed-out" as const, { signal: answered.signal });
    late.catch(() => {
      // It answered in time.
    });
    const message = await Promise.race([next(), late]);
    answered.abort();
    if (message === "timed-out") await end();
    return message;
  }

  /** Only a process that is gone can do no more harm: the caller learns of the end after it. */
  async function end(): Promise<void> {
    if (!alive()) return;
    const exited = once(child, "exit");
    killChild(child);
    await exited;
  }

  function alive(): boolean {
    return child.exitCode === null && child.signalCode === null;
  }

  const first = await nextWithin(initTimeoutMs);
  if (first === "timed-out") throw new Error(`The handler was not loaded within ${initTimeoutMs / 1000} seconds`);
  if (first.kind !== "ready") {
    await end();
    throw new Error(
      first.kind === "result" ? "Unexpected result" : `${first.error.errorType}: ${first.error.errorMessage}`,
    );
  }

  const { pid } = child;
  if (pid === undefined) throw new Error("The process has ended");
  return {
    pid,
    sessionToken,
    alive,
    run: async ({ requestId, payload, timeoutMs, arn }) => {
      const answer = nextWithin(timeoutMs);
      child.send({ requestId, payload, deadlineMs: Date.now() + timeoutMs, functionArn: arn }, () => {
        // A process that cannot be told any more is seen to end.
      });
      const message = await answer;
      if (message === "timed-out") {
        const errorMessage = `${requestId} Task timed out after ${(timeoutMs / 1000).toFixed(2)} seconds`;
        return { ok: false, error: { errorType: "Sandbox.Timedout", errorMessage } };
      }
      if (message.kind === "result") return { ok: true, payload: JSON.parse(message.payload) };
      if (message.kind === "ready") throw new Error("The runtime said ready twice");
      if (message.kind !== "error") await end();
      return { ok: false, error: message.error };
    },
  };
}

/** As Lambda's runtime starts Node: on a large machine, a heap without bounds would grow beyond what the function has. */
function heapFlags(memoryMb: number): string[] {
  return [`--max-old-space-size=${Math.floor(memoryMb * 0.9)}`, `--max-semi-space-size=${Math.floor(memoryMb * 0.05)}`];
}

/** What Lambda itself sets. */
function lambdaEnvironment(
  name: string,
  directory: string,
  { Handler, MemorySize, LoggingConfig }: FunctionProperties,
  endpoint: string,
): Record<string, string> {
  const json = LoggingConfig.LogFormat === "JSON";
  return {
    AWS_ACCESS_KEY_ID: accessKeyId(name),
    AWS_SECRET_ACCESS_KEY: "local",
    AWS_REGION: region,
    AWS_DEFAULT_REGION: region,
    AWS_ENDPOINT_URL: endpoint,
    AWS_EXECUTION_ENV: "AWS_Lambda_nodejs24.x",
    AWS_LAMBDA_FUNCTION_NAME: name,
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(MemorySize),
    AWS_LAMBDA_FUNCTION_VERSION: "$LATEST",
    AWS_LAMBDA_INITIALIZATION_TYPE: "on-demand",
    AWS_LAMBDA_LOG_FORMAT: json ? "JSON" : "Text",
    ...(json ? { AWS_LAMBDA_LOG_LEVEL: LoggingConfig.ApplicationLogLevel } : {}),
    AWS_LAMBDA_LOG_GROUP_NAME: `/aws/lambda/${name}`,
    AWS_LAMBDA_LOG_STREAM_NAME: "local",
    LAMBDA_TASK_ROOT: directory,
    LANG: "en_US.UTF-8",
    PATH: "/usr/local/bin:/usr/bin:/bin",
    TZ: "UTC",
    _HANDLER: Handler,
  };
}
