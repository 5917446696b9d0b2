import * as z from "zod/mini";
import { commandFields, numeric } from "../../shared/environment.ts";

export const revokeEnvironment = z.object({
  ...commandFields,
  ON_PARTNER_REMOVED: z.enum(["revoke-unless-siblings", "revoke", "hold"]),
  BREAKER_REMOVALS: numeric,
  BREAKER_WINDOW_SECONDS: numeric,
});
