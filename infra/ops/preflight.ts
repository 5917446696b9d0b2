import { DescribeTableCommand } from "@aws-sdk/client-dynamodb";
import { GetEventSourceMappingCommand } from "@aws-sdk/client-lambda";
import { GetScheduleCommand, SchedulerClient } from "@aws-sdk/client-scheduler";
import { GetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import type { Command } from "commander";
import * as z from "zod";
import type { Read } from "../../shared/graph/caller.ts";
import type { TokenReading } from "../../shared/graph/portfolio.ts";
import { type Context, examples, onStage } from "./command.ts";
import { type ExitCode, exitCodes } from "./errors.ts";
import { askingMeta, connectMeta, type Meta, metaTimeout } from "./meta.ts";
import { instant, span, table } from "./output.ts";
import type { Stage } from "./stage.ts";
import { eachBusiness } from "./table.ts";

const check = z.object({
  check: z.string(),
  result: z.enum(["ok", "warning", "failed", "unknown"]).describe("`unknown`: it could not be found out"),
  detail: z.string(),
  remedy: z.string().optional(),
});

/** What `preflight --json` prints. */
export const preflightShape = z.array(check).describe("in the order of the checks");

type Check = z.output<typeof check>;

export function addPreflight(program: Command): void {
  program
    .command("preflight")
    .description("whether the stage can do its work: token, line, Graph version, webhook, queues, tables, schedules")
    .addHelpText("after", examples("preflight", "preflight --stage prod --json"))
    .addHelpText("after", "\nEnds with 1 when a check failed or could not be made: a deploy pipeline may stop there.")
    .action(onStage(z.object({}), preflight));
}

async function preflight(context: Context): Promise<ExitCode> {
  const { stage, out } = context;
  const meta = connectMeta(stage);
  const checking = out.progress("Checking");
  const checks = [...(await checkAws(stage)), ...(await askingMeta(() => checkMeta(stage, meta)))];
  checking.done();
  out.result(preflightShape, checks, render);
  return checks.every(({ result }) => result === "ok" || result === "warning") ? exitCodes.ok : exitCodes.problem;
}

function render(checks: readonly Check[]): string {
  const rows = checks.map(({ check: name, result, detail }) => ({ check: name, result, detail }));
  const remedies = checks.flatMap(({ check: name, remedy }) => (remedy === undefined ? [] : [`${name}: ${remedy}`]));
  return [table(rows), ...(remedies.length === 0 ? [] : ["", ...remedies])].join("\n");
}

/** Makes one check; what it throws is what could not be found out. */
async function attempt(name: string, make: () => Promise<Omit<Check, "check">>): Promise<Check> {
  try {
    return { check: name, ...(await make()) };
  } catch (error) {
    const detail = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
    const remedy = "May your role read this? Then deploy the stack anew: the part may be gone.";
    return { check: name, result: "unknown", detail, remedy };
  }
}

async function checkAws(stage: Stage): Promise<Check[]> {
  const { dynamo, lambda, sqs, queues, tables, clientConfig, store, now } = stage;
  const checks: Check[] = [];
  for (const [name, TableName] of Object.entries(tables)) {
    const made = await attempt(`table ${name}`, async () => {
      const { Table } = await dynamo.send(new DescribeTableCommand({ TableName }));
      return Table?.TableStatus === "ACTIVE"
        ? { result: "ok", detail: TableName }
        : {
            result: "failed",
            detail: `${TableName} is ${Table?.TableStatus ?? "gone"}`,
            remedy: "Deploy the stack anew.",
          };
    });
    checks.push(made);
  }
  for (const [name, { url, deadLetterUrl }] of Object.entries(queues)) {
    const made = await attempt(`queue ${name}`, async () => {
      const [waiting, dead] = await Promise.all([url, deadLetterUrl].map((one) => depthOf(one)));
      const detail = `${waiting ?? 0} waiting, ${dead ?? 0} dead`;
      return dead === 0
        ? { result: "ok", detail }
        : { result: "warning", detail, remedy: `credit-lines dlq list --queue ${name}` };
    });
    checks.push(made);
  }
  async function depthOf(QueueUrl: string): Promise<number> {
    const AttributeNames = ["ApproximateNumberOfMessages" as const];
    const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames }));
    return Number(Attributes?.ApproximateNumberOfMessages);
  }

  checks.push(
    await attempt("event sources", async () => {
      const paused: string[] = [];
      const ids = await stage.resources("AWS::Lambda::EventSourceMapping");
      for (const UUID of ids) {
        const { State, FunctionArn } = await lambda.send(new GetEventSourceMappingCommand({ UUID }));
        if (State !== "Enabled") paused.push(`${FunctionArn?.split(":").at(-1) ?? UUID} is ${State ?? "gone"}`);
      }
      return paused.length === 0
        ? { result: "ok", detail: `${ids.length} enabled` }
        : {
            result: "failed",
            detail: paused.join(", "),
            remedy:
              "Who paused it, and why: credit-lines reconcile status. Then: credit-lines resume share|verify|revoke",
          };
    }),
  );
  const scheduler = new SchedulerClient(clientConfig);
  checks.push(
    await attempt("schedules", async () => {
      const names = await stage.resources("AWS::Scheduler::Schedule");
      const states = await Promise.all(names.map((Name) => scheduler.send(new GetScheduleCommand({ Name }))));
      const off = states.filter(({ State }) => State !== "ENABLED").map(({ Name }) => Name ?? "one");
      return off.length === 0 && names.length > 0
        ? { result: "ok", detail: states.map(({ ScheduleExpression }) => ScheduleExpression).join(", ") }
        : {
            result: "failed",
            detail: `disabled: ${off.join(", ") || "there is none"}`,
            remedy: "Enable it in EventBridge Scheduler, or deploy anew.",
          };
    }),
  );
  scheduler.destroy();
  checks.push(
    await attempt("limits", async () => {
      const { tokenIsDead, blockedUntil = 0, reading } = await store.loadLimits();
      if (tokenIsDead)
        return { result: "failed", detail: "commands wait: the system token is dead", remedy: tokenRemedy(stage) };
      if (blockedUntil > now()) {
        return { result: "failed", detail: `Meta has throttled us until ${instant(blockedUntil)}`, remedy: "Wait." };
      }
      const used =
        reading === undefined ? "not told lately" : `${Math.round(reading.used * 100)} % of the hour's calls used`;
      return { result: "ok", detail: used };
    }),
  );
  return checks;
}

