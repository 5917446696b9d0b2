import { onceDrained } from "./virtual-time.ts";

/** Virtual time: what is to happen, in the order of its time, one thing at a time. */
export type Scheduler = {
  now(): number;
  at(time: number, run: () => void): Task;
  /** Runs what happens until then, or until nothing is left, or until `stop` says so. */
  run(until: number, stop: () => boolean): Promise<void>;
};

export type Task = { time: number; order: number; run: (() => void) | undefined };

export function createScheduler(start: number): Scheduler {
  const heap: Task[] = [];
  let time = start;
  let order = 0;

  function isBefore(one: Task, other: Task): boolean {
    return one.time < other.time || (one.time === other.time && one.order < other.order);
  }

  function push(task: Task): void {
    let index = heap.length;
    heap.push(task);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent] as Task;
      if (!isBefore(task, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = task;
  }

  function pop(): Task | undefined {
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Task, heap[child] as Task)) child += 1;
      const below = heap[child] as Task;
      if (!isBefore(below, last)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return first;
  }

  return {
    now: () => time,
    at(when, run) {
      order += 1;
      const task = { time: Math.max(when, time), order, run };
      push(task);
      return task;
    },
    run(until, stop) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      function turn(): void {
        try {
          let next = heap[0];
          for (; next !== undefined && next.run === undefined; next = heap[0]) pop();
          if (next?.run === undefined || next.time > until || stop()) return resolve();
          pop();
          time = next.time;
          next.run();
        } catch (error) {
          return reject(error);
        }
        onceDrained(turn);
      }
      turn();
      return promise;
    },
  };
}
