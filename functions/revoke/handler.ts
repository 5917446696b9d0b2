import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { awsClient } from "../../shared/aws-clients.ts";
import { buildCommandDeps } from "../../shared/command-deps.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import { createProofCheck, readSecretText } from "../../shared/secrets.ts";
import { revokeEnvironment } from "./environment.ts";
import { revokeFlow } from "./revoke-allocations.ts";

const environment = parseEnvironment(revokeEnvironment, process.env);
const common = buildCommandDeps("revoke", environment, {
  removal: {
    onPartnerRemoved: environment.ON_PARTNER_REMOVED,
    breaker: { removals: environment.BREAKER_REMOVALS, windowMs: environment.BREAKER_WINDOW_SECONDS * 1000 },
  },
});
const { APP_SECRET_NAME: appSecret } = environment;
function readAppSecret(name: string): Promise<string> {
  return readSecretText(awsClient(SecretsManagerClient), name);
}
const deps =
  appSecret === undefined
    ? common
    : { ...common, isProven: createProofCheck(() => readAppSecret(appSecret), common.now) };

export const handler = queueHandler(deps, revokeFlow(deps));
