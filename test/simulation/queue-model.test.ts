import type { SQSRecord } from "aws-lambda";
import { describeQueues, type QueuesUnderTest } from "../shared/queues-contract.ts";
import { createEngine } from "./engine.ts";
import { drawHistory, type Work } from "./history.ts";
import { createQueueModel, recordOf } from "./queue-model.ts";

const visibilityMs = 180_000;

describeQueues("of the simulation", async (): Promise<QueuesUnderTest> => {
  // Nothing goes wrong by itself here, and nothing is delivered twice.
  const history = { ...drawHistory(0), faultRate: 0, quietAt: Infinity };
  const engine = createEngine(history, { onlyFaults: new Map() });
  const model = createQueueModel(history, engine, { feed: () => {}, probability: {} });
  const process = engine.createProcess("share");
  engine.invoke(process, "contract", Infinity, () => {});
  let sent = 0;

  async function during<T>(effect: Promise<T>): Promise<T> {
    let isOver = false;
    const answer = effect.finally(() => {
      isOver = true;
    });
    await engine.run(Infinity, () => isOver);
    return answer;
  }
  async function receive(work: Work): Promise<SQSRecord> {
    await engine.run(Infinity, () => model.isReady(work));
    const [message] = model.take(work);
    if (message === undefined) throw new Error(`Nothing comes to the ${work} queue`);
    model.receive(message, visibilityMs);
    return recordOf(message);
  }
  const port = model.portOf(process, "share");

  return {
    queues: {
      copy: (...args) => during(port.copy(...args)),
      deadLetter: (...args) => during(port.deadLetter(...args)),
      async wake(...args) {
        // Its answer may come later than the message.
        const before = model.messages.length;
        void port.wake(...args);
        await engine.run(Infinity, () => model.messages.length > before);
      },
    },
    async send(body) {
      sent += 1;
      model.put("share", `message-${sent}`, body, 0);
    },
    receive,
    isEmpty: async (work) => model.take(work).length === 0,
    async acknowledge(_work, { messageId }) {
      for (const message of model.messages) if (message.key === messageId) message.place = "gone";
    },
    passVisibility: () => engine.run(engine.now() + visibilityMs + 1, () => false),
    async deadLetters(text) {
      const found = model.messages.filter(({ place, body }) => place === "dead letters" && body.includes(text));
      return found.map(({ body, reason }) => ({ body, reason }));
    },
    now: engine.now,
    async close() {},
  };
});
