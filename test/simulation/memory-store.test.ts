import { randomUUID } from "node:crypto";
import { describeStateStore, type StoreUnderTest } from "../shared/store/state-store-contract.ts";
import { createMemoryDueIndex, createMemoryStore, createMemoryTable } from "./memory-store.ts";

describeStateStore("in memory", async (): Promise<StoreUnderTest> => {
  const table = createMemoryTable();
  let losing = false;
  async function send<T>(operation: string, request: () => T): Promise<T> {
    await Promise.resolve();
    const answer = request();
    if (!losing || operation.startsWith("load")) return answer;
    losing = false;
    return request();
  }
  return {
    store: createMemoryStore(table, randomUUID, send),
    dueIndex: createMemoryDueIndex(table),
    async transition(pk) {
      const { transition } = table.get(pk) ?? {};
      if (transition === undefined) return undefined;
      const { id: transitionId, ...rest } = transition;
      return { pk, transitionId, ...rest };
    },
    loseNextAnswer() {
      losing = true;
    },
    // A conflict is over before anything is answered: the store of memory has no second writer within one request.
    conflictNext() {},
    async close() {},
  };
});
