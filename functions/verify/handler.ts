import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { verifyEnvironment } from "./environment.ts";
import { verifyFlow } from "./verify-funding.ts";

const environment = parseEnvironment(verifyEnvironment, process.env);
const deps = buildCommandDeps("verify", environment, { stopAt: environment.VERIFIES_STOP_AT });

export const handler = queueHandler(deps, verifyFlow(deps));
