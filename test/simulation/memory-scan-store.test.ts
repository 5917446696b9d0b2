import { randomUUID } from "node:crypto";
import { describeScanStore, type ScanStoreUnderTest } from "../shared/store/scan-store-contract.ts";
import { createMemoryFindingStore, createMemoryScanStore } from "./memory-scan-store.ts";
import { createMemoryStore, createMemoryTable } from "./memory-store.ts";

describeScanStore("in memory", async (): Promise<ScanStoreUnderTest> => {
  const table = createMemoryTable();
  async function send<T>(_operation: string, request: () => T): Promise<T> {
    return request();
  }
  return {
    store: createMemoryStore(table, randomUUID, send),
    scans: createMemoryScanStore(table, send),
    findings: createMemoryFindingStore(table, randomUUID, send),
    async transition(pk) {
      const { transition } = table.get(pk) ?? {};
      if (transition === undefined) return undefined;
      const { id: transitionId, ...rest } = transition;
      return { pk, transitionId, ...rest };
    },
    async forgetDue(pk) {
      function next(item: ReturnType<typeof table.get>) {
        const { dueAt: _forgotten, ...rest } = { pk, ...item };
        return rest;
      }
      table.write([{ pk, holds: () => true, next }]);
    },
    async close() {},
  };
});
