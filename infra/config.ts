import { readFileSync } from "node:fs";
import * as z from "zod";
import { mayStartNames } from "../functions/reconcile/environment.ts";

/**
 * Everything about a stage that is not code (design.md §9). Nothing here is secret: secrets are named, never held.
 * Times carry their unit in the name.
 */
const id = z.string().regex(/^\d{5,20}$/, "must be a string of 5 to 20 digits");
const secretName = z.string().regex(/^[A-Za-z0-9/_+=.@-]{1,256}$/, "must be a Secrets Manager name, not an ARN");
const accountId = z.string().regex(/^\d{12}$/, "must be a 12-digit AWS account id");
const fraction = z.number().min(0).max(1);

/** Time-outs of the functions. A share's bounds the settle window: no byte of a POST leaves later than this after its send deadline (A1). */
export const functionTimeoutSeconds = {
  share: 30,
  verify: 60,
  revoke: 60,
  publish: 60,
  reconcile: 60,
  webhook: 30,
} as const;

/** On one machine a message that was lost with its process comes back in a minute, not in six. */
const localTimeoutSeconds = 10;

export function timeoutSecondsOf(stage: string, name: keyof typeof functionTimeoutSeconds): number {
  return stage === "local" ? localTimeoutSeconds : functionTimeoutSeconds[name];
}

/** What waits for its verification too long, or was adopted, is spread over the time until the next scan; here, over seconds. */
export function verificationSpreadSeconds({ stage, estateScanHours }: StageConfig): number {
  return stage === "local" ? localSpreadSeconds : estateScanHours * 3600;
}
const localSpreadSeconds = 5;

const metaBaseUrl = "https://graph.facebook.com";

/** The two names a stage's secrets go by. */
export function systemTokenSecretName(stage: string): string {
  return `credit-lines/${stage}/system-token`;
}
function defaultBusinessTokenSecretPrefix(stage: string): string {
  return `credit-lines/${stage}/business-token/`;
}

const stageConfigSchema = z
  .strictObject({
    stage: z.string().regex(/^[a-z][a-z0-9-]{0,19}$/, "must be 1-20 of a-z 0-9 -, starting with a letter"),
    partnerBusinessId: id,
    creditLineId: id,
    systemUserId: id.optional(),
    shareMethod: z.enum(["share-and-attach", "share-then-attach"]).default("share-and-attach"),
    currencies: z
      .array(z.string().regex(/^[A-Z]{3}$/, "must be an ISO 4217 code"))
      .min(1)
      .default(["AUD", "EUR", "GBP", "IDR", "INR", "USD"]),
    graphApiVersion: z
      .string()
      .regex(/^v\d{2,3}\.0$/, "must look like v25.0")
      .default("v25.0"),
    graphApiBaseUrl: z.url({ protocol: /^https?$/, error: "must be an http or https URL" }).default(metaBaseUrl),
    graphTimeoutMs: z.int().min(100).max(20_000).default(8000),
    settleWindowSeconds: z.number().positive().default(1800),
    clockSkewSeconds: z.number().min(0).default(300),
    secondPost: z.enum(["auto", "person"]).default("auto"),
    verifyGraceSeconds: z.array(z.number().positive()).min(1).max(10).default([30, 120, 600, 3600]),
    verificationAgeDays: z.number().positive().default(7),
    quota: z
      .strictObject({
        callsPerHour: z.int().positive().default(5000),
        sharesStopAt: fraction.default(0.8),
        verifiesStopAt: fraction.default(0.9),
        reconcileShare: fraction.default(0.2),
      })
      .prefault({}),
    onPartnerRemoved: z.enum(["revoke-unless-siblings", "revoke", "hold"]).default("revoke-unless-siblings"),
    breaker: z
      .strictObject({ removals: z.int().positive().default(20), windowMinutes: z.number().positive().default(10) })
      .prefault({}),
    dueSweepMinutes: z.int().min(1).max(60).default(5),
    estateScanHours: z.int().min(1).default(24),
    reconcileMayStart: z.array(z.enum(mayStartNames)).default([...mayStartNames]),
    shrinkLimit: fraction.default(0.05),
    businessTokenSecretPrefix: secretName.endsWith("/", "must end with /").optional(),
    appSecretName: secretName.optional(),
    webhook: z.boolean().default(false),
    verifyTokenSecretName: secretName.optional(),
    producers: z.array(accountId).default([]),
    consumers: z.array(accountId).default([]),
    /** Who may take the on-call roles; unless given, whom the account lets (IAM ARNs of roles or users). */
    onCallPrincipals: z.array(z.string().regex(/^arn:[^:]+:iam::\d{12}:/, "must be an IAM ARN")).default([]),
    alarmTopicArns: z.array(z.string().regex(/^arn:[^:]+:sns:/, "must be an SNS topic ARN")).default([]),
    concurrency: z
      .strictObject({
        share: z.int().min(2).max(1000).default(5),
        verify: z.int().min(2).max(1000).default(5),
        revoke: z.int().min(2).max(1000).default(5),
        /** Reserved: whoever floods the webhook's public address gets no more of the account. `null`: nothing is reserved. */
        webhook: z.int().min(1).max(1000).nullable().default(20),
      })
      .prefault({}),
    retention: z
      .strictObject({
        logDays: z.union([z.literal(7), z.literal(30), z.literal(90), z.literal(365)]).default(90),
        /** Data outlive the stack, and neither tables nor stack can be deleted by mistake. Unless given: all stages but `dev`. */
        keepDataOnDelete: z.boolean().optional(),
      })
      .prefault({}),
  })
  .superRefine((config, context) => {
    function refuse(key: keyof typeof config, message: string): void {
      context.addIssue({ code: "custom", path: [key], message });
    }
    const settleMinSeconds = 2 * functionTimeoutSeconds.share + 600;
    if (config.stage !== "local" && config.settleWindowSeconds < settleMinSeconds) {
      refuse(
        "settleWindowSeconds",
        `must be at least 2 × the share function's time-out + 600 s = ${settleMinSeconds}: a shorter window can declare a late share absent`,
      );
    }
    if (config.stage === "prod" && config.graphApiBaseUrl !== metaBaseUrl) {
      refuse("graphApiBaseUrl", `must be ${metaBaseUrl} in prod: the system token is sent there`);
    }
    if (config.stage !== "local" && !config.graphApiBaseUrl.startsWith("https:")) {
      refuse("graphApiBaseUrl", "must be https outside the stage local: the system token is sent there");
    }
    if (config.webhook && config.appSecretName === undefined) {
      refuse("appSecretName", "is needed for the webhook: Meta signs with the app secret");
    }
    if (config.webhook && config.verifyTokenSecretName === undefined) {
      refuse("verifyTokenSecretName", "is needed for the webhook: Meta proves its subscription with this token");
    }
    const prefix = config.businessTokenSecretPrefix;
    if (prefix === undefined) return;
    const others = {
      "the system token": systemTokenSecretName(config.stage),
      "the app secret": config.appSecretName,
      "the webhook's verify token": config.verifyTokenSecretName,
    };
    for (const [secret, name] of Object.entries(others)) {
      if (name?.startsWith(prefix)) {
        refuse("businessTokenSecretPrefix", `must not cover ${secret}: a command could name it`);
      }
    }
    // Where stages share an account, all of `credit-lines/<stage>/` is that stage's.
    if (prefix.startsWith("credit-lines/") && !prefix.startsWith(`credit-lines/${config.stage}/`)) {
      refuse("businessTokenSecretPrefix", "must not reach into another stage: a command could name its tokens");
    }
  })
  .transform((config) => ({
    ...config,
    businessTokenSecretPrefix: config.businessTokenSecretPrefix ?? defaultBusinessTokenSecretPrefix(config.stage),
    retention: { ...config.retention, keepDataOnDelete: config.retention.keepDataOnDelete ?? config.stage !== "dev" },
  }));

