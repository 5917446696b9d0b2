import * as z from "zod/mini";
import { commandFields, numeric } from "../../shared/environment.ts";

export const verifyEnvironment = z.object({ ...commandFields, VERIFIES_STOP_AT: numeric });
