import { setTimeout as delay } from "node:timers/promises";

/** The life of an event source mapping: running, paused, ended. */
export type MappingControl = {
  /** False when the mapping has ended; waits while it is paused. */
  active: () => Promise<boolean>;
  /** Ends early when the mapping ends. */
  sleep: (ms: number) => Promise<void>;
  /** Does the work, again after a pause when it throws, until it returns or the mapping ends. */
  persist: (work: () => Promise<void>) => Promise<void>;
  enabled: () => boolean;
  setEnabled: (enabled: boolean) => void;
  end: () => void;
};

const restartDelayMs = 500;

export function createMappingControl(initiallyEnabled: boolean, onLog: (line: string) => void): MappingControl {
  const ended = new AbortController();
  let resumed = Promise.withResolvers<void>();
  let enabled = true;
  setEnabled(initiallyEnabled);

  function setEnabled(wanted: boolean): void {
    if (wanted) resumed.resolve();
    else if (enabled) resumed = Promise.withResolvers<void>();
    enabled = wanted;
  }

  async function active(): Promise<boolean> {
    if (!enabled) await resumed.promise;
    return !ended.signal.aborted;
  }

  async function sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: ended.signal }).catch(() => {
      // It ended.
    });
  }

  return {
    active,
    sleep,
    setEnabled,
    enabled: () => enabled,
    persist: async (work) => {
      while (await active()) {
        try {
          await work();
          return;
        } catch (error) {
          if (ended.signal.aborted) return;
          onLog(`event source mapping: ${error instanceof Error ? error.message : String(error)}`);
          await sleep(restartDelayMs);
        }
      }
    },
    end: () => {
      ended.abort();
      resumed.resolve();
    },
  };
}
