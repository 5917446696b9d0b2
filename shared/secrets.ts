import type { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { timingSafeEqual } from "node:crypto";
import { GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import * as z from "zod/mini";
import { proofOf } from "./contracts/content-hash.ts";
import type { CallerDeps } from "./graph/caller.ts";
import { createTokens, createTokenSource } from "./graph/tokens.ts";

/** A header with a line break would be an error that repeats the value. */
const token = z.string().check(z.regex(/^[\x21-\x7e]+$/));

/** What calls to Meta are signed with, read from the stage's secrets when it is needed. */
export function createCredentials(
  client: SecretsManagerClient,
  {
    SYSTEM_TOKEN_SECRET_ARN,
    APP_SECRET_NAME,
  }: { SYSTEM_TOKEN_SECRET_ARN: string; APP_SECRET_NAME?: string | undefined },
  now: () => number,
): Pick<CallerDeps, "tokens" | "appSecret"> {
  const tokens = createTokens(SYSTEM_TOKEN_SECRET_ARN, (secret) => readSecret(client, secret), now);
  if (APP_SECRET_NAME === undefined) return { tokens };
  /** The proof is made with the one that stays. */
  async function newestAppSecret(secret: string): Promise<string> {
    const [newest] = parseAppSecrets(await readSecretText(client, secret));
    return newest;
  }
  return { tokens, appSecret: createTokenSource(() => newestAppSecret(APP_SECRET_NAME), now) };
}

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

/** Whether a notice's proof was made with an app secret that is valid now; what fails is asked of the secret as it stands. */
export function createProofCheck(readText: () => Promise<string>, now: () => number) {
  const source = createTokenSource(readText, now);
  function isBy(text: string, contentHash: string, given: Buffer): boolean {
    const proofs = parseAppSecrets(text).map((secret) => Buffer.from(proofOf(contentHash, secret)));
    return proofs.some((proof) => proof.length === given.length && timingSafeEqual(proof, given));
  }
  return async (contentHash: string, proof: string): Promise<boolean> => {
    const known = await source.read();
    if (isBy(known, contentHash, Buffer.from(proof))) return true;
    source.forget(known);
    return isBy(await source.read(), contentHash, Buffer.from(proof));
  };
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
