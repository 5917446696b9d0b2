import * as z from "zod/mini";
import type { Funding, RecordReading, WabaReading } from "../domain/readings.ts";
import type { PostOutcome } from "../domain/share.ts";
import { ThrottledError } from "../errors.ts";
import type { GraphFailure } from "./errors.ts";
import { classify, noEffectClasses, storedFailure, unanswered } from "./errors.ts";
import type { TokenSource, Tokens } from "./tokens.ts";
import type { GraphAnswer, Transport } from "./transport.ts";

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
  /** E2. */
  shareAndAttach(target: ShareTarget, send: Send): Promise<PostOutcome>;
  /** E9. `definite`: Meta processed it, with success or with an error that says so (R4). Throws `ThrottledError`: no further one may follow. */
  deleteAllocation(allocationId: string, send: Send): Promise<DeleteOutcome>;
};

export type Read<T> = { ok: true; value: T } | { ok: false; failure: GraphFailure };
export type Listed = { allocationId: string; deleted: boolean };
export type ShareTarget = { creditLineId: string; wabaId: string; currency: string };
export type Send = { sendDeadline: number; signal: AbortSignal };
export type DeleteOutcome = { kind: "definite"; at: number } | { kind: "unknown" | "no-effect"; failure: GraphFailure };

/** Ids are strings that may be printed as numbers; big ones arrive as strings already (parseLossless). */
const metaId = z.pipe(
  z.union([z.string().check(z.regex(/^\d{1,32}$/)), z.int()]),
  z.transform((id: string | number) => String(id)),
);
const reference = z.object({ id: metaId });

const wabaFields = {
  owner_business_info: z.optional(reference),
  primary_funding_id: z.optional(metaId),
  currency: z.optional(z.string()),
};
const wabaSchema = z.object(wabaFields);

const allocationSchema = z.object({
  receiving_credential: z.optional(reference),
  receiving_business: z.optional(reference),
  request_status: z.optional(z.string()),
});

const listedSchema = z.object({
  id: metaId,
  receiving_business: z.optional(reference),
  request_status: z.optional(z.string()),
});
const pageSchema = z.object({
  data: z.array(listedSchema),
  paging: z.optional(
    z.object({ next: z.optional(z.string()), cursors: z.optional(z.object({ after: z.optional(z.string()) })) }),
  ),
});
/** Meta documents both a list and a bare object; an empty answer is an empty list. */
const listSchema = z.union([
  pageSchema,
  z.pipe(
    listedSchema,
    z.transform((one) => ({ data: [one], paging: undefined })),
  ),
]);

const sharedSchema = z.object({ allocation_config_id: metaId, waba_id: z.optional(metaId) });
const successSchema = z.object({ success: z.literal(true) });

/** A list longer than this is no list of one business's records: something repeats. */
const pagesMax = 200;

/** How long to stop when Meta says "throttled" without a time. */
const throttleMsDefault = 60_000;

