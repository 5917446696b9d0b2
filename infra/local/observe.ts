import { DynamoDBClient, paginateScan } from "@aws-sdk/client-dynamodb";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import * as z from "zod";
import { parseBody, type CommandType } from "../../shared/contracts/commands.ts";
import type { Business } from "../../shared/domain/business.ts";
import { dueEntries, isShared } from "../../shared/domain/business.ts";
import type { Finding } from "../../shared/domain/findings.ts";
import { businessSchema, commandSchema, findingSchema, keys, type CommandRecord } from "../../shared/store/items.ts";
import type { LocalStack } from "./local-stack.ts";
import type { Change, LedgerCall } from "./meta/meta-model.ts";

/** What the system believes (its table), what it said (the bus), and what is true (the ledger of the stand-in for Meta). */
export type Observation = {
  businesses: Business[];
  /** By `pk`. */
  commands: Map<string, CommandRecord>;
  findings: Finding[];
  announced: ReadonlySet<string>;
  ledger: Ledger | undefined;
};

export type Ledger = { changes: Change[]; calls: LedgerCall[] };

const ledgerSchema = z.object({ changes: z.array(z.custom<Change>()), calls: z.array(z.custom<LedgerCall>()) });
const eventSchema = z.object({ eventId: z.string() });

/** Any credentials do on this machine. */
export function localClient(endpoint: string) {
  return { endpoint, region: "us-east-1", credentials: { accessKeyId: "local", secretAccessKey: "local" } };
}

export async function observe(stack: LocalStack): Promise<Observation> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  const businesses: Business[] = [];
  const commands = new Map<string, CommandRecord>();
  const findings: Finding[] = [];
  const pages = paginateScan({ client }, { TableName: stack.about.tables.state, ConsistentRead: true });
  for await (const page of pages) {
    for (const stored of page.Items ?? []) {
      const item = unmarshall(stored);
      const pk = String(item["pk"]);
      if (pk.startsWith("BUSINESS#")) businesses.push(businessSchema.parse(item));
      if (pk.startsWith("COMMAND#")) commands.set(pk, commandSchema.parse(item));
      if (pk.startsWith("FINDING#")) findings.push(findingSchema.parse(item));
    }
  }
  client.destroy();
  const announced = new Set(stack.aws.events().map(({ detail }) => eventSchema.parse(detail).eventId));
  return { businesses, commands, findings, announced, ledger: await readLedger(stack) };
}

/** Over HTTP, as anybody else would read it. */
async function readLedger({ meta }: LocalStack): Promise<Ledger | undefined> {
  if (meta === undefined) return undefined;
  const answer = await fetch(`${meta.url}/_ledger`);
  return ledgerSchema.parse(await answer.json());
}

/** The record of a body that was sent; undefined while there is none. */
export function recordOf(
  { commands }: Observation,
  sent: { queue: CommandType; text: string; sentAt: number },
  clockSkewMs: number,
): CommandRecord | undefined {
  const parsed = parseBody(sent.queue, sent.text, { sentAt: sent.sentAt, clockSkewMs });
  if (parsed.kind === "continuation" || parsed.kind === "notice") return undefined;
  if (parsed.kind === "invalid") return commands.get(keys.command(`sha256:${parsed.hash}`));
  const { commandId, hash } = parsed.request;
  const own = commands.get(keys.command(commandId));
  return own?.hash === hash ? own : commands.get(keys.command(`sha256:${hash}`));
}

/** Nothing is under way that will be settled within the minute. */
export function isQuiet({ businesses }: Observation, now: number): boolean {
  return businesses.every((business) => dueEntries(business).every(({ due }) => due.nextAt > now + 60_000));
}

/**
 * Holds the table against the ledger, and names every difference: a WABA believed funded that is not, one that is funded
 * and not believed so, a live record nobody wrote down, and anything shared twice.
 */
export function compareWithLedger({ businesses, ledger }: Observation, creditLineId: string): string[] {
  if (ledger === undefined) return [];
  const differences: string[] = [];
  const live = new Map<string, string>();
  const attached = new Map<string, Set<string>>();
  // What was shared by hand, and that no command ever asked about, is for reconcile to find.
  const ours = new Set<string>();
  for (const { kind, allocationId = "", lineId, businessId = "", wabaId = "", callNumber } of ledger.changes) {
    if (callNumber !== undefined) ours.add(allocationId);
    if ((kind === "allocation_created" || kind === "allocation_revived") && (lineId ?? creditLineId) === creditLineId) {
      live.set(allocationId, businessId);
    }
    if (kind === "allocation_deleted") live.delete(allocationId);
    if (kind === "waba_attached") attached.set(wabaId, (attached.get(wabaId) ?? new Set()).add(allocationId));
    if (kind === "waba_detached") attached.get(wabaId)?.delete(allocationId);
  }
  function fundingOf(wabaId: string): string[] {
    return [...(attached.get(wabaId) ?? [])].filter((allocationId) => live.has(allocationId));
  }

  const believed = new Map(
    businesses.flatMap((business) => Object.entries(business.wabas).map(([id, waba]) => [id, waba])),
  );
  for (const [wabaId, waba] of believed) {
    const funding = fundingOf(wabaId);
    if (funding.length > 1) differences.push(`WABA ${wabaId} is funded twice: ${funding.join(", ")}`);
    const expected = isShared(waba) && waba.status !== "mismatched" ? waba.allocationId : undefined;
    if (expected !== undefined && !funding.includes(expected)) {
      differences.push(
        `WABA ${wabaId} is ${waba.status} by ${expected} in the table; the ledger says ${funding.join(", ") || "unfunded"}`,
      );
    }
    if (expected === undefined && funding.length > 0) {
      differences.push(
        `WABA ${wabaId} is ${waba.status} in the table; the ledger says funded by ${funding.join(", ")}`,
      );
    }
  }
  for (const wabaId of attached.keys()) {
    const funding = fundingOf(wabaId).filter((allocationId) => ours.has(allocationId));
    if (!believed.has(wabaId) && funding.length > 0)
      differences.push(`WABA ${wabaId} is funded by ${funding.join(", ")}; the table does not know it`);
  }
  const recorded = new Set(businesses.flatMap((business) => Object.keys(business.records)));
  for (const [allocationId, businessId] of live) {
    if (ours.has(allocationId) && !recorded.has(allocationId))
      differences.push(`Allocation ${allocationId} of business ${businessId} is live; the table does not know it`);
  }
  for (const { n, name, violation } of ledger.calls) {
    if (violation !== undefined) differences.push(`Call ${n} (${name}) broke Meta's rules: ${violation}`);
  }
  return differences;
}
