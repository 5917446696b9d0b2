import * as z from "zod";
import type { Business } from "../../shared/domain/business.ts";
import { isShared, newBusiness } from "../../shared/domain/business.ts";
import type { EstateReading, RecordReading, WabaReading } from "../../shared/domain/readings.ts";
import { fundingRecord, isConfirmedDeleted } from "../../shared/domain/readings.ts";
import type { Failure } from "../../shared/domain/reasons.ts";
import { storedFailure } from "../../shared/graph/errors.ts";
import { readEstate } from "../../shared/graph/read-estate.ts";
import type { Context } from "./command.ts";
import { askingMeta, connectMeta, type Meta, metaTimeout } from "./meta.ts";
import { ago, table } from "./output.ts";
import type { Subject } from "./subject.ts";

const wabaView = z.object({
  wabaId: z.string(),
  view: z.enum(["table", "evidence", "Meta"]),
  at: z.iso.datetime().optional(),
  status: z.string().optional(),
  businessId: z.string().optional(),
  currency: z.string().optional(),
  payer: z.string().describe("what pays for it: `us`, `nothing`, a funding id, or `unknown`"),
});

const recordView = z.object({
  allocationConfigId: z.string(),
  creditLineId: z.string(),
  table: z.string().describe("`unknown` | `live` | `deleted` as recorded, or `not recorded`"),
  meta: z.string().describe("`live` | `deleted` | `strange` | `missing` | `unreadable`"),
  listed: z.boolean().describe("in Meta's list of the line's records for the business"),
  receivingBusinessId: z.string().optional(),
  receivingCredentialId: z.string().optional(),
});

export const comparisonShape = z.object({
  askedAt: z.iso.datetime(),
  wabas: z.array(wabaView),
  records: z.array(recordView),
  unread: z.array(z.string()).describe("what Meta did not let us see: of that, nothing is known"),
  differences: z.array(z.string()).describe("between the table and Meta, in words; empty: they agree"),
});

type Comparison = z.output<typeof comparisonShape>;

/** What Meta shows of a subject now, beside what the table says and what it last saw. Read with the system token alone. */
export async function compareWithMeta({ stage, out }: Context, subject: Subject): Promise<Comparison> {
  const meta = connectMeta(stage);
  const asking = out.progress("Asking Meta");
  try {
    return await askingMeta(() => compare(subject, meta, stage.settings.CREDIT_LINE_ID, stage.now));
  } finally {
    asking.done();
  }
}

async function compare(
  subject: Subject,
  { graph }: Meta,
  creditLineId: string,
  now: () => number,
): Promise<Comparison> {
  const signal = metaTimeout();
  const askedAt = now();
  const unread: string[] = [];
  function cannotSee(what: string, failure: Failure | undefined): void {
    unread.push(`${what}: ${failure?.message ?? failure?.reason ?? "no reason given"}`);
  }

  const wabaIds = subject.wabaId === undefined ? Object.keys(subject.business?.wabas ?? {}) : [subject.wabaId];
  const readings = new Map<string, WabaReading>();
  for (const wabaId of wabaIds) {
    const reply = await graph.readWaba(wabaId, undefined, signal);
    if (!reply.ok) {
      cannotSee(`WABA ${wabaId}`, storedFailure(reply.failure));
      continue;
    }
    readings.set(wabaId, reply.value);
    if (!reply.value.funding.known) cannotSee(`what pays for WABA ${wabaId}`, reply.value.funding.failure);
  }

  const owner = subject.business?.businessId ?? [...readings.values()][0]?.ownerBusinessId;
  const business = subject.business ?? (owner === undefined ? undefined : newBusiness(owner, askedAt));
  const estate = business === undefined ? undefined : await readEstate(graph, business, creditLineId, now, signal);
  if (estate?.complete === false) cannotSee(`the records of business ${owner ?? ""}`, estate.failure);
  for (const { allocationId, seen, failure } of estate?.records ?? []) {
    if (seen === "unreadable") cannotSee(`allocation ${allocationId}`, failure);
  }

  return {
    askedAt: iso(askedAt),
    wabas: wabaIds.flatMap((wabaId) => viewsOf(wabaId, business, readings.get(wabaId), estate)),
    records: (estate?.records ?? []).map((record) => viewOf(record, business, estate)),
    unread,
    differences: [
      ...wabaIds.flatMap((wabaId) => wabaDifferences(wabaId, business, readings.get(wabaId), estate)),
      ...(estate?.records ?? []).flatMap((record) => recordDifferences(record, business)),
    ],
  };
}

