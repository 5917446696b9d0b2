import { randomUUID } from "node:crypto";
import path from "node:path";
import { type Command, Option } from "commander";
import * as z from "zod";
import { withoutTokens } from "../../../shared/graph/errors.ts";
import type { DeadLetterClass } from "../../../shared/domain/dead-letters.ts";
import { deadLetterClasses } from "../../../shared/domain/dead-letters.ts";
import { ageOption, type Context, examples, onStage } from "../command.ts";
import { type ExitCode, exitCodes } from "../errors.ts";
import { ago, count, table } from "../output.ts";
import { discardLetters } from "./discard.ts";
import { type Fate, fateSchema, followReplay } from "./follow.ts";
import { classNames, commandTypes, type JudgedLetter, judgedLetterSchema } from "./judge-letters.ts";
import { isSelected, type Selection } from "./plan.ts";
import { holdSecondsDefault, judgeAll, onQueues } from "./read-letters.ts";
import { beginReplay, type Replay, resumeReplay, sendPlanned } from "./replay.ts";

const classCounts = z.partialRecord(z.enum(classNames), z.number());

/** What `dlq list --json` prints. */
export const deadLettersShape = z.object({
  total: z.number(),
  classes: classCounts,
  letters: z.array(judgedLetterSchema),
});

/** What `dlq show --json` prints. */
export const shownShape = z.array(
  judgedLetterSchema.extend({
    body: z.string().describe("what looked like a token is taken out"),
    attributes: z.record(z.string(), z.string()),
    record: z
      .object({
        outcome: z.string().optional(),
        reason: z.string().optional(),
        attempts: z.number(),
        failure: z.record(z.string(), z.unknown()).optional(),
      })
      .optional()
      .describe("what the table says of its command"),
  }),
);
type ShownLetter = z.output<typeof shownShape>[number];

/** What `dlq replay --json` prints. */
export const replayShape = z.object({
  dryRun: z.boolean(),
  replayId: z.string().optional(),
  journal: z.string().optional().describe("the file from which it is resumed"),
  selected: z.number(),
  classes: classCounts.optional(),
  replayed: z.number().describe("sent to its queue and out of the dead letters"),
  open: z.array(z.string()).describe("message ids that were selected and are not replayed"),
  fates: z.array(fateSchema).describe("what became of each"),
  letters: z.array(judgedLetterSchema).optional().describe("of a dry run: what would be sent"),
});

/** What `dlq discard --json` prints. */
export const discardShape = z.object({
  dryRun: z.boolean(),
  file: z.string(),
  selected: z.number(),
  discarded: z.number(),
  letters: z.array(judgedLetterSchema),
});

const selectionOptions = {
  queue: z.array(z.enum(commandTypes)).optional(),
  class: z.array(z.enum(classNames)).optional(),
  reason: z.array(z.string()).optional(),
  waba: z.array(z.string()).optional(),
  business: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  message: z.array(z.string()).optional(),
  olderThan: ageOption.optional(),
  newerThan: ageOption.optional(),
};
const holdOption = z.coerce.number("must be a number of seconds").int().min(5).max(43_200).default(holdSecondsDefault);

const listOptions = z.object({ ...selectionOptions, limit: z.coerce.number().int().positive().default(50) });
const showOptions = z.object(selectionOptions);
const replayOptions = z.object({
  ...selectionOptions,
  yes: z.boolean().default(false),
  rate: z.coerce.number("must be a number of messages a second").positive().max(10_000).default(5),
  wait: z.coerce.number("must be a number of seconds").min(0).default(120),
  journal: z.string().optional(),
  resume: z.string().optional(),
  hold: holdOption,
});
const discardOptions = z.object({
  ...selectionOptions,
  yes: z.boolean().default(false),
  to: z.string().optional(),
  hold: holdOption,
});

type SelectionOptions = z.output<typeof showOptions>;

/** All but what cannot be obeyed or would die again: whatever a replay brings to an end. */
const replayable: DeadLetterClass[] = ["safe", "needs-probe", "already-done", "superseded"];

