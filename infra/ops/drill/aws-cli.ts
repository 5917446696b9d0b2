import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";

/** The one call of AWS's own command line that runbooks make, so that a drill needs no installation of it. */
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { "secret-id": { type: "string" }, "secret-string": { type: "string" } },
});
if (positionals.join(" ") !== "secretsmanager put-secret-value") {
  throw new Error(`A drill knows no aws ${positionals.join(" ")}`);
}
const file = /^file:\/\/(.+)$/.exec(values["secret-string"] ?? "")?.[1];
if (file === undefined)
  throw new Error("--secret-string must be file://FILE: a token does not belong on a command line");
const client = new SecretsManagerClient();
const SecretString = readFileSync(file, "utf8").trim();
await client.send(new PutSecretValueCommand({ SecretId: values["secret-id"], SecretString }));
client.destroy();
