import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { shareEnvironment } from "./environment.ts";
import { shareFlow } from "./share-allocation.ts";

const environment = parseEnvironment(shareEnvironment, process.env);
const deps = buildCommandDeps("share", environment, {
  wake: { verify: environment.VERIFY_QUEUE_URL },
  stopAt: environment.SHARES_STOP_AT,
  share: {
    currencies: environment.CURRENCIES,
    shareMethod: environment.SHARE_METHOD,
    secondPost: environment.SECOND_POST,
    ...(environment.SYSTEM_USER_ID === undefined ? {} : { systemUserId: environment.SYSTEM_USER_ID }),
  },
});

export const handler = queueHandler(deps, shareFlow(deps));
