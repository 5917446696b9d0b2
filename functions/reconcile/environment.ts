import * as z from "zod/mini";
import { commonFields, graphFields, numeric, text, textList } from "../../shared/environment.ts";

export const reconcileEnvironment = z.object({
  ...commonFields,
  ...graphFields,
  DUE_INDEX_NAME: text,
  SETTLE_WINDOW_SECONDS: numeric,
  SHARE_QUEUE_URL: text,
  VERIFY_QUEUE_URL: text,
  REVOKE_QUEUE_URL: text,
  SHARES_STOP_AT: numeric,
  VERIFIES_STOP_AT: numeric,
  CREDIT_LINE_ID: text,
  /** The ids of the event sources of share, verify and revoke, in this order. */
  COMMAND_SOURCE_IDS: textList,
});
