import type { History } from "./history.ts";
import { randomOf, type Random } from "./random.ts";
import { createScheduler, type Task } from "./scheduler.ts";
import { setHost } from "./virtual-time.ts";

/** What may go wrong at an effect, beside what only a call to Meta knows (see meta-transport.ts). */
export const readFaults = ["crash-before", "freeze-before", "freeze-after", "fail-before"] as const;
export const writeFaults = [
  "crash-before",
  "crash-after",
  "freeze-before",
  "freeze-after",
  "fail-before",
  "fail-after",
  "repeat",
] as const;

/** A process of a function: it may die, or stop for a while and go on as if nothing had been. */
export type Process = {
  name: string;
  isAlive: boolean;
  frozenUntil: number;
  /** For how long it has been stopped in its life. */
  stoppedMs: number;
  /** Its own wall clock. */
  now: () => number;
  /** A process serves one invocation at a time. */
  invocation: Invocation | undefined;
};

/** One answer of Meta as an invocation saw it. */
export type MetaRead = { name: string; id: string; sentAt: number; body: unknown; isOk: boolean };

export type Invocation = {
  key: string;
  process: Process;
  random: Random;
  steps: number;
  endsAt: number;
  isOver: boolean;
  faults: number;
  metaReads: MetaRead[];
  /** When it loaded which version and epoch of a business last. */
  loads: Map<string, { version: number; epoch: number; at: number; revokedAt: number | undefined }>;
  /** When it sent its last DELETE. */
  deletedAt?: number;
};

export type EngineOptions = {
  /** Only these faults happen, by the place and kind of each; all that are drawn, when not given. */
  onlyFaults?: ReadonlyMap<string, string>;
  trace?: (line: string) => void;
};

export type DrawnFault = { key: string; kind: string; boundary: string };

/**
 * One machine room: virtual time, processes whose every effect takes a while, and chance decided by the history's seed and
 * the effect's own place, so that a history that lacks a command or a fault goes on like the one that has it.
 */
