import type { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import * as z from "zod/mini";

/** A header with a line break would be an error that repeats the value. */
const token = z.string().check(z.regex(/^[\x21-\x7e]+$/));

/** A secret that is one token, by name or ARN. @throws Error that never quotes the value; whatever Secrets Manager throws. */
export async function readSecret(client: SecretsManagerClient, secretId: string): Promise<string> {
  const parsed = token.safeParse(await readSecretText(client, secretId));
  if (!parsed.success) throw new Error("The secret holds no token");
  return parsed.data;
}

/**
 * The app secrets that are valid now: a secret's text is one app secret, or during a rotation a JSON list of two, the new
 * one first.
 * @throws Error that never quotes the text.
 */
export function parseAppSecrets(text: string): [string, ...string[]] {
  const listed = z
    .array(token)
    .check(z.maxLength(2))
    .safeParse(text.startsWith("[") ? parseJson(text) : [text]);
  const [first, ...others] = listed.data ?? [];
  if (first === undefined) throw new Error("The secret holds neither an app secret nor a JSON list of two");
  return [first, ...others];
}

/** @throws whatever Secrets Manager throws. */
export async function readSecretText(client: SecretsManagerClient, SecretId: string): Promise<string> {
  const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId }));
  return SecretString?.trim() ?? "";
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