export function addDlq(program: Command): void {
  const classWords = Object.entries(deadLetterClasses).map(([name, words]) => `  ${name.padEnd(13)} ${words}`);
  const dlq = program.command("dlq").description("the dead letters of all queues, judged by today's state");
  selecting(dlq.command("list"))
    .description("what lies among the dead letters, and what each would do now")
    .option("--limit <n>", "rows of the table; --json has them all (50)")
    .addHelpText("after", `\nClasses:\n${classWords.join("\n")}`)
    .addHelpText(
      "after",
      examples("dlq list", "dlq list --class safe --class needs-probe", "dlq list --older-than 10d"),
    )
    .action(onStage(listOptions, list));
  selecting(dlq.command("show"))
    .argument("[id]", "of a command or a message")
    .description("dead letters whole: body, attributes, and the record of their command")
    .addHelpText("after", examples("dlq show order-4711", "dlq show --reason policy_block"))
    .action(onStage(showOptions, show));
  selecting(dlq.command("replay"))
    .description("sends dead letters to their queues again; a dry run without --yes")
    .option("--yes", "do it")
    .option("--rate <n>", "messages a second (5)")
    .option("--wait <seconds>", "how long to watch what becomes of them (120)")
    .option("--hold <seconds>", "how long a message we took stays hidden if this process dies (60)")
    .option("--journal <file>", "where to write down what is done (.credit-lines/<replay id>.jsonl)")
    .option("--resume <file>", "go on with the replay of this journal, as it was chosen then")
    .addHelpText(
      "after",
      `\nWithout --class: ${replayable.join(", ")}. Named by --command or --message: whatever it is.`,
    )
    .addHelpText(
      "after",
      examples(
        "dlq replay                                   what would be sent",
        "dlq replay --class safe --rate 20 --yes",
        "dlq replay --reason line_access_revoked --yes",
        "dlq replay --resume .credit-lines/replay-….jsonl",
      ),
    )
    .action(onStage(replayOptions, replay));
  selecting(dlq.command("discard"))
    .description("writes dead letters to a file, then deletes them; a dry run without --yes")
    .option("--yes", "do it")
    .option("--to <file>", "JSON lines; what is there already stays (.credit-lines/discarded.jsonl)")
    .option("--hold <seconds>", "how long a message we took stays hidden if this process dies (60)")
    .addHelpText("after", "\nWithout --class: never-valid. Named by --command or --message: whatever it is.")
    .addHelpText("after", examples("dlq discard", "dlq discard --reason invalid_command --to bad-bodies.jsonl --yes"))
    .action(onStage(discardOptions, discard));
}

function selecting(command: Command): Command {
  return command
    .addOption(new Option("--queue <queue...>", "only of these").choices(commandTypes))
    .addOption(new Option("--class <class...>", "only these").choices(classNames))
    .option("--reason <reason...>", "only what died of this, or would end with it")
    .option("--waba <id...>", "only about these")
    .option("--business <id...>", "only about these")
    .option("--command <id...>", "only these commands")
    .option("--message <id...>", "only these messages")
    .option("--older-than <age>", "sent before that, such as 90m, 12h, 10d")
    .option("--newer-than <age>", "sent since then");
}

function selectionOf(options: SelectionOptions, classes: readonly DeadLetterClass[], now: number): Selection {
  const { command, message, olderThan, newerThan } = options;
  const ids = [...(command ?? []), ...(message ?? [])];
  return {
    queues: options.queue ?? [...commandTypes],
    classes: options.class ?? (ids.length > 0 ? [...classNames] : [...classes]),
    reasons: options.reason,
    wabaIds: options.waba,
    businessIds: options.business,
    ids: ids.length > 0 ? ids : undefined,
    sentBefore: olderThan === undefined ? undefined : now - olderThan,
    sentSince: newerThan === undefined ? undefined : now - newerThan,
  };
}

async function list({ stage, out }: Context, _args: readonly string[], options: z.output<typeof listOptions>) {
  const selection = selectionOf(options, classNames, stage.now());
  const letters = await judgeAll(selection, { stage, out });
  const result = { total: letters.length, classes: countClasses(letters), letters };
  out.result(deadLettersShape, result, () => renderLetters(letters, options.limit, stage.now()));
}

