import {
  GetEventSourceMappingCommand,
  InvokeCommand,
  ListEventSourceMappingsCommand,
  UpdateEventSourceMappingCommand,
} from "@aws-sdk/client-lambda";
import { Argument, type Command } from "commander";
import * as z from "zod";
import type { reconcileTasks } from "../../functions/reconcile/environment.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import type { Scan } from "../../shared/store/items.ts";
import { createPauseStore } from "../../shared/store/pause-store.ts";
import { createScanStore } from "../../shared/store/scan-store.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes, OpsError } from "./errors.ts";
import { count, instant } from "./output.ts";
import type { Stage } from "./stage.ts";

const queueNames = ["share", "verify", "revoke"] as const;

/** What `pause` and `resume --json` print. */
export const sourceShape = z.object({
  queue: z.enum(queueNames),
  state: z.string().describe("of the event source, as Lambda tells it: it takes a moment"),
  by: z.string(),
  why: z.string().optional(),
});

export function addPause(program: Command): void {
  program
    .command("pause")
    .description("stop feeding a queue's commands to its function: they wait")
    .addArgument(new Argument("<queue>").choices(queueNames))
    .requiredOption("--why <text>", "for whoever finds it paused")
    .addHelpText("after", examples('pause share --why "Meta\'s incident 4711"'))
    .addHelpText("after", "\nThe schedule leaves a queue alone that a person paused, until `resume`.")
    .action(
      onStage(
        z.object({ why: z.string().min(3, "must say why").max(300, "is too long") }),
        (context, [queue], { why }) => feed(context, queue, why),
      ),
    );
}

export function addResume(program: Command): void {
  program
    .command("resume")
    .description("feed a queue's commands to its function again")
    .addArgument(new Argument("<queue>").choices(queueNames))
    .addHelpText("after", examples("resume share"))
    .addHelpText("after", "\nWhile the system token is dead, the schedule pauses it again.")
    .action(onStage(z.object({}), (context, [queue]) => feed(context, queue, undefined)));
}

/** @param why of a pause; undefined ends it. */
async function feed({ stage, out }: Context, given: string | undefined, why: string | undefined): Promise<void> {
  const queue = z.enum(queueNames).parse(given);
  const by = await stage.whoAmI();
  const { EventSourceMappings: [source] = [] } = await stage.lambda.send(
    new ListEventSourceMappingsCommand({ FunctionName: stage.functionName(queue) }),
  );
  if (source?.UUID === undefined) throw new Error(`The function ${queue} has no event source`);
  // The note first: without it the next sweep would undo the pause.
  const pauses = createPauseStore(stage.dynamo, stage.tables.state);
  await pauses.savePause(queue, why === undefined ? undefined : { by, why, since: stage.now() });
  await stage.lambda.send(new UpdateEventSourceMappingCommand({ UUID: source.UUID, Enabled: why === undefined }));
  const { State = "unknown" } = await stage.lambda.send(new GetEventSourceMappingCommand({ UUID: source.UUID }));
  out.result(sourceShape, { queue, state: State, by, why }, (done) => `${done.queue}: ${done.state.toLowerCase()}`);
}

/** What `reconcile status --json` prints. */
export const reconcileShape = z.object({
  due: z.number().describe("items with something due now"),
  tokenIsDead: z.boolean(),
  blockedUntil: z.iso.datetime().optional().describe("until when Meta throttles us"),
  used: z.number().optional().describe("of the hour's calls, as Meta told last: 1 is all"),
  paused: z
    .array(z.object({ queue: z.string(), by: z.string(), why: z.string(), since: z.iso.datetime() }))
    .describe("by a person"),
  scan: z
    .object({
      phase: z.string(),
      startedAt: z.iso.datetime(),
      completedAt: z.iso.datetime().optional().describe("the beginning of the last one that came to its end"),
      cannotTell: z.array(z.string()).describe("the kinds of findings that it could not tell"),
    })
    .optional()
    .describe("the estate scan; absent: there was none yet"),
  revocationsStopped: z.boolean().describe("automatic revocations wait for `revocations resume`"),
});

/** What `reconcile run --json` prints: what the function answered. */
export const ranShape = z.record(z.string(), z.unknown());

