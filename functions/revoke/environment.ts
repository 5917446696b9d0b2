import * as z from "zod/mini";
import { commandFields } from "../../shared/environment.ts";

export const revokeEnvironment = z.object(commandFields);
