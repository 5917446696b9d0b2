import { paginateScan } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import * as z from "zod";
import type { Business } from "../../shared/domain/business.ts";
import { dueEntries } from "../../shared/domain/business.ts";
import type { CommandRecord, Pointer } from "../../shared/store/items.ts";
import { businessSchema, commandSchema } from "../../shared/store/items.ts";
import { exitCodes, OpsError } from "./errors.ts";
import type { Context } from "./command.ts";
import type { JudgedLetter } from "./dlq/judge-letters.ts";
import { findLetter } from "./dlq/read-letters.ts";
import type { Output } from "./output.ts";
import type { Stage } from "./stage.ts";

/** What an id turned out to be, with the items that tell of it. */
export type Subject = {
  kind: "waba" | "business" | "command" | "allocation" | "message";
  id: string;
  /** The one WABA it is about; undefined: the whole business. */
  wabaId?: string | undefined;
  business?: Business | undefined;
  pointer?: Pointer | undefined;
  command?: CommandRecord | undefined;
  /** The dead letter that the id is of. */
  letter?: JudgedLetter | undefined;
};

/**
 * Finds what an id names: by key where the id is one, else by a scan of the State table.
 * @throws OpsError when the stage knows nothing of it.
 */
export async function findSubject({ stage, out }: Pick<Context, "stage" | "out">, id: string): Promise<Subject> {
  const byKey = (await findByKey(stage, id)) ?? (await findByMessage({ stage, out }, id));
  // What was refused before anything of it was stored is told by its commands alone.
  const isTold = byKey !== undefined && (byKey.kind !== "waba" || byKey.business?.wabas[id] !== undefined);
  const found = isTold ? byKey : await findByScan(stage, out, id);
  if (found !== undefined) return { ...byKey, ...found };
  if (byKey !== undefined) return byKey;
  throw new OpsError(
    "unknown_id",
    `The State table of ${stage.name} knows nothing of ${id}`,
    messageIdSchema.safeParse(id).success
      ? `No dead letter has it either. A message in a queue cannot be seen without taking it; the functions' logs name its commandId beside its messageId. Or another stage: --stage.`
      : `It may still be in a queue, or a dead letter: credit-lines dlq list. Or of another stage: --stage.`,
    exitCodes.problem,
  );
}

async function findByKey({ store }: Stage, id: string): Promise<Subject | undefined> {
  const [pointer, ofBusiness, command] = await Promise.all([
    store.loadPointer(id),
    store.loadBusiness(id),
    store.loadCommand(id),
  ]);
  if (pointer !== undefined) {
    const business = pointer.businessId === undefined ? undefined : await store.loadBusiness(pointer.businessId);
    return { kind: "waba", id, wabaId: id, pointer, business };
  }
  if (ofBusiness !== undefined) return { kind: "business", id, business: ofBusiness };
  if (command !== undefined) return ofCommand(store, id, command);
  return undefined;
}

async function ofCommand(store: Stage["store"], id: string, command: CommandRecord): Promise<Subject> {
  return { kind: "command", id, command, ...(await loadNamed(store, command)) };
}

/** The items of what a command, or a message, names. */
async function loadNamed(
  store: Stage["store"],
  { wabaId, businessId: named }: { wabaId?: string | undefined; businessId?: string | undefined },
): Promise<Pick<Subject, "wabaId" | "pointer" | "business">> {
  const pointer = wabaId === undefined ? undefined : await store.loadPointer(wabaId);
  const businessId = named ?? pointer?.businessId;
  const business = businessId === undefined ? undefined : await store.loadBusiness(businessId);
  return { wabaId, pointer, business };
}

/** As SQS makes them. */
const messageIdSchema = z.uuid();

/** Nothing records which message brought a command: a message can be told of while it is a dead letter. */
async function findByMessage(context: Pick<Context, "stage" | "out">, id: string): Promise<Subject | undefined> {
  if (!messageIdSchema.safeParse(id).success) return undefined;
  const letter = await findLetter(id, context);
  if (letter === undefined) return undefined;
  const { store } = context.stage;
  const { commandId, kind } = letter;
  // What was rejected under an id that is another command's has no part in that one.
  const command = commandId === undefined || kind === "rejected" ? undefined : await store.loadCommand(commandId);
  const { wabaId, businessId = command?.businessId } = letter;
  return { kind: "message", id, letter, command, ...(await loadNamed(store, { wabaId, businessId })) };
}

/** A record of Meta's, a command that is still on an item, or one whose body was rejected: none of them is a key. */
async function findByScan(stage: Stage, out: Output, id: string): Promise<Subject | undefined> {
  const reading = out.progress(`Looking for ${id} in the whole State table`);
  let latest: CommandRecord | undefined;
  try {
    const pages = paginateScan(
      { client: stage.dynamo },
      {
        TableName: stage.tables.state,
        FilterExpression:
          "begins_with(pk, :business) OR commandId = :id OR (begins_with(pk, :command) AND wabaId = :id)",
        ExpressionAttributeValues: marshall({ ":business": "BUSINESS#", ":command": "COMMAND#", ":id": id }),
        ConsistentRead: true,
      },
    );
    for await (const page of pages) {
      for (const stored of page.Items ?? []) {
        const item = unmarshall(stored);
        if (String(item["pk"]).startsWith("COMMAND#")) {
          const command = commandSchema.parse(item);
          if (command.commandId === id) return await ofCommand(stage.store, id, command);
          // Of a WABA that was refused before anything of it was stored, its latest command tells.
          if ((latest?.changedAt ?? 0) < command.changedAt) latest = command;
          continue;
        }
        const business = businessSchema.parse(item);
        const found = inBusiness(business, id);
        if (found !== undefined) return found;
      }
    }
    return latest === undefined ? undefined : { kind: "waba", id, wabaId: id, command: latest };
  } finally {
    reading.done();
  }
}

function inBusiness(business: Business, id: string): Subject | undefined {
  if (business.records[id] !== undefined) return { kind: "allocation", id, business };
  const entry = dueEntries(business).find(({ commandId }) => commandId === id);
  if (entry !== undefined) return { kind: "command", id, wabaId: entry.wabaId, business };
  const { revocation } = business;
  if ([revocation?.request, ...(revocation?.joined ?? [])].some((request) => request?.commandId === id)) {
    return { kind: "command", id, business };
  }
  return undefined;
}
