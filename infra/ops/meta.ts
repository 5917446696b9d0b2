import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { createCredentials } from "../../shared/secrets.ts";
import type { CallerDeps } from "../../shared/graph/caller.ts";
import type { Graph } from "../../shared/graph/client.ts";
import { createGraph } from "../../shared/graph/client.ts";
import type { Portfolio } from "../../shared/graph/portfolio.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import { createTransport } from "../../shared/graph/transport.ts";
import { ThrottledError } from "../../shared/errors.ts";
import { exitCodes, OpsError } from "./errors.ts";
import { instant } from "./output.ts";
import type { Stage } from "./stage.ts";

/** Meta, asked as the functions ask it: with the stage's own token, version and time-out. */
export type Meta = {
  graph: Graph;
  portfolio: Portfolio;
  caller: CallerDeps;
  /** The version that answers instead of the one asked for, as far as any answer has told. */
  answeredVersion: () => string | undefined;
};

/** For a whole command; each call has the stage's own time-out beside. */
export function metaTimeout(): AbortSignal {
  return AbortSignal.timeout(120_000);
}

export function connectMeta({ settings, clientConfig, now }: Stage): Meta {
  let answered: string | undefined;
  const transport = createTransport({
    baseUrl: settings.GRAPH_API_BASE_URL,
    version: settings.GRAPH_API_VERSION,
    timeoutMs: settings.GRAPH_TIMEOUT_MS,
    now,
    onVersionMismatch: (_asked, version) => {
      answered = version;
    },
  });
  const caller: CallerDeps = {
    transport,
    now,
    ...createCredentials(new SecretsManagerClient(clientConfig), settings, now),
  };
  return { graph: createGraph(caller), portfolio: createPortfolio(caller), caller, answeredVersion: () => answered };
}

/** Runs what asks Meta. @throws OpsError when Meta says stop: nobody goes on asking then. */
export async function askingMeta<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ThrottledError)) throw error;
    const message = `Meta has throttled us until ${instant(error.until)}`;
    throw new OpsError(
      "throttled",
      message,
      "Wait until then: calls made meanwhile prolong it.",
      exitCodes.unreachable,
    );
  }
}
