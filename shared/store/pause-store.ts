import type { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetItemCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import type { Pauses } from "./items.ts";
import { keys, pausesSchema } from "./items.ts";

/** The command queues that a person keeps from feeding their functions. The due sweep sees to it that the others do. */
export type PauseStore = {
  loadPauses(): Promise<Pauses>;
  /** Undefined ends the pause. */
  savePause(queue: keyof Pauses, pause: Pauses[keyof Pauses]): Promise<void>;
};

export function createPauseStore(client: DynamoDBClient, tableName: string): PauseStore {
  const item = { TableName: tableName, Key: marshall({ pk: keys.pauses }) };
  return {
    async loadPauses() {
      const { Item } = await client.send(new GetItemCommand({ ...item, ConsistentRead: true }));
      return pausesSchema.parse(Item === undefined ? {} : unmarshall(Item));
    },

    async savePause(queue, pause) {
      await client.send(
        new UpdateItemCommand({
          ...item,
          UpdateExpression: pause === undefined ? "REMOVE #queue" : "SET #queue = :pause",
          ExpressionAttributeNames: { "#queue": queue },
          ...(pause === undefined ? {} : { ExpressionAttributeValues: marshall({ ":pause": pause }) }),
        }),
      );
    },
  };
}
