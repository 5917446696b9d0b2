import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { SendMessageCommand } from "@aws-sdk/client-sqs";
import input from "@inquirer/input";
import { type Command, Option } from "commander";
import * as z from "zod";
import { type CommandType, parseBody } from "../../shared/contracts/commands.ts";
import type { Business } from "../../shared/domain/business.ts";
import { isHeld, revokeReasons } from "../../shared/domain/business.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes, OpsError } from "./errors.ts";
import { ago, table } from "./output.ts";
import { explain } from "./outlook.ts";

/** What `share`, `verify` and `revoke --json` print. */
export const sentShape = z.object({
  queue: z.enum(["share", "verify", "revoke"]),
  messageId: z.string().describe("SQS's"),
  command: z.record(z.string(), z.unknown()).describe("as it was sent"),
  outcome: z
    .enum(["done", "refused", "rejected", "blocked"])
    .optional()
    .describe("with --wait, when there was one in time"),
  reason: z.string().optional(),
  event: z.string().optional().describe("the event that ended it"),
});

type Sent = z.output<typeof sentShape>;

const common = {
  commandId: z.string().optional(),
  wait: z.union([z.boolean(), z.coerce.number("must be a number of seconds").positive()]).optional(),
};
const waitSecondsDefault = 60;

const shareOptions = z.object({
  ...common,
  currency: z.string(),
  business: z.string().optional(),
  method: z.string().optional(),
  businessTokenSecret: z.string().optional(),
  reshareAfterRevocation: z.boolean().default(false),
  partnerSwitch: z.boolean().default(false),
});

export function addShare(program: Command): void {
  addSendOptions(program.command("share"))
    .description("share the line with a WABA")
    .argument("<wabaId>")
    .requiredOption("--currency <code>", "the WABA's own")
    .option("--business <id>", "the owner, as a claim: refused when Meta names another")
    .addOption(new Option("--method <method>", "one call or two").choices(["share-and-attach", "share-then-attach"]))
    .option("--business-token-secret <name>", "the secret that holds the customer's token")
    .option("--reshare-after-revocation", "although the line was taken back before")
    .option("--partner-switch", "although another partner still pays")
    .addHelpText("after", examples("share 120000000000021 --currency USD --wait"))
    .action(
      onStage(shareOptions, async (context, [wabaId], options) => {
        const { currency, business: businessId, method, businessTokenSecret } = options;
        const content = {
          wabaId,
          currency,
          businessId,
          method,
          businessTokenSecret,
          ...(options.reshareAfterRevocation ? { reshareAfterRevocation: true } : {}),
          ...(options.partnerSwitch ? { partnerSwitch: true } : {}),
        };
        return send(context, "share", content, options);
      }),
    );
}

const verifyOptions = z.object({ ...common, businessTokenSecret: z.string().optional() });

export function addVerify(program: Command): void {
  addSendOptions(program.command("verify"))
    .description("prove at Meta that a shared line funds its WABA")
    .argument("<wabaId>")
    .option("--business-token-secret <name>", "the secret that holds the customer's token")
    .addHelpText("after", examples("verify 120000000000021 --wait"))
    .action(
      onStage(verifyOptions, (context, [wabaId], options) => {
        const { businessTokenSecret } = options;
        return send(context, "verify", { wabaId, businessTokenSecret }, options);
      }),
    );
}

export const releaseOptions = z.object({ ...common, yesBusinessId: z.string().optional() });
const revokeOptions = z.object({ ...releaseOptions.shape, reason: z.string(), business: z.string().optional() });

export function addRevoke(program: Command): void {
  addReleaseOptions(program.command("revoke"))
    .description("take the line back from a business: from every WABA of it")
    .argument("<id>", "of the business, or of one of its WABAs")
    .addOption(new Option("--reason <reason>", "why").choices(revokeReasons).makeOptionMandatory())
    .option("--business <id>", "the owner of a WABA whose owner nobody knows (from Meta's e-mail)")
    .addHelpText(
      "after",
      examples(
        "revoke 110000000000021 --reason non_payment",
        "revoke 120000000000021 --reason offboarded --yes-business-id 110000000000021 --wait",
      ),
    )
    .addHelpText("after", "\nShows every WABA that will lose its funding, and wants the business's id typed.")
    .action(
      onStage(revokeOptions, async (context, [id = ""], options) => {
        return revokeBusiness(context, await findRevoked(context, id, options.business), options);
      }),
    );
}

/** Shows what will be lost, has the business's id confirmed, and sends the command. */
export async function revokeBusiness(
  context: Context,
  { businessId, wabaId, business }: { businessId: string; wabaId: string | undefined; business: Business | undefined },
  options: z.output<typeof releaseOptions> & { reason: string },
): Promise<ExitCode> {
  context.out.note(renderLoss(businessId, business, context.stage.now()));
  await confirmBusiness(businessId, options.yesBusinessId);
  return send(context, "revoke", { wabaId, businessId, reason: options.reason }, options);
}

export function addReleaseOptions(command: Command): Command {
  const confirmed = "for scripts: the business's id, in place of typing it";
  return addSendOptions(command).option("--yes-business-id <id>", confirmed);
}

function addSendOptions(command: Command): Command {
  return command
    .option("--command-id <id>", "instead of a new one: sending the same again is safe")
    .option("--wait [seconds]", `until it has ended (${waitSecondsDefault} s unless given)`);
}

