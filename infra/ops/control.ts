import {
  GetEventSourceMappingCommand,
  InvokeCommand,
  ListEventSourceMappingsCommand,
  UpdateEventSourceMappingCommand,
} from "@aws-sdk/client-lambda";
import { Argument, type Command } from "commander";
import * as z from "zod";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes, OpsError } from "./errors.ts";
import { instant } from "./output.ts";

const queueNames = ["share", "verify", "revoke"] as const;

/** What `pause` and `resume --json` print. */
export const sourceShape = z.object({ queue: z.enum(queueNames), enabled: z.boolean(), state: z.string() });

export function addPause(program: Command): void {
  addSwitch(program, "pause", "stop feeding a queue's commands to its function; they wait", false);
}

export function addResume(program: Command): void {
  addSwitch(program, "resume", "feed a queue's commands to its function again", true);
}

function addSwitch(program: Command, name: string, description: string, enabled: boolean): void {
  program
    .command(name)
    .description(description)
    .addArgument(new Argument("<queue>").choices(queueNames))
    .addHelpText("after", examples(`${name} share`))
    .addHelpText("after", "\nAfter a dead system token the schedule resumes all three queues by itself.")
    .action(
      onStage(z.object({}), async ({ stage, out }, [given]) => {
        const queue = z.enum(queueNames).parse(given);
        const listed = await stage.lambda.send(
          new ListEventSourceMappingsCommand({ FunctionName: stage.functionName(queue) }),
        );
        const [source] = listed.EventSourceMappings ?? [];
        if (source?.UUID === undefined) throw new Error(`The function ${queue} has no event source`);
        await stage.lambda.send(new UpdateEventSourceMappingCommand({ UUID: source.UUID, Enabled: enabled }));
        const { State = "unknown" } = await stage.lambda.send(new GetEventSourceMappingCommand({ UUID: source.UUID }));
        out.result(sourceShape, { queue, enabled, state: State }, (now) => `${now.queue}: ${now.state.toLowerCase()}`);
      }),
    );
}

/** What `reconcile status --json` prints. */
export const reconcileShape = z.object({
  due: z.number().describe("items with something due now"),
  tokenIsDead: z.boolean(),
  blockedUntil: z.iso.datetime().optional().describe("until when Meta throttles us"),
  used: z.number().optional().describe("of the hour's calls, as Meta told last: 1 is all"),
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
    .addHelpText("after", examples("reconcile run"))
    .action(
      onStage(z.object({}), async ({ stage, out }) => {
        const working = out.progress("Reconciling");
        const { FunctionError, Payload } = await stage.lambda.send(
          new InvokeCommand({
            FunctionName: stage.functionName("reconcile"),
            Payload: new TextEncoder().encode(JSON.stringify({ task: "due-sweep" })),
          }),
        );
        working.done();
        const answer: unknown = JSON.parse(new TextDecoder().decode(Payload) || "{}");
        if (FunctionError !== undefined) {
          const { errorMessage = "no message" } = z.object({ errorMessage: z.string().optional() }).parse(answer);
          const remedy = `Its log group tells more: the function ${stage.functionName("reconcile")}.`;
          throw new OpsError("reconcile_failed", `The run failed: ${errorMessage}`, remedy, exitCodes.problem);
        }
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

async function status({ stage, out }: Context): Promise<ExitCode> {
  let due = 0;
  // The index's name is a constant of the stack (infra/stack.ts).
  const dueIndex = createDueIndex(stage.dynamo, stage.tables.state, "DueIndex");
  for await (const _item of dueIndex.dueItems(stage.now())) due += 1;
  const { tokenIsDead, blockedUntil = 0, reading } = await stage.store.loadLimits();
  const isBlocked = blockedUntil > stage.now();
  const found = {
    due,
    tokenIsDead,
    blockedUntil: isBlocked ? new Date(blockedUntil).toISOString() : undefined,
    used: reading?.used,
  };
  out.result(reconcileShape, found, (value) =>
    [
      `${value.due} items have something due`,
      value.tokenIsDead ? "the system token is dead: nothing is served (credit-lines preflight)" : undefined,
      isBlocked ? `Meta has throttled us until ${instant(blockedUntil)}` : undefined,
      value.used === undefined ? undefined : `${Math.round(value.used * 100)} % of the hour's calls were used`,
    ]
      .filter((line) => line !== undefined)
      .join("\n"),
  );
  return tokenIsDead || isBlocked ? exitCodes.problem : exitCodes.ok;
}
