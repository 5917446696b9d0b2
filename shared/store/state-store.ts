import type { AttributeValue, DynamoDBClient, TransactWriteItem } from "@aws-sdk/client-dynamodb";
import {
  ConditionalCheckFailedException,
  PutItemCommand,
  TransactionCanceledException,
  TransactWriteItemsCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type { AccountConclusion, AccountNotice } from "../domain/account.ts";
import type { Business, Change, Conclusion, Request } from "../domain/business.ts";
import { dueAt } from "../domain/business.ts";
import type { EventDraft, RecordedEvent } from "../domain/events.ts";
import type { Failure, RejectReason } from "../domain/reasons.ts";
import type { Settlement } from "../domain/share.ts";
import type { CommandRecord, Pointer } from "./items.ts";
import { businessSchema, commandSchema, dueShardOf, keys, pointerSchema, storedWaba } from "./items.ts";
import type { LimitStore } from "./limit-store.ts";
import { createLimitStore } from "./limit-store.ts";
import { createItemReader } from "./read-items.ts";
import { type Concluded, type Identified, identify, recordEvent, withoutAnswered } from "./transition.ts";

/**
 * The State table. Every read is strongly consistent; every write is conditional, and its loser is given the item as it
 * stands (T4), so that it decides again on what it can see instead of writing the same again.
 */
export type StateStore = LimitStore & {
  loadBusiness(businessId: string): Promise<Business | undefined>;
  loadPointer(wabaId: string): Promise<Pointer | undefined>;
  loadCommand(commandId: string): Promise<CommandRecord | undefined>;

  /** Writes a decision: the business guarded by the version it was decided on, together with the commands it concludes. */
  commit(loaded: Business, change: Change, now: number): Promise<Written>;
  /** Writes what became of a POST: guarded by its own intent and epoch, so that a busy sibling cannot starve it (H26). */
  settle(loaded: Business, settlement: Settlement, now: number): Promise<Written>;
  /** Records an outcome that changes no business. */
  conclude(conclusion: Conclusion | AccountConclusion, now: number): Promise<CommandRecord>;
  /** The same, while no owner of the WABA is stored; false when one is. */
  concludeUnowned(conclusion: Conclusion, wabaId: string, now: number): Promise<boolean>;
  /** Records a body that is no command, under its hash (H22), once. Answers the event of the first time when it was there before. */
  reject(rejection: Rejection, now: number): Promise<RecordedEvent | undefined>;
  /** Records why a command could not go on; announces it once, when `announce` is set. */
  block(
    request: Request,
    failure: Failure,
    announce: boolean,
    businessId: string | undefined,
    now: number,
  ): Promise<void>;

  /** Stores the owner, once. A pending revoke stops it (R1) unless `overPendingRevoke`. Answers the pointer as it stands. */
  claimOwner(wabaId: string, businessId: string, options: { overPendingRevoke: boolean }): Promise<Pointer>;
  /** Stores when Meta told us that the WABA was added to the partner, and the owner it named; the latest time stays. */
  saveAdded(wabaId: string, addedAt: number, hintedOwner?: string): Promise<void>;
  /** Parks, replaces or (undefined) removes the revokes that wait for the owner; guarded by the version loaded. */
  savePendingRevoke(wabaId: string, loaded: Pointer | undefined, pending: Pointer["pendingRevoke"]): Promise<boolean>;
};

export type Written = { saved: true; business: Business } | { saved: false; current: Business | undefined };

export type Rejection = {
  hash: string;
  reason: RejectReason;
  detail: string;
  commandId?: string;
  wabaId?: string;
};

/** An item above this is refused new WABAs, so that a revocation can always be written: DynamoDB's limit is 400 KB (T3, I12). */
const fullBytes = 300 * 1024;

/** Nor may the WABAs on it be able to grow it beyond this: what is left takes the revocation, and all the revokes that join it. */
const grownBytesMax = 350 * 1024;

export function isFull(business: Business): boolean {
  const bytes = Buffer.byteLength(JSON.stringify(business));
  return bytes > fullBytes || bytes + Object.keys(business.wabas).length * wabaGrowthBytes > grownBytesMax;
}

/** What a WABA that is on the item may still grow by: a longer request, an intent, a due time with its command, two failures, evidence. */
const wabaGrowthBytes = 4000;

/** Outcomes are kept this long; the TTL only cleans up. */
const commandRetentionMs = 400 * 24 * 3_600_000;

/**
 * A settle does not see what siblings wrote meanwhile, so it may not move the due time far: the sweep then reads the whole
 * item and sets it right. In the usual case the verification is due sooner anyway.
 */
const settleDueMaxMs = 60_000;

export function createStateStore(deps: {
  client: DynamoDBClient;
  tableName: string;
  /** A fresh random id. */
  newId: () => string;
}): StateStore {
  const { client, tableName: TableName, newId } = deps;

  const load = createItemReader(client, TableName);

  return {
    ...createLimitStore({ ...deps, load }),

    async loadBusiness(businessId) {
      const item = await load(keys.business(businessId));
      return item === undefined ? undefined : parseBusiness(item);
    },

    async loadPointer(wabaId) {
      const item = await load(keys.waba(wabaId));
      return item === undefined ? undefined : pointerSchema.parse(item);
    },

    async loadCommand(commandId) {
      const item = await load(keys.command(commandId));
      return item === undefined ? undefined : commandSchema.parse(item);
    },

    async commit(loaded, change, now) {
      const transition = identify(newId(), change, now);
      if (change.business === loaded) return concludeUnchanged(loaded, transition, now);
      const business: Business = { ...change.business, version: loaded.version + 1, changedAt: now };
      function put(identified: Identified): TransactWriteItem {
        return {
          Put: {
            TableName,
            Item: businessItem(business, identified),
            ConditionExpression: loaded.version === 0 ? "attribute_not_exists(pk)" : "version = :loaded",
            ...(loaded.version === 0 ? {} : { ExpressionAttributeValues: marshall({ ":loaded": loaded.version }) }),
            ReturnValuesOnConditionCheckFailure: "ALL_OLD",
          },
        };
      }
      return write(put, business, transition, now);
    },

    async settle(loaded, settlement, now) {
      const { wabaId, change, record, doubt } = settlement;
      const transition = identify(newId(), change, now);
      const after = change.business;
      const due = Math.min(dueAt(after) ?? Infinity, now + settleDueMaxMs);
      const pk = keys.business(loaded.businessId);
      const ofRecord = settlement.guard === "record";
      const note = ofRecord ? "recordIntent" : "wabas.#waba.intent";
      const sets = [
        doubt === undefined ? "wabas.#waba = :waba" : `wabas.#waba.lastFailure = :doubt, ${note}.failure = :doubt`,
        "transitionId = :transition, changedAt = :now, events = :events",
        "dueShard = :shard, dueAt = :due, version = version + :one",
        ...(record === undefined ? [] : ["records.#record = :record"]),
      ];
      const settled = ofRecord && doubt === undefined ? " REMOVE recordIntent" : "";
      function update({ id, events }: Identified): TransactWriteItem {
        return {
          Update: {
            TableName,
            Key: marshall({ pk }),
            UpdateExpression: `SET ${sets.join(", ")}${settled}`,
            ConditionExpression: `${note}.id = :intent AND epoch = :epoch`,
            ExpressionAttributeNames: {
              "#waba": wabaId,
              ...(record === undefined ? {} : { "#record": record.allocationId }),
            },
            ExpressionAttributeValues: toItem({
              ...(doubt === undefined ? { ":waba": storedWaba(wabaId, settlement.waba) } : { ":doubt": doubt }),
              ":transition": id,
              ":now": now,
              ":events": events,
              ":shard": dueShardOf(pk),
              ":due": due,
              ":one": 1,
              ":intent": settlement.intentId,
              ":epoch": settlement.epoch,
              ...(record === undefined ? {} : { ":record": record.record }),
            }),
            ReturnValuesOnConditionCheckFailure: "ALL_OLD",
          },
        };
      }
      return write(update, after, transition, now);
    },

    async conclude(conclusion, now) {
      const transition = identify(newId(), { events: [], conclusions: [conclusion] }, now);
      const [concluded] = transition.concluded;
      if (concluded === undefined) throw new Error("A conclusion was not identified");
      return putConcluded(concluded, transition.id, now, true);
    },

    async concludeUnowned(conclusion, wabaId, now) {
      const transition = identify(newId(), { events: [], conclusions: [conclusion] }, now);
      const check = {
        TableName,
        Key: marshall({ pk: keys.waba(wabaId) }),
        ConditionExpression: "attribute_not_exists(businessId)",
      };
      const rows = transition.concluded.map((one) => ({ Put: concludedPut(one, transition.id, now, true) }));
      try {
        await transact([{ ConditionCheck: check }, ...rows]);
        return true;
      } catch (error) {
        const lost = lostItem(error);
        if (lost === undefined) throw error;
        return lost.kind === "commands";
      }
    },

    async reject(rejection, now) {
      const { commandId, wabaId, reason, hash, detail } = rejection;
      const draft: EventDraft = {
        detailType: "Command Rejected",
        reason,
        ...(commandId === undefined ? {} : { commandId }),
        ...(wabaId === undefined ? {} : { wabaId }),
      };
      const transitionId = newId();
      const event = recordEvent(draft, transitionId, 0, now);
      const failure: Failure = { at: now, reason, message: detail };
      const row = {
        ...commandRow({ type: "rejected", hash, commandId, wabaId, businessId: undefined }, transitionId, 1, now),
        outcome: "rejected",
        reason,
        failure,
        attempts: 1,
        event,
        events: [event],
      };
      const item = toItem({ ...row, pk: keys.command(`sha256:${hash}`) });
      if (await putUnless(item, "attribute_not_exists(pk)")) return undefined;
      const before = await load(keys.command(`sha256:${hash}`));
      return before === undefined ? undefined : commandSchema.parse(before).event;
    },

    async block(request, failure, announce, businessId, now) {
      // Lost to a neighbour that counted its own failure: it may not be the one that announces, so this one counts on top.
      while (!(await tryBlock(request, failure, announce, businessId, now)));
    },

    async claimOwner(wabaId, businessId, { overPendingRevoke }) {
      const condition = "attribute_not_exists(businessId)";
      try {
        const { Attributes } = await client.send(
          new UpdateItemCommand({
            TableName,
            Key: marshall({ pk: keys.waba(wabaId) }),
            UpdateExpression:
              "SET wabaId = :waba, businessId = :business, version = if_not_exists(version, :zero) + :one",
            ConditionExpression: overPendingRevoke ? condition : `${condition} AND attribute_not_exists(pendingRevoke)`,
            ExpressionAttributeValues: marshall({ ":waba": wabaId, ":business": businessId, ":zero": 0, ":one": 1 }),
            ReturnValues: "ALL_NEW",
            ReturnValuesOnConditionCheckFailure: "ALL_OLD",
          }),
        );
        return pointerSchema.parse(unmarshall(Attributes ?? {}));
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException) || error.Item === undefined) throw error;
        return pointerSchema.parse(unmarshall(error.Item));
      }
    },

    async saveAdded(wabaId, addedAt, hintedOwner) {
      const hint = hintedOwner === undefined ? "" : ", hintedOwner = :hint";
      try {
        await client.send(
          new UpdateItemCommand({
            TableName,
            Key: marshall({ pk: keys.waba(wabaId) }),
            UpdateExpression: `SET wabaId = :waba, addedAt = :added, version = if_not_exists(version, :zero) + :one${hint}`,
            ConditionExpression: "attribute_not_exists(addedAt) OR addedAt < :added",
            ExpressionAttributeValues: toItem({
              ":waba": wabaId,
              ":added": addedAt,
              ":hint": hintedOwner,
              ":zero": 0,
              ":one": 1,
            }),
          }),
        );
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
      }
    },

    async savePendingRevoke(wabaId, loaded, pending) {
      const pk = keys.waba(wabaId);
      const pointer: Pointer = { wabaId, ...loaded, version: (loaded?.version ?? 0) + 1, pendingRevoke: pending };
      const item = toItem({
        pk,
        ...pointer,
        ...(pending === undefined ? {} : { dueShard: dueShardOf(pk), dueAt: pending.due.nextAt }),
      });
      return putUnless(item, loaded === undefined ? "attribute_not_exists(pk)" : "version = :version", {
        ":version": loaded?.version,
      });
    },
  };

  /** Answers false when another write came in between. */
  async function tryBlock(
    request: Request,
    failure: Failure,
    announce: boolean,
    businessId: string | undefined,
    now: number,
  ): Promise<boolean> {
    const row = await load(keys.command(request.commandId));
    const known = row === undefined ? undefined : commandSchema.parse(row);
    if (known?.outcome !== undefined || (known !== undefined && known.hash !== request.hash)) return true;
    const transitionId = newId();
    const announcing = announce && known?.blockedAnnounced !== true;
    const event = recordEvent(
      {
        detailType: "Command Blocked",
        commandId: request.commandId,
        ...(request.wabaId === undefined ? {} : { wabaId: request.wabaId }),
        ...(businessId === undefined ? {} : { businessId }),
        reason: failure.reason,
      },
      transitionId,
      0,
      now,
    );
    const version = (known?.version ?? 0) + 1;
    const item = toItem({
      ...commandRow({ ...subject(request), businessId }, transitionId, version, now),
      attempts: (known?.attempts ?? 0) + 1,
      reason: failure.reason,
      failure,
      ...(announce || known?.blockedAnnounced === true ? { blockedAnnounced: true } : {}),
      events: announcing ? [event] : [],
    });
    return putUnless(item, known === undefined ? "attribute_not_exists(pk)" : "version = :version", {
      ":version": known?.version,
    });
  }

  /** Answers commands by a state that is not written: it must still be the one they were judged by (T4, I10). */
  async function concludeUnchanged(loaded: Business, transition: Identified, now: number): Promise<Written> {
    const check = {
      TableName,
      Key: marshall({ pk: keys.business(loaded.businessId) }),
      ConditionExpression: loaded.version === 0 ? "attribute_not_exists(pk)" : "version = :loaded",
      ...(loaded.version === 0 ? {} : { ExpressionAttributeValues: marshall({ ":loaded": loaded.version }) }),
      ReturnValuesOnConditionCheckFailure: "ALL_OLD" as const,
    };
    const announce = true;
    return write(() => ({ ConditionCheck: check }), loaded, transition, now, announce);
  }

  /** One item alone, or with the commands it concludes in one transaction: state and outcome are recorded together or not at all. */
  async function write(
    guarded: (transition: Identified) => TransactWriteItem,
    business: Business,
    transition: Identified,
    now: number,
    /** The rows themselves announce: no other item of the transaction does. */
    announce = false,
  ): Promise<Written> {
    try {
      if (transition.concluded.length === 0) {
        await writeAlone(guarded(transition));
        return { saved: true, business };
      }
      const rows = transition.concluded.map((concluded) => concludedPut(concluded, transition.id, now, announce));
      await transact([guarded(transition), ...rows.map((Put) => ({ Put }))]);
      return { saved: true, business };
    } catch (error) {
      const lost = lostItem(error);
      if (lost === undefined) throw error;
      if (lost.kind === "commands") {
        // These commands were answered before. The state, and the answers of the others, must be written all the same.
        return write(guarded, business, withoutAnswered(transition, lost.indexes), now, announce);
      }
      if (lost.item === undefined) return { saved: false, current: undefined };
      const current = unmarshall(lost.item);
      // The SDK repeats a write whose answer was lost: then the item in the way is our own.
      if (current["transitionId"] === transition.id) return { saved: true, business: parseBusiness(current) };
      return { saved: false, current: parseBusiness(current) };
    }
  }

  async function writeAlone({ Put, Update }: TransactWriteItem): Promise<void> {
    if (Put !== undefined) await client.send(new PutItemCommand(Put));
    if (Update !== undefined) await client.send(new UpdateItemCommand(Update));
  }

  /** A busy sibling must not make a settle fail (H26): a conflict is no answer, so the same transaction is tried again. */
  async function transact(TransactItems: TransactWriteItem[]): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        await client.send(new TransactWriteItemsCommand({ TransactItems }));
        return;
      } catch (error) {
        if (!isConflict(error) || tries === conflictTriesMax) throw error;
        await new Promise((resolve) => setTimeout(resolve, conflictDelayMs * tries));
      }
    }
  }

  function concludedPut(concluded: Concluded, transitionId: string, now: number, announce: boolean) {
    const { conclusion, event } = concluded;
    const { request, outcome, reason, failure } = conclusion;
    const row = commandRow({ ...subject(request), businessId: event.businessId }, transitionId, concludedVersion, now);
    // A row whose answer the business's own transition announces is none itself: the audit holds that answer once.
    const transition = announce ? { events: [event] } : { transitionId: undefined };
    return {
      TableName,
      Item: toItem({ ...row, outcome, reason, failure, attempts: 1, event, ...transition }),
      // Only what is not concluded is short of an answer; a row of another content is not ours to overwrite.
      ConditionExpression: "attribute_not_exists(pk) OR (attribute_not_exists(outcome) AND #hash = :hash)",
      ExpressionAttributeNames: { "#hash": "hash" },
      ExpressionAttributeValues: marshall({ ":hash": request.hash }),
      ReturnValuesOnConditionCheckFailure: "ALL_OLD" as const,
    };
  }

  async function putConcluded(
    concluded: Concluded,
    id: string,
    now: number,
    announce: boolean,
  ): Promise<CommandRecord> {
    const put = concludedPut(concluded, id, now, announce);
    try {
      await client.send(new PutItemCommand(put));
      return commandSchema.parse(unmarshall(put.Item));
    } catch (error) {
      if (!(error instanceof ConditionalCheckFailedException) || error.Item === undefined) throw error;
      return commandSchema.parse(unmarshall(error.Item));
    }
  }

  async function putUnless(
    Item: Record<string, AttributeValue>,
    ConditionExpression: string,
    values: Record<string, unknown> = {},
  ): Promise<boolean> {
    const used = Object.entries(values).filter(([name]) => ConditionExpression.includes(name));
    try {
      await client.send(
        new PutItemCommand({
          TableName,
          Item,
          ConditionExpression,
          ...(used.length === 0 ? {} : { ExpressionAttributeValues: marshall(Object.fromEntries(used)) }),
        }),
      );
      return true;
    } catch (error) {
      if (error instanceof ConditionalCheckFailedException) return false;
      throw error;
    }
  }
}

