import * as z from "zod/mini";
import type { Funding, RecordReading, WabaReading } from "../domain/readings.ts";
import type { PostOutcome } from "../domain/share.ts";
import { ThrottledError } from "../errors.ts";
import { listOf, metaId, reference, successSchema } from "./answers.ts";
import type { CallerDeps, Changed, FieldsRead, GrantOutcome, Read, Send } from "./caller.ts";
import { createCaller, grantOf } from "./caller.ts";
import type { GraphFailure } from "./errors.ts";
import { storedFailure, unanswered } from "./errors.ts";

/**
 * Meta's credit-line API, one function per call (graph-api.md §1; E-numbers are its). Reads answer with a value or a
 * failure, and throw `ThrottledError` when Meta says stop. What changes something at Meta is sent once and never repeated
 * here; its outcome is a value, because "unknown" is one (S5).
 */
export type Graph = {
  /** E3 and E7 of one WABA. Read with the customer's business token when there is one, then with the system token. */
  readWaba(wabaId: string, businessTokenSecret: string | undefined, signal: AbortSignal): Promise<Read<WabaReading>>;
  /** E7 alone. A failure is part of the answer: "cannot tell" is not "no". */
  readFunding(wabaId: string, businessTokenSecret: string | undefined, signal: AbortSignal): Promise<Funding>;
  /** E6. */
  readAllocation(allocationId: string, creditLineId: string, signal: AbortSignal): Promise<RecordReading>;
  /** E8, every page, for one business: complete or a failure. */
  listAllocations(creditLineId: string, businessId: string, signal: AbortSignal): Promise<Read<Listed[]>>;
  /** E14, as far as it tells a line whose access was revoked from a permission that is missing; false when it does not say. */
  isLineAccessRevoked(creditLineId: string, signal: AbortSignal): Promise<boolean>;
  /** E10, the prerequisite of E2. Repeating it sets the same grant, so it needs no intent. */
  assignSystemUser(target: { wabaId: string; systemUserId: string }, send: Send): Promise<GrantOutcome>;
  /** E2. */
  shareAndAttach(target: ShareTarget, send: Send): Promise<PostOutcome>;
  /** E4: an intent to share with the business; nothing is funded before E5. */
  shareWithBusiness(target: { creditLineId: string; businessId: string }, send: Send): Promise<PostOutcome>;
  /** E5, with the customer's business token and never another. */
  attach(target: ShareTarget & { businessTokenSecret: string }, send: Send): Promise<PostOutcome>;
  /** E9. `refused`: there was nothing that Meta could delete, as it says. Throws `ThrottledError`: no further one may follow. */
  deleteAllocation(allocationId: string, send: Send): Promise<DeleteOutcome>;
};

export type Listed = { allocationId: string; deleted: boolean };
export type ShareTarget = { creditLineId: string; wabaId: string; currency: string };
export type DeleteOutcome =
  | { kind: "definite" | "refused"; at: number }
  | { kind: "unknown" | "no-effect"; failure: GraphFailure };

const wabaSchema = z.object({
  owner_business_info: z.optional(reference),
  primary_funding_id: z.optional(metaId),
  currency: z.optional(z.string()),
});

const lineSchema = z.object({ is_access_revoked: z.optional(z.boolean()) });

const allocationSchema = z.object({
  receiving_credential: z.optional(reference),
  receiving_business: z.optional(reference),
  request_status: z.optional(z.string()),
});

const listedSchema = listOf(
  z.object({
    id: metaId,
    receiving_business: z.optional(reference),
    request_status: z.optional(z.string()),
  }),
);
/** The id alone is enough, E6 tells the rest. */
const listedShapes = [
  { fields: "id,receiving_business,request_status" },
  { fields: "id" },
  { fields: "id", limit: "10" },
  { fields: "id", limit: "1" },
];

/** E2 answers without `success`, E4 without `waba_id`. */
const sharedSchema = z.object({ allocation_config_id: metaId, waba_id: z.optional(metaId) });

