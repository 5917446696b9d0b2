import { type Command, Option } from "commander";
import * as z from "zod";
import { ageOption, examples, onStage } from "./command.ts";
import { exportCsv, exportHelp } from "./csv.ts";
import { ago, count, table } from "./output.ts";
import { eachBusiness } from "./table.ts";

const row = z.object({
  wabaId: z.string(),
  businessId: z.string(),
  businessName: z.string().optional(),
  status: z.string(),
  currency: z.string(),
  creditLineId: z.string(),
  allocationConfigId: z.string().optional(),
  requestedAt: z.iso.datetime().describe("when the share that made it was requested"),
  checkedAt: z.iso.datetime().optional().describe("when Meta was last asked what funds it"),
  verifiedAt: z.iso.datetime().optional().describe("when it was last proved that we fund it"),
  lastFailure: z.string().optional().describe("the reason of the last failure that was not mended since"),
});

/** What `list --json` prints. */
export const listShape = z.array(row).describe("one entry for each WABA of the State table");

type Row = z.output<typeof row>;

const listOptions = z.object({
  status: z.string().optional(),
  currency: z.string().optional(),
  olderThan: ageOption.optional(),
  export: z.string().optional(),
});
type ListOptions = z.output<typeof listOptions>;

const statuses = ["sharing", "allocated", "shared", "verified", "pending", "mismatched", "revoking", "revoked"];

export function addList(program: Command): void {
  program
    .command("list")
    .description("the WABAs of the State table")
    .addOption(new Option("--status <status>", "only these").choices(statuses))
    .option("--currency <code>", "only these")
    .option("--older-than <age>", "only those not proved for so long (or never), such as 12h, 7d")
    .option("--export <file>", exportHelp)
    .addHelpText(
      "after",
      examples(
        "list --status mismatched",
        "list --older-than 7d --export estate.csv",
        "list --export csv                          on standard output",
      ),
    )
    .action(
      onStage(listOptions, async ({ stage, out }, _args, options) => {
        const reading = out.progress("Reading the State table");
        const rows: Row[] = [];
        for await (const business of eachBusiness(stage, out)) {
          for (const [wabaId, waba] of Object.entries(business.wabas)) {
            const { evidence } = waba;
            const one: Row = {
              wabaId,
              businessId: business.businessId,
              businessName: business.name,
              status: waba.status,
              currency: waba.currency,
              creditLineId: waba.creditLineId,
              allocationConfigId: waba.allocationId,
              requestedAt: iso(waba.request.requestedAt),
              checkedAt: evidence === undefined ? undefined : iso(evidence.checkedAt),
              verifiedAt: evidence?.verifiedAt === undefined ? undefined : iso(evidence.verifiedAt),
              lastFailure: waba.lastFailure?.reason,
            };
            if (isWanted(one, options, stage.now())) rows.push(one);
          }
          reading.say(`Reading the State table: ${count(rows.length, "WABA")}`);
        }
        reading.done();
        rows.sort((one, other) => one.wabaId.localeCompare(other.wabaId));
        const { export: to } = options;
        const shown = exportCsv(out, to, Object.keys(row.shape), rows);
        out.result(listShape, rows, (found) => shown ?? render(found, stage.now()));
      }),
    );
}

function isWanted(one: Row, { status, currency, olderThan }: ListOptions, now: number): boolean {
  if (status !== undefined && one.status !== status) return false;
  if (currency !== undefined && one.currency !== currency) return false;
  if (olderThan === undefined) return true;
  return one.verifiedAt === undefined || now - Date.parse(one.verifiedAt) > olderThan;
}

function render(rows: readonly Row[], now: number): string {
  const lines = rows.map((one) => ({
    WABA: one.wabaId,
    business: one.businessId,
    status: one.status,
    currency: one.currency,
    proved: one.verifiedAt === undefined ? "never" : ago(Date.parse(one.verifiedAt), now),
    requested: ago(Date.parse(one.requestedAt), now),
    "last failure": one.lastFailure,
  }));
  return `${table(lines)}\n${count(rows.length, "WABA")}`;
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
