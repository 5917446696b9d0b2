import { randomUUID as newId } from "node:crypto";
import { DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Business } from "../../../shared/domain/business.ts";
import { withWaba } from "../../../shared/domain/business.ts";
import { opened } from "../../../shared/domain/findings.ts";
import { createFindingStore } from "../../../shared/store/finding-store.ts";
import { keys, storedWaba } from "../../../shared/store/items.ts";
import { createScanStore } from "../../../shared/store/scan-store.ts";
import { createStateStore } from "../../../shared/store/state-store.ts";
import { revokeRequest, shareRequest } from "../../support/commands.ts";
import { type QuietStack, startQuietStack } from "../../support/quiet-stack.ts";

/** After a rollback an older release works on what a newer one wrote. */
let stack: QuietStack;
let client: DynamoDBClient;
let TableName: string;
beforeAll(async () => {
  stack = await startQuietStack();
  client = new DynamoDBClient(stack.client);
  TableName = stack.output("StateTableName");
});
afterAll(async () => {
  client?.destroy();
  await stack?.close();
});

const wabaId = "120000000000001";
const businessId = "110000000000001";
const due = { nextAt: 9, looks: 1, sweeps: 0 };
const failure = { at: 1, reason: "meta_unavailable" as const };
const intent = { id: "intent", epoch: 1, attempt: 1, madeAt: 1, sendDeadline: 2, failure };
const request = shareRequest(wabaId);
const common = { currency: "EUR", method: "share-and-attach", creditLineId: "200000000000001", request } as const;
const evidence = { receivingCredentialId: "1", primaryFundingId: "1", checkedAt: 1, verifiedAt: 1 };

const business: Business = {
  businessId,
  version: 7,
  epoch: 1,
  changedAt: 1,
  revocation: {
    request: revokeRequest({ businessId }),
    requestedAt: 1,
    state: "open",
    epoch: 1,
    startedAt: 1,
    joined: [revokeRequest({ businessId })],
    due,
  },
  held: { requests: [revokeRequest({ wabaId })], reason: "siblings", since: 1, due },
  reshare: { commandId: "again", requestedAt: 1 },
  records: {
    "130000000000001": {
      creditLineId: "200000000000001",
      epoch: 1,
      state: "live",
      recordedAt: 1,
      deleteAnswered: { at: 1, epoch: 1 },
    },
  },
  recordIntent: { ...intent, creditLineId: "200000000000001", request, due },
  wabas: {
    [wabaId]: { ...common, status: "sharing", intent, lastFailure: failure, due: { ...due, request } },
    "120000000000002": { ...common, status: "verified", allocationId: "130000000000001", evidence },
    "120000000000003": { ...common, status: "revoking", intent },
  },
  waiting: { "120000000000004": { request, due } },
};

/** As the store writes it. */
const item = {
  ...business,
  wabas: JSON.parse(
    JSON.stringify(Object.fromEntries(Object.entries(business.wabas).map(([id, waba]) => [id, storedWaba(id, waba)]))),
  ),
};

/** Every object of an item with a field that this release has never heard of. */
function withNewerFields(value: unknown, path = ""): unknown {
  if (Array.isArray(value)) return value.map((one, index) => withNewerFields(one, `${path}[${index}]`));
  if (typeof value !== "object" || value === null) return value;
  const own = Object.entries(value).map(([name, inner]) => [name, withNewerFields(inner, `${path}.${name}`)]);
  // A map's keys are ids: there is no field to add.
  const isMap = /^\.(records|wabas|waiting)$/.test(path);
  return { ...Object.fromEntries(own), ...(isMap ? {} : { newerField: { of: `item${path}` } }) };
}

async function write(pk: string, content: object): Promise<void> {
  const newer = withNewerFields(content) as Record<string, unknown>;
  await client.send(new PutItemCommand({ TableName, Item: marshall({ pk, ...newer }) }));
}
async function read(pk: string): Promise<Record<string, unknown>> {
  const { Item = {} } = await client.send(new GetItemCommand({ TableName, Key: marshall({ pk }) }));
  return unmarshall(Item);
}