async function show({ stage, out }: Context, args: readonly string[], options: SelectionOptions): Promise<ExitCode> {
  const command = [...(options.command ?? []), ...args];
  const selection = selectionOf({ ...options, command }, classNames, stage.now());
  const found: ShownLetter[] = [];
  await judgeAll(selection, { stage, out }, ({ body, attributes }, judged) => {
    const texts = Object.entries(attributes).map(([name, { StringValue = "" }]) => [name, withoutTokens(StringValue)]);
    found.push({ ...judged, body: withoutTokens(body), attributes: Object.fromEntries(texts) });
  });
  for (const one of found) {
    const record = one.commandId === undefined ? undefined : await stage.store.loadCommand(one.commandId);
    if (record === undefined) continue;
    const { outcome, reason, attempts, failure } = record;
    one.record = { outcome, reason, attempts, failure };
  }
  out.result(shownShape, found, (shown) => shown.map((one) => renderShown(one, stage.now())).join("\n\n") || "(none)");
  return found.length === 0 ? exitCodes.problem : exitCodes.ok;
}

async function replay(context: Context, _args: readonly string[], options: z.output<typeof replayOptions>) {
  const { rate, wait, resume, hold } = options;
  const { stage, out } = context;
  const replaying = resume === undefined ? await chooseReplay(options, context) : resumeReplay(resume);
  if (replaying === undefined) return exitCodes.ok;
  const { replayId, file: journal, planned, deleted } = replaying;
  out.note(`Replay ${replayId}: ${planned.size} messages, written down in ${journal}`);
  return onQueues(stage, [...commandTypes], hold, async (held, signal) => {
    const sending = out.progress("Replaying");
    const open = await sendPlanned(replaying, {
      sqs: stage.sqs,
      queues: held.map((queue) => ({ ...queue, url: stage.queues[queue.type].url })),
      rate,
      signal,
      onProgress: (done, hidden) => sending.say(`Replayed ${done} of ${planned.size}${hiddenWords(hidden)}`),
    });
    sending.done(`Replayed ${deleted.size} of ${planned.size}`);
    if (open.length > 0) out.note(`${open.length} are still open. Go on: credit-lines dlq replay --resume ${journal}`);
    const fates = await watch(replaying, wait, signal, context);
    const result = { dryRun: false, replayId, journal, selected: planned.size, replayed: deleted.size, open, fates };
    out.result(replayShape, result, () => renderFates(replaying, fates));
    const good = open.length === 0 && fates.every(({ fate }) => fate !== "blocked" && fate !== "unknown");
    return good ? exitCodes.ok : exitCodes.problem;
  });
}

function hiddenWords(hidden: number): string {
  return hidden === 0 ? "" : `; waiting for about ${hidden} that somebody hides, such as a process that died`;
}

/** Judges, chooses and, with `--yes`, writes the plan down. Undefined: there is nothing to be sent. */
async function chooseReplay(
  options: z.output<typeof replayOptions>,
  { stage, out }: Context,
): Promise<Replay | undefined> {
  const selection = selectionOf(options, replayable, stage.now());
  const matching = await judgeAll({ ...selection, classes: [...classNames] }, { stage, out });
  const letters = matching.filter((letter) => isSelected(letter, selection));
  const left = matching.filter((letter) => !isSelected(letter, selection));
  if (left.length > 0) out.note(`Not chosen: ${describeCounts(countClasses(left))}. --class takes them along.`);
  if (!options.yes || letters.length === 0) {
    const classes = countClasses(letters);
    const result = { dryRun: true, selected: letters.length, classes, replayed: 0, open: [], fates: [], letters };
    out.result(replayShape, result, () => renderLetters(letters, 50, stage.now()));
    if (letters.length > 0) out.note("A dry run: --yes sends them.");
    return undefined;
  }
  const time = new Date(stage.now()).toISOString().slice(0, 19).replaceAll(/\D/g, "");
  const replayId = `replay-${time}-${randomUUID().slice(0, 4)}`;
  return beginReplay(replayId, options.journal ?? path.join(keptIn, `${replayId}.jsonl`), letters, stage.now());
}

