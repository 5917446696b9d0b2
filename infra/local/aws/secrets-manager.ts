import { randomBytes, randomUUID } from "node:crypto";
import * as z from "zod";
import { errorAnswer, jsonAnswer, type Operation } from "./protocol.ts";
import type { Stack } from "./stack.ts";
import { accountId, region } from "./template.ts";

type Secret = { name: string; arn: string; version?: { id: string; value: string; createdAtMs: number } };

const secretProperties = z.strictObject({
  Name: z.string().optional(),
  SecretString: z.string().optional(),
  GenerateSecretString: z.looseObject({}).optional(),
});
const ignoredProperties = ["Description", "KmsKeyId", "Tags"];

const getInput = z.looseObject({ SecretId: z.string() });
const putInput = z.looseObject({ SecretId: z.string(), SecretString: z.string() });
const createInput = z.looseObject({ Name: z.string(), SecretString: z.string().optional() });

/**
 * Secrets Manager in memory: the stack's secrets and the given ones (name → value), which need not be in the template.
 * A secret of the template without a given value gets a random one, as AWS would make it.
 */
export function createSecretsManager(stack: Stack, given: Readonly<Record<string, string>>): Record<string, Operation> {
  const secrets = new Map<string, Secret>();

  for (const { resource, properties } of stack.each(
    "AWS::SecretsManager::Secret",
    secretProperties,
    ignoredProperties,
  )) {
    const generated = properties.GenerateSecretString === undefined ? undefined : randomBytes(24).toString("base64url");
    const secret: Secret = { name: resource.name, arn: resource.ref };
    secrets.set(secret.name, secret);
    store(secret, properties.SecretString ?? generated);
  }
  for (const [name, value] of Object.entries(given)) store(find(name) ?? create(name), value);

  function create(name: string): Secret {
    const secret = { name, arn: `arn:aws:secretsmanager:${region}:${accountId}:secret:${name}-local0` };
    secrets.set(name, secret);
    return secret;
  }

  function store(secret: Secret, value: string | undefined): void {
    if (value !== undefined) secret.version = { id: randomUUID(), value, createdAtMs: Date.now() };
  }

  /** By name, ARN, or ARN without its ending. */
  function find(id: string): Secret | undefined {
    const name = id.replace(/^arn:[^:]+:secretsmanager:[^:]*:[^:]*:secret:/, "");
    return secrets.get(name) ?? [...secrets.values()].find(({ arn }) => arn === id);
  }

  function notFound() {
    return errorAnswer("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
  }

  return {
    GetSecretValue: (input) => {
      const secret = find(getInput.parse(input).SecretId);
      if (secret?.version === undefined) return notFound();
      const { id, value, createdAtMs } = secret.version;
      return jsonAnswer({
        ARN: secret.arn,
        Name: secret.name,
        SecretString: value,
        VersionId: id,
        VersionStages: ["AWSCURRENT"],
        CreatedDate: createdAtMs / 1000,
      });
    },
    PutSecretValue: (input) => {
      const { SecretId, SecretString } = putInput.parse(input);
      const secret = find(SecretId);
      if (secret === undefined) return notFound();
      store(secret, SecretString);
      return jsonAnswer({ ARN: secret.arn, Name: secret.name, VersionId: secret.version?.id });
    },
    CreateSecret: (input) => {
      const { Name, SecretString } = createInput.parse(input);
      if (find(Name) !== undefined) {
        return errorAnswer(
          "ResourceExistsException",
          `The operation failed because the secret ${Name} already exists.`,
        );
      }
      const secret = create(Name);
      store(secret, SecretString);
      return jsonAnswer({ ARN: secret.arn, Name });
    },
  };
}
