import type { Command } from "commander";
import * as z from "zod";
import type { Business, Waba } from "../../shared/domain/business.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import { keys } from "../../shared/store/items.ts";
import { type Context, examples, onStage } from "./command.ts";
import { chunks } from "./dlq/dead-letter-queue.ts";
import { type JudgedLetter, judgedLetterSchema } from "./dlq/judge-letters.ts";
import { type ExitCode, exitCodes } from "./errors.ts";
import { eventShape, shownEvent } from "./event.ts";
import { compareWithMeta, comparisonShape, renderComparison } from "./live.ts";
import { ago, instant, span, table } from "./output.ts";
import { explain, nextSteps, tasks } from "./outlook.ts";
import { findSubject, type Subject } from "./subject.ts";
import { readAudit } from "./table.ts";

const time = z.iso.datetime();
const failure = z.object({
  at: time,
  reason: z.string(),
  words: z.string().describe("the reason in plain words"),
  remedy: z.string().optional(),
  code: z.number().optional().describe("Meta's error code"),
  subcode: z.number().optional(),
  fbtraceId: z.string().optional().describe("for a case at Meta"),
  message: z.string().optional().describe("Meta's own words"),
});

const command = z.object({
  commandId: z.string().optional(),
  type: z.string(),
  outcome: z
    .enum(["done", "refused", "rejected", "blocked", "failing"])
    .describe("`failing`: tried in vain, and still tried"),
  reason: z.string().optional(),
  attempts: z.number(),
  changedAt: time,
  failure: failure.optional(),
  event: z.string().optional().describe("the event that ended it"),
});

const waba = z.object({
  wabaId: z.string(),
  status: z.string(),
  currency: z.string(),
  method: z.string(),
  creditLineId: z.string(),
  allocationConfigId: z.string().optional(),
  commandId: z.string().describe("the last share acted on"),
  requestedAt: time,
  requestedBy: z.string(),
  attempt: z
    .object({ number: z.number(), madeAt: time, inDoubt: z.boolean() })
    .optional()
    .describe("a POST that is not settled"),
  evidence: z
    .object({
      receivingCredentialId: z.string().optional(),
      primaryFundingId: z.string().optional(),
      checkedAt: time,
      verifiedAt: time.optional(),
    })
    .optional()
    .describe("what Meta showed last"),
  pendingUntil: time.optional().describe("of a partner switch: when it takes effect"),
  removedAt: time.optional().describe("when Meta told us that the customer left"),
  lastFailure: failure.optional(),
});

const business = z.object({
  businessId: z.string(),
  name: z.string().optional(),
  epoch: z.number().describe("revocations so far"),
  version: z.number(),
  revocation: z
    .object({
      state: z.enum(["open", "done", "nothing"]),
      reason: z.string(),
      commandId: z.string(),
      requestedAt: time,
      startedAt: time,
      doneAt: time.optional(),
      openReason: z.string().optional(),
      openWords: z.string().optional(),
    })
    .optional(),
  held: z
    .object({ reason: z.string(), words: z.string(), since: time, commandIds: z.array(z.string()) })
    .optional()
    .describe("automatic revocations that wait"),
  records: z.array(
    z.object({
      allocationConfigId: z.string(),
      creditLineId: z.string(),
      state: z.string(),
      recordedAt: time,
      readAt: time.optional(),
      deleteAnsweredAt: time.optional(),
      foreign: z.boolean().describe("names another business: never touched"),
    }),
  ),
});

/** What `explain --json` prints, one a line for each id. */
export const explainShape = z.object({
  asked: z.object({ id: z.string(), is: z.enum(["waba", "business", "command", "allocation", "message"]) }),
  waits: z.array(z.string()).describe("what makes the whole stage wait"),
  letter: judgedLetterSchema.optional().describe("of a message: the dead letter, and what a replay of it would do now"),
  command: command.optional(),
  business: business.optional(),
  wabas: z.array(waba),
  history: z.array(eventShape).describe("what was announced of it, oldest first"),
  next: z
    .array(z.object({ at: time, what: z.string(), wabaId: z.string().optional(), commandId: z.string().optional() }))
    .describe("what happens by itself"),
  tasks: z
    .array(
      z.object({
        why: z.string(),
        remedy: z.string().optional(),
        command: z.string().optional(),
        wabaId: z.string().optional(),
      }),
    )
    .describe("what a person must do; empty: nothing"),
  live: comparisonShape.optional().describe("with --live: table, Meta and evidence"),
});

