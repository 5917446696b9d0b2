import type { DynamoDBRecord } from "aws-lambda";
import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { PutItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import type { Transition } from "./items.ts";

/** The Audit table: append-only, one row for each recorded change of an item. */
export type AuditStore = {
  /** Appends a change; the same change again is the same row. */
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
    async append({ pk, version, transitionId, changedAt, events }) {
      // The transition is part of the key: after a restore the same version comes again with another history (H20).
      const sk = `${String(version).padStart(versionDigits, "0")}#${transitionId}`;
      await put({ pk, sk, version, changedAt, events });
    },
    async keepPoison(record, now) {
      const sequenceNumber = record.dynamodb?.SequenceNumber ?? "unknown";
      await put({ pk: "POISON", sk: sequenceNumber, changedAt: now, record: JSON.stringify(record) });
    },
  };
}
