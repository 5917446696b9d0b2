import type { Command } from "commander";
import * as z from "zod";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import { examples, onStage } from "./command.ts";
import { exportCsv, exportHelp } from "./csv.ts";
import { table } from "./output.ts";
import { eachAuditRow } from "./table.ts";

const time = z.iso.datetime();
const span = { since: time, until: time.optional().describe("absent: not over at the month's end") };
const ids = { businessId: z.string().optional(), wabaId: z.string().optional() };

const share = z.object({
  wabaId: z.string(),
  businessId: z.string(),
  currency: z.string(),
  creditLineId: z.string(),
  allocationConfigId: z.string().optional(),
  from: time.describe("when Meta accepted the share, or it was adopted"),
  until: time.optional().describe("when the revocation was proved; absent: still shared at the month's end"),
  provedAt: time.optional().describe("when it was first proved that we fund it; absent: never before the month's end"),
  daysInMonth: z.number().describe("of the month, to a hundredth"),
});

/** What `report --json` prints. */
export const reportShape = z.object({
  month: z.string(),
  shares: z.array(share).describe("everything that was shared at any time of the month"),
  inDoubt: z
    .array(z.object({ ...ids, commandId: z.string().optional(), ...span }))
    .describe("shares in doubt: they may have cost"),
  leaving: z
    .array(z.object({ ...ids, reason: z.string().optional(), ...span }))
    .describe("unshared, but funded: from the beginning or the hold of a revocation to its proof"),
  drift: z.array(z.object({ ...ids, kind: z.string(), ...span })).describe("differences from Meta that a scan found"),
});

export type Report = z.output<typeof reportShape>;

const options = z.object({
  month: z.string().regex(/^\d{4}-(0[1-9]|1[0-2])$/, "must look like 2026-01"),
  export: z.string().optional(),
});

export function addReport(program: Command): void {
  program
    .command("report")
    .description("for the finance team: what was shared with whom, from when to when, and what was in doubt (UTC)")
    .requiredOption("--month <YYYY-MM>", "the month")
    .option("--export <file>", `the shares: ${exportHelp}`)
    .addHelpText("after", examples("report --month 2026-01", "report --month 2026-01 --export january.csv"))
    .action(
      onStage(options, async ({ stage, out }, _args, { month, export: file }) => {
        const from = Date.parse(`${month}-01T00:00:00Z`);
        const until = Math.min(startOfNext(month), stage.now());
        const reading = out.progress("Reading the Audit table");
        const events = new Map<string, RecordedEvent>();
        for await (const row of eachAuditRow(stage, until))
          for (const event of row.events) events.set(event.eventId, event);
        reading.done();
        const report = monthlyReport([...events.values()], month, from, until);
        const shown = exportCsv(out, file, Object.keys(share.shape), report.shares);
        out.result(reportShape, report, (value) => shown ?? render(value));
      }),
    );
}

function startOfNext(month: string): number {
  const [year = 0, number = 0] = month.split("-").map(Number);
  return Date.UTC(year, number, 1);
}

type Open = { since: number; until?: number };
type OpenShare = Open & { event: RecordedEvent; provedAt?: number };
type OpenSpan = Open & { event: RecordedEvent };

/**
 * Reads the months' history from its events alone. All that was open at any time from `from` until `until` (ms) is in it.
 * @param events of the whole past, in any order, each once.
 */
