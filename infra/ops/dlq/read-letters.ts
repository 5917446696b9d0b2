import type { CommandType } from "../../../shared/contracts/commands.ts";
import type { Context } from "../command.ts";
import { exitCodes, OpsError } from "../errors.ts";
import type { Stage } from "../stage.ts";
import { readCauses } from "./causes.ts";
import { depthOf, firstIdOf, type HeldQueue, holdQueue, type Letter } from "./dead-letter-queue.ts";
import { commandTypes, type JudgeDeps, type JudgedLetter, judgeLetter } from "./judge-letters.ts";
import { isSelected, judgeQueues, type Selection } from "./plan.ts";

type HeldDeadLetters = { type: CommandType; deadLetterUrl: string; held: HeldQueue };

/** How long a message that we took stays hidden if this process dies. */
export const holdSecondsDefault = 60;

/**
 * Holds dead-letter queues while `work` goes on, and gives back what it left, also when it fails or is interrupted.
 * @param holdSeconds how long a message stays hidden if this process dies.
 */
export async function onQueues<T>(
  { sqs, queues }: Stage,
  types: readonly CommandType[],
  holdSeconds: number,
  work: (held: readonly HeldDeadLetters[], signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  function interrupt(): void {
    ending.abort();
  }
  const held = types.map((type) => {
    const { deadLetterUrl } = queues[type];
    return { type, deadLetterUrl, held: holdQueue(sqs, deadLetterUrl, { holdSeconds }) };
  });
  // Once: what is begun is ended and written down. A second one ends the process, which loses nothing either.
  process.once("SIGINT", interrupt);
  try {
    return await work(held, ending.signal);
  } finally {
    process.removeListener("SIGINT", interrupt);
    for (const queue of held) await queue.held.release();
  }
}

/** A walk reads more than this many messages a second; a hold that ended before it does would make it begin again. */
const readsPerSecondMin = 25;

/** Reads all of the queues, and gives everything back. */
export async function judgeAll(
  selection: Selection,
  { stage, out }: Context,
  onFound: (letter: Letter, judged: JudgedLetter) => void = () => {},
): Promise<JudgedLetter[]> {
  const depths = selection.queues.map((type) => depthOf(stage.sqs, stage.queues[type].deadLetterUrl));
  const holdSeconds = Math.max(
    holdSecondsDefault,
    Math.ceil(Math.max(...(await Promise.all(depths))) / readsPerSecondMin),
  );
  const deps = await judgeDepsOf(stage);
  const reading = out.progress("Reading the dead letters");
  let read = 0;
  const letters = await onQueues(stage, selection.queues, holdSeconds, async (held, signal) => {
    function onRead(letter: Letter, judged: JudgedLetter): void {
      read += 1;
      reading.say(`Read ${read} dead letters`);
      if (isSelected(judged, selection)) onFound(letter, judged);
    }
    const all = await judgeQueues(held, deps, onRead, signal);
    if (signal.aborted) throw interrupted();
    return all;
  });
  reading.done();
  return letters.filter((letter) => isSelected(letter, selection));
}

/** The dead letter with this message id, judged; undefined when there is none that can be seen now. */
export async function findLetter(messageId: string, { stage, out }: Context): Promise<JudgedLetter | undefined> {
  const reading = out.progress("Looking through the dead letters");
  try {
    return await onQueues(stage, [...commandTypes], holdSecondsDefault, async (queues, signal) => {
      for (const { type, held } of queues) {
        for (let letters = await held.next(readMax); letters.length > 0; letters = await held.next(readMax)) {
          if (signal.aborted) throw interrupted();
          const found = letters.find((letter) => letter.messageId === messageId || firstIdOf(letter) === messageId);
          if (found !== undefined) return judgeLetter(type, found, await judgeDepsOf(stage));
        }
      }
      return undefined;
    });
  } finally {
    reading.done();
  }
}

const readMax = 40;

function interrupted(): OpsError {
  return new OpsError("interrupted", "Interrupted: nothing was sent or deleted.", "Call it again.", exitCodes.problem);
}

async function judgeDepsOf(stage: Stage): Promise<JudgeDeps> {
  return {
    store: stage.store,
    policy: { ...stage.policy, businessTokenSecretPrefix: stage.settings.BUSINESS_TOKEN_SECRET_PREFIX },
    now: () => stage.now(),
    causes: await readCauses(stage),
  };
}