function viewsOf(
  wabaId: string,
  business: Business | undefined,
  reading: WabaReading | undefined,
  estate: EstateReading | undefined,
): Comparison["wabas"] {
  const waba = business?.wabas[wabaId];
  const evidence = waba?.evidence;
  const { primaryFundingId: paid, receivingCredentialId: ours } = evidence ?? {};
  return [
    {
      wabaId,
      view: "table",
      status: waba?.status ?? "not recorded",
      businessId: waba === undefined ? undefined : business?.businessId,
      currency: waba?.currency,
      payer: waba === undefined ? "unknown" : isShared(waba) && waba.status !== "mismatched" ? "us" : "not us",
    },
    {
      wabaId,
      view: "evidence",
      at: evidence === undefined ? undefined : iso(evidence.checkedAt),
      payer: evidence === undefined ? "unknown" : paid === undefined ? "nothing" : paid === ours ? "us" : paid,
    },
    {
      wabaId,
      view: "Meta",
      at: reading === undefined ? undefined : iso(reading.startedAt),
      businessId: reading?.ownerBusinessId,
      currency: reading?.currency,
      payer: payerAtMeta(business, reading, estate),
    },
  ];
}

function payerAtMeta(
  business: Business | undefined,
  reading: WabaReading | undefined,
  estate: EstateReading | undefined,
): string {
  if (reading?.funding.known !== true) return "unknown";
  const { id } = reading.funding;
  if (id === undefined) return "nothing";
  return paysFor(business, reading, estate) === undefined ? id : "us";
}

function paysFor(
  business: Business | undefined,
  reading: WabaReading,
  estate: EstateReading | undefined,
): RecordReading | undefined {
  return business === undefined
    ? undefined
    : fundingRecord(business.businessId, reading.funding, estate?.records ?? []);
}

function viewOf(
  { allocationId, creditLineId, seen, receivingBusinessId, receivingCredentialId }: RecordReading,
  business: Business | undefined,
  estate: EstateReading | undefined,
): Comparison["records"][number] {
  return {
    allocationConfigId: allocationId,
    creditLineId,
    table: business?.records[allocationId]?.state ?? "not recorded",
    meta: seen,
    listed: estate?.listed[allocationId] !== undefined,
    receivingBusinessId,
    receivingCredentialId,
  };
}

/** Only what was read is compared: what could not be read differs from nothing. */
function wabaDifferences(
  wabaId: string,
  business: Business | undefined,
  reading: WabaReading | undefined,
  estate: EstateReading | undefined,
): string[] {
  const waba = business?.wabas[wabaId];
  if (reading === undefined) return [];
  const found: string[] = [];
  const { ownerBusinessId: owner, currency, funding } = reading;
  if (business !== undefined && owner !== undefined && owner !== business.businessId) {
    found.push(`WABA ${wabaId} is of business ${business.businessId} in the table; Meta says ${owner}`);
  }
  if (waba !== undefined && currency !== undefined && currency !== waba.currency) {
    found.push(`WABA ${wabaId} is in ${waba.currency} in the table; Meta says ${currency}`);
  }
  if (!funding.known) return found;
  const record = paysFor(business, reading, estate);
  const believed = isShared(waba) && (waba.status === "shared" || waba.status === "verified");
  if (believed && record === undefined) {
    found.push(`WABA ${wabaId} is ${waba.status} in the table; Meta shows ${funding.id ?? "nothing"} paying for it`);
  }
  if (!believed && record !== undefined && waba?.status !== "sharing" && waba?.status !== "revoking") {
    const status = waba?.status ?? "not recorded";
    found.push(`WABA ${wabaId} is ${status} in the table; Meta shows our record ${record.allocationId} paying for it`);
  }
  return found;
}

function recordDifferences(
  { allocationId, seen, receivingBusinessId: receiver }: RecordReading,
  business: Business | undefined,
): string[] {
  const record = business?.records[allocationId];
  if (seen === "strange") return [`Allocation ${allocationId} has a status at Meta that nobody documents`];
  if (receiver !== undefined && receiver !== business?.businessId) {
    return [`Allocation ${allocationId} names business ${receiver}`];
  }
  if (seen === "live" && record === undefined)
    return [`Allocation ${allocationId} is live at Meta; the table does not know it`];
  if (seen === "live" && record !== undefined && isConfirmedDeleted(record)) {
    return [`Allocation ${allocationId} was confirmed deleted; Meta shows it live`];
  }
  if ((seen === "deleted" || seen === "missing") && record?.state === "live") {
    return [`Allocation ${allocationId} is live in the table; Meta shows it ${seen}`];
  }
  return [];
}

export function renderComparison({ wabas, records, unread, differences }: Comparison, now: number): string {
  const wabaRows = wabas.map(({ wabaId, view, at, status, businessId, currency, payer }) => ({
    WABA: wabaId,
    view,
    "as of": at === undefined ? undefined : ago(Date.parse(at), now),
    status,
    business: businessId,
    currency,
    "paid for by": payer,
  }));
  const recordRows = records.map((one) => ({
    allocation: one.allocationConfigId,
    table: one.table,
    Meta: one.meta,
    listed: one.listed ? "yes" : "no",
    business: one.receivingBusinessId,
    credential: one.receivingCredentialId,
  }));
  return [
    table(wabaRows),
    ...(records.length === 0 ? ["no records"] : [table(recordRows)]),
    ...unread.map((one) => `cannot be seen: ${one}`),
    ...(differences.length === 0 ? ["table and Meta agree, as far as they were read"] : differences),
  ].join("\n");
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
