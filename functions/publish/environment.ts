import * as z from "zod/mini";
import { commonFields, text } from "../../shared/environment.ts";

export const publishEnvironment = z.object({
  ...commonFields,
  AUDIT_TABLE_NAME: text,
  EVENT_BUS_NAME: text,
});
