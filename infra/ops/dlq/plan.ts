import type { CommandType } from "../../../shared/contracts/commands.ts";
import type { DeadLetterClass } from "../../../shared/domain/dead-letters.ts";
import type { HeldQueue, Letter } from "./dead-letter-queue.ts";
import type { JudgedLetter, JudgeDeps } from "./judge-letters.ts";
import { judgeLetter } from "./judge-letters.ts";

/** Which dead letters are meant; what is absent leaves them all. */
export type Selection = {
  queues: CommandType[];
  classes: DeadLetterClass[];
  /** Any of: the verdict's reason, or what it died of. */
  reasons?: string[];
  wabaIds?: string[];
  businessIds?: string[];
  /** Command ids or message ids. */
  ids?: string[];
  /** Sent before, or since, this moment (ms). */
  sentBefore?: number;
  sentSince?: number;
};

export function isSelected(letter: JudgedLetter, selection: Selection): boolean {
  const { reasons, wabaIds, businessIds, ids, sentBefore, sentSince } = selection;
  const sentAt = Date.parse(letter.sentAt);
  return (
    selection.queues.includes(letter.queue) &&
    selection.classes.includes(letter.class) &&
    names(reasons, letter.reason, letter.diedOf) &&
    names(wabaIds, letter.wabaId) &&
    names(businessIds, letter.businessId) &&
    names(ids, letter.commandId, letter.messageId, letter.firstMessageId) &&
    (sentBefore === undefined || sentAt < sentBefore) &&
    (sentSince === undefined || sentAt >= sentSince)
  );
}

function names(wanted: readonly string[] | undefined, ...found: (string | undefined)[]): boolean {
  return wanted === undefined || found.some((one) => one !== undefined && wanted.includes(one));
}

/** Messages in one round of receives: each is three reads of the table. */
const roundMax = 40;

/**
 * Reads dead-letter queues to their end and judges each message by the table as it is at that moment.
 * @param queues what is read stays held: whoever calls gives it back.
 * @param onRead told of each; the letters themselves are not kept, for their bodies may be large.
 */
export async function judgeQueues(
  queues: readonly { type: CommandType; held: HeldQueue }[],
  deps: JudgeDeps,
  onRead: (letter: Letter, judged: JudgedLetter) => void,
  signal: AbortSignal,
): Promise<JudgedLetter[]> {
  const judged: JudgedLetter[] = [];
  await Promise.all(
    queues.map(async ({ type, held }) => {
      while (!signal.aborted) {
        const letters = await held.next(roundMax);
        if (letters.length === 0) return;
        const round = letters.map(async (letter) => {
          const one = await judgeLetter(type, letter, deps);
          onRead(letter, one);
          return one;
        });
        judged.push(...(await Promise.all(round)));
      }
    }),
  );
  return judged.toSorted((one, other) => Date.parse(one.sentAt) - Date.parse(other.sentAt));
}
