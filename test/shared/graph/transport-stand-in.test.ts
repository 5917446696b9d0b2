import { startMetaStandIn } from "../../../infra/local/meta/meta-server.ts";
import { control } from "../../../infra/local/run-steps.ts";
import { createTransport } from "../../../shared/graph/transport.ts";
import { contractWorld, describeTransport, type TransportUnderTest } from "./transport-contract.ts";

describeTransport("by HTTP to its stand-in", async (): Promise<TransportUnderTest> => {
  const standIn = await startMetaStandIn({ world: contractWorld });
  const transport = createTransport({ baseUrl: standIn.url, version: "v25.0", timeoutMs: 1000, now: Date.now });
  return {
    model: standIn.model,
    send: (request, { deadlineInMs, abortInMs } = {}) => {
      const deadline = deadlineInMs === undefined ? {} : { sendDeadline: Date.now() + deadlineInMs };
      return transport(request, { signal: signalOf(abortInMs), ...deadline });
    },
    fail: (kind) => control(`${standIn.url}/_faults`, [{ match: "*", kind }]),
    close: () => standIn.close(),
  };
});

function signalOf(abortInMs: number | undefined): AbortSignal {
  if (abortInMs === undefined) return new AbortController().signal;
  return abortInMs === 0 ? AbortSignal.abort() : AbortSignal.timeout(abortInMs);
}
