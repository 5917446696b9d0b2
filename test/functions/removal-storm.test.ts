import { randomUUID } from "node:crypto";
import type { SQSRecord } from "aws-lambda";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dueSweep } from "../../functions/reconcile/due-sweep.ts";
import { wakeStopped } from "../../functions/reconcile/wake-stopped.ts";
import { revokeFlow } from "../../functions/revoke/revoke-allocations.ts";
import { liveAllocations } from "../../infra/local/meta/meta-model.ts";
import type { CommandDeps } from "../../shared/command-deps.ts";
import { createGraph } from "../../shared/graph/client.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import { createTokens } from "../../shared/graph/tokens.ts";
import { createTransport } from "../../shared/graph/transport.ts";
import { createLogger } from "../../shared/logging.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import type { Queues } from "../../shared/queues.ts";
import { resumeRevocations } from "../../shared/store/limit-store.ts";
import { policy as stagePolicy } from "../shared/factories.ts";
import type { Item } from "../simulation/memory-store.ts";
import { createMemoryDueIndex, createMemoryStore, createMemoryTable } from "../simulation/memory-store.ts";
import { revokeCommand, shareRequest } from "../support/commands.ts";
import { lambdaContext } from "../support/lambda.ts";
import { line, type Meta, startMeta, systemToken } from "../support/meta.ts";
import { sqsRecord } from "../support/quiet-stack.ts";

/**
 * A storm: every customer leaves within a minute. Each tenth has a second WABA that stays. `npm test` takes 200 of them;
 * `STORM=5000 npx vitest run test/functions/removal-storm.test.ts` is the whole proof.
 */
const count = Number(process.env["STORM"] ?? 200);
const atOnce = 5;
const removalsMax = 20;
const partner = "100000000000001";

const clock = { now: Date.UTC(2026, 5, 10, 12) };
function now(): number {
  return clock.now;
}

let meta: Meta;
beforeAll(async () => {
  meta = await startMeta({}, now);
});
afterAll(() => meta?.close());

const customers = Array.from({ length: count }, (_, index) => {
  const number = String(index).padStart(6, "0");
  const wabaIds = [`120${number}000001`, ...(index % 10 === 0 ? [`120${number}000002`] : [])];
  return {
    businessId: `110${number}000001`,
    allocationId: `130${number}000001`,
    credentialId: `140${number}000001`,
    wabaIds,
  };
});