async function watch(
  replaying: Replay,
  waitSeconds: number,
  signal: AbortSignal,
  { stage, out }: Context,
): Promise<Fate[]> {
  const types = new Set([...replaying.planned.values()].map(({ queue }) => queue));
  const watching = out.progress("Watching what becomes of them");
  const fates = await followReplay(replaying, {
    store: stage.store,
    sqs: stage.sqs,
    urls: [...types].map((type) => stage.queues[type].url),
    waitMs: waitSeconds * 1000,
    onProgress: (ended, of) => watching.say(`${ended} of ${of} have ended`),
    signal,
  });
  watching.done();
  return fates;
}

async function discard(context: Context, _args: readonly string[], options: z.output<typeof discardOptions>) {
  const { yes, to: file = path.join(keptIn, "discarded.jsonl"), hold } = options;
  const { stage, out } = context;
  const selection = selectionOf(options, ["never-valid"], stage.now());
  const letters = await judgeAll(selection, context);
  const unanswered = letters.filter((letter) => !["never-valid", "already-done"].includes(letter.class));
  if (unanswered.length > 0) {
    out.note(`${unanswered.length} of them have no outcome yet: nobody will tell their producers.`);
  }
  let discarded = 0;
  if (yes && letters.length > 0) {
    const writing = out.progress("Discarding");
    await onQueues(stage, selection.queues, hold, async (held, signal) => {
      discarded = await discardLetters(letters, file, {
        sqs: stage.sqs,
        queues: held,
        now: () => stage.now(),
        signal,
        onProgress: (done, hidden) => writing.say(`Discarded ${done} of ${letters.length}${hiddenWords(hidden)}`),
      });
    });
    writing.done(`Discarded ${discarded} of ${letters.length} into ${file}`);
  }
  const result = { dryRun: !yes, file, selected: letters.length, discarded, letters };
  out.result(discardShape, result, () => renderLetters(letters, 50, stage.now()));
  if (!yes && letters.length > 0) out.note(`A dry run: --yes writes them to ${file} and deletes them.`);
  return yes && discarded < letters.length ? exitCodes.problem : exitCodes.ok;
}

/** Where replays and discarded messages are written down, in the directory one stands in. */
const keptIn = ".credit-lines";

function countClasses(letters: readonly JudgedLetter[]): z.output<typeof classCounts> {
  const counts: z.output<typeof classCounts> = {};
  for (const letter of letters) counts[letter.class] = (counts[letter.class] ?? 0) + 1;
  return counts;
}

function describeCounts(counts: z.output<typeof classCounts>): string {
  const words = classNames.flatMap((name) => (counts[name] === undefined ? [] : `${counts[name]} ${name}`));
  return words.join(", ") || "none";
}

function renderLetters(letters: readonly JudgedLetter[], limit: number, now: number): string {
  const rows = letters.slice(0, limit).map((letter) => ({
    class: letter.class,
    queue: letter.queue,
    command: letter.commandId ?? `(message ${letter.messageId})`,
    WABA: letter.wabaId,
    age: ago(Date.parse(letter.sentAt), now),
    "died of": letter.diedOf,
    "a replay now": letter.why,
  }));
  const more = letters.length > limit ? `\n… and ${letters.length - limit} more (--limit, --json)` : "";
  return `${table(rows)}${more}\n${count(letters.length, "dead letter")}: ${describeCounts(countClasses(letters))}`;
}

function renderShown({ body, attributes, record, ...judged }: ShownLetter, now: number): string {
  const lines = Object.entries(judged).map(([name, value]) => `${name.padEnd(14)} ${value ?? "-"}`);
  const about = Object.entries({ attributes, record }).map(
    ([name, value]) => `${name.padEnd(14)} ${JSON.stringify(value) ?? "-"}`,
  );
  return [...lines, `age            ${ago(Date.parse(judged.sentAt), now)}`, ...about, `body           ${body}`].join(
    "\n",
  );
}

function renderFates({ replayId, planned, deleted }: Replay, fates: readonly Fate[]): string {
  const groups = new Map<string, Fate[]>();
  for (const fate of fates) {
    const name = `${fate.fate} ${fate.reason ?? ""}`.trim();
    groups.set(name, [...(groups.get(name) ?? []), fate]);
  }
  const rows = [...groups].map(([became, { length, ...of }]) => ({
    became: became,
    messages: length,
    "for example": of[0]?.commandId,
  }));
  return `${table(rows)}\n${deleted.size} of ${planned.size} replayed as ${replayId}`;
}
