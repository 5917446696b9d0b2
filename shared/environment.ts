import * as z from "zod/mini";

/**
 * Building blocks of the functions' environments. A function's own schema stands in `functions/<name>/environment.ts`;
 * the CDK construct is typed by its input side, the handler reads its output side, so that neither can forget a variable.
 */
export const text = z.string().check(z.minLength(1));

export const numeric = z.pipe(
  z.string().check(z.regex(/^\d+(\.\d+)?$/)),
  z.transform((value: string) => Number(value)),
);

/** Comma-separated. */
export const textList = z.pipe(
  text,
  z.transform((value: string) => value.split(",")),
);

/** Comma-separated numbers. */
const numericList = z.pipe(
  z.string().check(z.regex(/^\d+(\.\d+)?(,\d+(\.\d+)?)*$/)),
  z.transform((value: string) => value.split(",").map(Number)),
);

export const commonFields = {
  STAGE: text,
  STATE_TABLE_NAME: text,
  /** Honoured by the stage `local` only: the clock the functions see runs this many milliseconds ahead. */
  CLOCK_OFFSET_MS: z.optional(z.string().check(z.regex(/^-?\d+$/))),
};

/** What the construct adds to every function that a command queue feeds. */
export const queueFields = {
  QUEUE_URL: text,
  DEAD_LETTER_QUEUE_URL: text,
  MAX_RECEIVE_COUNT: numeric,
};

/** What a function needs to reach Meta. */
export const graphFields = {
  SYSTEM_TOKEN_SECRET_ARN: text,
  /** When given, every call carries its `appsecret_proof`. */
  APP_SECRET_NAME: z.optional(text),
  GRAPH_API_BASE_URL: text,
  GRAPH_API_VERSION: text,
  GRAPH_TIMEOUT_MS: numeric,
};

/** What share, verify and revoke need beside, to decide. */
export const commandFields = {
  ...commonFields,
  ...queueFields,
  ...graphFields,
  EVENT_BUS_NAME: text,
  BUSINESS_TOKEN_SECRET_PREFIX: text,
  PARTNER_BUSINESS_ID: text,
  CREDIT_LINE_ID: text,
  SETTLE_WINDOW_SECONDS: numeric,
  CLOCK_SKEW_SECONDS: numeric,
  VERIFY_GRACE_SECONDS: numericList,
};

/**
 * Reads a function's environment once per cold start.
 * @throws Error that names every missing or wrong variable (never a value).
 */
export function parseEnvironment<S extends z.ZodMiniType>(
  schema: S,
  environment: Readonly<Record<string, string | undefined>>,
): z.output<S> {
  const parsed = schema.safeParse(environment);
  if (parsed.success) return parsed.data;
  const variables = [...new Set(parsed.error.issues.map((issue) => issue.path.join(".")))];
  throw new Error(`Environment variables missing or wrong: ${variables.join(", ")}`);
}