const conflictTriesMax = 10;
const conflictDelayMs = 20;

/** A command's row is final once concluded, so its version is above every number of failed attempts. */
const concludedVersion = 1_000_000;

function businessItem(business: Business, { id, events }: Identified): Record<string, AttributeValue> {
  const pk = keys.business(business.businessId);
  const due = dueAt(business);
  const index = due === undefined ? {} : { dueShard: dueShardOf(pk), dueAt: due };
  const wabas = Object.entries(business.wabas).map(([wabaId, waba]) => [wabaId, storedWaba(wabaId, waba)]);
  const waiting = Object.keys(business.waiting).length === 0 ? undefined : business.waiting;
  return toItem({ pk, ...business, wabas: Object.fromEntries(wabas), waiting, ...index, transitionId: id, events });
}

function commandRow(
  about: { type: string; hash: string } & Record<"commandId" | "wabaId" | "businessId", string | undefined>,
  transitionId: string,
  version: number,
  now: number,
): Record<string, unknown> {
  const { type, hash, commandId, wabaId, businessId } = about;
  return {
    pk: keys.command(commandId ?? ""),
    type,
    hash,
    commandId,
    wabaId,
    businessId,
    transitionId,
    version,
    changedAt: now,
    expiresAt: Math.floor((now + commandRetentionMs) / 1000),
  };
}

