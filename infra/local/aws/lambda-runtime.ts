import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

/**
 * Runs inside a function's process in place of Lambda's own runtime: loads the handler, then answers one invocation at
 * a time over the channel to the parent (`lambda.ts`). It may use Node only: the function's own bundle is all there is.
 */
type Invocation = { requestId: string; payload: string; deadlineMs: number; functionArn: string };

const environment = process.env;

const handler = await loadHandler().catch((error: unknown) => fail("init-error", error));
process.on("uncaughtException", (error) => fail("crash", error));
process.on("unhandledRejection", (error) => fail("crash", error, "Runtime.UnhandledPromiseRejection"));
process.on("disconnect", () => process.exit());
process.on("message", (message) => {
  if (isInvocation(message)) void answer(message);
});
process.send?.({ kind: "ready" });

async function answer({ requestId, payload, deadlineMs, functionArn }: Invocation): Promise<void> {
  const context = {
    awsRequestId: requestId,
    callbackWaitsForEmptyEventLoop: true,
    functionName: environment["AWS_LAMBDA_FUNCTION_NAME"],
    functionVersion: "$LATEST",
    getRemainingTimeInMillis: () => Math.max(0, deadlineMs - Date.now()),
    invokedFunctionArn: functionArn,
    logGroupName: environment["AWS_LAMBDA_LOG_GROUP_NAME"],
    logStreamName: environment["AWS_LAMBDA_LOG_STREAM_NAME"],
    memoryLimitInMB: environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
  };
  try {
    const result: unknown = await handler(JSON.parse(payload), context);
    process.send?.({ kind: "result", payload: JSON.stringify(result) ?? "null" });
  } catch (error) {
    process.send?.({ kind: "error", error: describe(error) });
  }
}

async function loadHandler(): Promise<(event: unknown, context: unknown) => unknown> {
  const [, file, exported] = /^((?:.*\/)?[^/.]+)\.([^/]+)$/.exec(environment["_HANDLER"] ?? "") ?? [];
  if (file === undefined || exported === undefined) throw new Error(`Bad handler '${environment["_HANDLER"]}'`);
  const base = path.join(environment["LAMBDA_TASK_ROOT"] ?? "", file);
  const found = [".mjs", ".js", ".cjs"].map((extension) => base + extension).find((candidate) => existsSync(candidate));
  if (found === undefined) throw new Error(`Cannot find module '${file}'`);
  const module: unknown = await import(pathToFileURL(found).href);
  const value = typeof module === "object" && module !== null ? Reflect.get(module, exported) : undefined;
  if (typeof value !== "function") throw new Error(`${environment["_HANDLER"]} is undefined or not exported`);
  return (event, context) => Reflect.apply(value, undefined, [event, context]);
}

/** Tells the parent and ends the process, as Lambda's runtime does; the exit waits until the message has left. */
function fail(kind: "init-error" | "crash", error: unknown, errorType?: string): Promise<never> {
  const description = describe(error);
  return new Promise(() => {
    process.send?.({ kind, error: { ...description, errorType: errorType ?? description.errorType } }, () =>
      process.exit(1),
    );
  });
}

function describe(error: unknown) {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
  return { errorType: error.name, errorMessage: error.message, trace: error.stack?.split("\n") ?? [] };
}

function isInvocation(message: unknown): message is Invocation {
  return typeof message === "object" && message !== null && "requestId" in message && "payload" in message;
}
