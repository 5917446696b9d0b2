import { createWriteStream, mkdirSync } from "node:fs";
import path from "node:path";
import { createAccount } from "./account.ts";
import { createChildProcesses } from "./child-processes.ts";
import { startDynamoDb } from "./dynamodb.ts";
import { createEventBridge, type LocalEvent } from "./event-bridge.ts";
import { startEventSourceMappings } from "./event-source-mappings.ts";
import { createFunctionUrls } from "./function-url.ts";
import { type OnCall, type RoleUse, startGateway } from "./gateway.ts";
import { createFunctions, type InvocationResult, type LambdaFunction, type RunningInvocation } from "./lambda.ts";
import { type Schedule, startSchedules } from "./scheduler.ts";
import { createSecretsManager } from "./secrets-manager.ts";
import { startSqs } from "./sqs.ts";
import { loadStack } from "./stack.ts";

export type LocalAwsOptions = {
  /** A cdk.out with one stack. */
  templateDirectory: string;
  /** 4566 unless given; 0 takes any free port. */
  port?: number;
  /** Keeps tables, stream positions and the functions' logs. Queues, secrets and events live in memory. */
  dataDirectory?: string;
  /** Name → value. */
  secrets: Readonly<Record<string, string>>;
  /** Given to every function on top of the template's variables. */
  environment?: Readonly<Record<string, string>>;
  /** One line of a function's output, behind the function's name in brackets. */
  onLog?: (line: string) => void;
  onCall?: OnCall;
  onRoleUse?: (use: RoleUse) => void;
};

/** `ref` is what the template's Ref of it gives. */
export type LocalResource = { type: string; name: string; ref: string; arn?: string; url?: string };

export type LocalAws = {
  endpoint: string;
  /** By logical id. */
  resources: Readonly<Record<string, LocalResource>>;
  /** The template's Outputs, resolved. */
  outputs: Readonly<Record<string, string>>;
  /**
   * Invokes a function, called by logical id, name, the end of its name or a part of its logical id. Without a payload
   * it does what the function's schedules would do now.
   * @throws Error when the name fits none or several.
   */
  invoke: (functionName: string, payload?: unknown) => Promise<InvocationResult>;
  /** The invocations under way, with the processes that serve them. */
  running: () => RunningInvocation[];
  /** The events put on the buses, from the one after `after` (0: all). */
  events: (after?: number) => LocalEvent[];
  /** Stops everything; no process is left. */
  close: () => Promise<void>;
};

/**
 * Runs a synthesized stack on this machine: what the template asks for, behind one address on the loopback interface.
 * @throws Error that names what cannot be run locally, before any function runs.
 */