type Explained = z.output<typeof explainShape>;

const options = z.object({ live: z.boolean().default(false) });

export function addExplain(program: Command): void {
  program
    .command("explain")
    .description("why a customer is funded or not: state, history, evidence, what happens next, what you must do")
    .argument("<ids...>", "of WABAs, businesses, commands, allocations, or messages of SQS")
    .option("--live", "ask Meta too, and show table, Meta and evidence side by side")
    .addHelpText(
      "after",
      examples(
        "explain 120000000000021",
        "explain order-4711 --live",
        "explain 110000000000021 --json",
        "explain 9f0f8c2e-7b51-4c56-a2c4-5d9e6b1f0a77    a message among the dead letters",
      ),
    )
    .addHelpText(
      "after",
      "\nA message can be told of while it is a dead letter, by its id there or the one that its sender was given.\n" +
        "In a queue nobody can see it without taking it; once it is served, its command's id is what tells.",
    )
    .addHelpText("after", "\nEnds with 1 when a person must act, or when table and Meta differ.")
    .action(
      onStage(options, async (context, ids, { live }) => {
        let exitCode: ExitCode = exitCodes.ok;
        for (const id of ids) {
          const subject = await findSubject(context, id);
          const explained = await explainSubject(context, subject);
          if (live) explained.live = await compareWithMeta(context, subject);
          context.out.result(explainShape, explained, (value) => render(value, context.stage.now()));
          if (needsSomebody(explained)) exitCode = exitCodes.problem;
        }
        return exitCode;
      }),
    );
}

function needsSomebody({ tasks: open, live }: Explained): boolean {
  return open.length > 0 || (live?.differences.length ?? 0) > 0;
}

async function explainSubject({ stage }: Context, subject: Subject): Promise<Explained> {
  const { business: of, wabaId } = subject;
  const shown = Object.entries(of?.wabas ?? {}).filter(([id]) => wabaId === undefined || id === wabaId);
  const asked = wabaId === undefined ? shown.map(([id]) => id) : [wabaId];
  const [limits, ...blocks] = await Promise.all([
    stage.store.loadLimits(),
    ...asked.map(async (id) => ({ id, until: (await stage.store.loadBlockedUntil(id)) ?? 0 })),
  ]);
  const known = { ...subject, limits };
  const now = stage.now();
  function concerns(one: { wabaId?: string | undefined }): boolean {
    return wabaId === undefined || one.wabaId === undefined || one.wabaId === wabaId;
  }
  return {
    asked: { id: subject.id, is: subject.kind },
    waits: [
      ...(limits.tokenIsDead ? ["the system token is dead: commands wait until its secret holds one that works"] : []),
      ...((limits.blockedUntil ?? 0) > now ? [`Meta has throttled us until ${instant(limits.blockedUntil ?? 0)}`] : []),
      ...blocks
        .filter(({ until }) => until > now)
        .map(
          ({ id, until }) =>
            `Meta has throttled what is asked about ${id} until ${instant(until)}: shares and verifications wait`,
        ),
    ],
    letter: subject.letter,
    command: subject.command === undefined ? undefined : commandOf(subject),
    business: of === undefined ? undefined : businessOf(of),
    wabas: shown.map(([id, one]) => wabaOf(id, one, of)),
    history: await historyOf(subject, stage),
    next: nextSteps(known)
      .filter(concerns)
      .map(({ at, ...rest }) => ({ at: iso(at), ...rest })),
    tasks: [
      ...(subject.letter === undefined ? [] : [letterTask(subject.letter)]),
      ...tasks(known, now).filter(concerns),
    ],
  };
}

function commandOf({ command: row, wabaId, business: of }: Subject): Explained["command"] {
  if (row === undefined) return undefined;
  const ids = { commandId: row.commandId, wabaId, businessId: of?.businessId };
  return {
    commandId: row.commandId,
    type: row.type,
    outcome: row.outcome ?? (row.blockedAnnounced === true ? "blocked" : "failing"),
    reason: row.reason,
    attempts: row.attempts,
    changedAt: iso(row.changedAt),
    failure: failureOf(row.failure ?? failureOfReason(row), ids),
    event: row.event?.detailType,
  };
}

/** A refusal that Meta had no part in has a reason and no failure. */
function failureOfReason({ reason, changedAt }: { reason?: string | undefined; changedAt: number }) {
  return reason === undefined ? undefined : { at: changedAt, reason };
}

