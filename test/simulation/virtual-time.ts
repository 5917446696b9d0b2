import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers";

/** What the product may ask of its process that no port covers: timers and chance. */
type Host = {
  setTimer(action: () => void, delayMs: number): object;
  clearTimer(timer: object): void;
  random(): number;
};

let host: Host | undefined;
let isInstalled = false;

/** While a host is set, timers and chance are the simulation's; without one they are the real ones. */
export function setHost(next: Host | undefined): void {
  if (!isInstalled) install();
  host = next;
}

/** Goes on when every microtask has run: a tick asked for by one of them only comes once their queue is empty. */
export function onceDrained(goOn: () => void): void {
  queueMicrotask(() => process.nextTick(goOn));
}

function install(): void {
  isInstalled = true;
  const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, random: Math.random };
  function fakeSetTimeout(...args: Parameters<typeof setTimeout>): unknown {
    const [action, delayMs = 0, ...rest] = args;
    if (host === undefined) return Reflect.apply(real.setTimeout, globalThis, args);
    return host.setTimer(() => Reflect.apply(action, undefined, rest), delayMs);
  }
  function fakeClearTimeout(timer: unknown): void {
    if (host === undefined) Reflect.apply(real.clearTimeout, globalThis, [timer]);
    else if (typeof timer === "object" && timer !== null) host.clearTimer(timer);
  }
  Math.random = () => (host === undefined ? real.random() : host.random());
  Object.assign(globalThis, { setTimeout: fakeSetTimeout, clearTimeout: fakeClearTimeout });
  // The middleware's own time-out imports its timers from here.
  Object.assign(timers, { setTimeout: fakeSetTimeout, clearTimeout: fakeClearTimeout });
  syncBuiltinESMExports();
}
