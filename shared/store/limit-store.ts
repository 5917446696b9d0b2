import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { ConditionalCheckFailedException, paginateScan, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import * as z from "zod/mini";
import type { EventDraft } from "../domain/events.ts";
import type { RemovalBreaker } from "../domain/removal-breaker.ts";
import { resumed } from "../domain/removal-breaker.ts";
import type { Breaker, Reading } from "./items.ts";
import type { ReadItem } from "./read-items.ts";
import { breakerSchema, keys, quotaSchema, removalBreakerSchema } from "./items.ts";

/** What makes every function wait: Meta's block, the hour's budget, a dead system token (Q1, Tokens). */
export type LimitStore = {
  /** All of it, strongly consistent. */
  loadLimits(): Promise<Limits>;
  /** Of what is asked about the WABA; of the whole app, when none is given. */
  loadBlockedUntil(wabaId?: string): Promise<number | undefined>;
  /** The latest end of a block stays, whoever saves it last. */
  saveBlockedUntil(blockedUntil: number, wabaId?: string): Promise<void>;
  /** The latest reading stays. */
  saveReading(reading: Reading): Promise<void>;
  /** Lets one caller go ahead of a stale reading: true for the first that claims it, after whom it counts as read now. */
  claimReading(reading: Reading, now: number): Promise<boolean>;

  loadBreaker(): Promise<Breaker | undefined>;
  /** Records that the system token is dead; once, until it is mended. */
  openBreaker(now: number): Promise<void>;
  /** False when the breaker is not any more as it was loaded. */
  moveBreaker(loaded: Breaker, state: Breaker["state"]): Promise<boolean>;

  loadRemovals(): Promise<Removals | undefined>;
  /** Every business whose revocation the breaker holds, in pages of the whole table; a page may have none. */
  heldByBreaker(): AsyncIterable<string[]>;
  /** Writes the breaker of automatic revocations, and what that announces. False when it is not any more as it was loaded. */
  saveRemovals(
    loaded: Removals | undefined,
    change: { next: RemovalBreaker; events: EventDraft[] },
    now: number,
  ): Promise<boolean>;
};

/** `lock` counts its writes, also those that announce nothing. */
export type Removals = { breaker: RemovalBreaker; lock: number };

/**
 * A person lets automatic revocations go on. What was held wakes with the next due sweeps, and is judged again: revoked, or
 * held for a reason of its own.
 * @returns false when they were not stopped.
 */
export async function resumeRevocations(store: LimitStore, now: number): Promise<boolean> {
  for (;;) {
    const loaded = await store.loadRemovals();
    const change = resumed(loaded?.breaker, now);
    if (change === undefined) return false;
    if (await store.saveRemovals(loaded, change, now)) return true;
  }
}

export type Limits = {
  /** Meta lets no call through before this. */
  blockedUntil?: number | undefined;
  /** What Meta last told of the hour's budget. */
  reading?: Reading | undefined;
  /** No call can be made with the system token. */
  tokenIsDead: boolean;
};

export function createLimitStore({
  client,
  tableName: TableName,
  newId,
  load,
}: {
  client: DynamoDBClient;
  tableName: string;
  newId: () => string;
  load: ReadItem;
}): LimitStore {
  async function loadBreaker(): Promise<Breaker | undefined> {
    const item = await load(keys.tokenBreaker);
    return item === undefined ? undefined : breakerSchema.parse(item);
  }

  /** Sets these attributes and leaves the others; false when the condition, which may name what was `seen`, does not hold. */
  async function setIf(
    pk: string,
    set: Record<string, number | string>,
    condition: string,
    seen: Record<string, number | string> = {},
  ): Promise<boolean> {
    const names = Object.keys(set);
    const values = Object.entries({ ...set, ...seen }).map(([name, value]) => [`:${name}`, value]);
    try {
      await client.send(
        new UpdateItemCommand({
          TableName,
          Key: marshall({ pk }),
          UpdateExpression: `SET ${names.map((name) => `#${name} = :${name}`).join(", ")}`,
          ConditionExpression: condition,
          ExpressionAttributeNames: Object.fromEntries(names.map((name) => [`#${name}`, name])),
          ExpressionAttributeValues: marshall(Object.fromEntries(values)),
        }),
      );
      return true;
    } catch (error) {
      if (error instanceof ConditionalCheckFailedException) return false;
      throw error;
    }
  }

  return {
    loadBreaker,

    async loadLimits() {
      const [quota, breaker] = await Promise.all([load(keys.quota()), loadBreaker()]);
      const { blockedUntil, used, readAt } = quota === undefined ? {} : quotaSchema.parse(quota);
      return {
        blockedUntil,
        reading: used === undefined || readAt === undefined ? undefined : { used, readAt },
        tokenIsDead: breaker?.state === "open",
      };
    },

    async loadBlockedUntil(wabaId) {
      const item = await load(keys.quota(wabaId));
      return item === undefined ? undefined : quotaSchema.parse(item).blockedUntil;
    },

    async saveBlockedUntil(blockedUntil, wabaId) {
      const condition = "attribute_not_exists(#blockedUntil) OR #blockedUntil < :blockedUntil";
      // A WABA's is needed no more once it has ended.
      const expiresAt = Math.ceil(blockedUntil / 1000);
      const set: Record<string, number> = wabaId === undefined ? { blockedUntil } : { blockedUntil, expiresAt };
      await setIf(keys.quota(wabaId), set, condition);
    },

    async saveReading({ used, readAt }) {
      await setIf(keys.quota(), { used, readAt }, "attribute_not_exists(#readAt) OR #readAt <= :readAt");
    },

    async claimReading(reading, now) {
      return setIf(keys.quota(), { readAt: now }, "#readAt = :seenAt", { seenAt: reading.readAt });
    },

    async openBreaker(now) {
      const condition = "attribute_not_exists(#state) OR #state <> :state";
      await setIf(keys.tokenBreaker, { state: "open", since: now }, condition);
    },

    async moveBreaker(loaded, state) {
      const seen = { seenState: loaded.state, seenSince: loaded.since };
      const condition = "#state = :seenState AND #since = :seenSince";
      return setIf(keys.tokenBreaker, { state, since: loaded.since }, condition, seen);
    },

    async loadRemovals() {
      const item = await load(keys.removalBreaker);
      if (item === undefined) return undefined;
      return { breaker: removalBreakerSchema.parse(item), lock: z.number().parse(item["lock"]) };
    },

    async *heldByBreaker() {
      const pages = paginateScan(
        { client },
        {
          TableName,
          ConsistentRead: true,
          FilterExpression: "#held.#reason = :breaker",
          ProjectionExpression: "pk",
          ExpressionAttributeNames: { "#held": "held", "#reason": "reason" },
          ExpressionAttributeValues: marshall({ ":breaker": "breaker" }),
        },
      );
      for await (const { Items = [] } of pages) {
        yield Items.map(({ pk }) => pk?.S?.slice(keys.business("").length) ?? "");
      }
    },

    async saveRemovals(loaded, { next, events }, now) {
      const { waking, ...kept } = next;
      const transitionId = newId();
      const recorded = events.map((draft, index) => ({
        ...draft,
        eventId: `${transitionId}-${index}`,
        occurredAt: now,
      }));
      const lock = (loaded?.lock ?? 0) + 1;
      // A write that announces nothing keeps the last transition: the stream passes it over, and the audit has it already.
      const announcing = events.length === 0 ? {} : { transitionId, version: lock, changedAt: now, events: recorded };
      const set = Object.entries({ ...kept, ...(waking === undefined ? {} : { waking }), ...announcing, lock });
      const assignments = set.map(([name]) => `#${name} = :${name}`).join(", ");
      const values = set.map(([name, value]) => [`:${name}`, value]);
      try {
        await client.send(
          new UpdateItemCommand({
            TableName,
            Key: marshall({ pk: keys.removalBreaker }),
            UpdateExpression: `SET ${assignments}${waking === undefined ? " REMOVE waking" : ""}`,
            ConditionExpression: loaded === undefined ? "attribute_not_exists(pk)" : "#lock = :loaded",
            ExpressionAttributeNames: Object.fromEntries(set.map(([name]) => [`#${name}`, name])),
            ExpressionAttributeValues: marshall({
              ...Object.fromEntries(values),
              ...(loaded === undefined ? {} : { ":loaded": loaded.lock }),
            }),
          }),
        );
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    },
  };
}
