import { createHmac } from "node:crypto";
import type * as z from "zod/mini";
import { ThrottledError } from "../errors.ts";
import type { listOf } from "./answers.ts";
import type { GraphFailure } from "./errors.ts";
import { badProofCode, classify, noEffectClasses, unanswered } from "./errors.ts";
import type { TokenSource, Tokens } from "./tokens.ts";
import type { GraphAnswer, Transport } from "./transport.ts";

export type CallerDeps = {
  transport: Transport;
  tokens: Tokens;
  /** Wall clock, ms. */
  now: () => number;
  /** When given, every call carries its `appsecret_proof`. */
  appSecret?: TokenSource;
};

export type Read<T> = { ok: true; value: T } | { ok: false; failure: GraphFailure };

/** How a change may be sent: not after `sendDeadline` (ms, wall clock), and no longer than `signal` lets it (S4). */
export type Send = { sendDeadline: number; signal: AbortSignal };

/** `no-effect`: no byte left, or Meta rejects it before anything happens; `unknown`: it may have happened, or may yet. */
export type Changed<T> =
  | { kind: "done"; value: T }
  | { kind: "no-effect" | "unknown"; failure: GraphFailure; throttledUntil?: number };

/** Of a grant that may be set again, "without effect" and "unknown" are the same. */
export type GrantOutcome = { kind: "done" } | { kind: "failed"; failure: GraphFailure; throttledUntil?: number };

/** Some of the fields that were asked for, and why others could not be read. */
export type FieldsRead<T> = {
  found: Partial<T>;
  failures: Record<string, GraphFailure>;
  /** Whose token read them, when one call did. */
  by?: TokenSource;
};

/** One way to ask for a page of a list. Meta does not say which fields and limits lists accept (unknown 9). */
export type ListShape = { fields: string; limit?: string };

export type ListCall<S extends z.ZodMiniType> = {
  path: string;
  query: Record<string, string>;
  /** From the fullest to the most modest; the next is tried when Meta refuses one. */
  shapes: readonly ListShape[];
  schema: ReturnType<typeof listOf<S>>;
};

/** `next`: the cursor of the following page, absent on the last one. `fieldsMissing`: those of the fullest shape that were not asked for. */
export type Page<T> = { items: T[]; next?: string; fieldsMissing: string[] };

type Ask<S extends z.ZodMiniType> = {
  path: string;
  query: Record<string, string>;
  /** Secrets that Meta wants in the query: E15's `input_token`. */
  secretQuery?: Record<string, TokenSource>;
  schema: S;
};

type Credentials = { token: string; appSecret?: string; query: Record<string, string> };

/** A list longer than this is no list of one business's records: something repeats. */
const pagesMax = 200;

/** How long to stop when Meta says "throttled" without a time. */
const throttleMsDefault = 60_000;

/** Whatever a header says, one call a day may ask whether it is still so. */
const throttleMsMax = 24 * 3_600_000;

/**
 * How Meta is called, whatever is asked: with which token, how often, and what an answer means. Reads answer with a value
 * or a failure, and throw `ThrottledError` when Meta says stop. A change is sent once; its outcome is a value.
 */