/** @param goesOn it is tried again by itself: then only what a person must mend first is a remedy. */
function failureOf(
  stored:
    | { at: number; reason: string; code?: number; subcode?: number; fbtraceId?: string; message?: string }
    | undefined,
  ids: Record<string, string | undefined>,
  goesOn = false,
): z.output<typeof failure> | undefined {
  if (stored === undefined) return undefined;
  const { words, remedy } = explain(stored.reason, ids);
  const isMended = goesOn && stored.reason === "meta_unavailable";
  return { ...stored, at: iso(stored.at), words, remedy: isMended ? undefined : remedy };
}

function businessOf({ businessId, name, epoch, version, revocation, held, records }: Business): Explained["business"] {
  return {
    businessId,
    name,
    epoch,
    version,
    revocation:
      revocation === undefined
        ? undefined
        : {
            state: revocation.state,
            reason: revocation.request.reason,
            commandId: revocation.request.commandId,
            requestedAt: iso(revocation.requestedAt),
            startedAt: iso(revocation.startedAt),
            doneAt: isoIf(revocation.doneAt),
            openReason: revocation.openReason,
            openWords: revocation.openReason === undefined ? undefined : explain(revocation.openReason, {}).words,
          },
    held:
      held === undefined
        ? undefined
        : {
            reason: held.reason,
            words: explain(held.reason, {}).words,
            since: iso(held.since),
            commandIds: held.requests.map((request) => request.commandId),
          },
    records: Object.entries(records).map(([allocationConfigId, record]) => ({
      allocationConfigId,
      creditLineId: record.creditLineId,
      state: record.state,
      recordedAt: iso(record.recordedAt),
      readAt: isoIf(record.readAt),
      deleteAnsweredAt: isoIf(record.deleteAnswered?.at),
      foreign: record.foreign === true,
    })),
  };
}

function wabaOf(wabaId: string, one: Waba, of: Business | undefined): z.output<typeof waba> {
  const { request, evidence } = one;
  const note = of?.recordIntent?.request.wabaId === wabaId ? of.recordIntent : undefined;
  const intent = one.intent ?? note;
  return {
    wabaId,
    status: one.status,
    currency: one.currency,
    method: one.method,
    creditLineId: one.creditLineId,
    allocationConfigId: one.allocationId,
    commandId: request.commandId,
    requestedAt: iso(request.requestedAt),
    requestedBy: request.requestedBy,
    attempt:
      intent === undefined
        ? undefined
        : { number: intent.attempt, madeAt: iso(intent.madeAt), inDoubt: intent.inDoubt === true },
    evidence:
      evidence === undefined
        ? undefined
        : { ...evidence, checkedAt: iso(evidence.checkedAt), verifiedAt: isoIf(evidence.verifiedAt) },
    pendingUntil: "pendingUntil" in one ? isoIf(one.pendingUntil) : undefined,
    removedAt: isoIf(one.removedAt),
    lastFailure: failureOf(one.lastFailure, { wabaId, businessId: of?.businessId }, one.due !== undefined),
  };
}

/** Of the item, and of every command or finding that named it without changing it. */
async function historyOf({ business: of, wabaId, command: row }: Subject, stage: Context["stage"]) {
  const key = row?.outcome === "rejected" ? `sha256:${row.hash}` : row?.commandId;
  const wabaIds = wabaId === undefined ? Object.keys(of?.wabas ?? {}) : [wabaId];
  const subjects = [
    ...(of === undefined ? [] : [keys.business(of.businessId)]),
    ...wabaIds.map((id) => keys.waba(id)),
    ...(key === undefined ? [] : [keys.command(key)]),
  ];
  const events = new Map<string, RecordedEvent>();
  for (const pks of chunks(subjects, readsAtOnce)) {
    const rows = await Promise.all(pks.map((pk) => readAudit(stage, pk)));
    for (const event of rows.flat().flatMap((one) => one.events)) events.set(event.eventId, event);
  }
  function names(event: RecordedEvent): boolean {
    if (wabaId === undefined || event.wabaId === wabaId) return true;
    return event.wabaId === undefined || event.wabaIds?.includes(wabaId) === true;
  }
  return [...events.values()]
    .filter(names)
    .toSorted((one, other) => one.occurredAt - other.occurredAt)
    .map(shownEvent);
}

const readsAtOnce = 20;

