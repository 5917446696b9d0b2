import * as z from "zod";
import { Command, CommanderError, Option } from "commander";
import { type ExitCode, exitCodes, OpsError, toOpsError } from "./errors.ts";
import { createOutput, inertLines, type Output } from "./output.ts";
import { connect, type Stage } from "./stage.ts";

/** What a command works with. */
export type Context = { stage: Stage; out: Output };

const globalOptions = z.object({
  stage: z.string().optional(),
  endpoint: z.string().optional(),
  json: z.boolean(),
});

const generalHelp = `
Where to begin:
  $ credit-lines explain ID       why is this customer not funded, what became of this command
  $ credit-lines dlq list         what died, and what would a replay do now
  $ credit-lines preflight        can the stage work at all
An alarm's description names its runbook in infra/ops/runbooks, which begins with the commands to type.

Exit codes:
  0  done; nothing needs you
  1  done; what was found needs somebody
  2  called wrongly
  3  AWS, Meta or the stack cannot be reached, or does not let you
  4  refused: not safe now, or not confirmed; nothing was done`;

/** The program without commands: what all of them have in common. */
export function createProgram(): Command {
  return new Command("credit-lines")
    .description("What the person on call asks and does. Finds a stage by the outputs of its stack.")
    .addOption(new Option("--stage <name>", "the stage (default: CREDIT_LINES_STAGE; `local` with a local endpoint)"))
    .addOption(
      new Option("--endpoint <url>", "all AWS services: the address of `npm run local` (default: AWS_ENDPOINT_URL)"),
    )
    .addOption(
      new Option("--json", "the result as one JSON value on standard output (infra/ops/README.md)").default(
        false,
        "tables",
      ),
    )
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", generalHelp)
    .helpCommand(false)
    .showHelpAfterError("(--help tells the options)")
    .exitOverride();
}

/**
 * A command's action: connects to the stage, runs, and sets the exit code that `work` answers (`ok` for none).
 * @param optionsSchema what the command's own options must be; a wrong one is an error of usage.
 * @param work gets the command's arguments, and its options as parsed.
 */
export function onStage<S extends z.ZodType>(
  optionsSchema: S,
  work: (context: Context, args: readonly string[], options: z.output<S>) => Promise<ExitCode | void>,
) {
  return async (...all: unknown[]): Promise<void> => {
    const command = all.at(-1);
    if (!(command instanceof Command)) throw new Error("Not an action of commander's");
    const options = optionsSchema.safeParse(command.opts());
    if (!options.success) {
      const faults = options.error.issues.map(({ path, message }) => `${optionName(path.join("."))}: ${message}`);
      throw new OpsError("usage", faults.join("; "), "--help tells the options.", exitCodes.usage);
    }
    const { stage: name, endpoint, json } = globalOptions.parse(command.optsWithGlobals());
    const out = createOutput({ json });
    const stage = await connect({ stage: name, endpoint });
    try {
      process.exitCode = (await work({ stage, out }, command.args, options.data)) ?? exitCodes.ok;
    } finally {
      stage.close();
    }
  };
}

/** An age, such as 90m; a bare number is of days. As ms. */
export const ageOption = z
  .string()
  .regex(/^\d+[smhd]?$/, "must be a number and s, m, h or d, such as 90m")
  .transform((text) => Number.parseInt(text, 10) * (ageUnits[text.at(-1) ?? ""] ?? dayMs));

const dayMs = 86_400_000;
const ageUnits: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: dayMs };

function optionName(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Help's examples, each on a line of its own. */
export function examples(...lines: string[]): string {
  return ["", "Examples:", ...lines.map((line) => `  $ credit-lines ${line}`)].join("\n");
}

/** Runs the program. A failure is told on standard error, with its remedy; with `--json` as one JSON value. */
export async function run(program: Command, argv: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      return;
    }
    const known = toOpsError(error);
    if (known === undefined) throw error;
    tell(known, argv.includes("--json"));
    process.exitCode = known.exitCode;
  }
}

function tell({ reason, message, remedy }: OpsError, json: boolean): void {
  console.error(json ? JSON.stringify({ error: { reason, message, remedy } }) : inertLines(`${message}\n${remedy}`));
}
