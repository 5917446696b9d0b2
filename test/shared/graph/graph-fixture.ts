import { expect, onTestFinished } from "vitest";
import type { Variants } from "../../../infra/local/meta/meta-variants.ts";
import { createGraph } from "../../../shared/graph/client.ts";
import { createPortfolio } from "../../../shared/graph/portfolio.ts";
import { createTokens, createTokenSource } from "../../../shared/graph/tokens.ts";
import type { TransportOptions } from "../../../shared/graph/transport.ts";
import { createTransport } from "../../../shared/graph/transport.ts";
import { line, startMeta as startStandIn, systemToken } from "../../support/meta.ts";

/** The stand-in and a client of it, for one test; no call of the test may carry a token where none belongs. */
export async function startMeta(variants: Partial<Variants> = {}) {
  const meta = await startStandIn(variants);
  onTestFinished(() => meta.close());
  onTestFinished(() => {
    expect(meta.model.calls.filter(({ violation }) => violation !== undefined)).toEqual([]);
    const seen = JSON.stringify(meta.model.calls);
    for (const token of meta.model.tokens.keys()) expect(seen).not.toContain(token);
  });
  return { ...meta, ...clientOf(meta.url) };
}

type ClientOptions = Partial<Omit<TransportOptions, "baseUrl" | "now">> & { token?: string; appSecret?: string };

/** `secrets` may be changed while the client lives. */
export function clientOf(baseUrl: string, options: ClientOptions = {}) {
  const { token = systemToken, appSecret, version = "v25.0", timeoutMs = 2000, ...observers } = options;
  const secrets: Record<string, string> = { system: token, ...(appSecret === undefined ? {} : { app: appSecret }) };
  const secretReads: string[] = [];
  async function readSecret(name: string): Promise<string> {
    secretReads.push(name);
    const value = secrets[name];
    if (value === undefined) throw new Error(`The secret ${name} is not there`);
    return value;
  }
  const deps = {
    transport: createTransport({ baseUrl, version, timeoutMs, now: Date.now, ...observers }),
    tokens: createTokens("system", readSecret, Date.now),
    now: Date.now,
    ...(appSecret === undefined ? {} : { appSecret: createTokenSource(() => readSecret("app"), Date.now) }),
  };
  return { graph: createGraph(deps), portfolio: createPortfolio(deps), tokens: deps.tokens, secrets, secretReads };
}

export const signal = new AbortController().signal;

export function send() {
  return { sendDeadline: Date.now() + 10_000, signal };
}

export function targetOf({ wabaId }: { wabaId: string }) {
  return { creditLineId: line, wabaId, currency: "EUR" };
}

/** A customer to whom the line is shared. */
export async function funded(meta: Awaited<ReturnType<typeof startMeta>>) {
  const customer = await meta.customer();
  const outcome = await meta.graph.shareAndAttach(targetOf(customer), send());
  if (outcome.kind !== "accepted") throw new Error("The share was not accepted");
  return { ...customer, allocationId: outcome.allocationId };
}
