import { randomUUID } from "node:crypto";
import { DeleteItemCommand, DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { dueSweep, type SweepDeps } from "../../functions/reconcile/due-sweep.ts";
import { wakeStopped } from "../../functions/reconcile/wake-stopped.ts";
import type { Continuation } from "../../shared/contracts/commands.ts";
import { type Business, newBusiness } from "../../shared/domain/business.ts";
import { createLogger } from "../../shared/logging.ts";
import { createDueIndex } from "../../shared/store/due-index.ts";
import { createStateStore, type StateStore } from "../../shared/store/state-store.ts";
import { revokeRequest, shareRequest } from "../support/commands.ts";
import { type QuietStack, startQuietStack } from "../support/quiet-stack.ts";

/** What the due sweep asks for while the hour's calls are nearly used, or the system token is dead. */
let stack: QuietStack;
let client: DynamoDBClient;
let store: StateStore;
const businessIds = ["110000000000001", "110000000000002", "110000000000003"] as const;
const [twoShares, verification, revocation] = businessIds;
const due = { nextAt: 1000, looks: 0, sweeps: 0 };

beforeAll(async () => {
  stack = await startQuietStack();
  client = new DynamoDBClient(stack.client);
  store = createStateStore({ client, tableName: stack.output("StateTableName"), newId: randomUUID });
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
});

beforeEach(async () => {
  const keys = ["QUOTA#graph", "BREAKER#system-token", ...businessIds.map((id) => `BUSINESS#${id}`)];
  for (const pk of keys) {
    await client.send(new DeleteItemCommand({ TableName: stack.output("StateTableName"), Key: marshall({ pk }) }));
  }
  const shares = ["120000000000001", "120000000000002"].map((wabaId) => shareRequest(wabaId));
  await save({
    ...newBusiness(twoShares, 0),
    waiting: Object.fromEntries(shares.map((request) => [request.wabaId, { request, due }])),
  });
  const request = shareRequest("120000000000003");
  const shared = {
    status: "shared",
    currency: "EUR",
    method: "share-and-attach",
    creditLineId: "20",
    allocationId: "30",
    request,
    due: { ...due, request },
  } as const;
  await save({ ...newBusiness(verification, 0), wabas: { [request.wabaId]: shared } });
  await save({
    ...newBusiness(revocation, 0),
    revocation: {
      request: revokeRequest(),
      requestedAt: 0,
      state: "open",
      epoch: 1,
      startedAt: 0,
      joined: [],
      due,
    },
  });
});

async function save(business: Business): Promise<void> {
  await store.commit({ ...business }, { business, events: [], conclusions: [] }, 1);
}

/** @param asked gets what a run asks for. */
function depsAt(now: number, asked: Continuation[]): SweepDeps {
  const log = createLogger("test");
  log.setLogLevel("SILENT");
  return {
    store,
    dueIndex: createDueIndex(client, stack.output("StateTableName"), "DueIndex"),
    queues: {
      wake: async (continuation) => void asked.push(continuation),
      copy: () => Promise.reject(new Error("Nothing to copy")),
      deadLetter: () => Promise.reject(new Error("Nothing is dead")),
    },
    log,
    now: () => now,
    settleWindowMs: 60_000,
    stopAt: { share: 0.8, verify: 0.9 },
  };
}

/** The works that a sweep asks for, and the businesses whose due times it left alone. */
async function sweep(now = 2000) {
  const asked: Continuation[] = [];
  const { served } = await dueSweep(depsAt(now, asked));
  expect(served).toBe(asked.length);
  const items = await Promise.all(businessIds.map((id) => store.loadBusiness(id)));
  const untouched = businessIds.filter((_, index) => items[index]?.version === 1);
  return { works: asked.map(({ work }) => work).toSorted(), untouched };
}

test("asks for everything that is due while there is room", async () => {
  await store.saveReading({ used: 0.79, readAt: 2000 });
  expect(await sweep()).toEqual({ works: ["revoke", "share", "share", "verify"], untouched: [] });
});

test.each([
  [0.8, { works: ["revoke", "verify"], untouched: [twoShares] }],
  [0.9, { works: ["revoke"], untouched: [twoShares, verification] }],
])("leaves what must wait at %d alone, so that its due time does not move away", async (used, expected) => {
  await store.saveReading({ used, readAt: 2000 });
  expect(await sweep()).toEqual(expected);
  expect(await sweep(3000)).toMatchObject({ untouched: expected.untouched });
});

test("leaves the due time of what must wait alone, too, where the same item has something that need not", async () => {
  const request = shareRequest("120000000000009");
  const mixed = await store.loadBusiness(revocation);
  await store.commit(
    mixed as Business,
    {
      business: { ...(mixed as Business), waiting: { [request.wabaId]: { request, due } } },
      events: [],
      conclusions: [],
    },
    1,
  );
  await store.saveReading({ used: 0.85, readAt: 2000 });
  expect((await sweep()).works).toEqual(["revoke", "verify"]);
  const after = await store.loadBusiness(revocation);
  expect(after?.revocation?.due).toMatchObject({ sweeps: 1 });
  expect(after?.waiting[request.wabaId]?.due).toEqual(due);
});

test("asks for one look, which reads the usage anew, when the reading is stale", async () => {
  await store.saveReading({ used: 0.95, readAt: 2000 });
  const { works } = await sweep(2000 + 60_000);
  expect(works.filter((work) => work !== "revoke")).toHaveLength(1);
});

test.each([
  ["Meta blocks the app", () => store.saveBlockedUntil(2001)],
  ["the system token is dead", () => store.openBreaker(1)],
])("asks for nothing while %s", async (_what, stop) => {
  await stop();
  expect(await sweep()).toEqual({ works: [], untouched: [...businessIds] });
});

test("wakes what the breaker held, and sweeps the rest, although an item among them cannot be read", async () => {
  const [heldId, spoiledId] = ["110000000000004", "110000000000005"];
  const request = revokeRequest({ businessId: heldId, reason: "partner_removed" });
  const held = { requests: [request], reason: "breaker", since: 0, due: { ...due, nextAt: 1_000_000 } } as const;
  await save({ ...newBusiness(heldId, 0), held: { ...held, requests: [request] } });
  const spoiled = { pk: `BUSINESS#${spoiledId}`, status: "of another release", dueShard: "due-0", dueAt: 1 };
  await client.send(new PutItemCommand({ TableName: stack.output("StateTableName"), Item: marshall(spoiled) }));
  await store.saveRemovals(
    undefined,
    { next: { state: "closed", recent: {}, resumedAt: 0, waking: true }, events: [] },
    1,
  );

  const asked: Continuation[] = [];
  expect(await wakeStopped(depsAt(2000, asked))).toBe(1);
  expect(asked).toMatchObject([{ work: "revoke", businessId: heldId }]);
  expect((await sweep()).works).toEqual(["revoke", "share", "share", "verify"]);
});
