import type {
  AttributeValue as StreamValue,
  DynamoDBBatchResponse,
  DynamoDBRecord,
  DynamoDBStreamEvent,
} from "aws-lambda";
import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import type { AnnounceDeps } from "../../shared/announce.ts";
import { announce } from "../../shared/announce.ts";
import { transitionSchema } from "../../shared/store/items.ts";

export type PublishDeps = AnnounceDeps & { now: () => number };

/**
 * The story of a change: what the table's stream tells is announced, then audited.
 *
 * A delivery that fails is tried again until the record's age bound, and holds its shard back, so that events stay in order.
 * A record that can never be read must not: it is kept whole in the audit table, and the shard goes on (P2).
 */
export async function publishTransitions(
  event: DynamoDBStreamEvent,
  deps: PublishDeps,
): Promise<DynamoDBBatchResponse> {
  for (const record of event.Records) {
    const itemIdentifier = record.dynamodb?.SequenceNumber ?? "";
    try {
      await publishTransition(record, deps);
    } catch (error) {
      deps.log.error("A change could not be announced; it is tried again", {
        sequenceNumber: itemIdentifier,
        error: error instanceof Error ? `${error.name}: ${error.message}` : "unknown error",
      });
      return { batchItemFailures: [{ itemIdentifier }] };
    }
  }
  return { batchItemFailures: [] };
}

async function publishTransition(record: DynamoDBRecord, deps: PublishDeps): Promise<void> {
  const image = record.dynamodb?.NewImage;
  if (image === undefined) return;
  // Pointers, quotas and the like announce nothing and carry no transition.
  if (image["transitionId"] === undefined) return;
  if (image["transitionId"].S === record.dynamodb?.OldImage?.["transitionId"]?.S) return;

  const parsed = transitionSchema.safeParse(unmarshall(toAttributes(image)));
  if (!parsed.success) {
    deps.log.error("A change cannot be read; it is kept whole in the audit table", {
      sequenceNumber: record.dynamodb?.SequenceNumber,
      faults: parsed.error.issues.map((issue) => issue.path.join(".")),
    });
    await deps.audit.keepPoison(record, deps.now());
    return;
  }
  const transition = parsed.data;
  await announce(transition, deps);
}

/** The stream hands over the attribute values of the low-level API; only the type names differ. */
function toAttributes(image: Record<string, StreamValue>): Record<string, AttributeValue> {
  return JSON.parse(JSON.stringify(image));
}
