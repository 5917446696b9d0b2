import { paginateQuery, paginateScan } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import * as z from "zod";
import type { Business } from "../../shared/domain/business.ts";
import { businessSchema, eventSchema } from "../../shared/store/items.ts";
import type { Output } from "./output.ts";
import type { Stage } from "./stage.ts";

/** Reads of the tables that no function needs: whole, and by subject. */

/** Every item of the State table whose key begins with `prefix`, page by page. Costs a scan of the table. */
async function* eachItem(stage: Stage, prefix: string): AsyncGenerator<Record<string, unknown>> {
  const pages = paginateScan(
    { client: stage.dynamo },
    {
      TableName: stage.tables.state,
      FilterExpression: "begins_with(pk, :prefix)",
      ExpressionAttributeValues: marshall({ ":prefix": prefix }),
    },
  );
  for await (const page of pages) for (const item of page.Items ?? []) yield unmarshall(item);
}

/** Those that this version can read; the others are named in a remark. */
export async function* eachBusiness(stage: Stage, out: Pick<Output, "note">): AsyncGenerator<Business> {
  for await (const item of eachItem(stage, "BUSINESS#")) {
    const business = businessSchema.safeParse(item);
    if (business.success) yield business.data;
    else out.note(`${String(item["pk"])} cannot be read by this version, and is left out (runbook item-unserved)`);
  }
}

const auditRowSchema = z.object({
  pk: z.string(),
  sk: z.string(),
  version: z.number(),
  changedAt: z.number(),
  events: z.array(eventSchema),
});
export type AuditRow = z.output<typeof auditRowSchema>;

/** The history of one item, oldest first. */
export async function readAudit(stage: Stage, pk: string): Promise<AuditRow[]> {
  const pages = paginateQuery(
    { client: stage.dynamo },
    {
      TableName: stage.tables.audit,
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: marshall({ ":pk": pk }),
      ConsistentRead: true,
    },
  );
  const rows: AuditRow[] = [];
  for await (const page of pages) {
    for (const item of page.Items ?? []) rows.push(auditRowSchema.parse(unmarshall(item)));
  }
  return rows;
}

/** Every change that was recorded before `until` (ms), in no order. Costs a scan of the table. */
export async function* eachAuditRow(stage: Stage, until: number): AsyncGenerator<AuditRow> {
  const pages = paginateScan(
    { client: stage.dynamo },
    {
      TableName: stage.tables.audit,
      FilterExpression: "changedAt < :until AND pk <> :poison",
      ExpressionAttributeValues: marshall({ ":until": until, ":poison": "POISON" }),
    },
  );
  for await (const page of pages) for (const item of page.Items ?? []) yield auditRowSchema.parse(unmarshall(item));
}
