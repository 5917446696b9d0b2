import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { revokeEnvironment } from "./environment.ts";
import { revokeFlow } from "./revoke-allocations.ts";

const environment = parseEnvironment(revokeEnvironment, process.env);
const deps = buildCommandDeps("revoke", environment, {
  removal: {
    onPartnerRemoved: environment.ON_PARTNER_REMOVED,
    breaker: { removals: environment.BREAKER_REMOVALS, windowMs: environment.BREAKER_WINDOW_SECONDS * 1000 },
  },
});

export const handler = queueHandler(deps, revokeFlow(deps));