export async function startLocalAws(options: LocalAwsOptions): Promise<LocalAws> {
  const {
    templateDirectory,
    port = 4566,
    dataDirectory,
    secrets,
    environment = {},
    onLog = () => {},
    onRoleUse = () => {},
  } = options;
  if (dataDirectory !== undefined) mkdirSync(dataDirectory, { recursive: true });
  const cleanUps: (() => unknown)[] = [];

  async function close(): Promise<void> {
    for (let cleanUp = cleanUps.pop(); cleanUp !== undefined; cleanUp = cleanUps.pop()) await cleanUp();
  }

  async function start(): Promise<LocalAws> {
    const gateway = await startGateway(port, options.onCall ?? ((_call, proceed) => proceed()));
    cleanUps.push(gateway.close);
    const { endpoint } = gateway;
    const log = createLog(dataDirectory, onLog);
    cleanUps.push(log.close);

    const stack = loadStack(templateDirectory, endpoint);
    const secretsManager = createSecretsManager(stack, secrets);
    const eventBridge = createEventBridge(stack);
    const children = createChildProcesses();
    cleanUps.push(children.close);
    const sqs = await startSqs(stack, endpoint);
    cleanUps.push(sqs.close);
    const dynamoDb = await startDynamoDb(stack, { children, dataDirectory });

    const functions = createFunctions({ stack, endpoint, environment, children, onLog: log.write });
    const functionUrls = createFunctionUrls(stack, functions);
    const { schedules, close: stopSchedules } = startSchedules(stack, functions, onRoleUse);
    cleanUps.push(stopSchedules);
    const sources = startEventSourceMappings({
      stack,
      functions,
      sqs,
      dynamoDb,
      dataDirectory,
      onLog: log.write,
      onRoleUse,
    });
    cleanUps.push(async () => {
      // The mappings end when what they wait for has ended.
      sources.end();
      await Promise.all([sqs.close(), children.close()]);
      await sources.ended();
    });

    function invokeNow(name: string, payload?: unknown): Promise<InvocationResult> {
      return invokeAsScheduled(functions, schedules, name, payload);
    }
    function running(): RunningInvocation[] {
      return functions.flatMap((one) => one.running());
    }
    gateway.serve({
      sqs,
      dynamoDb,
      secretsManager,
      eventBridge: eventBridge.operations,
      account: createAccount(stack),
      functionUrls,
      mappings: sources.mappings,
      schedules,
      eventsAfter: eventBridge.after,
      running,
      findFunction: (name) => findFunction(functions, name),
      invokeNow,
    });

    const resources = [...stack.resources.values()].map(({ logicalId, type, name, ref, attributes }) => {
      const arn = attributes["Arn"];
      const url = attributes["QueueUrl"] ?? attributes["FunctionUrl"];
      return [
        logicalId,
        { type, name, ref, ...(arn === undefined ? {} : { arn }), ...(url === undefined ? {} : { url }) },
      ];
    });
    return {
      endpoint,
      resources: Object.fromEntries(resources),
      outputs: stack.outputs(),
      invoke: invokeNow,
      running,
      events: (after = 0) => eventBridge.after(after),
      close,
    };
  }

  try {
    return await start();
  } catch (error) {
    await close();
    throw error;
  }
}

async function invokeAsScheduled(
  functions: readonly LambdaFunction[],
  schedules: readonly Schedule[],
  name: string,
  payload: unknown,
): Promise<InvocationResult> {
  const target = findFunction(functions, name);
  const due = schedules.filter((schedule) => schedule.target === target);
  if (payload !== undefined || due.length === 0) return target.invoke(payload);
  const results: InvocationResult[] = [];
  for (const { fire } of due) results.push(await fire());
  const failed = results.find(({ ok }) => !ok);
  return failed ?? results[0] ?? target.invoke({});
}

function findFunction(functions: readonly LambdaFunction[], wanted: string): LambdaFunction {
  const text = wanted.toLowerCase();
  const rules: ((candidate: LambdaFunction) => boolean)[] = [
    ({ logicalId, name, arn }) => [logicalId, name, arn].some((known) => known.toLowerCase() === text),
    ({ name }) => name.toLowerCase().endsWith(text),
    ({ logicalId }) => logicalId.toLowerCase().includes(text),
  ];
  for (const rule of rules) {
    const found = functions.filter(rule);
    const [only] = found;
    if (only !== undefined && found.length === 1) return only;
    if (found.length > 1) throw new Error(`${wanted} could be ${found.map(({ name }) => name).join(" or ")}`);
  }
  throw new Error(`There is no function ${wanted}, only ${functions.map(({ name }) => name).join(", ")}`);
}

function createLog(dataDirectory: string | undefined, onLog: (line: string) => void) {
  if (dataDirectory === undefined) return { write: onLog, close: () => {} };
  const file = createWriteStream(path.join(dataDirectory, "functions.log"), { flags: "a" });
  return {
    write: (line: string) => {
      if (file.writable) file.write(`${line}\n`);
      onLog(line);
    },
    close: () => new Promise<void>((resolve) => file.end(resolve)),
  };
}