test(`H27k: of a storm of ${count} removals the breaker lets ${removalsMax} through; after the resume every one is revoked or held, and the sum is ${count}`, async () => {
  await meta.world({
    businesses: customers.map(({ businessId: id }) => ({ id, name: "Acme" })),
    wabas: customers.flatMap(({ businessId, wabaIds }) =>
      wabaIds.map((id, index) => ({ id, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: index > 0 })),
    ),
    allocations: customers.map(({ businessId, allocationId, credentialId, wabaIds }) => ({
      id: allocationId,
      lineId: line,
      receivingBusinessId: businessId,
      receivingCredentialId: credentialId,
      wabaIds,
    })),
  });
  const announced: string[] = [];
  const table = createMemoryTable(({ after, before }) => {
    if (after.transition === undefined || after.transition.id === before?.transition?.id) return;
    announced.push(...after.transition.events.map(({ detailType }) => detailType));
  });
  const store = createMemoryStore(table, randomUUID, async (_operation, request) => request());
  for (const customer of customers) await adopt(customer);

  const messages: SQSRecord[] = [];
  const queues: Queues = {
    copy: async (record) => void messages.push(record),
    deadLetter: async ({ body }, reason) => {
      throw new Error(`${reason}: ${body}`);
    },
    wake: async (continuation) => void messages.push(sqsRecord(continuation, { sentAt: now() })),
  };
  const log = createLogger("storm");
  log.setLogLevel("SILENT");
  const transport = createTransport({ baseUrl: meta.url, version: "v25.0", timeoutMs: 8000, now });
  const caller = { transport, tokens: createTokens("system", async () => systemToken, now), now };
  const deps: CommandDeps = {
    store,
    graph: createGraph(caller),
    portfolio: createPortfolio(caller),
    queues,
    events: { send: async () => {} },
    log,
    now,
    newId: randomUUID,
    policy: { ...stagePolicy, partnerBusinessId: partner, creditLineId: line },
    graphTimeoutMs: 8000,
    clockSkewMs: 300_000,
    maxReceiveCount: 5,
    businessTokenSecretPrefix: "business-tokens/",
  };
  const handlers = Array.from({ length: atOnce }, () => queueHandler(deps, revokeFlow(deps)));

  for (const { businessId, wabaIds } of customers) {
    const [wabaId] = wabaIds;
    const requestedAt = new Date(now()).toISOString();
    messages.push(
      sqsRecord(revokeCommand({ wabaId, businessId, requestedAt, reason: "partner_removed" }), { sentAt: now() }),
    );
  }
  await serveAll();
  const siblings = customers.filter(({ wabaIds }) => wabaIds.length > 1).length;
  expect(tally()).toEqual({ revoked: removalsMax, siblings, breaker: count - removalsMax - siblings });
  expect(announced.filter((type) => type === "Revocations Stopped")).toHaveLength(1);
  expect(announced.filter((type) => type === "Revocation Held")).toHaveLength(count - removalsMax);

  clock.now += 600_000;
  expect(await resumeRevocations(store, now())).toBe(true);
  const sweep = { store, dueIndex: createMemoryDueIndex(table), queues, log, now, settleWindowMs: 1_800_000 };
  for (let runs = 0; runs < 3; runs += 1) {
    clock.now += 61_000;
    await wakeStopped(sweep);
    await dueSweep(sweep);
    await serveAll();
  }
  expect(tally()).toEqual({ revoked: count - siblings, siblings });
  expect(announced.filter((type) => type === "Revocations Resumed")).toHaveLength(1);
  expect((await store.loadRemovals())?.breaker).toMatchObject({ state: "closed" });
  expect((await store.loadRemovals())?.breaker.waking).toBeUndefined();
  const funded = customers.filter(({ businessId }) => liveAllocations(meta.model, line, businessId, now()).length > 0);
  expect(funded).toHaveLength(siblings);

  /** What the estate scan's first run writes of an existing customer. */
  async function adopt({ businessId, allocationId, credentialId, wabaIds }: (typeof customers)[number]): Promise<void> {
    const wabas = wabaIds.map((wabaId) => {
      const request = shareRequest(wabaId);
      const evidence = { receivingCredentialId: credentialId, primaryFundingId: credentialId, checkedAt: now() };
      const common = { currency: "EUR", method: "share-and-attach", creditLineId: line, request } as const;
      return [
        wabaId,
        { ...common, status: "verified", allocationId, evidence, intendedAt: now() - 3_600_000 },
      ] as const;
    });
    const fresh = { businessId, version: 0, epoch: 0, changedAt: now(), records: {}, wabas: {}, waiting: {} };
    const record = { creditLineId: line, epoch: 0, state: "live", recordedAt: now() - 3_600_000 } as const;
    const business = { ...fresh, wabas: Object.fromEntries(wabas), records: { [allocationId]: record } };
    await store.commit(fresh, { business, events: [], conclusions: [] }, now());
    for (const wabaId of wabaIds) await store.claimOwner(wabaId, businessId, { overPendingRevoke: false });
  }

  async function serveAll(): Promise<void> {
    const workers = handlers.map(async (handler) => {
      for (let record = messages.shift(); record !== undefined; record = messages.shift()) {
        const { batchItemFailures } = await handler({ Records: [record] }, lambdaContext(60_000));
        expect(batchItemFailures).toEqual([]);
      }
    });
    await Promise.all(workers);
  }

  /** Every business, by what became of its removal. */
  function tally(): Record<string, number> {
    const fates: Record<string, number> = {};
    for (const item of table.items.values() as Iterable<Item>) {
      const { business } = item;
      if (business === undefined) continue;
      const isRevoked = business.revocation?.state === "done" && business.held === undefined;
      const fate = isRevoked ? "revoked" : (business.held?.reason ?? "lost");
      fates[fate] = (fates[fate] ?? 0) + 1;
    }
    return fates;
  }
}, 1_200_000);
