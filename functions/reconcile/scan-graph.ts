import { ThrottledError } from "../../shared/errors.ts";
import type { CallerDeps } from "../../shared/graph/caller.ts";
import { createGraph } from "../../shared/graph/client.ts";
import type { GraphFailure } from "../../shared/graph/errors.ts";
import { storedFailure } from "../../shared/graph/errors.ts";
import { createUsageMeter } from "../../shared/graph/usage.ts";
import type { ScanDeps } from "./scan-slice.ts";

/**
 * How a scan reads one WABA or record. A WABA whose own small budget is used up is one that cannot be read now: it must
 * stop neither the scan nor, as a block of the app does, every function.
 * @param ownIds the partner's own: business and line.
 */
export function createScanGraph(caller: CallerDeps, ownIds: readonly string[]): ScanDeps["graph"] {
  const { now } = caller;
  const meter = createUsageMeter({ ownIds, now });
  const graph = createGraph({ ...caller, transport: meter.meter(caller.transport) });

  /** @throws all else, and a block of the whole app. */
  function ownThrottle(error: unknown): GraphFailure {
    if (!(error instanceof ThrottledError) || meter.blockedUntil() > now()) throw error;
    const message = "Meta has throttled what is asked about this WABA";
    return { at: now(), class: "throttled", reason: "meta_unavailable", message };
  }

  return {
    ...graph,
    async readWaba(...args) {
      try {
        return await graph.readWaba(...args);
      } catch (error) {
        return { ok: false, failure: ownThrottle(error) };
      }
    },
    async readFunding(...args) {
      try {
        return await graph.readFunding(...args);
      } catch (error) {
        return { known: false, failure: storedFailure(ownThrottle(error)) };
      }
    },
  };
}
