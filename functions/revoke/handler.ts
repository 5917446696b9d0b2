import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { revokeEnvironment } from "./environment.ts";
import { revokeFlow } from "./revoke-allocations.ts";

const environment = parseEnvironment(revokeEnvironment, process.env);
const deps = buildCommandDeps("revoke", environment);

export const handler = queueHandler(deps, revokeFlow(deps));
