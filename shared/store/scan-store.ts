import type { AttributeValue, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import {
  BatchGetItemCommand,
  GetItemCommand,
  ScanCommand,
  TransactionCanceledException,
  TransactWriteItemsCommand,
} from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type * as z from "zod/mini";
import type { Business } from "../domain/business.ts";
import type { Pointer, Scan, Transition } from "./items.ts";
import type { Unreadable } from "./unreadable.ts";
import { businessSchema, keys, pointerSchema, scanSchema, transitionSchema } from "./items.ts";

/** What only the estate scan needs of the State table: its checkpoint, many items at a time, and a walk over all of them. */
export type ScanStore = {
  loadScan(): Promise<Scan | undefined>;
  /** With the ids that came in since, or not at all; false when another slice has moved the scan on. */
  saveScan(loaded: Scan | undefined, next: Scan, seen?: Seen): Promise<boolean>;
  /** Every id that a list has named to this scan, sorted. */
  loadSeen(scan: Scan, list: SeenList): Promise<BigUint64Array>;
  /** Strongly consistent; what is not stored is missing in the answer, and one bad item does not hide the others. */
  loadBusinesses(businessIds: readonly string[]): Promise<ReadonlyMap<string, Business | Unreadable>>;
  loadPointers(wabaIds: readonly string[]): Promise<ReadonlyMap<string, Pointer | Unreadable>>;
  /** One page, strongly consistent: every business, and whatever else was recorded since. */
  walk(cursor: string | undefined, since: number): Promise<WalkedPage>;
};

export type SeenList = keyof Scan["chunks"];
export type Seen = { list: SeenList; ids: readonly string[] };

export type Walked = {
  business: Business;
  /** The due time by which the sweep finds it. */
  indexedAt: number | undefined;
};

export type WalkedPage = {
  businesses: Walked[];
  /** The last write of each item that was changed since. */
  transitions: Transition[];
  /** Keys of items that cannot be read. */
  unreadable: string[];
  next?: string;
};

/** DynamoDB's limit for one call. */
const keysMax = 100;

/** The ids that a scan has seen are of no use after it. */
const seenRetentionMs = 7 * 24 * 3_600_000;

export function createScanStore({
  client,
  tableName: TableName,
}: {
  client: DynamoDBClient;
  tableName: string;
}): ScanStore {
  async function loadMany(pks: readonly string[]): Promise<Record<string, unknown>[]> {
    const items: Record<string, unknown>[] = [];
    let wanted = [...new Set(pks)].map((pk) => marshall({ pk }));
    while (wanted.length > 0) {
      const Keys = wanted.slice(0, keysMax);
      const answer = await client.send(
        new BatchGetItemCommand({ RequestItems: { [TableName]: { Keys, ConsistentRead: true } } }),
      );
      items.push(...(answer.Responses?.[TableName] ?? []).map((item) => unmarshall(item)));
      wanted = [...(answer.UnprocessedKeys?.[TableName]?.Keys ?? []), ...wanted.slice(keysMax)];
    }
    return items;
  }
  async function loadEach<S extends z.ZodMiniType>(
    ids: readonly string[],
    keyOf: (id: string) => string,
    schema: S,
  ): Promise<ReadonlyMap<string, z.output<S> | Unreadable>> {
    const stored = new Map((await loadMany(ids.map(keyOf))).map((item) => [item["pk"], item]));
    const found = new Map<string, z.output<S> | Unreadable>();
    for (const id of ids) {
      const item = stored.get(keyOf(id));
      if (item === undefined) continue;
      const parsed = schema.safeParse(item);
      found.set(id, parsed.success ? parsed.data : "unreadable");
    }
    return found;
  }

  return {
    async loadScan() {
      const Key = marshall({ pk: keys.scan });
      const { Item } = await client.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }));
      return Item === undefined ? undefined : scanSchema.parse(unmarshall(Item));
    },

    async saveScan(loaded, next, seen) {
      const Item = marshall({ pk: keys.scan, ...next }, { removeUndefinedValues: true });
      const checkpoint = {
        TableName,
        Item,
        ConditionExpression: loaded === undefined ? "attribute_not_exists(pk)" : "version = :version",
        ...(loaded === undefined ? {} : { ExpressionAttributeValues: marshall({ ":version": loaded.version }) }),
      };
      const chunk = seen === undefined ? [] : [{ Put: { TableName, Item: seenItem(next, seen) } }];
      try {
        await client.send(new TransactWriteItemsCommand({ TransactItems: [{ Put: checkpoint }, ...chunk] }));
        return true;
      } catch (error) {
        if (!(error instanceof TransactionCanceledException)) throw error;
        // A conflict is a rival too: whoever won goes on.
        if (error.CancellationReasons?.some(({ Code }) => Code === "ConditionalCheckFailed" || isConflict(Code))) {
          return false;
        }
        throw error;
      }
    },

    async loadSeen(scan, list) {
      const pks = Array.from({ length: scan.chunks[list] }, (_, index) => keys.seen(scan.scanId, list, index));
      const items = await loadMany(pks);
      if (items.length !== pks.length) throw new Error(`Some of the ids that scan ${scan.scanId} has seen are gone`);
      return mergeSeen(items.map(({ ids }) => (ids instanceof Uint8Array ? ids : new Uint8Array())));
    },

    async loadBusinesses(businessIds) {
      return loadEach(businessIds, keys.business, businessSchema);
    },

    async loadPointers(wabaIds) {
      return loadEach(wabaIds, keys.waba, pointerSchema);
    },

    async walk(cursor, since) {
      const { Items = [], LastEvaluatedKey } = await client.send(
        new ScanCommand({
          TableName,
          ConsistentRead: true,
          FilterExpression: "begins_with(pk, :business) OR (attribute_exists(transitionId) AND changedAt > :since)",
          ExpressionAttributeValues: marshall({ ":business": keys.business(""), ":since": since }),
          ...(cursor === undefined ? {} : { ExclusiveStartKey: marshall({ pk: cursor }) }),
        }),
      );
      const page: WalkedPage = { businesses: [], transitions: [], unreadable: [] };
      for (const stored of Items) readInto(page, unmarshall(stored), since);
      const next = LastEvaluatedKey?.["pk"]?.S;
      return next === undefined ? page : { ...page, next };
    },
  };
}

