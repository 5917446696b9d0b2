import type { TokenState } from "../../shared/graph/system-token.ts";
import type { Logger } from "../../shared/logging.ts";
import type { LimitStore } from "../../shared/store/limit-store.ts";

export type BreakerDeps = {
  store: LimitStore;
  checkToken: () => Promise<TokenState>;
  /** Lets the command queues feed their functions, but for those that a person has paused, or none. Repeating it changes nothing. */
  feedCommands: (enabled: boolean) => Promise<void>;
  /** Told once a run, whatever comes of it. */
  report: (tokenIsDead: boolean) => void;
  log: Logger;
  now: () => number;
};

/**
 * The command functions only record that the system token is dead. Here their event sources are paused while it is, so
 * that no message is received in vain, and resumed when it works again. Each run sets the sources as they should be now:
 * a run that was frozen while the token was mended may have paused them after all (found by simulation).
 * @returns whether commands still wait.
 */
export async function tendTokenBreaker(deps: BreakerDeps): Promise<boolean> {
  const { store, checkToken, feedCommands, report, log, now } = deps;
  const breaker = await store.loadBreaker();
  // As it was found: one that functions open again and again must raise the alarm, though each check here goes well.
  report(breaker?.state === "open");
  if (breaker === undefined || breaker.state === "closed") {
    await feedCommands(true);
    return false;
  }
  const since = new Date(breaker.since).toISOString();
  if (breaker.state === "open") {
    const { blockedUntil = 0 } = await store.loadLimits();
    const token = blockedUntil > now() ? "unknown" : await checkToken();
    if (token !== "works") {
      log.error("The system token is dead: commands wait until its secret holds one that works", { since, token });
      if (token === "dead") await feedCommands(false);
      return true;
    }
    // Before they are fed: a message that is older than three days must not find the breaker open.
    if (!(await store.moveBreaker(breaker, "mended"))) return true;
  }
  await feedCommands(true);
  await store.moveBreaker({ ...breaker, state: "mended" }, "closed");
  log.info("The system token works again: commands are served", { since });
  return false;
}