function tokenRemedy({ systemTokenSecret }: Stage): string {
  return `Make a new token of the system user in Meta Business Suite, and put it into the secret ${systemTokenSecret}.`;
}

/** Last days of the Graph versions that Meta has named (graph-api.md §2). */
const lastDays: Readonly<Record<string, string>> = {
  "v21.0": "2027-01-21",
  "v24.0": "2028-02-18",
  "v25.0": "2028-07-29",
};
const warningMs = 90 * 24 * 3_600_000;

const scopesNeeded = ["business_management", "whatsapp_business_management"];

async function checkMeta(stage: Stage, meta: Meta): Promise<Check[]> {
  const { portfolio, caller, answeredVersion } = meta;
  const { settings } = stage;
  const { CREDIT_LINE_ID: lineId, PARTNER_BUSINESS_ID: partnerId } = settings;
  const now = stage.now();
  const signal = metaTimeout();
  const token = await portfolio.debugToken(caller.tokens.system, signal);
  const lines = await portfolio.listCreditLines(partnerId, signal);
  const line = await portfolio.readLine(lineId, signal);

  const checks: Check[] = [
    judge("token", token, stage, (reading) => judgeToken(reading, stage)),
    judge("scopes", token, stage, ({ scopes }) => {
      const missing = scopesNeeded.filter((scope) => !scopes.includes(scope));
      return missing.length === 0
        ? { result: "ok", detail: scopes.join(", ") }
        : {
            result: "failed",
            detail: `missing: ${missing.join(", ")}`,
            remedy: `${tokenRemedy(stage)} It needs ${scopesNeeded.join(" and ")}.`,
          };
    }),
    judge("line", lines, stage, (found) => {
      const own = found.find(({ creditLineId }) => creditLineId === lineId);
      return own === undefined
        ? {
            result: "failed",
            detail: `${lineId} is not among the ${found.length} lines of business ${partnerId}`,
            remedy: "Compare creditLineId and partnerBusinessId of the configuration with Meta Business Suite.",
          }
        : { result: "ok", detail: `${lineId}${own.legalEntityName === undefined ? "" : `, ${own.legalEntityName}`}` };
    }),
    judge("line access", line, stage, ({ accessRevoked, unreadable }) => {
      if (accessRevoked === true) {
        return {
          result: "failed",
          detail: "Meta has taken it",
          remedy: "Only Meta can give it back: open a case with the line's id.",
        };
      }
      if (unreadable.includes("is_access_revoked")) {
        return {
          result: "unknown",
          detail: "the token may not read it",
          remedy: "Give the system user its role on the portfolio.",
        };
      }
      return { result: "ok", detail: "not revoked" };
    }),
    judge("credit", line, stage, ({ balance, creditAvailable, maxBalance }) => {
      const amounts = [
        ["balance", balance],
        ["available", creditAvailable],
        ["at most", maxBalance],
      ] as const;
      const known = amounts.flatMap(([name, value]) =>
        value?.amount === undefined ? [] : [`${name} ${value.amount} ${value.currency ?? ""}`.trimEnd()],
      );
      return { result: "ok", detail: known.join(", ") || "Meta does not say" };
    }),
    { check: "currencies", result: "ok", detail: settings.CURRENCIES.join(", ") },
    judgeVersion(
      settings.GRAPH_API_VERSION,
      answeredVersion(),
      [token, lines, line].some(({ ok }) => ok),
      now,
    ),
    await checkWebhook(stage, meta, token),
  ];
  return checks;
}

