import type { DynamoDBRecord } from "aws-lambda";
import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { BatchGetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import type { RecordedEvent } from "../domain/events.ts";
import { keys, type Transition } from "./items.ts";

/**
 * The Audit table: append-only, one row for each recorded change of an item. What is recorded beside a business's item (a
 * command's answer, a finding) has a row under each WABA and business that it names, too: their history is read by key.
 */
export type AuditStore = {
  /** Appends a change; the same change again is the same rows. */
  append(transition: Transition): Promise<void>;
  /** Keeps a stream record that cannot be read, whole. */
  keepPoison(record: DynamoDBRecord, now: number): Promise<void>;
};

/** Wide enough for every version: rows sort as their numbers do. */
const versionDigits = 12;

export function createAuditStore(client: DynamoDBClient, tableName: string): AuditStore {
  async function put(row: Record<string, unknown>): Promise<void> {
    const Item = marshall(row, { removeUndefinedValues: true });
    await client.send(new PutItemCommand({ TableName: tableName, Item }));
  }
  return {
    async append(transition) {
      const { version, changedAt, events } = transition;
      const { pk, sk } = keyOf(transition);
      for (const [subject, told] of toldElsewhere(transition)) {
        await put({ pk: subject, sk, version, changedAt, events: told });
      }
      // The change's own row comes last: where it is, all of them are (see createAuditGaps).
      await put({ pk, sk, version, changedAt, events });
    },
    async keepPoison(record, now) {
      const sequenceNumber = record.dynamodb?.SequenceNumber ?? "unknown";
      const text = JSON.stringify(record);
      // Both images of a large item are more than a row may hold: one that is refused again and again would hold its shard back.
      for (let start = 0; start < text.length; start += poisonLengthMax) {
        const sk = start === 0 ? sequenceNumber : `${sequenceNumber}#${start / poisonLengthMax}`;
        await put({ pk: "POISON", sk, changedAt: now, record: text.slice(start, start + poisonLengthMax) });
      }
    },
  };
}

/** Characters of a poisoned record in one row, of up to three bytes each: DynamoDB takes 400 KB. */
const poisonLengthMax = 120_000;

/** A business's own row holds all that happened on its item. */
function toldElsewhere({ pk, events }: Transition): Map<string, RecordedEvent[]> {
  const told = new Map<string, RecordedEvent[]>();
  if (pk.startsWith(keys.business(""))) return told;
  for (const event of events) {
    const { wabaId, businessId } = event;
    const subjects = [
      ...(wabaId === undefined ? [] : [keys.waba(wabaId)]),
      ...(businessId === undefined ? [] : [keys.business(businessId)]),
    ];
    for (const subject of subjects) told.set(subject, [...(told.get(subject) ?? []), event]);
  }
  return told;
}

/** The transition is part of the key: after a restore the same version comes again with another history (H20). */
function keyOf({ pk, version, transitionId }: Transition): { pk: string; sk: string } {
  return { pk, sk: `${String(version).padStart(versionDigits, "0")}#${transitionId}` };
}

/** DynamoDB's limit for one call. */
const keysMax = 100;

/** Answers which of these changes have no row: they were never announced, or it could not be written down that they were. */
export function createAuditGaps(client: DynamoDBClient, tableName: string) {
  return async (transitions: Transition[]): Promise<Transition[]> => {
    const found = new Set<string>();
    let wanted = transitions.map((transition) => marshall(keyOf(transition)));
    while (wanted.length > 0) {
      const request = { Keys: wanted.slice(0, keysMax), ConsistentRead: true, ProjectionExpression: "sk" };
      const answer = await client.send(new BatchGetItemCommand({ RequestItems: { [tableName]: request } }));
      for (const { sk } of answer.Responses?.[tableName] ?? []) if (sk?.S !== undefined) found.add(sk.S);
      wanted = [...(answer.UnprocessedKeys?.[tableName]?.Keys ?? []), ...wanted.slice(keysMax)];
    }
    return transitions.filter((transition) => !found.has(keyOf(transition).sk));
  };
}
