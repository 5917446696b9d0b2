import * as z from "zod/mini";
import { commonFields, text } from "../../shared/environment.ts";

export const reconcileEnvironment = z.object({
  ...commonFields,
  DUE_INDEX_NAME: text,
  SHARE_QUEUE_URL: text,
  VERIFY_QUEUE_URL: text,
  REVOKE_QUEUE_URL: text,
});
