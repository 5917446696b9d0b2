import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import {
  ConditionalCheckFailedException,
  GetItemCommand,
  paginateQuery,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type { EventDraft } from "../domain/events.ts";
import type { Finding, FindingKind } from "../domain/findings.ts";
import { commandFor, findingKinds } from "../domain/findings.ts";
import { findingSchema, findingShard, keys } from "./items.ts";

/** Recorded differences between the table and Meta. What a write announces, the table's stream tells. */
export type FindingStore = {
  /** Strongly consistent. */
  loadFinding(kind: FindingKind, subject: string): Promise<Finding | undefined>;
  /** False when the finding is not any more as it was loaded. */
  saveFinding(loaded: Finding | undefined, next: Finding, events: EventDraft[], now: number): Promise<boolean>;
  /** Those that are not closed, by kind and subject, in the order of their keys. An index tells them, which may lag. */
  unclosedFindings(): Promise<{ kind: FindingKind; subject: string }[]>;
};

export function createFindingStore({
  client,
  tableName: TableName,
  indexName: IndexName,
  newId,
}: {
  client: DynamoDBClient;
  tableName: string;
  indexName: string;
  newId: () => string;
}): FindingStore {
  return {
    async loadFinding(kind, subject) {
      const Key = marshall({ pk: keys.finding(kind, subject) });
      const { Item } = await client.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }));
      return Item === undefined ? undefined : findingSchema.parse(unmarshall(Item));
    },

    async saveFinding(loaded, next, events, now) {
      const transitionId = newId();
      const item = {
        pk: keys.finding(next.kind, next.subject),
        ...next,
        command: commandFor(next),
        transitionId,
        changedAt: now,
        events: events.map((draft, index) => ({ ...draft, eventId: `${transitionId}-${index}`, occurredAt: now })),
        ...(next.state === "closed" ? {} : { dueShard: findingShard, dueAt: next.lastSeenAt }),
      };
      try {
        await client.send(
          new PutItemCommand({
            TableName,
            Item: marshall(item, { removeUndefinedValues: true }),
            ConditionExpression: loaded === undefined ? "attribute_not_exists(pk)" : "version = :version",
            ...(loaded === undefined ? {} : { ExpressionAttributeValues: marshall({ ":version": loaded.version }) }),
          }),
        );
        return true;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return false;
        throw error;
      }
    },

    async unclosedFindings() {
      const pages = paginateQuery(
        { client },
        {
          TableName,
          IndexName,
          KeyConditionExpression: "dueShard = :shard",
          ExpressionAttributeValues: marshall({ ":shard": findingShard }),
          ProjectionExpression: "pk",
        },
      );
      const pks: string[] = [];
      for await (const page of pages) for (const item of page.Items ?? []) pks.push(item["pk"]?.S ?? "");
      return pks.toSorted().flatMap((pk) => {
        const [, kind, subject] = pk.split("#");
        const known = findingKinds.find((one) => one === kind);
        return known !== undefined && subject !== undefined ? [{ kind: known, subject }] : [];
      });
    },
  };
}