export function createGraph(deps: { transport: Transport; tokens: Tokens; now: () => number }): Graph {
  const { transport, tokens, now } = deps;

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
      return reply.ok ? fundingOf(reply.value.found.primary_funding_id) : unreadable(reply.failure);
    },

    async readAllocation(allocationId, creditLineId, signal) {
      const about = { allocationId, creditLineId };
      const fields = ["receiving_credential", "receiving_business", "request_status"];
      const reply = await readFields(`/${allocationId}`, fields, allocationSchema, [tokens.system], signal);
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
      const wide = await listPages(creditLineId, businessId, "id,receiving_business,request_status", signal);
      if (wide.ok || wide.failure.class !== "rejected") return wide;
      // Meta does not say which fields a list accepts (unknown 9): the id alone is enough, E6 tells the rest.
      return listPages(creditLineId, businessId, "id", signal);
    },

    async shareAndAttach({ creditLineId, wabaId, currency }, send) {
      const read = await tokenOf(tokens.system);
      if (!read.ok) return { kind: "no-effect", failure: storedFailure(read.failure) };
      const token = read.value;
      const query = { waba_currency: currency, waba_id: wabaId };
      const path = `/${creditLineId}/whatsapp_credit_sharing_and_attach`;
      const answer = await transport({ method: "POST", path, query, token }, send);
      const reply = interpret(answer, sharedSchema, token, tokens.system);
      if (!reply.ok) {
        const effectless = answer.kind === "not-sent" || noEffectClasses.has(reply.failure.class);
        const failure = storedFailure(reply.failure);
        return { kind: effectless ? "no-effect" : "unknown", failure, ...throttle(reply.failure, answer) };
      }
      const { allocation_config_id: allocationId, waba_id: answeredWaba } = reply.value;
      if (answeredWaba === undefined || answeredWaba === wabaId) return { kind: "accepted", allocationId };
      const failure = storedFailure(unanswered("The answer names another WABA", now()));
      return { kind: "unknown", failure, allocationId };
    },

    async deleteAllocation(allocationId, send) {
      const read = await tokenOf(tokens.system);
      if (!read.ok) return { kind: "no-effect", failure: read.failure };
      const token = read.value;
      const answer = await transport({ method: "DELETE", path: `/${allocationId}`, query: {}, token }, send);
      const reply = interpret(answer, successSchema, token, tokens.system);
      if (reply.ok) return { kind: "definite", at: now() };
      const { failure } = reply;
      if (failure.class === "throttled") throw new ThrottledError(regainedAt(answer));
      // "Already revoked" comes as an error (M): processed all the same; E6 decides what it is worth.
      if (failure.class === "rejected" || failure.class === "missing") return { kind: "definite", at: now() };
      const effectless = answer.kind === "not-sent" || noEffectClasses.has(failure.class);
      return { kind: effectless ? "no-effect" : "unknown", failure };
    },
  };

  async function readWabaFields(wabaId: string, secret: string | undefined, fields: string[], signal: AbortSignal) {
    const sources = secret === undefined ? [tokens.system] : [tokens.business(secret), tokens.system];
    return readFields(`/${wabaId}`, fields, wabaSchema, sources, signal);
  }

  /**
   * Several fields in one call; one by one when the call is not permitted, since one unreadable field can fail the whole
   * call. Fails when no field could be read.
   */
  async function readFields<S extends z.ZodMiniObject>(
    path: string,
    fields: string[],
    schema: S,
    sources: TokenSource[],
    signal: AbortSignal,
  ): Promise<Read<{ found: Partial<z.output<S>>; failures: Record<string, GraphFailure> }>> {
    const whole = await readFrom(path, { fields: fields.join(",") }, schema, sources, signal);
    if (whole.ok) return { ok: true, value: { found: whole.value, failures: {} } };
    if (fields.length === 1 || whole.failure.class !== "permission") return whole;
    const found: Partial<z.output<S>> = {};
    const failures: Record<string, GraphFailure> = {};
    for (const field of fields) {
      const one = await readFrom(path, { fields: field }, schema, sources, signal);
      if (one.ok) Object.assign(found, one.value);
      if (!one.ok) failures[field] = one.failure;
    }
    if (Object.keys(failures).length === fields.length) return whole;
    return { ok: true, value: { found, failures } };
  }

  /** One GET with the first token that may see it: a dead or powerless business token falls back to the system token. */
  async function readFrom<S extends z.ZodMiniType>(
    path: string,
    query: Record<string, string>,
    schema: S,
    sources: TokenSource[],
    signal: AbortSignal,
  ): Promise<Read<z.output<S>>> {
    let last: Read<z.output<S>> | undefined;
    for (const source of sources) {
      last = await readOnce(path, query, schema, source, signal);
      if (last.ok) return last;
      const { class: failureClass } = last.failure;
      if (failureClass !== "token_dead" && failureClass !== "permission" && failureClass !== "missing") return last;
    }
    if (last === undefined) throw new Error("No token to read with");
    return last;
  }

  /** A read may be repeated: once with a token read anew, once after a passing fault. */
  async function readOnce<S extends z.ZodMiniType>(
    path: string,
    query: Record<string, string>,
    schema: S,
    source: TokenSource,
    signal: AbortSignal,
  ): Promise<Read<z.output<S>>> {
    const first = await readAttempt(path, query, schema, source, signal);
    if (first.reply.ok || signal.aborted) return first.reply;
    const { class: failureClass } = first.reply.failure;
    if (failureClass === "transient") return (await readAttempt(path, query, schema, source, signal)).reply;
    if (failureClass !== "token_dead" || first.token === undefined) return first.reply;
    const again = await tokenOf(source);
    if (!again.ok || again.value === first.token) return first.reply;
    return (await readAttempt(path, query, schema, source, signal)).reply;
  }

  async function readAttempt<S extends z.ZodMiniType>(
    path: string,
    query: Record<string, string>,
    schema: S,
    source: TokenSource,
    signal: AbortSignal,
  ): Promise<{ reply: Read<z.output<S>>; token?: string }> {
    const read = await tokenOf(source);
    if (!read.ok) return { reply: read };
    const token = read.value;
    const answer = await transport({ method: "GET", path, query, token }, { signal });
    const reply = interpret(answer, schema, token, source);
    if (!reply.ok && reply.failure.class === "throttled") throw new ThrottledError(regainedAt(answer));
    return { reply, token };
  }

  /** A secret that cannot be read is a dead token to the call, and says so without a value. */
  async function tokenOf(source: TokenSource): Promise<Read<string>> {
    try {
      return { ok: true, value: await source.read() };
    } catch (error) {
      const name = error instanceof Error ? error.name : "unknown error";
      const failure: GraphFailure = {
        at: now(),
        class: "token_dead",
        reason: "token_dead",
        message: `secret: ${name}`,
      };
      return { ok: false, failure };
    }
  }

  async function listPages(
    creditLineId: string,
    businessId: string,
    fields: string,
    signal: AbortSignal,
  ): Promise<Read<Listed[]>> {
    const listed: Listed[] = [];
    const cursors = new Set<string>();
    let after: string | undefined;
    while (cursors.size < pagesMax) {
      const query = { receiving_business_id: businessId, fields, ...(after === undefined ? {} : { after }) };
      const path = `/${creditLineId}/owning_credit_allocation_configs`;
      const page = await readOnce(path, query, listSchema, tokens.system, signal);
      if (!page.ok) return page;
      for (const one of page.value.data) {
        // The filter is Meta's to honour; a record that names another business is not this one's.
        if (one.receiving_business !== undefined && one.receiving_business.id !== businessId) continue;
        listed.push({ allocationId: one.id, deleted: one.request_status === "DELETED" });
      }
      // The end is the absence of `next`, not a short page. `next` holds the token: only the cursor is used.
      if (page.value.paging?.next === undefined) return { ok: true, value: listed };
      after = page.value.paging.cursors?.after;
      if (after === undefined || cursors.has(after)) break;
      cursors.add(after);
    }
    return { ok: false, failure: unanswered("The list's paging does not end", now()) };
  }

  function interpret<S extends z.ZodMiniType>(
    answer: GraphAnswer,
    schema: S,
    token: string,
    source: TokenSource,
  ): Read<z.output<S>> {
    if (answer.kind !== "answer") return { ok: false, failure: unanswered(answer.message, now()) };
    if (answer.status >= 200 && answer.status < 300 && !hasError(answer.body)) {
      const parsed = schema.safeParse(answer.body);
      if (parsed.success) return { ok: true, value: parsed.data };
      return { ok: false, failure: unanswered(`HTTP ${answer.status} without the fields asked for`, now()) };
    }
    const failure = classify(answer.status, answer.body, token, now());
    if (failure.class === "token_dead") source.forget(token);
    return { ok: false, failure };
  }

  /** When Meta lets us call again: the longest time its usage headers name. */
  function regainedAt(answer: GraphAnswer): number {
    const header = answer.kind === "answer" ? answer.headers["x-business-use-case-usage"] : undefined;
    const minutes = [...String(header ?? "").matchAll(/"estimated_time_to_regain_access"\s*:\s*(\d+)/g)].map((match) =>
      Number(match[1]),
    );
    const longest = Math.max(0, ...minutes);
    return now() + (longest === 0 ? throttleMsDefault : longest * 60_000);
  }

  function throttle(failure: GraphFailure, answer: GraphAnswer): { throttledUntil?: number } {
    return failure.class === "throttled" ? { throttledUntil: regainedAt(answer) } : {};
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

function hasError(body: unknown): boolean {
  return typeof body === "object" && body !== null && "error" in body;
}