export function monthlyReport(events: readonly RecordedEvent[], month: string, from: number, until: number): Report {
  const shares: OpenShare[] = [];
  const doubts: OpenSpan[] = [];
  const leaving: OpenSpan[] = [];
  const drift: OpenSpan[] = [];

  function close(spans: Open[], at: number): void {
    for (const one of spans) one.until ??= at;
  }
  function ofWaba<S extends OpenSpan>(spans: S[], { wabaId }: RecordedEvent): S[] {
    return spans.filter((one) => one.until === undefined && one.event.wabaId === wabaId);
  }
  function ofBusiness<S extends OpenSpan>(spans: S[], { businessId }: RecordedEvent): S[] {
    return spans.filter((one) => one.until === undefined && one.event.businessId === businessId);
  }

  for (const event of events.toSorted((one, other) => one.occurredAt - other.occurredAt)) {
    const { occurredAt: at, detailType } = event;
    if (at >= until) break;
    switch (detailType) {
      case "Share Accepted":
      case "Share Verified":
      case "Share Pending": {
        close(ofWaba(doubts, event), at);
        const [known] = ofWaba(shares, event);
        const proved = detailType === "Share Verified" ? { provedAt: at } : {};
        if (known === undefined) shares.push({ since: at, event, ...proved });
        if (known !== undefined && detailType === "Share Verified") known.provedAt ??= at;
        break;
      }
      case "Share In Doubt":
        if (ofWaba(doubts, event).length === 0) doubts.push({ since: at, event });
        break;
      case "Share Refused":
        if (event.reason === "given_up" || event.reason === "refused_by_meta") close(ofWaba(doubts, event), at);
        break;
      case "Revocation Started":
      case "Revocation Held":
        if (ofBusiness(leaving, event).length === 0 && ofBusiness(shares, event).length > 0) {
          leaving.push({ since: at, event });
        }
        break;
      case "Credit Line Revoked":
        // By the business: the event names a hundred WABAs at most.
        close([...ofBusiness(shares, event), ...ofBusiness(doubts, event), ...ofBusiness(leaving, event)], at);
        break;
      case "Drift Found":
        drift.push({ since: at, event });
        break;
      case "Drift Closed":
        close(
          ofBusiness(drift, event).filter(
            (one) => one.event.reason === event.reason && one.event.wabaId === event.wabaId,
          ),
          at,
        );
        break;
      // Still shared, or nothing of the line's.
      case "Share Mismatched":
      case "Verify Refused":
      case "Revoke Refused":
      case "Revocation Incomplete":
      case "Revocations Stopped":
      case "Revocations Resumed":
      case "Command Rejected":
      case "Command Blocked":
      case "Account Changed":
        break;
    }
  }

  function inMonth<S extends Open>(spans: S[]): S[] {
    return spans.filter((one) => one.until === undefined || one.until >= from);
  }
  return {
    month,
    shares: inMonth(shares).map(({ event, since, until: end, provedAt }) => ({
      wabaId: event.wabaId ?? "",
      businessId: event.businessId ?? "",
      currency: event.currency ?? "",
      creditLineId: event.creditLineId ?? "",
      allocationConfigId: event.allocationConfigId,
      from: iso(since),
      until: isoIf(end),
      provedAt: isoIf(provedAt),
      daysInMonth: Math.round(((end ?? until) - Math.max(since, from)) / 864_000) / 100,
    })),
    inDoubt: inMonth(doubts).map((one) => ({ ...aboutOf(one), commandId: one.event.commandId })),
    leaving: inMonth(leaving).map((one) => ({ ...aboutOf(one), reason: one.event.reason })),
    drift: inMonth(drift).map((one) => ({ ...aboutOf(one), kind: one.event.reason ?? "unknown" })),
  };
}

function aboutOf({ event: { businessId, wabaId }, since, until }: OpenSpan) {
  return { businessId, wabaId, since: iso(since), until: isoIf(until) };
}

function render({ month, shares, inDoubt, leaving, drift }: Report): string {
  const rows = shares.map((one) => ({
    WABA: one.wabaId,
    business: one.businessId,
    currency: one.currency,
    from: one.from.slice(0, 10),
    until: one.until?.slice(0, 10),
    proved: one.provedAt?.slice(0, 10) ?? "never",
    days: one.daysInMonth,
  }));
  const perCurrency = Map.groupBy(shares, ({ currency }) => currency);
  const counts = [...perCurrency].map(([currency, of]) => `${of.length} in ${currency}`).toSorted();
  return [
    `Shared in ${month} (UTC): ${counts.join(", ") || "nothing"}`,
    table(rows),
    "",
    `In doubt\n${table(inDoubt.map(spanRow))}`,
    "",
    `Unshared, but funded\n${table(leaving.map(spanRow))}`,
    "",
    `Differences from Meta\n${table(drift.map((one) => ({ kind: one.kind, ...spanRow(one) })))}`,
  ].join("\n");
}

function spanRow(one: {
  wabaId?: string | undefined;
  businessId?: string | undefined;
  since: string;
  until?: string | undefined;
}) {
  return { business: one.businessId, WABA: one.wabaId, since: one.since, until: one.until };
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

function isoIf(at: number | undefined): string | undefined {
  return at === undefined ? undefined : iso(at);
}