function subject({ type, hash, commandId, wabaId }: Request | AccountNotice) {
  return { type, hash, commandId, wabaId };
}

function parseBusiness(item: Record<string, unknown>): Business {
  return businessSchema.parse(item);
}

function toItem(value: Record<string, unknown>): Record<string, AttributeValue> {
  return marshall(value, { removeUndefinedValues: true });
}

/** What stood in the way of a conditional write; undefined when the error is of another kind. */
type Lost =
  | { kind: "item"; item: Record<string, AttributeValue> | undefined }
  /** Only rows of commands, by their place among those to conclude. */
  | { kind: "commands"; indexes: number[] };

function lostItem(error: unknown): Lost | undefined {
  if (error instanceof ConditionalCheckFailedException) return { kind: "item", item: error.Item };
  if (!(error instanceof TransactionCanceledException)) return undefined;
  const [first, ...rows] = error.CancellationReasons ?? [];
  if (first?.Code === "ConditionalCheckFailed") return { kind: "item", item: first.Item };
  const inTheWay = rows.flatMap((row, index) => (row.Code === "ConditionalCheckFailed" ? [index] : []));
  return inTheWay.length > 0 ? { kind: "commands", indexes: inTheWay } : undefined;
}

/** Another transaction holds one of the items at this very moment; nothing was written, and the same may be tried again. */
function isConflict(error: unknown): boolean {
  if (!(error instanceof TransactionCanceledException)) return false;
  return error.CancellationReasons?.some(({ Code }) => Code === "TransactionConflict") === true;
}
