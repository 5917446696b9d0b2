import type { Command } from "commander";
import * as z from "zod";
import { resumeRevocations } from "../../shared/store/limit-store.ts";
import { invokeReconcile } from "./control.ts";
import { examples, onStage } from "./command.ts";
import { exitCodes, OpsError } from "./errors.ts";
import { ago, table } from "./output.ts";
import { explain } from "./outlook.ts";
import { addReleaseOptions, releaseOptions, revokeBusiness } from "./send.ts";
import { eachBusiness } from "./table.ts";

/** What `held list --json` prints. */
export const heldShape = z.array(
  z.object({
    businessId: z.string(),
    businessName: z.string().optional(),
    wabaIds: z.array(z.string()).describe("whose removal asked for it"),
    reason: z.string(),
    since: z.iso.datetime(),
  }),
);

export function addHeld(program: Command): void {
  const held = program.command("held").description("automatic revocations that wait for a person").helpCommand(false);
  held
    .command("list")
    .description("all of them")
    .addHelpText("after", examples("held list"))
    .action(
      onStage(z.object({}), async ({ stage, out }) => {
        const found: z.output<typeof heldShape> = [];
        for await (const { businessId, name, held: one } of eachBusiness(stage, out)) {
          if (one === undefined) continue;
          const wabaIds = [...new Set(one.requests.flatMap(({ wabaId }) => wabaId ?? []))];
          const since = new Date(one.since).toISOString();
          found.push({ businessId, businessName: name, wabaIds, reason: one.reason, since });
        }
        out.result(heldShape, found, (rows) => renderHeld(rows, stage.now()));
        return found.length === 0 ? exitCodes.ok : exitCodes.problem;
      }),
    );
  addReleaseOptions(held.command("release"))
    .description("let a held revocation go on: the line is taken back from the whole business")
    .argument("<businessId>")
    .addHelpText(
      "after",
      examples("held release 110000000000021", "held release 110000000000021 --yes-business-id 110000000000021 --wait"),
    )
    .addHelpText(
      "after",
      "\nAn operator's revoke answers what is held. Wants the business's id typed, as `revoke` does.",
    )
    .action(
      onStage(releaseOptions, async (context, [businessId = ""], options) => {
        const business = await context.stage.store.loadBusiness(businessId);
        if (business?.held === undefined) {
          const message = `Nothing is held of business ${businessId}`;
          throw new OpsError("not_held", message, "See what is: credit-lines held list.", exitCodes.refused);
        }
        return revokeBusiness(context, { businessId, wabaId: undefined, business }, { ...options, reason: "operator" });
      }),
    );
}

function renderHeld(rows: z.output<typeof heldShape>, now: number): string {
  const lines = rows.map(({ businessId, wabaIds, reason, since }) => ({
    business: businessId,
    WABAs: wabaIds.join(", "),
    since: ago(Date.parse(since), now),
    why: explain(reason, {}).words,
  }));
  return table(lines);
}

/** What `revocations resume --json` prints. */
export const resumedShape = z.object({
  resumed: z.boolean().describe("false: they were not stopped"),
  served: z.number().optional().describe("entries that the first sweep served; others follow with the next ones"),
});

export function addRevocations(program: Command): void {
  const revocations = program
    .command("revocations")
    .description("the breaker of automatic revocations")
    .helpCommand(false);
  revocations
    .command("resume")
    .description("let automatic revocations go on after too many at once stopped them")
    .addHelpText("after", examples("revocations resume"))
    .addHelpText(
      "after",
      "\nWhat was held is judged again with the next sweeps; each is revoked, or held for a reason of its own.",
    )
    .action(
      onStage(z.object({}), async ({ stage, out }) => {
        if (!(await resumeRevocations(stage.store, stage.now()))) {
          out.result(resumedShape, { resumed: false }, () => "Automatic revocations are not stopped.");
          return exitCodes.refused;
        }
        const { served } = z.object({ served: z.number() }).parse(await invokeReconcile(stage, "due-sweep"));
        out.result(
          resumedShape,
          { resumed: true, served },
          () => `Automatic revocations go on: ${served} looks were asked for.`,
        );
        return exitCodes.ok;
      }),
    );
}
