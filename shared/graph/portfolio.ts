import * as z from "zod/mini";
import { listOf, metaId, reference, successSchema } from "./answers.ts";
import type { CallerDeps, GrantOutcome, Page, Read, Send } from "./caller.ts";
import { createCaller, grantOf } from "./caller.ts";
import type { TokenSource } from "./tokens.ts";

/**
 * What the partner's whole portfolio looks like at Meta: for the estate scan and the preflight, never for a command.
 * Failures and throttling are those of `Graph`. A page's `fieldsMissing` were not asked for, since Meta refused them in a
 * list: of those alone, absence says nothing.
 */
export type Portfolio = {
  /** E1: every line of the business, also received ones. */
  listCreditLines(businessId: string, signal: AbortSignal): Promise<Read<CreditLine[]>>;
  /** E8 of all businesses, the page behind the cursor `after`. Whoever walks the pages guards against cursors that repeat. */
  pageAllocations(
    creditLineId: string,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<Read<Page<ListedAllocation>>>;
  /** E13: the WABAs shared with the partner; one that left is missing. */
  pageWabas(businessId: string, after: string | undefined, signal: AbortSignal): Promise<Read<Page<ListedWaba>>>;
  /** E14. */
  readLine(creditLineId: string, signal: AbortSignal): Promise<Read<Line>>;
  /** E15 of the token that `inspected` holds, asked for with the system token. */
  debugToken(inspected: TokenSource, signal: AbortSignal): Promise<Read<TokenReading>>;
  /** E16: the ids of the apps that receive the WABA's webhooks. */
  readSubscribedApps(
    wabaId: string,
    businessTokenSecret: string | undefined,
    signal: AbortSignal,
  ): Promise<Read<string[]>>;
  /** E16: subscribes the token's own app. Repeating it changes nothing more; it is not repeated here. */
  subscribeApp(target: { wabaId: string; businessTokenSecret?: string }, send: Send): Promise<GrantOutcome>;
};

export type CreditLine = { creditLineId: string; legalEntityName?: string };
export type ListedAllocation = { allocationId: string; businessId?: string; credentialId?: string; deleted: boolean };
/** Without `fundingId` nothing pays for it, unless `primary_funding_id` is among the page's `fieldsMissing`. */
export type ListedWaba = {
  wabaId: string;
  name?: string;
  currency?: string;
  ownerBusinessId?: string;
  fundingId?: string;
};
export type Line = {
  legalEntityName?: string;
  ownerBusinessId?: string;
  accessRevoked?: boolean;
  balance?: Amount;
  creditAvailable?: Amount;
  maxBalance?: Amount;
  /** The fields that the token may not read. */
  unreadable: string[];
};
/** As Meta prints it, in strings: `amount` in units of the currency, the others in hundredths. */
export type Amount = { amount?: string; amountInHundredths?: string; offsettedAmount?: string; currency?: string };
export type TokenReading = {
  valid: boolean;
  appId?: string;
  /** Unix time; 0 = never. */
  expiresAtSeconds?: number;
  scopes: string[];
  granularScopes: { scope: string; targetIds?: string[] }[];
};

const linesSchema = listOf(z.object({ id: metaId, legal_entity_name: z.optional(z.string()) }));
const linesShapes = [
  { fields: "id,legal_entity_name" },
  { fields: "id,legal_entity_name", limit: "10" },
  { fields: "id,legal_entity_name", limit: "1" },
];

const allocationsSchema = listOf(
  z.object({
    id: metaId,
    receiving_business: z.optional(reference),
    receiving_credential: z.optional(reference),
    request_status: z.optional(z.string()),
  }),
);
const allocationsShapes = shapesOf(
  "id,receiving_business,receiving_credential,request_status",
  "id,receiving_business",
);

const wabasSchema = listOf(
  z.object({
    id: metaId,
    name: z.optional(z.string()),
    currency: z.optional(z.string()),
    owner_business_info: z.optional(reference),
    primary_funding_id: z.optional(metaId),
  }),
);
const wabasShapes = shapesOf("id,name,currency,owner_business_info,primary_funding_id", "id,name,currency");

const amountText = z.optional(z.pipe(z.union([z.string(), z.number()]), z.transform(String)));
const amountSchema = z.pipe(
  z.object({
    amount: amountText,
    amount_in_hundredths: amountText,
    offsetted_amount: amountText,
    currency: z.optional(z.string()),
  }),
  z.transform(({ amount, amount_in_hundredths: amountInHundredths, offsetted_amount: offsettedAmount, currency }) => ({
    amount,
    amountInHundredths,
    offsettedAmount,
    currency,
  })),
);
const lineSchema = z.object({
  legal_entity_name: z.optional(z.string()),
  owner_business: z.optional(reference),
  is_access_revoked: z.optional(z.boolean()),
  balance: z.optional(amountSchema),
  credit_available: z.optional(amountSchema),
  max_balance: z.optional(amountSchema),
});

const debugSchema = z.object({
  data: z.object({
    is_valid: z.boolean(),
    app_id: z.optional(metaId),
    expires_at: z.optional(z.number()),
    scopes: z.optional(z.array(z.string())),
    granular_scopes: z.optional(z.array(z.object({ scope: z.string(), target_ids: z.optional(z.array(metaId)) }))),
  }),
});

const appsSchema = z.object({ data: z.array(z.object({ whatsapp_business_api_data: reference })) });

export function createPortfolio(deps: CallerDeps): Portfolio {
  const caller = createCaller(deps);
  const { tokens } = deps;

  return {
    async listCreditLines(businessId, signal) {
      const path = `/${businessId}/extendedcredits`;
      const reply = await caller.readList({ path, query: {}, shapes: linesShapes, schema: linesSchema }, signal);
      if (!reply.ok) return reply;
      const value = reply.value.map(({ id: creditLineId, legal_entity_name: legalEntityName }) => ({
        creditLineId,
        legalEntityName,
      }));
      return { ok: true, value };
    },

    async pageAllocations(creditLineId, after, signal) {
      const path = `/${creditLineId}/owning_credit_allocation_configs`;
      const list = { path, query: {}, shapes: allocationsShapes, schema: allocationsSchema };
      const reply = await caller.readPage(list, after, signal);
      if (!reply.ok) return reply;
      const items = reply.value.items.map((one) => ({
        allocationId: one.id,
        businessId: one.receiving_business?.id,
        credentialId: one.receiving_credential?.id,
        deleted: one.request_status === "DELETED",
      }));
      return { ok: true, value: { ...reply.value, items } };
    },

    async pageWabas(businessId, after, signal) {
      const path = `/${businessId}/client_whatsapp_business_accounts`;
      const list = { path, query: {}, shapes: wabasShapes, schema: wabasSchema };
      const reply = await caller.readPage(list, after, signal);
      if (!reply.ok) return reply;
      const items = reply.value.items.map((one) => ({
        wabaId: one.id,
        name: one.name,
        currency: one.currency,
        ownerBusinessId: one.owner_business_info?.id,
        fundingId: one.primary_funding_id,
      }));
      return { ok: true, value: { ...reply.value, items } };
    },

    async readLine(creditLineId, signal) {
      const fields = Object.keys(lineSchema.shape);
      const ask = { path: `/${creditLineId}`, fields, schema: lineSchema };
      const reply = await caller.readFields(ask, [tokens.system], signal);
      if (!reply.ok) return reply;
      const { found, failures } = reply.value;
      const value = {
        legalEntityName: found.legal_entity_name,
        ownerBusinessId: found.owner_business?.id,
        accessRevoked: found.is_access_revoked,
        balance: found.balance,
        creditAvailable: found.credit_available,
        maxBalance: found.max_balance,
        unreadable: Object.keys(failures),
      };
      return { ok: true, value };
    },

    async debugToken(inspected, signal) {
      const secretQuery = { input_token: inspected };
      const ask = { path: "/debug_token", query: {}, secretQuery, schema: debugSchema };
      const reply = await caller.read(ask, [tokens.system], signal);
      if (!reply.ok) return reply;
      const { is_valid: valid, app_id: appId, expires_at: expiresAtSeconds, scopes = [] } = reply.value.data;
      const granularScopes = (reply.value.data.granular_scopes ?? []).map(({ scope, target_ids: targetIds }) => ({
        scope,
        targetIds,
      }));
      return { ok: true, value: { valid, appId, expiresAtSeconds, scopes, granularScopes } };
    },

    async readSubscribedApps(wabaId, secret, signal) {
      const sources = secret === undefined ? [tokens.system] : [tokens.business(secret), tokens.system];
      const ask = { path: `/${wabaId}/subscribed_apps`, query: {}, schema: appsSchema };
      const reply = await caller.read(ask, sources, signal);
      if (!reply.ok) return reply;
      return { ok: true, value: reply.value.data.map((one) => one.whatsapp_business_api_data.id) };
    },

    async subscribeApp({ wabaId, businessTokenSecret: secret }, send) {
      const source = secret === undefined ? tokens.system : tokens.business(secret);
      const call = { method: "POST", path: `/${wabaId}/subscribed_apps`, query: {}, schema: successSchema } as const;
      return grantOf(await caller.change(call, source, send));
    },
  };
}

/** Modest pages still, but not so small that a scan of thousands costs an hour's quota. */
function shapesOf(fullest: string, plain: string) {
  return [
    { fields: fullest, limit: "100" },
    // As many as Meta gives when it is not asked: whether it expands fields, and how many it gives, are two unknowns (9).
    { fields: fullest, limit: "25" },
    { fields: plain, limit: "100" },
    { fields: plain, limit: "10" },
    { fields: plain, limit: "1" },
  ];
}