describe("fields of a newer release outlive a write of this one", () => {
  test("in a business, wherever they stand", async () => {
    const store = createStateStore({ client, tableName: TableName, newId });
    await write(keys.business(businessId), item);
    const loaded = (await store.loadBusiness(businessId))!;
    const { due: _done, ...waba } = loaded.wabas["120000000000002"]!;
    const change = withWaba(loaded, "120000000000002", { ...waba, status: "mismatched" } as never);
    expect(await store.commit(loaded, { business: change, events: [], conclusions: [] }, 5)).toMatchObject({
      saved: true,
    });
    const expected = withNewerFields(item) as Business;
    Object.assign(expected.wabas["120000000000002"]!, { status: "mismatched" });
    expect(await read(keys.business(businessId))).toEqual({
      ...expected,
      pk: keys.business(businessId),
      version: 8,
      changedAt: 5,
      dueShard: expect.any(String),
      dueAt: 9,
      transitionId: expect.any(String),
      events: [],
    });
  });

  test("but what a write sets anew is not kept from before: nothing is due any more", async () => {
    const store = createStateStore({ client, tableName: TableName, newId });
    const pk = keys.business("110000000000009");
    const { held: _held, recordIntent: _note, revocation: _over, ...settled } = item;
    const idle = { ...settled, businessId: "110000000000009", wabas: {}, waiting: {} };
    await write(pk, { ...idle, dueShard: "due-1", dueAt: 5, transitionId: "before", events: [] });
    const loaded = (await store.loadBusiness("110000000000009"))!;
    await store.commit(loaded, { business: { ...loaded, name: "Acme" }, events: [], conclusions: [] }, 5);
    const stored = await read(pk);
    expect(stored).toMatchObject({ name: "Acme", newerField: { of: "item" } });
    expect(Object.keys(stored)).not.toEqual(expect.arrayContaining(["dueAt"]));
    expect(Object.keys(stored)).not.toEqual(expect.arrayContaining(["dueShard"]));
  });

  test("in what waits for an owner, a finding and the scan's checkpoint", async () => {
    const store = createStateStore({ client, tableName: TableName, newId });
    const pending = { requests: [revokeRequest({ wabaId })], since: 1, due };
    await write(keys.waba(wabaId), { wabaId, version: 1, pendingRevoke: pending, dueShard: "due-1", dueAt: 9 });
    const pointer = await store.loadPointer(wabaId);
    await store.savePendingRevoke(wabaId, pointer, undefined);
    const after = await read(keys.waba(wabaId));
    expect(after).toEqual({ pk: keys.waba(wabaId), wabaId, version: 2, newerField: { of: "item" } });

    const findings = createFindingStore({ client, tableName: TableName, indexName: "DueIndex", newId });
    const seen = { firstScanId: 1, firstSeenAt: 1, lastScanId: 2, lastSeenAt: 2 };
    await write(keys.finding("unfunded", wabaId), {
      kind: "unfunded",
      subject: wabaId,
      state: "suspected",
      version: 1,
      ...seen,
    });
    const finding = (await findings.loadFinding("unfunded", wabaId))!;
    await findings.saveFinding(finding, opened(finding, 5).finding, [], 5);
    expect(await read(keys.finding("unfunded", wabaId))).toMatchObject({ state: "open", newerField: { of: "item" } });

    const scans = createScanStore({ client, tableName: TableName });
    const counts = { allocations: 0, wabas: 0, funding: 0 };
    await write(keys.scan, {
      version: 1,
      scanId: 1,
      phase: "table",
      startedAt: 1,
      movedAt: 1,
      leaseUntil: 1,
      isFirst: false,
      unread: [],
      unshown: [],
      listed: counts,
      missing: counts,
      chunks: { allocations: 0, wabas: 0 },
      announced: 0,
      calls: [],
    });
    const scan = (await scans.loadScan())!;
    await scans.saveScan(scan, { ...scan, version: 2, phase: "findings" });
    expect(await read(keys.scan)).toMatchObject({
      phase: "findings",
      newerField: { of: "item" },
      listed: { newerField: { of: "item.listed" } },
    });
  });
});
