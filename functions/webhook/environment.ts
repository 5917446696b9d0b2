import * as z from "zod/mini";
import { numeric, text } from "../../shared/environment.ts";

export const webhookEnvironment = z.object({
  STAGE: text,
  CLOCK_OFFSET_MS: z.optional(z.string().check(z.regex(/^-?\d+$/))),
  REVOKE_QUEUE_URL: text,
  PARTNER_BUSINESS_ID: text,
  CLOCK_SKEW_SECONDS: numeric,
  APP_SECRET_NAME: text,
  VERIFY_TOKEN_SECRET_NAME: text,
});
