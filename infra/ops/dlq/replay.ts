import { setTimeout } from "node:timers/promises";
import type { SQSClient } from "@aws-sdk/client-sqs";
import { SendMessageBatchCommand } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { CommandType } from "../../../shared/contracts/commands.ts";
import { ownAttributes } from "../../../shared/queues.ts";
import { batchMax, chunks, firstIdOf, type HeldQueue, type Letter, takeOut } from "./dead-letter-queue.ts";
import type { Journal } from "./journal.ts";
import { openJournal, readJournal } from "./journal.ts";
import { commandTypes, type JudgedLetter } from "./judge-letters.ts";

/** What a replay writes down before, and after, each thing it does: the file from which it is resumed. */
const planLineSchema = z.object({
  kind: z.literal("plan"),
  replayId: z.string(),
  at: z.iso.datetime(),
  count: z.int(),
});
const plannedSchema = z.object({
  messageId: z.string(),
  queue: z.enum(commandTypes),
  type: z.string(),
  commandId: z.string().optional(),
  wabaId: z.string().optional(),
  businessId: z.string().optional(),
  class: z.string(),
});
const lineSchema = z.discriminatedUnion("kind", [
  planLineSchema,
  plannedSchema.extend({ kind: z.literal("planned") }),
  z.object({ kind: z.literal("sent"), messageIds: z.array(z.string()) }),
  z.object({ kind: z.literal("deleted"), messageIds: z.array(z.string()) }),
]);

export type PlannedLetter = z.output<typeof plannedSchema>;

/** A replay as its journal tells it. */
export type Replay = {
  replayId: string;
  file: string;
  startedAt: number;
  planned: Map<string, PlannedLetter>;
  /** Certainly in the command queue; what was sent right before a crash may be there too, and will be sent again. */
  sent: Set<string>;
  /** Certainly out of the dead letters. */
  deleted: Set<string>;
};

/** Writes the plan down. From here on nothing is chosen anew: a resumed replay does the rest of this very plan. */
export function beginReplay(replayId: string, file: string, letters: readonly JudgedLetter[], now: number): Replay {
  const planned = letters.map((letter) => plannedSchema.parse(letter));
  const at = new Date(now).toISOString();
  const journal = openJournal(file);
  journal.append(
    { kind: "plan", replayId, at, count: planned.length },
    ...planned.map((letter) => ({ kind: "planned", ...letter })),
  );
  journal.close();
  return {
    replayId,
    file,
    startedAt: now,
    planned: new Map(planned.map((letter) => [letter.messageId, letter])),
    sent: new Set(),
    deleted: new Set(),
  };
}

/** @throws Error when the file is not there, or is not a whole plan. */
export function resumeReplay(file: string): Replay {
  const [plan, ...rest] = readJournal(file, lineSchema);
  if (plan?.kind !== "plan") throw new Error(`${file} is not the journal of a replay`);
  const replay: Replay = {
    replayId: plan.replayId,
    file,
    startedAt: Date.parse(plan.at),
    planned: new Map(),
    sent: new Set(),
    deleted: new Set(),
  };
  for (const line of rest) {
    if (line.kind === "planned") replay.planned.set(line.messageId, plannedSchema.parse(line));
    if (line.kind === "sent") for (const id of line.messageIds) replay.sent.add(id);
    if (line.kind === "deleted") for (const id of line.messageIds) replay.deleted.add(id);
  }
  if (replay.planned.size !== plan.count)
    throw new Error(`${file} ends in the middle of its plan: nothing of it was sent`);
  return replay;
}

export type SendingDeps = {
  sqs: SQSClient;
  /** The dead letters, held, and the queue that each is sent to. */
  queues: readonly { type: CommandType; deadLetterUrl: string; url: string; held: HeldQueue }[];
  /** Messages a second. */
  rate: number;
  onProgress: (replayed: number, hidden: number) => void;
  signal: AbortSignal;
};

/**
 * Sends what was planned and is still among the dead letters: send, write down, delete, in this order. Killed anywhere, a
 * message is in one of the two queues at least; in both, the command's id makes the second one harmless.
 * @returns the ids that are still open: interrupted, not found any more, or not taken by SQS.
 */
export async function sendPlanned(replay: Replay, deps: SendingDeps): Promise<string[]> {
  const { sqs, queues, rate, onProgress, signal } = deps;
  const journal = openJournal(replay.file);
  // At a slow pace smaller batches, so that it is a pace and not one burst after another.
  const size = Math.min(batchMax, Math.max(1, Math.floor(rate)));
  try {
    for (const { type, deadLetterUrl, url, held } of queues) {
      const wanted = new Set(openOf(replay).filter((id) => replay.planned.get(id)?.queue === type));
      function onWait(hidden: number): void {
        onProgress(replay.deleted.size, hidden);
      }
      await takeOut({ sqs, url: deadLetterUrl, held }, { wanted, size, signal, onWait }, async (letters) => {
        const startedAt = performance.now();
        const unsent = letters.filter(({ messageId }) => !replay.sent.has(messageId));
        const sent = await send(unsent, url, replay.replayId, sqs);
        note(journal, "sent", sent, replay.sent);
        const done = letters.filter(({ messageId }) => replay.sent.has(messageId));
        const left = await held.remove(done);
        const removed = done.map(({ messageId }) => messageId).filter((id) => !left.includes(id));
        note(journal, "deleted", removed, replay.deleted);
        onProgress(replay.deleted.size, 0);
        const pauseMs = (sent.length / rate) * 1000 - (performance.now() - startedAt);
        await setTimeout(Math.max(pauseMs, 0), undefined, { signal }).catch(() => {
          // Interrupted: the loop sees it.
        });
      });
    }
  } finally {
    journal.close();
  }
  return openOf(replay);
}

function openOf({ planned, deleted }: Replay): string[] {
  return [...planned.keys()].filter((id) => !deleted.has(id));
}

function note(journal: Journal, kind: "sent" | "deleted", messageIds: string[], known: Set<string>): void {
  if (messageIds.length === 0) return;
  journal.append({ kind, messageIds });
  for (const id of messageIds) known.add(id);
}

/** SQS's limit for a batch is that of a message; what is above a command's size goes alone. */
const batchBytesMax = 200_000;

/** Answers the ids that SQS took. */
async function send(letters: readonly Letter[], url: string, replayId: string, sqs: SQSClient): Promise<string[]> {
  const bytes = letters.reduce((sum, { body }) => sum + Buffer.byteLength(body), 0);
  const sent: string[] = [];
  for (const batch of chunks(letters, bytes > batchBytesMax ? 1 : batchMax)) {
    const Entries = batch.map((letter, index) => ({
      Id: String(index),
      MessageBody: letter.body,
      MessageAttributes: { ...withoutOwn(letter), replayId: { DataType: "String", StringValue: replayId } },
    }));
    const { Successful = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl: url, Entries }));
    sent.push(...Successful.flatMap(({ Id }) => batch[Number(Id)]?.messageId ?? []));
  }
  return sent;
}

/** What it died of is over: the function judges it anew, and it may wait for three days again. */
function withoutOwn(letter: Letter): Letter["attributes"] {
  const own: string[] = Object.values(ownAttributes);
  const kept = Object.entries(letter.attributes).filter(([name]) => !own.includes(name));
  const firstMessageId = { DataType: "String", StringValue: firstIdOf(letter) };
  return Object.fromEntries([...Object.entries({ firstMessageId }), ...kept].slice(0, 9));
}