export function addReconcile(program: Command): void {
  const reconcile = program
    .command("reconcile")
    .description("the schedule's work, now, and how it stands")
    .helpCommand(false);
  reconcile
    .command("run")
    .description("serve what is due, without waiting for the schedule")
    .option("--scan", "begin an estate scan, or go on with one, instead: table and Meta are compared")
    .addHelpText("after", examples("reconcile run", "reconcile run --scan"))
    .action(
      onStage(z.object({ scan: z.boolean().default(false) }), async ({ stage, out }, _args, { scan }) => {
        const working = out.progress("Reconciling");
        const answer = await invokeReconcile(stage, scan ? "estate-scan" : "due-sweep");
        working.done();
        out.result(ranShape, ranShape.parse(answer), (done) =>
          Object.entries(done)
            .map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
            .join("\n"),
        );
      }),
    );
  reconcile
    .command("status")
    .description("what is due, and what makes it wait")
    .addHelpText("after", examples("reconcile status --json"))
    .action(onStage(z.object({}), status));
}

/** What the schedule does, done now. @throws OpsError when it fails. */
export async function invokeReconcile(stage: Stage, task: (typeof reconcileTasks)[number]): Promise<unknown> {
  const FunctionName = stage.functionName("reconcile");
  const Payload = new TextEncoder().encode(JSON.stringify({ task }));
  const result = await stage.lambda.send(new InvokeCommand({ FunctionName, Payload }));
  const answer: unknown = JSON.parse(new TextDecoder().decode(result.Payload) || "{}");
  if (result.FunctionError === undefined) return answer;
  const { errorMessage = "no message" } = z.object({ errorMessage: z.string().optional() }).parse(answer);
  const remedy = `Its log group tells more: the function ${FunctionName}.`;
  throw new OpsError("reconcile_failed", `The run failed: ${errorMessage}`, remedy, exitCodes.problem);
}

async function status({ stage, out }: Context): Promise<ExitCode> {
  let due = 0;
  const dueIndex = createDueIndex(stage.dynamo, stage.tables.state, stage.dueIndexName);
  for await (const _item of dueIndex.dueItems(stage.now())) due += 1;
  const { tokenIsDead, blockedUntil = 0, reading } = await stage.store.loadLimits();
  const isBlocked = blockedUntil > stage.now();
  const pauses = await createPauseStore(stage.dynamo, stage.tables.state).loadPauses();
  const removals = await stage.store.loadRemovals();
  const paused = Object.entries(pauses).map(([queue, { by, why, since }]) => ({
    queue,
    by,
    why,
    since: new Date(since).toISOString(),
  }));
  const revocationsStopped = removals?.breaker.state === "stopped";
  const found = {
    due,
    tokenIsDead,
    blockedUntil: isBlocked ? new Date(blockedUntil).toISOString() : undefined,
    used: reading?.used,
    paused,
    scan: scanOf(await createScanStore({ client: stage.dynamo, tableName: stage.tables.state }).loadScan()),
    revocationsStopped,
  };
  out.result(reconcileShape, found, (value) =>
    [
      `${count(value.due, "item")} with something due`,
      value.tokenIsDead ? "the system token is dead: nothing is served (credit-lines preflight)" : undefined,
      isBlocked ? `Meta has throttled us until ${instant(blockedUntil)}` : undefined,
      ...value.paused.map(
        ({ queue, by, why, since }) => `the queue ${queue} is paused by ${by} since ${since}: ${why}`,
      ),
      value.revocationsStopped ? "automatic revocations are stopped (credit-lines revocations resume)" : undefined,
      value.scan === undefined
        ? "no estate scan yet"
        : `the estate scan of ${value.scan.startedAt} is at: ${value.scan.phase}; the last complete one: ${value.scan.completedAt ?? "none"}`,
      ...(value.scan?.cannotTell ?? []).map((kind) => `it cannot tell: ${kind}`),
      value.used === undefined ? undefined : `${Math.round(value.used * 100)} % of the hour's calls were used`,
    ]
      .filter((line) => line !== undefined)
      .join("\n"),
  );
  return tokenIsDead || isBlocked || paused.length > 0 || revocationsStopped ? exitCodes.problem : exitCodes.ok;
}

function scanOf(scan: Scan | undefined): z.output<typeof reconcileShape>["scan"] {
  if (scan === undefined) return undefined;
  const { phase, startedAt, completed } = scan;
  return {
    phase,
    startedAt: new Date(startedAt).toISOString(),
    completedAt: completed === undefined ? undefined : new Date(completed.startedAt).toISOString(),
    cannotTell: completed?.cannotTell ?? [],
  };
}
