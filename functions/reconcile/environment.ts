import * as z from "zod/mini";
import { commonFields, numeric, text } from "../../shared/environment.ts";

export const reconcileEnvironment = z.object({
  ...commonFields,
  DUE_INDEX_NAME: text,
  SETTLE_WINDOW_SECONDS: numeric,
  SHARE_QUEUE_URL: text,
  VERIFY_QUEUE_URL: text,
  REVOKE_QUEUE_URL: text,
});
