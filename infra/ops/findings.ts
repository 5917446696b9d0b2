import { randomUUID } from "node:crypto";
import { Argument, type Command } from "commander";
import * as z from "zod";
import type { Finding } from "../../shared/domain/findings.ts";
import { closed, commandFor, findingKinds } from "../../shared/domain/findings.ts";
import { createFindingStore } from "../../shared/store/finding-store.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes, OpsError } from "./errors.ts";
import { ago, table } from "./output.ts";
import type { Stage } from "./stage.ts";

/** What `findings close --json` prints: as it stands then. */
export const findingShape = z.object({
  kind: z.enum(findingKinds),
  subject: z.string().describe("the allocation, WABA, business or line it is about"),
  state: z.enum(["suspected", "open", "closed"]).describe("`suspected`: seen by one scan, announced after the second"),
  businessId: z.string().optional(),
  wabaId: z.string().optional(),
  allocationId: z.string().optional(),
  firstSeenAt: z.iso.datetime(),
  lastSeenAt: z.iso.datetime(),
  command: z.record(z.string(), z.string()).optional().describe("what sets it right; absent: a person must look"),
  runbook: z.string(),
});

/** What `findings list --json` prints. */
export const findingsShape = z.array(findingShape).describe("those that are not closed");

type Row = z.output<typeof findingShape>;

export function addFindings(program: Command): void {
  const findings = program
    .command("findings")
    .description("recorded differences between the table and Meta")
    .helpCommand(false);
  findings
    .command("list")
    .description("those that are not closed")
    .addHelpText("after", examples("findings list"))
    .addHelpText("after", "\nEnds with 1 when one is open.")
    .action(onStage(z.object({}), list));
  findings
    .command("close")
    .description("close one by hand; a scan that sees the same again records it again")
    .addArgument(new Argument("<kind>").choices(findingKinds))
    .argument("<subject>")
    .requiredOption("--why <text>", "for the audit")
    .addHelpText("after", examples('findings close record_duplicate 110000000000021 --why "deleted by hand"'))
    .action(
      onStage(z.object({ why: z.string().min(3, "must say why").max(300, "is too long") }), (context, args, { why }) =>
        close(context, args, why),
      ),
    );
}

function storeOf({ dynamo, tables, dueIndexName }: Stage) {
  return createFindingStore({ client: dynamo, tableName: tables.state, indexName: dueIndexName, newId: randomUUID });
}

async function list({ stage, out }: Context): Promise<ExitCode> {
  const store = storeOf(stage);
  const rows: Row[] = [];
  for (const { kind, subject } of await store.unclosedFindings()) {
    const found = await store.loadFinding(kind, subject);
    if (found !== undefined && found.state !== "closed") rows.push(rowOf(found));
  }
  out.result(findingsShape, rows, (found) => render(found, stage.now()));
  return rows.some(({ state }) => state === "open") ? exitCodes.problem : exitCodes.ok;
}

function rowOf(found: Finding): Row {
  const { kind, subject, state, businessId, wabaId, allocationId, firstSeenAt, lastSeenAt } = found;
  const command = commandFor(found);
  return {
    kind,
    subject,
    state,
    businessId,
    wabaId,
    allocationId,
    firstSeenAt: new Date(firstSeenAt).toISOString(),
    lastSeenAt: new Date(lastSeenAt).toISOString(),
    command: command === undefined ? undefined : { ...command },
    runbook: `infra/ops/runbooks/finding-${kind.replaceAll("_", "-")}.md`,
  };
}

function render(rows: readonly Row[], now: number): string {
  const lines = rows.map((one) => ({
    finding: one.kind,
    about: one.subject,
    state: one.state,
    since: ago(Date.parse(one.firstSeenAt), now),
    "sets it right": one.command === undefined ? "a person looks" : commandLine(one.command),
  }));
  const runbooks = [...new Set(rows.map(({ runbook }) => runbook))];
  return [table(lines), ...runbooks].join("\n");
}

/** As the person would type it; what the finding does not know is a word in capitals. */
function commandLine({ type = "", wabaId, businessId, reason }: Readonly<Record<string, string>>): string {
  const more = type === "share" ? " --currency CODE" : "";
  return `${type} ${wabaId ?? businessId ?? ""}${reason === undefined ? "" : ` --reason ${reason}`}${more}`;
}

async function close(
  { stage, out }: Context,
  [kindGiven, subject = ""]: readonly string[],
  note: string,
): Promise<ExitCode> {
  const kind = z.enum(findingKinds).parse(kindGiven);
  const store = storeOf(stage);
  const by = await stage.whoAmI();
  const loaded = await store.loadFinding(kind, subject);
  if (loaded === undefined || loaded.state === "closed") {
    const message = `There is no ${kind} of ${subject} to close`;
    throw new OpsError("not_found", message, "See what is open: credit-lines findings list.", exitCodes.refused);
  }
  const now = stage.now();
  const next = closed(loaded, now);
  const events = next.events.map((event) => ({ ...event, by, note }));
  if (!(await store.saveFinding(loaded, next.finding, events, now))) {
    const message = "A scan has written the finding meanwhile";
    throw new OpsError("changed_meanwhile", message, "Look again: credit-lines findings list.", exitCodes.refused);
  }
  out.result(findingShape, rowOf(next.finding), ({ kind: what, subject: about }) => `Closed ${what} of ${about}.`);
  return exitCodes.ok;
}
