import type { Command } from "commander";
import * as z from "zod";
import type { Business } from "../../shared/domain/business.ts";
import type { Probe } from "../../shared/domain/probe.ts";
import { closeAttempt, decideSettle, type SettleDecision, settleApplied } from "../../shared/domain/settle.ts";
import { readEstate } from "../../shared/graph/read-estate.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes, OpsError } from "./errors.ts";
import { askingMeta, connectMeta, metaTimeout } from "./meta.ts";
import { instant, span } from "./output.ts";

/** What `settle --json` prints. What it refuses is an error. */
export const settleShape = z.object({
  wabaId: z.string(),
  result: z.enum(["closed", "applied"]).describe("`applied`: the POST had taken effect, and is recorded"),
  by: z.string().describe("who, from STS"),
  note: z.string(),
});

const options = z.object({ why: z.string().min(3, "must say why, for the audit").max(300, "is too long") });

export function addSettle(program: Command): void {
  program
    .command("settle")
    .description("end a share in doubt, after Meta has been read again")
    .argument("<wabaId>")
    .requiredOption("--why <text>", "for the audit")
    .addHelpText("after", examples('settle 120000000000021 --why "the customer gave up, nothing at Meta"'))
    .addHelpText(
      "after",
      "\nRefuses (4) while the settle window is open, while anything may be live, and while one cannot tell.",
    )
    .action(onStage(options, (context, [wabaId = ""], { why }) => settle(context, wabaId, why)));
}

/** A write that loses to a worker's is decided anew; a worker that goes on winning is not to be fought. */
const roundsMax = 3;

async function settle(context: Context, wabaId: string, note: string): Promise<ExitCode> {
  const { stage, out } = context;
  const by = await stage.whoAmI();
  for (let round = 0; round < roundsMax; round += 1) {
    const pointer = await stage.store.loadPointer(wabaId);
    const business = pointer?.businessId === undefined ? undefined : await stage.store.loadBusiness(pointer.businessId);
    if (business === undefined) throw refused({ kind: "nothing-to-settle" }, wabaId, stage.now());
    // Loaded first, then read: the write is guarded by the version that the reading was begun after (T4).
    const probe = await look(context, business, wabaId);
    const decision = decideSettle(business, wabaId, probe, stage.policy);
    if (decision.kind !== "close" && decision.kind !== "applied") throw refused(decision, wabaId, stage.now());
    const change =
      decision.kind === "close"
        ? closeAttempt(business, wabaId, { by, note }, stage.now())
        : settleApplied(business, wabaId, probe, stage.now(), stage.policy);
    const written = await stage.store.commit(business, change, stage.now());
    if (!written.saved) continue;
    const result = decision.kind === "close" ? ("closed" as const) : ("applied" as const);
    out.result(settleShape, { wabaId, result, by, note }, render);
    return exitCodes.ok;
  }
  const message = `The item of WABA ${wabaId} changed while Meta was read`;
  throw new OpsError("changed_meanwhile", message, "Look at it again: credit-lines explain.", exitCodes.refused);
}

function look({ stage, out }: Context, business: Business, wabaId: string): Promise<Probe> {
  const { graph } = connectMeta(stage);
  const signal = metaTimeout();
  const asking = out.progress("Asking Meta");
  return askingMeta(async () => {
    try {
      const startedAt = stage.now();
      const secret = business.wabas[wabaId]?.request.businessTokenSecret;
      const funding = await graph.readFunding(wabaId, secret, signal);
      const estate = await readEstate(graph, business, stage.settings.CREDIT_LINE_ID, stage.now, signal);
      return { startedAt, funding, estate };
    } finally {
      asking.done();
    }
  });
}

type Refusal = Exclude<SettleDecision, { kind: "close" | "applied" }>;

function refused(decision: Refusal, wabaId: string, now: number): OpsError {
  const { message, remedy } = wordsOf(decision, wabaId, now);
  return new OpsError(decision.kind.replaceAll("-", "_"), message, remedy, exitCodes.refused);
}

function wordsOf(decision: Refusal, wabaId: string, now: number): { message: string; remedy: string } {
  switch (decision.kind) {
    case "nothing-to-settle":
      return {
        message: `WABA ${wabaId} has no share in doubt`,
        remedy: `See how it stands: credit-lines explain ${wabaId}`,
      };
    case "wait":
      return {
        message: `The POST may still land: its window ends in ${span(decision.until - now)}, at ${instant(decision.until)}`,
        remedy: "Nothing can be closed before. To end it in any case: credit-lines revoke.",
      };
    case "may-be-live":
      return {
        message: `Meta shows what only the lost POST explains: allocation ${decision.allocationIds.join(", ")}`,
        remedy: `See it: credit-lines explain ${wabaId} --live. To take it back: credit-lines revoke.`,
      };
    case "cannot-tell": {
      const { failure } = decision;
      return {
        message: `Meta does not let us see whether anything came of it: ${failure?.message ?? failure?.reason ?? "no reason given"}`,
        remedy: "Find out why (credit-lines preflight), then again. To end it in any case: credit-lines revoke.",
      };
    }
    default:
      return decision satisfies never;
  }
}

function render({ wabaId, result, by }: z.output<typeof settleShape>): string {
  return result === "closed"
    ? `WABA ${wabaId}: nothing came of the share; it is closed in the name of ${by}.`
    : `WABA ${wabaId}: the share had taken effect, and is recorded. It is verified like any other.`;
}
