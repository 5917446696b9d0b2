import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { ConditionalCheckFailedException, GetItemCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type { Breaker, Reading } from "./items.ts";
import { breakerSchema, keys, quotaSchema } from "./items.ts";

/** What makes every function wait: Meta's block, the hour's budget, a dead system token (Q1, Tokens). */
export type LimitStore = {
  /** All of it, strongly consistent. */
  loadLimits(): Promise<Limits>;
  loadBlockedUntil(): Promise<number | undefined>;
  /** The latest end of a block stays, whoever saves it last. */
  saveBlockedUntil(blockedUntil: number): Promise<void>;
  /** The latest reading stays. */
  saveReading(reading: Reading): Promise<void>;
  /** Lets one caller go ahead of a stale reading: true for the first that claims it, after whom it counts as read now. */
  claimReading(reading: Reading, now: number): Promise<boolean>;

  loadBreaker(): Promise<Breaker | undefined>;
  /** Records that the system token is dead; once, until it is mended. */
  openBreaker(now: number): Promise<void>;
  /** False when the breaker is not any more as it was loaded. */
  moveBreaker(loaded: Breaker, state: Breaker["state"]): Promise<boolean>;
};

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
}: {
  client: DynamoDBClient;
  tableName: string;
}): LimitStore {
  async function load(pk: string): Promise<Record<string, unknown> | undefined> {
    const { Item } = await client.send(new GetItemCommand({ TableName, Key: marshall({ pk }), ConsistentRead: true }));
    return Item === undefined ? undefined : unmarshall(Item);
  }

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
      const [quota, breaker] = await Promise.all([load(keys.quota), loadBreaker()]);
      const { blockedUntil, used, readAt } = quota === undefined ? {} : quotaSchema.parse(quota);
      return {
        blockedUntil,
        reading: used === undefined || readAt === undefined ? undefined : { used, readAt },
        tokenIsDead: breaker?.state === "open",
      };
    },

    async loadBlockedUntil() {
      const item = await load(keys.quota);
      return item === undefined ? undefined : quotaSchema.parse(item).blockedUntil;
    },

    async saveBlockedUntil(blockedUntil) {
      const condition = "attribute_not_exists(#blockedUntil) OR #blockedUntil < :blockedUntil";
      await setIf(keys.quota, { blockedUntil }, condition);
    },

    async saveReading({ used, readAt }) {
      await setIf(keys.quota, { used, readAt }, "attribute_not_exists(#readAt) OR #readAt <= :readAt");
    },

    async claimReading(reading, now) {
      return setIf(keys.quota, { readAt: now }, "#readAt = :seenAt", { seenAt: reading.readAt });
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
  };
}
