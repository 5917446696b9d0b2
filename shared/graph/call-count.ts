import { AsyncLocalStorage } from "node:async_hooks";

/** How many calls to Meta were made for the message at hand: the 5,000 an hour are the scarcest thing we spend. */
const current = new AsyncLocalStorage<{ calls: number }>();

/** Runs `work` with a count of its own, which goes on counting while it runs. */
export function countingGraphCalls<T>(count: { calls: number }, work: () => Promise<T>): Promise<T> {
  return current.run(count, work);
}

export function countGraphCall(): void {
  const count = current.getStore();
  if (count !== undefined) count.calls += 1;
}
