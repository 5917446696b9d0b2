import { existsSync } from "node:fs";
import type { SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { CommandType } from "../../../shared/contracts/commands.ts";
import { withoutTokens } from "../../../shared/graph/errors.ts";
import { batchMax, type HeldQueue, takeOut } from "./dead-letter-queue.ts";
import { openJournal, readJournal } from "./journal.ts";
import type { JudgedLetter } from "./judge-letters.ts";
import { judgedLetterSchema } from "./judge-letters.ts";

/** One line of the file that discarded messages are kept in. */
const archivedSchema = judgedLetterSchema.extend({
  discardedAt: z.iso.datetime(),
  /** What looked like a token is taken out. */
  body: z.string(),
  attributes: z.record(z.string(), z.string()),
});

export type DiscardDeps = {
  sqs: SQSClient;
  queues: readonly { type: CommandType; deadLetterUrl: string; held: HeldQueue }[];
  now: () => number;
  onProgress: (discarded: number, hidden: number) => void;
  signal: AbortSignal;
};

/**
 * Writes messages to a file, and only then deletes them. Begun again after a crash with the same file, it writes no message
 * twice.
 * @returns how many were deleted.
 */
export async function discardLetters(
  letters: readonly JudgedLetter[],
  file: string,
  { sqs, queues, now, onProgress, signal }: DiscardDeps,
): Promise<number> {
  const archived = existsSync(file) ? readJournal(file, archivedSchema).map(({ messageId }) => messageId) : [];
  const known = new Set(archived);
  const judged = new Map(letters.map((letter) => [letter.messageId, letter]));
  const archive = openJournal(file);
  let discarded = 0;
  try {
    for (const { type, deadLetterUrl, held } of queues) {
      const wanted = new Set(letters.filter(({ queue }) => queue === type).map(({ messageId }) => messageId));
      function onWait(hidden: number): void {
        onProgress(discarded, hidden);
      }
      await takeOut({ sqs, url: deadLetterUrl, held }, { wanted, size: batchMax, signal, onWait }, async (found) => {
        const lines = found
          .filter(({ messageId }) => !known.has(messageId))
          .map(({ messageId, body, attributes }) => ({
            ...judged.get(messageId),
            discardedAt: new Date(now()).toISOString(),
            body: withoutTokens(body),
            attributes: Object.fromEntries(
              Object.entries(attributes).map(([name, { StringValue = "" }]) => [name, withoutTokens(StringValue)]),
            ),
          }));
        archive.append(...lines);
        const left = await held.remove(found);
        discarded += found.length - left.length;
        onProgress(discarded, 0);
      });
    }
  } finally {
    archive.close();
  }
  return discarded;
}
