/** Numbers that a key decides: the same key gives the same numbers, whatever else of the history changes. */
export type Random = {
  /** In [0, 1). */
  next(): number;
  /** A whole number in [from, to]. */
  whole(from: number, to: number): number;
  chance(probability: number): boolean;
  pick<T>(options: readonly T[]): T;
  /** Log-uniform between the two: short and long ones alike. */
  span(fromMs: number, toMs: number): number;
};

/** Mulberry32 on an FNV-1a hash of the key. */
export function randomOf(key: string): Random {
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index += 1) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  let state = hash >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }
  return {
    next,
    whole: (from, to) => from + Math.floor(next() * (to - from + 1)),
    chance: (probability) => next() < probability,
    pick: (options) => options[Math.floor(next() * options.length)] as (typeof options)[number],
    span: (fromMs, toMs) => Math.round(fromMs * (toMs / fromMs) ** next()),
  };
}
