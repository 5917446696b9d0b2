import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { paginateQuery } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { dueShards } from "./items.ts";

/** Which items have something due. The index may lag: whoever serves an item reads it strongly. */
export type DueIndex = { dueItems(now: number): AsyncIterable<DueItem> };

export type DueItem = { kind: "business" | "waba"; id: string };

export function createDueIndex(client: DynamoDBClient, tableName: string, indexName: string): DueIndex {
  return {
    async *dueItems(now) {
      for (const shard of dueShards) {
        const pages = paginateQuery(
          { client },
          {
            TableName: tableName,
            IndexName: indexName,
            KeyConditionExpression: "dueShard = :shard AND dueAt <= :now",
            ExpressionAttributeValues: marshall({ ":shard": shard, ":now": now }),
            ProjectionExpression: "pk",
          },
        );
        // A whole shard is read before its items are served: serving moves them within the index.
        const keys: string[] = [];
        for await (const page of pages) {
          for (const item of page.Items ?? []) if (item["pk"]?.S !== undefined) keys.push(item["pk"].S);
        }
        for (const pk of keys) {
          const [kind, id] = pk.split("#");
          if (id === undefined) continue;
          yield { kind: kind === "WABA" ? "waba" : "business", id };
        }
      }
    },
  };
}
