import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as z from "zod";
import type { LocalStack, LocalStackOptions } from "./local-stack.ts";
import { startLocalStack } from "./local-stack.ts";
import type { Observation } from "./observe.ts";
import { commandRows, runSteps, type Sent, subjectOf, wabasOf } from "./run-steps.ts";
import type { Step } from "./sample/morning.ts";
import { drift, firstDay } from "./sample/drift.ts";
import { morning } from "./sample/morning.ts";

const help = `npm start -- [options]

Builds, runs the stack on this machine, sends a sample morning of commands, and shows what became of each.
Ends with 0 only when every command has the outcome it should, every outcome was announced, and the table equals the
ledger of the stand-in for Meta.

  --drift               another sample: hands at Meta and at our table, and how estate scans find and heal it
  --import              another sample: the first day of a partner who has shared its line before
  --input FILE          commands of your own instead, one JSON object a line, as shared/contracts/README.md shows them
  --world FILE          JSON, what Meta knows (default: infra/local/sample/world.ts)
  --stage-config FILE   JSON, laid over the stage "local"
  --json                one JSON object per command on standard output:
                        commandId, type, wabaId?, businessId?, outcome, reason?, status?, graphCalls
  --verbose             print the functions' logs
  --help`;

/** A step that makes no progress for this long has failed. */
const patienceMs = 90_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      drift: { type: "boolean", default: false },
      import: { type: "boolean", default: false },
      input: { type: "string" },
      world: { type: "string" },
      "stage-config": { type: "string" },
      json: { type: "boolean", default: false },
      verbose: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  const steps = stepsOf(values);
  const graphCalls = new Map<string, number>();
  const options: LocalStackOptions = {
    port: 0,
    onLog: (line) => {
      countGraphCalls(graphCalls, line);
      if (values.verbose) console.error(line);
    },
    ...(values.world === undefined ? {} : { worldFile: values.world }),
    ...(values["stage-config"] === undefined ? {} : { stageConfigFile: values["stage-config"] }),
  };
  say("Building and starting the stack");
  const stack = await startLocalStack(options);
  try {
    const { sent, faults, observation } = await runSteps(steps, stack, { say, patienceMs });
    if (values.json) printJson(sent, observation, stack, graphCalls);
    if (!values.json) printTables(sent, observation, stack, graphCalls);
    for (const fault of faults) console.error(`FAILED ${fault}`);
    say(
      faults.length === 0
        ? "Every command has its outcome, and the table equals Meta's ledger."
        : `${faults.length} checks failed.`,
    );
    if (faults.length > 0) process.exitCode = 1;
  } finally {
    await stack.close();
  }
}

function stepsOf(values: { input?: string | undefined; drift: boolean; import: boolean }): readonly Step[] {
  if (values.drift) return drift;
  if (values.import) return firstDay;
  return values.input === undefined ? morning : [readInput(values.input)];
}

function printJson(
  sent: readonly Sent[],
  observation: Observation,
  stack: LocalStack,
  graphCalls: Map<string, number>,
): void {
  for (const row of commandRows(sent, observation, stack, graphCalls)) console.log(JSON.stringify(row));
}

function printTables(
  sent: readonly Sent[],
  observation: Observation,
  stack: LocalStack,
  graphCalls: Map<string, number>,
): void {
  const commands = commandRows(sent, observation, stack, graphCalls);
  const wabas = [...wabasOf(observation)].map(([wabaId, { businessId, waba, openReason }]) => ({
    waba: wabaId,
    business: businessId,
    status: waba.status,
    reason: openReason ?? waba.lastFailure?.reason,
    allocation: waba.allocationId,
    credential: waba.evidence?.receivingCredentialId,
    funding: waba.evidence?.primaryFundingId,
    calls: commands
      .filter((command) => command.wabaId === wabaId)
      .reduce((sum, command) => sum + command.graphCalls, 0),
  }));
  console.log(`\nWABAs\n${table(wabas)}`);
  const rows = commands.map(({ commandId, type, wabaId, businessId, outcome, reason, status, graphCalls: calls }) => ({
    command: commandId,
    type,
    of: wabaId ?? businessId,
    outcome,
    reason,
    status,
    calls,
  }));
  console.log(`\nCommands\n${table(rows)}\n`);
  const findings = observation.findings.map(({ kind, subject, state, businessId, openedAt, closedAt }) => ({
    finding: kind,
    subject,
    state,
    business: businessId,
    found: timeOf(openedAt),
    closed: timeOf(closedAt),
  }));
  if (findings.length > 0) console.log(`Findings\n${table(findings)}\n`);
}

function timeOf(at: number | undefined): string | undefined {
  return at === undefined ? undefined : new Date(at).toISOString().slice(11, 19);
}

function table(rows: readonly Record<string, string | number | undefined>[]): string {
  const [first] = rows;
  if (first === undefined) return "(none)";
  const lines = [Object.keys(first), ...rows.map((row) => Object.values(row).map((cell) => String(cell ?? "-")))];
  const widths = Object.keys(first).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** One command a line. What is no JSON object is sent all the same: it must end as an outcome too. */
function readInput(file: string): Step {
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new Error(`${file} holds no command: one JSON object a line`);
  const commands = lines.map((body) => {
    const type = z.enum(["share", "verify", "revoke"]).safeParse(subjectOf(body, "").type);
    return { queue: type.success ? type.data : ("share" as const), body };
  });
  return { title: `${lines.length} commands of ${file}`, commands };
}

const servedSchema = z.object({ message: z.literal("Message served"), commandId: z.string(), graphCalls: z.number() });

/** The functions say with each message what it cost at Meta. */
function countGraphCalls(counts: Map<string, number>, line: string): void {
  const start = line.indexOf("{");
  if (start < 0 || !line.includes("Message served")) return;
  const served = servedSchema.safeParse(JSON.parse(line.slice(start)));
  if (!served.success) return;
  const { commandId, graphCalls } = served.data;
  counts.set(commandId, (counts.get(commandId) ?? 0) + graphCalls);
}

function say(line: string): void {
  console.error(line);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error("\nnpm start -- --help tells the options.");
  process.exitCode = 1;
}