export function createGraph(deps: CallerDeps): Graph {
  const caller = createCaller(deps);
  const { tokens, now } = deps;

  return {
    async readWaba(wabaId, businessTokenSecret, signal) {
      const startedAt = now();
      const fields = ["owner_business_info", "primary_funding_id", "currency"];
      const reply = await readWabaFields(wabaId, businessTokenSecret, fields, signal);
      if (!reply.ok) return reply;
      const { owner_business_info: owner, currency, primary_funding_id: fundingId } = reply.value.found;
      const fundingFailure = reply.value.failures["primary_funding_id"];
      const value: WabaReading = {
        startedAt,
        ...(owner === undefined ? {} : { ownerBusinessId: owner.id }),
        ...(currency === undefined ? {} : { currency }),
        funding: fundingFailure === undefined ? fundingOf(fundingId) : unreadable(fundingFailure),
      };
      return { ok: true, value };
    },

    async readFunding(wabaId, businessTokenSecret, signal) {
      const reply = await readWabaFields(wabaId, businessTokenSecret, ["primary_funding_id"], signal);
      if (!reply.ok) return unreadable(reply.failure);
      const { found, by } = reply.value;
      const funding = fundingOf(found.primary_funding_id);
      return found.primary_funding_id === undefined && by !== undefined ? { ...funding, blind: true } : funding;
    },

    async readAllocation(allocationId, creditLineId, signal) {
      const about = { allocationId, creditLineId };
      const fields = ["receiving_credential", "receiving_business", "request_status"];
      const ask = { path: `/${allocationId}`, fields, schema: allocationSchema };
      const reply = await caller.readFields(ask, [tokens.system], signal);
      const readAt = now();
      if (!reply.ok) {
        const seen = reply.failure.class === "missing" ? "missing" : "unreadable";
        return { ...about, readAt, seen, failure: storedFailure(reply.failure) };
      }
      const {
        receiving_business: business,
        receiving_credential: credential,
        request_status: status,
      } = reply.value.found;
      const statusFailure = reply.value.failures["request_status"];
      return {
        ...about,
        readAt,
        seen: statusFailure === undefined ? seenOf(status) : "unreadable",
        ...(business === undefined ? {} : { receivingBusinessId: business.id }),
        ...(credential === undefined ? {} : { receivingCredentialId: credential.id }),
      };
    },

    async listAllocations(creditLineId, businessId, signal) {
      const path = `/${creditLineId}/owning_credit_allocation_configs`;
      const query = { receiving_business_id: businessId };
      const list = { path, query, shapes: listedShapes, schema: listedSchema };
      const reply = await caller.readList(list, signal);
      if (!reply.ok) return reply;
      const value = reply.value
        // The filter is Meta's to honour; a record that names another business is not this one's.
        .filter(({ receiving_business: business }) => business === undefined || business.id === businessId)
        .map(({ id, request_status: status }) => ({ allocationId: id, deleted: status === "DELETED" }));
      return { ok: true, value };
    },

    async isLineAccessRevoked(creditLineId, signal) {
      const ask = { path: `/${creditLineId}`, fields: ["is_access_revoked"], schema: lineSchema };
      const reply = await caller.readFields(ask, [tokens.system], signal);
      return reply.ok && reply.value.found.is_access_revoked === true;
    },

    async assignSystemUser({ wabaId, systemUserId }, send) {
      const query = { user: systemUserId, tasks: "['MANAGE']" };
      const call = { method: "POST", path: `/${wabaId}/assigned_users`, query, schema: successSchema } as const;
      return grantOf(await caller.change(call, tokens.system, send));
    },

    async shareAndAttach({ creditLineId, wabaId, currency }, send) {
      const path = `/${creditLineId}/whatsapp_credit_sharing_and_attach`;
      const query = { waba_currency: currency, waba_id: wabaId };
      const call = { method: "POST", path, query, schema: sharedSchema } as const;
      return outcomeOf(await caller.change(call, tokens.system, send), wabaId);
    },

    async shareWithBusiness({ creditLineId, businessId }, send) {
      const path = `/${creditLineId}/whatsapp_credit_sharing`;
      const query = { receiving_business_id: businessId };
      const call = { method: "POST", path, query, schema: sharedSchema } as const;
      return outcomeOf(await caller.change(call, tokens.system, send), undefined);
    },

    async attach({ creditLineId, wabaId, currency, businessTokenSecret }, send) {
      const path = `/${creditLineId}/whatsapp_credit_attach`;
      const query = { waba_currency: currency, waba_id: wabaId };
      const call = { method: "POST", path, query, schema: sharedSchema } as const;
      return outcomeOf(await caller.change(call, tokens.business(businessTokenSecret), send), wabaId);
    },

    async deleteAllocation(allocationId, send) {
      const call = { method: "DELETE", path: `/${allocationId}`, query: {}, schema: successSchema } as const;
      const changed = await caller.change(call, tokens.system, send);
      if (changed.kind === "done") return { kind: "definite", at: now() };
      const { kind, failure, throttledUntil } = changed;
      if (throttledUntil !== undefined) throw new ThrottledError(throttledUntil);
      // "Already revoked" comes as an error (M).
      if (failure.class === "rejected" || failure.class === "missing") return { kind: "refused", at: now() };
      return { kind, failure };
    },
  };

  async function readWabaFields(
    wabaId: string,
    secret: string | undefined,
    fields: readonly string[],
    signal: AbortSignal,
  ): Promise<Read<FieldsRead<z.output<typeof wabaSchema>>>> {
    const ask = { path: `/${wabaId}`, fields, schema: wabaSchema };
    if (secret === undefined) return caller.readFields(ask, [tokens.system], signal);
    const reply = await caller.readFields(ask, [tokens.business(secret), tokens.system], signal);
    if (!reply.ok) return reply;
    const { found, failures, by } = reply.value;
    if (found.primary_funding_id !== undefined || failures["primary_funding_id"] !== undefined) return reply;
    if (by === tokens.system) return reply;
    // Nothing pays, or the customer's token may not see what does (unknown 10): the other token has the casting vote.
    const other = await caller.readFields({ ...ask, fields: ["primary_funding_id"] }, [tokens.system], signal);
    if (!other.ok) return reply;
    return { ok: true, value: { found: { ...found, ...other.value.found }, failures } };
  }

  /** @param wabaId undefined when the call named none. */
  function outcomeOf(changed: Changed<z.output<typeof sharedSchema>>, wabaId: string | undefined): PostOutcome {
    if (changed.kind !== "done") return { ...changed, failure: storedFailure(changed.failure) };
    const { allocation_config_id: allocationId, waba_id: answeredWaba } = changed.value;
    if (wabaId === undefined || answeredWaba === undefined || answeredWaba === wabaId) {
      return { kind: "accepted", allocationId };
    }
    const failure = storedFailure(unanswered("The answer names another WABA", now()));
    return { kind: "unknown", failure, allocationId };
  }
}

function fundingOf(id: string | undefined): Funding {
  return id === undefined ? { known: true } : { known: true, id };
}

function unreadable(failure: GraphFailure): Funding {
  return { known: false, failure: storedFailure(failure) };
}

/** The only status that Meta prints is `DELETED`; no status is a live record; anything else a person must look at. */
function seenOf(status: string | undefined): RecordReading["seen"] {
  if (status === undefined) return "live";
  return status === "DELETED" ? "deleted" : "strange";
}
