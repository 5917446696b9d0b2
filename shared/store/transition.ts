import type { AccountConclusion } from "../domain/account.ts";
import type { Conclusion } from "../domain/business.ts";
import type { EventDraft, RecordedEvent } from "../domain/events.ts";

export type Concluded = { conclusion: Conclusion | AccountConclusion; event: RecordedEvent };

/** A change whose events have their ids. */
export type Identified = { id: string; events: RecordedEvent[]; concluded: Concluded[] };

/** Gives a change's events their ids: `transitionId` + index, over its own events and those of the commands it concludes. */
export function identify(
  id: string,
  change: { events: EventDraft[]; conclusions: (Conclusion | AccountConclusion)[] },
  now: number,
): Identified {
  const events = change.events.map((draft, index) => recordEvent(draft, id, index, now));
  const concluded = change.conclusions.map((conclusion, index) => ({
    conclusion,
    event: recordEvent(conclusion.event, id, events.length + index, now),
  }));
  return { id, events: [...events, ...concluded.map(({ event }) => event)], concluded };
}

export function recordEvent(draft: EventDraft, transitionId: string, index: number, now: number): RecordedEvent {
  return { ...draft, eventId: `${transitionId}-${index}`, occurredAt: now };
}

/** What is left to record when some of the commands were answered before: their answers are not told again under another id. */
export function withoutAnswered({ id, events, concluded }: Identified, indexes: readonly number[]): Identified {
  const answered = concluded.filter((_, index) => indexes.includes(index));
  const silent = answered.filter(isRepetition).map(({ event }) => event.eventId);
  return {
    id,
    events: events.filter(({ eventId }) => !silent.includes(eventId)),
    concluded: concluded.filter((_, index) => !indexes.includes(index)),
  };
}

/** A WABA's new status is told whoever asked for it; an answer alone was told when it was recorded. */
function isRepetition({ conclusion, event: { status, previousStatus } }: Concluded): boolean {
  return conclusion.outcome === "refused" || (status !== undefined && status === previousStatus);
}