/** What was never answered has nobody else who asks for it. */
function letterTask({ messageId, class: judged, why }: JudgedLetter): Explained["tasks"][number] {
  const lies = `Its message lies among the dead letters: ${judged}, ${why}.`;
  switch (judged) {
    case "never-valid":
      return {
        why: lies,
        remedy: "Its producer mends it and sends it under a new id; then discard this one.",
        command: `dlq discard --message ${messageId} --yes`,
      };
    case "blocked":
      return {
        why: lies,
        remedy: "Mend what stopped it first; then replay it.",
        command: `dlq replay --message ${messageId} --yes`,
      };
    case "safe":
    case "needs-probe":
    case "already-done":
    case "superseded":
      return { why: lies, command: `dlq replay --message ${messageId} --yes` };
  }
}

function render(value: Explained, now: number): string {
  const { asked, business: of, wabas, history, next, tasks: open, live } = value;
  const sections = [
    headline(value),
    ...value.waits.map((wait) => `All of the stage waits: ${wait}`),
    ...(value.letter === undefined ? [] : [renderLetter(value.letter, now)]),
    ...(value.command === undefined ? [] : [renderCommand(value.command, now)]),
    ...wabas.map((one) => renderWaba(one, now)),
    ...(of?.revocation === undefined ? [] : [renderRevocation(of.revocation, now)]),
    ...(of?.held === undefined ? [] : [renderHeld(of.held, now)]),
    ...(asked.is === "waba" || of === undefined || of.records.length === 0 ? [] : [renderRecords(of.records, now)]),
    ...(history.length === 0 ? [] : [`History\n${indent(table(history.map((one) => historyRow(one, now))))}`]),
    ...(live === undefined ? [] : [`Meta, asked now\n${indent(renderComparison(live, now))}`]),
    `Next, by itself\n${indent(next.length === 0 ? "nothing is due" : next.map((one) => renderNext(one, now)).join("\n"))}`,
    `For you\n${indent(open.length === 0 ? "nothing to do" : open.map(renderTask).join("\n"))}`,
  ];
  return sections.join("\n\n");
}

const kinds = {
  waba: "WABA",
  business: "Business",
  command: "Command",
  allocation: "Allocation",
  message: "Message",
} as const;

function headline({ asked, business: of, wabas }: Explained): string {
  const owner = of === undefined ? "" : ` of business ${of.businessId}${of.name === undefined ? "" : ` (${of.name})`}`;
  const [only] = wabas;
  const status = asked.is === "waba" && only !== undefined ? ` is ${only.status}` : "";
  const about =
    (asked.is === "command" || asked.is === "message") && only !== undefined ? ` about WABA ${only.wabaId}` : "";
  return `${kinds[asked.is]} ${asked.id}${about}${asked.is === "business" ? "" : owner}${status}`;
}

function renderLetter(
  { queue, kind, sentAt, commandId, type, diedOf, class: judged, why, replayId }: JudgedLetter,
  now: number,
): string {
  const lines = [
    `${type} ${commandId ?? "without a commandId"}, ${kind} from the ${queue} queue, sent ${ago(Date.parse(sentAt), now)}`,
    ...(diedOf === undefined ? [] : [`died of: ${diedOf}`]),
    `a replay now: ${judged}, ${why}`,
    ...(replayId === undefined ? [] : [`was replayed by ${replayId}`]),
  ];
  return `Dead letter\n${indent(lines.join("\n"))}`;
}

function renderCommand(one: NonNullable<Explained["command"]>, now: number): string {
  const what = one.type === one.outcome ? one.type : `${one.type}: ${one.outcome}`;
  const ended = `${what}${one.reason === undefined ? "" : ` (${one.reason})`}, ${ago(Date.parse(one.changedAt), now)}`;
  const attempts = one.outcome === "blocked" || one.outcome === "failing" ? `, after ${one.attempts} attempts` : "";
  const said = one.event === undefined ? [] : [`announced as ${one.event}`];
  return [
    "Command",
    ...[ended + attempts, ...said, ...renderFailure(one.failure, now)].map((line) => indent(line)),
  ].join("\n");
}

