import { describePorts, type PortsUnderTest } from "../shared/ports-contract.ts";
import { createMemoryAudit, createMemoryBus, createMemorySecrets } from "./memory-ports.ts";

describePorts("in memory", async (): Promise<PortsUnderTest> => {
  const announced: string[] = [];
  const secrets = new Map<string, string>();
  async function send<T>(_operation: string, request: () => T): Promise<T> {
    return request();
  }
  const audit = createMemoryAudit(new Set(), send);
  return {
    bus: createMemoryBus(({ eventId }) => void announced.push(eventId), send),
    announced: () => announced,
    audit: audit.store,
    unaudited: audit.unaudited,
    readSecret: createMemorySecrets(secrets, send),
    async putSecret(name, value) {
      secrets.set(name, value);
    },
    async close() {},
  };
});