export function createEngine(history: History, options: EngineOptions) {
  const scheduler = createScheduler(history.startAt);
  function now(): number {
    return scheduler.now();
  }
  const hostRandom = randomOf(`host ${history.seed}`);
  const faults: DrawnFault[] = [];
  const counts: Record<string, number> = {};
  let starting: Process | undefined;
  let ids = 0;
  let processes = 0;
  const invocationsOf = new Map<string, number>();

  const host = {
    setTimer(action: () => void, delayMs: number) {
      const process = starting;
      if (process === undefined) return scheduler.at(now() + delayMs, action);
      return setTimerOf(process, action, delayMs);
    },
    clearTimer(timer: object) {
      if ("run" in timer) timer.run = undefined;
    },
    random: () => hostRandom.next(),
  };

  function createProcess(name: string): Process {
    const { clocksApartMs = 0 } = history;
    processes += 1;
    const aheadMs = clocksApartMs === 0 ? 0 : randomOf(`${history.seed} clock ${processes}`).whole(0, clocksApartMs);
    return {
      name,
      isAlive: true,
      frozenUntil: 0,
      stoppedMs: 0,
      now: () => now() + aheadMs - Math.round(clocksApartMs / 2),
      invocation: undefined,
    };
  }

  /** Begins an invocation; its timers are those that are set before the first effect. */
  function invoke(process: Process, key: string, timeoutMs: number, run: (invocation: Invocation) => void): Invocation {
    const count = (invocationsOf.get(key) ?? 0) + 1;
    invocationsOf.set(key, count);
    const name = count === 1 ? key : `${key}.${count}`;
    const invocation: Invocation = {
      key: name,
      process,
      random: randomOf(`${history.seed} ${name}`),
      steps: 0,
      endsAt: now() + timeoutMs,
      isOver: false,
      // What an earlier one left behind may still hold the process.
      faults: now() < process.frozenUntil ? 1 : 0,
      metaReads: [],
      loads: new Map(),
    };
    process.invocation = invocation;
    starting = process;
    run(invocation);
    starting = undefined;
    return invocation;
  }

  function setTimerOf(process: Process, action: () => void, delayMs: number): Task {
    let { stoppedMs } = process;
    function goOff(): void {
      if (timer.run === undefined) return;
      const lateMs = process.stoppedMs - stoppedMs;
      if (history.timersFreeze !== true || lateMs === 0) return deliver(process, action);
      ({ stoppedMs } = process);
      scheduler.at(now() + lateMs, goOff);
    }
    const timer = scheduler.at(now() + delayMs, goOff);
    return timer;
  }

  /** Something reaches a process: at once, after it has thawed, or never. */
  function deliver(process: Process, action: () => void): void {
    if (!process.isAlive) return;
    if (now() < process.frozenUntil) {
      scheduler.at(process.frozenUntil, () => deliver(process, action));
      return;
    }
    action();
  }

  function kill(process: Process): void {
    process.isAlive = false;
    say(process, "dies");
  }

  function freeze(process: Process, forMs: number): void {
    const until = Math.max(process.frozenUntil, Math.min(now() + forMs, Math.max(history.quietAt, now())));
    process.stoppedMs += until - Math.max(process.frozenUntil, now());
    process.frozenUntil = until;
    if (process.invocation !== undefined) process.invocation.faults += 1;
    say(process, `is frozen for ${Math.round((process.frozenUntil - now()) / 1000)} s`);
  }

  /** What goes wrong at this effect, if anything does. The draw is the same whether or not it may happen. */
  function draw(invocation: Invocation, boundary: string, kinds: readonly string[], probability: number) {
    const { random } = invocation;
    invocation.steps += 1;
    const isDrawn = random.chance(probability * history.faultRate);
    const drawn = random.pick(kinds);
    const spanMs = random.span(1000, 4 * 3_600_000);
    const beforeMs = latency(random);
    const afterMs = random.chance(0.25) ? latency(random) : 0;
    counts[boundary] = (counts[boundary] ?? 0) + 1;
    const key = `${invocation.key}#${invocation.steps}`;
    const kind = options.onlyFaults === undefined ? (isDrawn ? drawn : undefined) : options.onlyFaults.get(key);
    if (kind === undefined || now() >= history.quietAt) return { kind: undefined, spanMs, beforeMs, afterMs };
    faults.push({ key, kind, boundary });
    invocation.faults += 1;
    say(invocation.process, `fault ${kind} at ${boundary}`);
    return { kind, spanMs, beforeMs, afterMs };
  }

  /** One effect of a process on something outside: it takes a while, and may go wrong before, after or in between. */
  function step<T>(
    process: Process,
    boundary: string,
    kinds: readonly string[],
    probability: number,
    effect: () => T,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const { invocation } = process;
    if (!process.isAlive || invocation === undefined) return promise;
    const { kind, spanMs, beforeMs, afterMs } = draw(invocation, boundary, kinds, probability);

    function happen(): void {
      let settle: () => void;
      try {
        let value = effect();
        if (kind === "repeat") value = effect();
        settle = () => resolve(value);
      } catch (error) {
        settle = () => reject(error);
      }
      if (kind === "crash-after") return kill(process);
      if (kind === "fail-after") settle = () => reject(new Error(`${boundary}: the answer was lost`));
      if (kind === "freeze-after") freeze(process, spanMs);
      if (afterMs === 0) deliver(process, settle);
      else scheduler.at(now() + afterMs, () => deliver(process, settle));
    }

    scheduler.at(now() + beforeMs, () => {
      if (kind === "crash-before") return kill(process);
      if (kind === "fail-before") return deliver(process, () => reject(new Error(`${boundary}: no connection`)));
      // A request that has left is not stopped by what becomes of its process; a frozen process has not sent it yet.
      if (kind === "freeze-before") freeze(process, spanMs);
      if (kind === "freeze-before" || now() < process.frozenUntil) deliver(process, happen);
      else happen();
    });
    return promise;
  }

  /** For the trace; what takes long to put in words is a function, asked only when there is one. */
  function say(about: Process | string, what: string | (() => string)): void {
    if (options.trace === undefined) return;
    const subject = typeof about === "string" ? about : (about.invocation?.key ?? about.name);
    const words = typeof what === "string" ? what : what();
    options.trace(`${stamp(now(), history.startAt)}  ${subject.padEnd(34)} ${words}`);
  }

  return {
    now,
    at: (...timer: Parameters<typeof scheduler.at>) => scheduler.at(...timer),
    createProcess,
    invoke,
    deliver,
    kill,
    freeze,
    draw,
    step,
    say,
    faults,
    counts,
    newId: () => {
      ids += 1;
      return `id-${ids}`;
    },
    async run(until: number, stop: () => boolean): Promise<void> {
      setHost(host);
      try {
        await scheduler.run(until, stop);
      } finally {
        setHost(undefined);
      }
    },
  };
}

export type Engine = ReturnType<typeof createEngine>;

/** Mostly some milliseconds, now and then seconds. */
function latency(random: Random): number {
  const slow = random.chance(0.03);
  return Math.ceil(-Math.log(1 - random.next()) * (slow ? 1500 : 30));
}

function stamp(time: number, startAt: number): string {
  const seconds = (time - startAt) / 1000;
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60].map((part) =>
    String(part).padStart(2, "0"),
  );
  return `${parts.join(":")}:${(seconds % 60).toFixed(3).padStart(6, "0")}`;
}
