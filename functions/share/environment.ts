import * as z from "zod/mini";
import { commandFields, numeric, text, textList } from "../../shared/environment.ts";

export const shareEnvironment = z.object({
  ...commandFields,
  VERIFY_QUEUE_URL: text,
  CURRENCIES: textList,
  SHARE_METHOD: z.enum(["share-and-attach", "share-then-attach"]),
  SECOND_POST: z.enum(["auto", "person"]),
  SYSTEM_USER_ID: z.optional(text),
  SHARES_STOP_AT: numeric,
});