export type StageConfig = z.output<typeof stageConfigSchema>;
export type StageConfigInput = z.input<typeof stageConfigSchema>;

/** The stage that runs on one machine: windows of seconds, ids of the sample world. */
export const localStage = {
  stage: "local",
  partnerBusinessId: "100000000000001",
  creditLineId: "200000000000001",
  graphTimeoutMs: 1000,
  settleWindowSeconds: 6,
  clockSkewSeconds: 2,
  verifyGraceSeconds: [1, 2, 3],
  dueSweepMinutes: 1,
  retention: { keepDataOnDelete: false },
} satisfies StageConfigInput;

/** @throws Error that lists every wrong key, its value's fault and the file or context it came from. */
export function parseStageConfig(input: unknown, source: string): StageConfig {
  const parsed = stageConfigSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `  ${issue.path.join(".") || "(top level)"}: ${issue.message}`);
  throw new Error(`Stage configuration from ${source} is not valid:\n${faults.join("\n")}`);
}

/**
 * Reads a JSON file of overrides and lays it over `base`.
 * @throws Error when the file is no JSON object, or as `parseStageConfig` does.
 */
export function readStageConfig(file: string, base: Partial<StageConfigInput> = {}): StageConfig {
  return parseStageConfig({ ...base, ...readOverrides(file) }, file);
}

/**
 * The stage that `cdk … -c stage=NAME -c config=FILE` asks for. Without either it is `local`, so that a fresh checkout
 * synthesizes; any other stage needs its file, since there is no sensible default for whose credit line it shares.
 */
export function stageConfigFromContext(context: { stage: unknown; config: unknown }): StageConfig {
  const { stage, config: file } = z
    .object({ stage: z.string().default("local"), config: z.string().optional() })
    .parse(context);
  const base = stage === "local" ? localStage : { stage };
  if (file === undefined && stage !== "local") {
    throw new Error(`The stage ${stage} needs its configuration: -c stage=${stage} -c config=FILE`);
  }
  const config = file === undefined ? parseStageConfig(base, "infra/config.ts") : readStageConfig(file, base);
  if (config.stage !== stage) {
    throw new Error(`${file} is of the stage ${config.stage}, but -c stage=${stage} was asked for`);
  }
  return config;
}

function readOverrides(file: string): Record<string, unknown> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`Cannot read the stage configuration ${file}: it must be a JSON object`, { cause: error });
  }
}
