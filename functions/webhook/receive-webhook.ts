import { createHmac, timingSafeEqual } from "node:crypto";
import type { LambdaFunctionURLEvent, LambdaFunctionURLResult } from "aws-lambda";
import type { Logger } from "../../shared/logging.ts";
import type { ParsedUpdates, Update } from "./parse-updates.ts";
import { provenNotice } from "../../shared/contracts/content-hash.ts";
import { parseUpdates } from "./parse-updates.ts";

export type WebhookDeps = {
  /** Those valid now: one, or two during a rotation, the new one first. */
  appSecrets: () => Promise<readonly [string, ...string[]]>;
  verifyToken: () => Promise<string>;
  /** Puts the bodies on the revoke queue. Throws unless all of them are safely there. */
  queue: (bodies: readonly string[]) => Promise<void>;
  count: (counts: { queued: number; ignored: number; unreadable: number }) => void;
  log: Logger;
  now: () => number;
  partnerBusinessId: string;
  clockSkewMs: number;
};

type Answer = Exclude<LambdaFunctionURLResult, string>;

/**
 * The story of a webhook: verify, parse, queue, and only then 200. Everything that is no proof of coming from Meta gets the
 * same 403. Whatever fails throws: that is a 5xx, and Meta delivers again for days.
 */
export async function receiveWebhook(event: LambdaFunctionURLEvent, deps: WebhookDeps): Promise<Answer> {
  const { method } = event.requestContext.http;
  if (method === "GET") return shakeHands(event, deps);
  const body = Buffer.from(event.body ?? "", event.isBase64Encoded ? "base64" : "utf8");
  const appSecrets = await deps.appSecrets();
  if (method !== "POST" || !isSigned(body, event.headers["x-hub-signature-256"], appSecrets)) {
    deps.log.warn("A request without a valid signature is refused", { method, bytes: body.length });
    return refused();
  }

  const { partnerBusinessId, clockSkewMs, log, now } = deps;
  const parsed = parseUpdates(body.toString("utf8"), { partnerBusinessId, clockSkewMs, now: now() });
  const messages = [...new Set(parsed.updates.flatMap((update) => messagesOf(update, appSecrets[0])))];
  await deps.queue(messages);
  tell(parsed, messages.length, deps);
  if (parsed.unreadable > 0) log.error("Meta sent updates that cannot be read", { unreadable: parsed.unreadable });
  return { statusCode: 200, headers: plain, body: "" };
}

async function shakeHands(
  { queryStringParameters: query = {} }: LambdaFunctionURLEvent,
  deps: WebhookDeps,
): Promise<Answer> {
  const challenge = query["hub.challenge"];
  const isAsked = query["hub.mode"] === "subscribe" && challenge !== undefined;
  const given = query["hub.verify_token"] ?? "";
  if (!isAsked || !isSame(Buffer.from(given), Buffer.from(await deps.verifyToken()))) return refused();
  return { statusCode: 200, headers: plain, body: challenge };
}

const plain = { "content-type": "text/plain" };

function refused(): Answer {
  return { statusCode: 403, headers: plain, body: "" };
}

/** The hash is over the very bytes that came. */
function isSigned(body: Buffer, signature: string | undefined, secrets: readonly string[]): boolean {
  const hex = /^sha256=([0-9a-f]{64})$/i.exec(signature ?? "")?.[1] ?? "";
  const given = Buffer.from(hex, "hex");
  // Every secret is tried, so that the time does not tell which one it was.
  const matches = secrets.map((secret) => isSame(given, createHmac("sha256", secret).update(body).digest()));
  return matches.includes(true);
}

/** In constant time for texts of one length; lengths are no secret. */
function isSame(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

/** A removal is a command like any other; what else there is to note of the account goes beside it. */
function messagesOf(update: Update, appSecret: string): string[] {
  const { event, wabaId, businessId, at, untimed } = update;
  const owner = businessId === undefined ? {} : { businessId };
  const moment = untimed ? `at-${at}` : String(at / 1000);
  const common = { version: "1", requestedAt: new Date(at).toISOString(), wabaId, ...owner } as const;
  const commandId = `account:${event}:${wabaId}:${moment}`;
  const notice = provenNotice({ ...common, type: "account", commandId, event }, appSecret);
  if (event !== "PARTNER_REMOVED") return [notice];
  const command = {
    ...common,
    type: "revoke",
    commandId: `removed:${wabaId}:${moment}`,
    requestedBy: "meta-webhook",
    reason: "partner_removed",
  };
  const named = businessId === undefined ? [] : [notice];
  return [...named, JSON.stringify(command)];
}

function tell({ updates, ignored, unreadable }: ParsedUpdates, queued: number, { count, log }: WebhookDeps): void {
  count({ queued, ignored, unreadable });
  const told = updates.map(({ event, wabaId, businessId }) => ({ event, wabaId, businessId }));
  log.info("Webhook received", { updates: told.slice(0, 50), queued, ignored, unreadable });
}