/** A check of what Meta answered; without an answer, why there is none. */
function judge<T>(name: string, reply: Read<T>, stage: Stage, verdict: (value: T) => Omit<Check, "check">): Check {
  if (reply.ok) return { check: name, ...verdict(reply.value) };
  const { class: kind, message, reason } = reply.failure;
  const detail = message ?? reason;
  if (message?.startsWith("secret: AccessDenied") === true) {
    const remedy = `This role reads no secret: take the one that acts (credit-lines-${stage.name}-on-call-acting).`;
    return { check: name, result: "unknown", detail, remedy };
  }
  if (kind === "token_dead") return { check: name, result: "failed", detail, remedy: tokenRemedy(stage) };
  if (kind === "transient")
    return { check: name, result: "unknown", detail, remedy: "Try again; then Meta's status page." };
  const remedy = "Give the system user its role on the portfolio (Admin or Financial Editor) and its permissions.";
  return { check: name, result: "failed", detail, remedy };
}

function judgeToken({ valid, expiresAtSeconds = 0 }: TokenReading, stage: Stage): Omit<Check, "check"> {
  const remedy = tokenRemedy(stage);
  if (!valid) return { result: "failed", detail: "not valid", remedy };
  if (expiresAtSeconds === 0) return { result: "ok", detail: "valid, never expires" };
  const leftMs = expiresAtSeconds * 1000 - stage.now();
  const detail = `valid, expires in ${span(leftMs)}`;
  if (leftMs <= 0) return { result: "failed", detail: "expired", remedy };
  return leftMs < warningMs / 6 ? { result: "warning", detail, remedy } : { result: "ok", detail };
}

function judgeVersion(asked: string, answered: string | undefined, hasAnswer: boolean, now: number): Check {
  const name = "Graph version";
  if (!hasAnswer)
    return { check: name, result: "unknown", detail: `${asked} asked, no answer`, remedy: "See the checks above." };
  if (answered !== undefined) {
    const detail = `${asked} asked, ${answered} answered`;
    return { check: name, result: "failed", detail, remedy: "Deploy with a graphApiVersion that Meta still serves." };
  }
  const lastDay = lastDays[asked];
  const detail = `${asked} asked and answered, last day ${lastDay ?? "not known here"}`;
  if (lastDay !== undefined && Date.parse(lastDay) - now < warningMs) {
    return {
      check: name,
      result: "warning",
      detail,
      remedy: "Deploy with a newer graphApiVersion, after reading its changelog.",
    };
  }
  return { check: name, result: "ok", detail };
}

/** E16 of one WABA that is shared: whether Meta tells our app that a customer leaves. */
async function checkWebhook(stage: Stage, { portfolio }: Meta, token: Read<TokenReading>): Promise<Check> {
  const name = "webhook";
  const [hasUrl] = await stage.resources("AWS::Lambda::Url");
  if (hasUrl === undefined) {
    return {
      check: name,
      result: "ok",
      detail: "the stage has none: customers who leave are found by the estate scan",
    };
  }
  const sample = await sampleWaba(stage);
  if (sample === undefined)
    return { check: name, result: "ok", detail: "nothing is shared yet: no subscription to look at" };
  const apps = await portfolio.readSubscribedApps(sample, undefined, metaTimeout());
  return judge(name, apps, stage, (ids) => {
    const appId = token.ok ? token.value.appId : undefined;
    const isSubscribed = appId === undefined ? ids.length > 0 : ids.includes(appId);
    return isSubscribed
      ? { result: "ok", detail: `the app is subscribed to WABA ${sample}` }
      : {
          result: "failed",
          detail: `the app is not subscribed to WABA ${sample}: nobody tells us when this customer leaves`,
          remedy: "Subscribe the app to the WABA (POST /{WABA}/subscribed_apps); onboarding must do so for each.",
        };
  });
}

async function sampleWaba(stage: Stage): Promise<string | undefined> {
  // Any will do: of an item that cannot be read, `list` and an alarm tell.
  for await (const { wabas } of eachBusiness(stage, { note: () => {} })) {
    const shared = Object.entries(wabas).find(([, { status }]) => status === "verified" || status === "shared");
    if (shared !== undefined) return shared[0];
  }
  return undefined;
}
