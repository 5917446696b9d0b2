import { onTestFinished } from "vitest";
import { startMetaStandIn } from "../../../../infra/local/meta/meta-server.ts";
import type { Variants } from "../../../../infra/local/meta/meta-variants.ts";
import type { WorldInput } from "../../../../infra/local/meta/meta-world.ts";

export const partner = "100000000000001";
export const line = "200000000000001";
export const receivedLine = "200000000000002";
export const acme = "110000000000001";
export const otherBusiness = "110000000000002";
export const waba = "120000000000001";
export const sibling = "120000000000002";
export const otherWaba = "120000000000003";
export const systemToken = "system-token-of-the-partner-1111";
export const businessToken = "business-token-of-acme-2222";

export function sampleWorld(overrides: Partial<WorldInput> = {}): WorldInput {
  return {
    partnerBusinessId: partner,
    lines: [
      { id: line, ownerBusinessId: partner, legalEntityName: "Partner Ltd" },
      { id: receivedLine, ownerBusinessId: otherBusiness },
    ],
    businesses: [
      { id: acme, name: "Acme" },
      { id: otherBusiness, name: "Other" },
    ],
    tokens: [
      { value: systemToken, kind: "system" },
      { value: businessToken, kind: "business", wabaIds: [waba, sibling] },
    ],
    wabas: [
      { id: waba, ownerBusinessId: acme, currency: "EUR", name: "Acme one" },
      { id: sibling, ownerBusinessId: acme, currency: "EUR", name: "Acme two" },
      { id: otherWaba, ownerBusinessId: otherBusiness, currency: "USD" },
    ],
    ...overrides,
  };
}

/** Stand-in with a clock that stands at noon of 15 May 2026 until a test moves it. */
export async function startMeta(options: { world?: Partial<WorldInput>; variants?: Partial<Variants> } = {}) {
  const clock = { now: Date.UTC(2026, 4, 15, 12) };
  const { world = {}, variants = {} } = options;
  const standIn = await startMetaStandIn({ world: sampleWorld(world), variants, now: () => clock.now });
  onTestFinished(() => standIn.close());
  const { url } = standIn;

  /** A Graph call; the body stays untyped, because Meta's shapes are what the tests are about. */
  async function graph(
    method: string,
    pathAndQuery: string,
    token: string | null = systemToken,
    init: RequestInit = {},
  ) {
    const authorization: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${url}/v25.0${pathAndQuery}`, {
      method,
      ...init,
      headers: { ...authorization, ...(init.headers as Record<string, string>) },
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, body: JSON.parse(text) };
  }

  async function control(method: string, path: string, body?: unknown) {
    const response = await fetch(url + path, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
    return { status: response.status, body: JSON.parse(await response.text()) };
  }

  return {
    ...standIn,
    clock,
    graph,
    control,
    share: (wabaId = waba, currency = "EUR", lineId = line) =>
      graph("POST", `/${lineId}/whatsapp_credit_sharing_and_attach?waba_currency=${currency}&waba_id=${wabaId}`),
    shareWithBusiness: (businessId = acme) =>
      graph("POST", `/${line}/whatsapp_credit_sharing?receiving_business_id=${businessId}`),
    attach: (wabaId = waba, token = businessToken, currency = "EUR") =>
      graph("POST", `/${line}/whatsapp_credit_attach?waba_currency=${currency}&waba_id=${wabaId}`, token),
    revoke: (allocationId: string) => graph("DELETE", `/${allocationId}`),
    funding: async (wabaId = waba, token = systemToken): Promise<string | undefined> =>
      (await graph("GET", `/${wabaId}?fields=primary_funding_id`, token)).body.primary_funding_id,
    allocation: async (id: string) =>
      (await graph("GET", `/${id}?fields=receiving_credential,receiving_business,request_status`)).body,
    list: async (businessId = acme): Promise<string[]> =>
      (
        await graph("GET", `/${line}/owning_credit_allocation_configs?receiving_business_id=${businessId}`)
      ).body.data.map((item: { id: string }) => item.id),
    ledger: async () => (await control("GET", "/_ledger")).body,
  };
}

export type Meta = Awaited<ReturnType<typeof startMeta>>;

/** What an error answer says, without its words. */
export function errorOf({
  status,
  body,
}: {
  status: number;
  body: { error: { code: number; error_subcode?: number } };
}) {
  const { code, error_subcode: subcode } = body.error;
  return subcode === undefined ? { status, code } : { status, code, subcode };
}
