import { readFileSync } from "node:fs";
import * as z from "zod";

/**
 * Everything about a stage that is not code (design.md §9). Nothing here is secret: secrets are named, never held.
 * Times carry their unit in the name.
 */
const id = z.string().regex(/^\d{5,20}$/, "must be a string of 5 to 20 digits");
const secretName = z.string().regex(/^[A-Za-z0-9/_+=.@-]{1,256}$/, "must be a Secrets Manager name, not an ARN");
const accountId = z.string().regex(/^\d{12}$/, "must be a 12-digit AWS account id");

/** Time-outs of the functions. A share's bounds the settle window: no byte of a POST leaves later than this after its send deadline (A1). */
export const functionTimeoutSeconds = { share: 30, verify: 60, revoke: 60, publish: 60, reconcile: 60 } as const;

const metaBaseUrl = "https://graph.facebook.com";

export const stageConfigSchema = z
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
    graphApiBaseUrl: z.url().default(metaBaseUrl),
    graphTimeoutMs: z.int().min(100).max(30_000).default(8000),
    settleWindowSeconds: z.number().positive().default(1800),
    clockSkewSeconds: z.number().min(0).default(300),
    secondPost: z.enum(["auto", "person"]).default("auto"),
    verifyGraceSeconds: z.array(z.number().positive()).min(1).max(10).default([30, 120, 600, 3600]),
    verificationAgeDays: z.number().positive().default(7),
    quota: z
      .strictObject({
        callsPerHour: z.int().positive().default(5000),
        sharesStopAt: z.number().min(0).max(1).default(0.8),
        verifiesStopAt: z.number().min(0).max(1).default(0.9),
        reconcileShare: z.number().min(0).max(1).default(0.2),
      })
      .prefault({}),
    onPartnerRemoved: z.enum(["revoke-unless-siblings", "revoke", "hold"]).default("revoke-unless-siblings"),
    breaker: z
      .strictObject({ removals: z.int().positive().default(20), windowMinutes: z.number().positive().default(10) })
      .prefault({}),
    dueSweepMinutes: z.int().min(1).default(5),
    estateScanHours: z.int().min(1).default(24),
    shrinkLimit: z.number().min(0).max(1).default(0.05),
    businessTokenSecretPrefix: secretName.optional(),
    appSecretName: secretName.optional(),
    producers: z.array(accountId).default([]),
    consumers: z.array(accountId).default([]),
    alarmTopicArns: z.array(z.string().regex(/^arn:[^:]+:sns:/, "must be an SNS topic ARN")).default([]),
    concurrency: z
      .strictObject({
        share: z.int().min(2).max(1000).default(5),
        verify: z.int().min(2).max(1000).default(5),
        revoke: z.int().min(2).max(1000).default(5),
      })
      .prefault({}),
    retention: z
      .strictObject({
        logDays: z.union([z.literal(7), z.literal(30), z.literal(90), z.literal(365)]).default(90),
        keepDataOnDelete: z.boolean().default(true),
      })
      .prefault({}),
  })
  .superRefine((config, context) => {
    const settleMin = 2 * functionTimeoutSeconds.share + 600;
    if (config.stage !== "local" && config.settleWindowSeconds < settleMin) {
      context.addIssue({
        code: "custom",
        path: ["settleWindowSeconds"],
        message: `must be at least 2 × the share function's time-out + 600 s = ${settleMin}: a shorter window can declare a late share absent`,
      });
    }
    if (config.stage === "prod" && config.graphApiBaseUrl !== metaBaseUrl) {
      context.addIssue({
        code: "custom",
        path: ["graphApiBaseUrl"],
        message: `must be ${metaBaseUrl} in prod: the system token is sent there`,
      });
    }
  });

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
  retention: { keepDataOnDelete: false },
} satisfies StageConfigInput;

/** @throws Error that lists every wrong key, its value's fault and the file or context it came from. */
export function parseStageConfig(input: unknown, source: string): StageConfig {
  const parsed = stageConfigSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `  ${issue.path.join(".") || "(top level)"}: ${issue.message}`);
  throw new Error(`Stage configuration from ${source} is not valid:\n${faults.join("\n")}`);
}

/** Reads a JSON file of overrides and lays it over `base`. */
export function readStageConfig(file: string, base: Partial<StageConfigInput> = {}): StageConfig {
  let overrides: unknown;
  try {
    overrides = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`Cannot read the stage configuration ${file}: it must be a JSON object`, { cause: error });
  }
  return parseStageConfig(Object.assign({}, base, overrides), file);
}
