import { createMetaModel } from "../../infra/local/meta/meta-model.ts";
import { parseVariants } from "../../infra/local/meta/meta-variants.ts";
import { parseWorld } from "../../infra/local/meta/meta-world.ts";
import type { GraphAnswer } from "../../shared/graph/transport.ts";
import { contractWorld, describeTransport, type TransportUnderTest } from "../shared/graph/transport-contract.ts";
import { createEngine } from "./engine.ts";
import { drawHistory } from "./history.ts";
import { createMetaTransport } from "./meta-transport.ts";

describeTransport("in the simulation", async (): Promise<TransportUnderTest> => {
  const history = { ...drawHistory(0), breach: undefined, quietAt: Infinity, endAt: Infinity };
  const faults = new Map<string, string>();
  const engine = createEngine(history, { onlyFaults: faults });
  const process = engine.createProcess("contract");
  const invocation = engine.invoke(process, "contract", Infinity, () => {});
  const model = modelOf(history.startAt);
  const wires = { model, throttledUntil: 0, onSent: () => {}, onReceived: () => {} };
  const transport = createMetaTransport(engine, history, process, wires);
  let pending = 0;
  let running: Promise<void> | undefined;

  /** One run serves all that are waited for. */
  async function waitFor(answer: Promise<GraphAnswer>): Promise<GraphAnswer> {
    pending += 1;
    const counted = answer.finally(() => {
      pending -= 1;
    });
    running ??= engine.run(Infinity, () => pending === 0);
    await running;
    running = undefined;
    return counted;
  }

  return {
    model,
    send: (request, { deadlineInMs, abortInMs } = {}) => {
      const turn = new AbortController();
      if (abortInMs === 0) turn.abort();
      else if (abortInMs !== undefined) engine.at(engine.now() + abortInMs, () => turn.abort());
      const deadline = deadlineInMs === undefined ? {} : { sendDeadline: engine.now() + deadlineInMs };
      return waitFor(transport(request, { signal: turn.signal, ...deadline }));
    },
    fail: (kind) => void faults.set(`${invocation.key}#${invocation.steps + 1}`, kind),
    async close() {},
  };
});

function modelOf(now: number) {
  const world = parseWorld(contractWorld);
  const variants = parseVariants({});
  if (!world.success || !variants.success) throw new Error("The world is not valid");
  return createMetaModel(world.data, variants.data, now);
}
