import { revokeCommand, shareCommand, verifyCommand } from "../support/commands.ts";
import { startMeta, systemToken } from "../support/meta.ts";
import { sqsRecord, startQuietStack } from "../support/quiet-stack.ts";
import { createMeter } from "./meter.ts";

/**
 * A stage in which nothing runs by itself, with a stand-in for Meta: the benchmark hands each message to its function, and
 * nothing else takes time or units.
 */
export async function startQuietPartner() {
  const meta = await startMeta();
  const meter = createMeter();
  const stack = await startQuietStack({
    config: { graphApiBaseUrl: meta.url },
    secrets: { "credit-lines/local/system-token": systemToken },
    onCall: meter.onCall,
  });
  async function invoke(name: "share" | "verify" | "revoke", body: unknown): Promise<number> {
    const startedAt = performance.now();
    const result = await stack.invoke(name, { Records: [sqsRecord(body)] });
    const wallMs = performance.now() - startedAt;
    const payload = result.ok ? JSON.stringify(result.payload) : result.error.errorMessage;
    if (payload !== '{"batchItemFailures":[]}') throw new Error(`${name} did not serve its message: ${payload}`);
    return wallMs;
  }
  return {
    stack,
    meta,
    meter,
    /** How long it took, ms. */
    share: (wabaId: string) => invoke("share", shareCommand(wabaId)),
    verify: (wabaId: string) => invoke("verify", verifyCommand(wabaId)),
    revoke: (businessId: string) => invoke("revoke", revokeCommand({ businessId })),
    async close(): Promise<void> {
      meter.close();
      await stack.close();
      await meta.close();
    },
  };
}