function renderWaba(one: z.output<typeof waba>, now: number): string {
  const { evidence, attempt } = one;
  const lines = [
    `${one.status}, in ${one.currency}, on line ${one.creditLineId}${one.allocationConfigId === undefined ? "" : `, allocation ${one.allocationConfigId}`}`,
    `asked for by ${one.requestedBy} ${ago(Date.parse(one.requestedAt), now)} (${one.commandId})`,
    ...(attempt === undefined
      ? []
      : [
          `POST ${attempt.number} of ${ago(Date.parse(attempt.madeAt), now)} has no answer${attempt.inDoubt ? ": in doubt" : ""}`,
        ]),
    ...(evidence === undefined ? ["no evidence yet"] : [renderEvidence(evidence, now)]),
    ...(one.pendingUntil === undefined ? [] : [`a partner switch: takes effect on ${one.pendingUntil.slice(0, 10)}`]),
    ...(one.removedAt === undefined ? [] : [`the customer left ${ago(Date.parse(one.removedAt), now)}`]),
    ...renderFailure(one.lastFailure, now),
  ];
  return `WABA ${one.wabaId}\n${indent(lines.join("\n"))}`;
}

function renderEvidence(evidence: NonNullable<z.output<typeof waba>["evidence"]>, now: number): string {
  const { primaryFundingId: pays, receivingCredentialId: ours, checkedAt, verifiedAt } = evidence;
  const proof = pays !== undefined && pays === ours ? `${pays}, the credential of our record` : (pays ?? "nothing");
  const last = verifiedAt === undefined ? "never proved" : `proved ${ago(Date.parse(verifiedAt), now)}`;
  return `evidence of ${ago(Date.parse(checkedAt), now)}: paid for by ${proof}; ${last}`;
}

function renderFailure(one: z.output<typeof failure> | undefined, now: number): string[] {
  if (one === undefined) return [];
  const meta = [
    one.message === undefined ? undefined : `"${one.message}"`,
    one.code === undefined ? undefined : `code ${one.code}${one.subcode === undefined ? "" : `/${one.subcode}`}`,
    one.fbtraceId === undefined ? undefined : `trace ${one.fbtraceId}`,
  ].filter((part) => part !== undefined);
  return [
    `why (${ago(Date.parse(one.at), now)}): ${one.words}`,
    ...(meta.length === 0 ? [] : [`  ${meta.join(", ")}`]),
    ...(one.remedy === undefined ? [] : [`remedy: ${one.remedy}`]),
  ];
}

function renderRevocation(one: NonNullable<NonNullable<Explained["business"]>["revocation"]>, now: number): string {
  const began = `${one.state}: ${one.reason}, begun ${ago(Date.parse(one.startedAt), now)} (${one.commandId})`;
  const done = one.doneAt === undefined ? "" : `, over ${ago(Date.parse(one.doneAt), now)}`;
  const open = one.openWords === undefined ? [] : [`still open: ${one.openWords}`];
  return `Revocation\n${indent([began + done, ...open].join("\n"))}`;
}

function renderHeld(
  { words, since, commandIds }: NonNullable<NonNullable<Explained["business"]>["held"]>,
  now: number,
) {
  return `Held revocation\n${indent(`${words}\nsince ${ago(Date.parse(since), now)} (${commandIds.join(", ")})`)}`;
}

function renderRecords(records: NonNullable<Explained["business"]>["records"], now: number): string {
  const rows = records.map((one) => ({
    allocation: one.allocationConfigId,
    line: one.creditLineId,
    state: one.foreign ? `${one.state}, names another business` : one.state,
    read: one.readAt === undefined ? "never" : ago(Date.parse(one.readAt), now),
    DELETE: one.deleteAnsweredAt === undefined ? "-" : `answered ${ago(Date.parse(one.deleteAnsweredAt), now)}`,
  }));
  return `Records at Meta, as recorded\n${indent(table(rows))}`;
}

function historyRow(one: Explained["history"][number], now: number) {
  const person = one.by === undefined ? undefined : `${one.by}: ${one.note ?? ""}`;
  return {
    when: ago(Date.parse(one.at), now),
    event: one.event,
    WABA: one.wabaId,
    command: one.commandId,
    reason: person ?? one.reason,
  };
}

function renderNext({ at, what }: Explained["next"][number], now: number): string {
  const when = Date.parse(at);
  return when <= now ? `now due (${span(now - when)}): ${what}` : `in ${span(when - now)}: ${what}`;
}

function renderTask({ why, remedy, command: line }: Explained["tasks"][number]): string {
  return [why, remedy, line === undefined ? undefined : `credit-lines ${line}`]
    .filter((part) => part !== undefined)
    .join("\n  ");
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "  ");
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

function isoIf(at: number | undefined): string | undefined {
  return at === undefined ? undefined : iso(at);
}