export function createCaller({ transport, tokens, now, appSecret }: CallerDeps) {
  /** By list: the first of its shapes that Meta has not refused in this life of the process. */
  const acceptedShapes = new Map<readonly ListShape[], number>();

  return { read, readFields, readPage, readList, change };

  /**
   * Several fields in one call; one by one when the call is not permitted, since one unreadable field can fail the whole
   * call. Fails when no field could be read.
   */
  async function readFields<S extends z.ZodMiniObject>(
    { path, fields, schema }: { path: string; fields: readonly string[]; schema: S },
    sources: readonly TokenSource[],
    signal: AbortSignal,
  ): Promise<Read<FieldsRead<z.output<S>>>> {
    const whole = await read({ path, query: { fields: fields.join(",") }, schema }, sources, signal);
    if (whole.ok) return { ok: true, value: { found: whole.value, failures: {}, by: whole.by } };
    if (fields.length === 1 || whole.failure.class !== "permission") return whole;
    const found: Partial<z.output<S>> = {};
    const failures: Record<string, GraphFailure> = {};
    for (const field of fields) {
      const one = await read({ path, query: { fields: field }, schema }, sources, signal);
      if (one.ok) Object.assign(found, one.value);
      if (!one.ok) failures[field] = one.failure;
    }
    if (Object.keys(failures).length === fields.length) return whole;
    return { ok: true, value: { found, failures } };
  }

  /** Every page, or a failure: half a list proves nothing. */
  async function readList<S extends z.ZodMiniType>(
    list: ListCall<S>,
    signal: AbortSignal,
  ): Promise<Read<z.output<S>[]>> {
    const items: z.output<S>[] = [];
    const cursors = new Set<string>();
    let after: string | undefined;
    while (cursors.size < pagesMax) {
      const page = await readPage(list, after, signal);
      if (!page.ok) return page;
      items.push(...page.value.items);
      after = page.value.next;
      if (after === undefined) return { ok: true, value: items };
      if (cursors.has(after)) break;
      cursors.add(after);
    }
    return endless();
  }

  /** The page behind the cursor `after`, with the system token. */
  async function readPage<S extends z.ZodMiniType>(
    list: ListCall<S>,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<Read<Page<z.output<S>>>> {
    const { path, shapes, schema } = list;
    let index = acceptedShapes.get(shapes) ?? 0;
    for (;;) {
      const shape = shapes[index];
      if (shape === undefined) throw new Error("A list needs a shape");
      const query = { ...list.query, ...shape, ...(after === undefined ? {} : { after }) };
      const reply = await read({ path, query, schema }, [tokens.system], signal);
      if (reply.ok) {
        acceptedShapes.set(shapes, index);
        const { data: items, paging } = reply.value;
        const fieldsMissing = fieldsOf(shapes[0]).filter((field) => !fieldsOf(shape).includes(field));
        // The end is the absence of `next`, not a short page. `next` holds the token: only the cursor is used.
        if (paging?.next === undefined) return { ok: true, value: { items, fieldsMissing } };
        const next = paging.cursors?.after;
        if (next === undefined || next === after) return endless();
        return { ok: true, value: { items, next, fieldsMissing } };
      }
      const { class: failureClass } = reply.failure;
      if (failureClass !== "rejected" && failureClass !== "permission") return reply;
      // A smaller portion of the same fields needs the same permission.
      const isForbidden = failureClass === "permission";
      const next = shapes.findIndex((one, at) => at > index && (!isForbidden || one.fields !== shape.fields));
      if (next === -1) return reply;
      index = next;
    }
  }

  /** One GET with the first token that may see it: a dead or powerless business token falls back to the system token. */
  async function read<S extends z.ZodMiniType>(
    ask: Ask<S>,
    sources: readonly TokenSource[],
    signal: AbortSignal,
  ): Promise<{ ok: true; value: z.output<S>; by: TokenSource } | { ok: false; failure: GraphFailure }> {
    let last: GraphFailure | undefined;
    for (const source of sources) {
      const reply = await readWith(ask, source, signal);
      if (reply.ok) return { ...reply, by: source };
      last = reply.failure;
      if (last.class !== "token_dead" && last.class !== "permission" && last.class !== "missing") break;
    }
    if (last === undefined) throw new Error("No token to read with");
    return { ok: false, failure: last };
  }

  /** A read may be repeated: once with secrets read anew, once after a passing fault. */
  async function readWith<S extends z.ZodMiniType>(
    ask: Ask<S>,
    source: TokenSource,
    signal: AbortSignal,
  ): Promise<Read<z.output<S>>> {
    const first = await credentialsOf(source, ask.secretQuery);
    if (!first.ok) return first;
    const reply = await get(ask, source, first.value, signal);
    if (reply.ok || signal.aborted) return reply;
    if (reply.failure.class === "transient") return get(ask, source, first.value, signal);
    if (reply.failure.class !== "token_dead") return reply;
    const again = await credentialsOf(source, ask.secretQuery);
    if (!again.ok) return reply;
    const { token, appSecret: key } = again.value;
    if (token === first.value.token && key === first.value.appSecret) return reply;
    return get(ask, source, again.value, signal);
  }

  async function get<S extends z.ZodMiniType>(
    { path, query, schema }: Ask<S>,
    source: TokenSource,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<Read<z.output<S>>> {
    const request = {
      method: "GET",
      path,
      query: { ...query, ...credentials.query },
      token: credentials.token,
    } as const;
    const answer = await transport(request, { signal });
    const reply = interpret(answer, schema, credentials, source);
    if (!reply.ok && reply.failure.class === "throttled") throw new ThrottledError(regainedAt(answer));
    return reply;
  }

  /** One POST or DELETE, sent at most once. */
  async function change<S extends z.ZodMiniType>(
    call: { method: "POST" | "DELETE"; path: string; query: Record<string, string>; schema: S },
    source: TokenSource,
    send: Send,
  ): Promise<Changed<z.output<S>>> {
    const { method, path, schema } = call;
    const credentials = await credentialsOf(source);
    if (!credentials.ok) return { kind: "no-effect", failure: credentials.failure };
    const { token, query: secretQuery } = credentials.value;
    const answer = await transport({ method, path, query: { ...call.query, ...secretQuery }, token }, send);
    const reply = interpret(answer, schema, credentials.value, source);
    if (reply.ok) return { kind: "done", value: reply.value };
    const { failure } = reply;
    if (failure.class === "throttled") return { kind: "no-effect", failure, throttledUntil: regainedAt(answer) };
    const effectless = answer.kind === "not-sent" || noEffectClasses.has(failure.class);
    return { kind: effectless ? "no-effect" : "unknown", failure };
  }

  /** A secret that cannot be read is a dead token to the call, and says so without a value. */
  async function credentialsOf(
    source: TokenSource,
    secretQuery: Record<string, TokenSource> = {},
  ): Promise<Read<Credentials>> {
    try {
      const token = await source.read();
      const query: Record<string, string> = {};
      for (const [name, secret] of Object.entries(secretQuery)) query[name] = await secret.read();
      if (appSecret === undefined) return { ok: true, value: { token, query } };
      const key = await appSecret.read();
      query["appsecret_proof"] = createHmac("sha256", key).update(token).digest("hex");
      return { ok: true, value: { token, appSecret: key, query } };
    } catch (error) {
      const name = error instanceof Error ? error.name : "unknown error";
      const message = `secret: ${name}`;
      return { ok: false, failure: { at: now(), class: "token_dead", reason: "token_dead", message } };
    }
  }

  function interpret<S extends z.ZodMiniType>(
    answer: GraphAnswer,
    schema: S,
    credentials: Credentials,
    source: TokenSource,
  ): Read<z.output<S>> {
    if (answer.kind !== "answer") return { ok: false, failure: unanswered(answer.message, now()) };
    if (answer.status >= 200 && answer.status < 300 && !saysNo(answer.body)) {
      const parsed = schema.safeParse(answer.body);
      if (parsed.success) return { ok: true, value: parsed.data };
      return { ok: false, failure: unanswered(`HTTP ${answer.status} without the fields asked for`, now()) };
    }
    const secrets = [credentials.token, ...Object.values(credentials.query)];
    const failure = classify(answer.status, answer.body, secrets, now());
    if (failure.class === "token_dead") source.forget(credentials.token);
    if (failure.code === badProofCode && credentials.appSecret !== undefined) appSecret?.forget(credentials.appSecret);
    return { ok: false, failure };
  }

  function endless(): { ok: false; failure: GraphFailure } {
    return { ok: false, failure: unanswered("The list's paging does not end", now()) };
  }

  /** When Meta lets us call again: the longest time its usage headers name. */
  function regainedAt(answer: GraphAnswer): number {
    const header = answer.kind === "answer" ? answer.headers["x-business-use-case-usage"] : undefined;
    const minutes = [...String(header ?? "").matchAll(/"estimated_time_to_regain_access"\s*:\s*(\d+)/g)].map((match) =>
      Number(match[1]),
    );
    const longestMs = Math.max(0, ...minutes) * 60_000;
    return now() + (longestMs === 0 ? throttleMsDefault : Math.min(longestMs, throttleMsMax));
  }
}

export function grantOf(changed: Changed<unknown>): GrantOutcome {
  if (changed.kind === "done") return { kind: "done" };
  return { ...changed, kind: "failed" };
}

function fieldsOf(shape: ListShape | undefined): string[] {
  return shape?.fields.split(",") ?? [];
}

/** An error with HTTP 200 is one too; `success: false` must not pass for an answer whose fields are all absent. */
function saysNo(body: unknown): boolean {
  if (typeof body !== "object" || body === null) return false;
  return "error" in body || ("success" in body && body.success === false);
}