/** The business that a WABA or business id stands for. Its own command of a WABA names the WABA too, so that the owner is checked. */
async function findRevoked({ stage }: Context, id: string, claim: string | undefined) {
  const pointer = await stage.store.loadPointer(id);
  const businessId = pointer?.businessId ?? claim;
  if (businessId !== undefined) {
    return { wabaId: id, businessId, business: await stage.store.loadBusiness(businessId) };
  }
  const business = await stage.store.loadBusiness(id);
  if (business !== undefined && pointer === undefined) return { wabaId: undefined, businessId: id, business };
  throw new OpsError(
    "owner_unknown",
    `The State table knows no business ${id}, and no owner of a WABA ${id}`,
    "Name the owner: revoke WABA_ID --business BUSINESS_ID. Meta's e-mail to the portfolio's admins names it.",
    exitCodes.refused,
  );
}

function renderLoss(businessId: string, business: Business | undefined, now: number): string {
  const wabas = Object.entries(business?.wabas ?? {}).filter(([, waba]) => isHeld(waba));
  const name = business?.name === undefined ? "" : ` (${business.name})`;
  if (wabas.length === 0) return `The State table knows nothing shared with business ${businessId}${name}.`;
  const rows = wabas.map(([wabaId, waba]) => ({
    WABA: wabaId,
    status: waba.status,
    currency: waba.currency,
    proved: waba.evidence?.verifiedAt === undefined ? "never" : ago(waba.evidence.verifiedAt, now),
  }));
  return `Business ${businessId}${name} will lose the funding of:\n${table(rows)}`;
}

/** @throws OpsError unless the very id was given or typed. */
async function confirmBusiness(businessId: string, given: string | undefined): Promise<void> {
  const typed = given ?? (process.stdin.isTTY ? await askFor(businessId) : undefined);
  if (typed?.trim() === businessId) return;
  const message =
    typed === undefined ? "Not confirmed: nobody can be asked here" : `Not confirmed: it is business ${businessId}`;
  throw new OpsError(
    "not_confirmed",
    message,
    "In a script: --yes-business-id ID. Nothing was sent.",
    exitCodes.refused,
  );
}

function askFor(businessId: string): Promise<string> {
  const message = `Type the business's id (${businessId}) to take the line back from it:`;
  return input({ message }, { output: process.stderr });
}

/** Checks the command as the function will, sends it, and waits for its end if asked to. */
async function send(
  { stage, out }: Context,
  type: CommandType,
  content: Record<string, unknown>,
  { commandId, wait }: { commandId?: string | undefined; wait?: boolean | number | undefined },
): Promise<ExitCode> {
  const command: Record<string, unknown> = {
    version: "1",
    type,
    commandId: commandId ?? `ops-${randomUUID()}`,
    requestedAt: new Date(stage.now()).toISOString(),
    // Long role names: the person's own is at the end.
    requestedBy: (await stage.whoAmI()).slice(-128),
    ...Object.fromEntries(Object.entries(content).filter(([, value]) => value !== undefined)),
  };
  const body = JSON.stringify(command);
  const parsed = parseBody(type, body, { sentAt: stage.now(), clockSkewMs: stage.policy.clockSkewMs });
  if (parsed.kind !== "command") {
    const detail = parsed.kind === "invalid" ? parsed.detail : "not a command";
    throw new OpsError(
      "invalid_command",
      `No command: ${detail}`,
      "Nothing was sent. --help tells the options.",
      exitCodes.usage,
    );
  }
  const { MessageId: messageId = "" } = await stage.sqs.send(
    new SendMessageCommand({ QueueUrl: stage.queues[type].url, MessageBody: body }),
  );
  const sent: Sent = { queue: type, messageId, command };
  if (wait === undefined || wait === false) {
    out.result(sentShape, sent, renderSent);
    return exitCodes.ok;
  }
  const seconds = wait === true ? waitSecondsDefault : wait;
  const ended = await waitForEnd({ stage, out }, parsed.request.commandId, parsed.request.hash, seconds);
  out.result(sentShape, { ...sent, ...ended }, renderSent);
  return ended?.outcome === "done" ? exitCodes.ok : exitCodes.problem;
}

async function waitForEnd(
  { stage, out }: Context,
  commandId: string,
  hash: string,
  seconds: number,
): Promise<Pick<Sent, "outcome" | "reason" | "event"> | undefined> {
  const waiting = out.progress(`Waiting for the end of ${commandId}`);
  try {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(500)) {
      const own = await stage.store.loadCommand(commandId);
      // Under an id that was used before, the answer stands under the content's hash.
      const row = own === undefined || own.hash === hash ? own : await stage.store.loadCommand(`sha256:${hash}`);
      const outcome = row?.outcome ?? (row?.blockedAnnounced === true ? "blocked" : undefined);
      if (outcome !== undefined) return { outcome, reason: row?.reason, event: row?.event?.detailType };
    }
    return undefined;
  } finally {
    waiting.done();
  }
}

function renderSent({ queue, command, outcome, reason, event }: Sent): string {
  const id = String(command["commandId"]);
  const sent = `Sent ${queue} ${id}`;
  if (outcome === undefined) return `${sent}\nNo outcome yet. What becomes of it: credit-lines explain ${id}`;
  const { words, remedy } = reason === undefined ? {} : explain(reason, {});
  const lines = [
    sent,
    reason === undefined ? outcome : `${outcome} (${reason}): ${words}`,
    remedy === undefined ? undefined : `remedy: ${remedy}`,
    event === undefined ? undefined : `announced as ${event}`,
  ];
  return lines.filter((line) => line !== undefined).join("\n");
}