function readInto(page: WalkedPage, item: Record<string, unknown>, since: number): void {
  const { pk, dueAt } = item;
  if (typeof pk !== "string") return;
  const transition = transitionSchema.safeParse(item);
  const isRecent = transition.success && transition.data.changedAt > since;
  if (isRecent) page.transitions.push(transition.data);
  if (!pk.startsWith(keys.business(""))) return;
  // One bad item must not end the scan of the others.
  const business = businessSchema.safeParse(item);
  if (!business.success) page.unreadable.push(pk);
  else page.businesses.push({ business: business.data, indexedAt: typeof dueAt === "number" ? dueAt : undefined });
}

function seenItem(scan: Scan, { list, ids }: Seen): Record<string, AttributeValue> {
  return marshall({
    pk: keys.seen(scan.scanId, list, scan.chunks[list] - 1),
    ids: packIds(ids),
    expiresAt: Math.floor((scan.movedAt + seenRetentionMs) / 1000),
  });
}

/** Eight bytes an id: Meta's are numbers, and nearly all are below 2^64. Two that are not may look alike, which hides a difference and invents none. */
export function packIds(ids: readonly string[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(ids, BigInt).buffer);
}

export function mergeSeen(packed: readonly Uint8Array[]): BigUint64Array {
  const bytes = new Uint8Array(packed.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let offset = 0;
  for (const chunk of packed) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return new BigUint64Array(bytes.buffer).toSorted();
}

export function hasSeen(seen: BigUint64Array, id: string): boolean {
  const wanted = BigInt.asUintN(64, BigInt(id));
  let from = 0;
  let to = seen.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((seen[middle] ?? 0n) < wanted) from = middle + 1;
    else to = middle;
  }
  return seen[from] === wanted;
}

function isConflict(code: string | undefined): boolean {
  return code === "TransactionConflict";
}
