import * as z from "zod/mini";
import type { Failure, Reason } from "../domain/reasons.ts";
import type { GraphAnswer } from "./transport.ts";

/**
 * Meta's errors as data (graph-api.md §4). HTTP status is no reliable classifier: the code comes first.
 * `no-effect`: Meta rejects it before anything happens, also for a POST or DELETE.
 */
export type GraphErrorClass =
  | "throttled"
  | "token_dead"
  | "permission"
  | "policy"
  | "missing"
  | "rejected"
  | "same_business"
  | "transient";

/** A bad `appsecret_proof`: of the secrets, the app's is to be read again. */
export const badProofCode = 104;

const codeClasses: readonly { from: number; to?: number; class: GraphErrorClass }[] = [
  { from: 4, class: "throttled" },
  { from: 17, class: "throttled" },
  { from: 32, class: "throttled" },
  { from: 341, class: "throttled" },
  { from: 613, class: "throttled" },
  { from: 80_000, to: 80_014, class: "throttled" },
  { from: 1, to: 2, class: "transient" },
  { from: 131_016, class: "transient" },
  { from: 131_057, class: "transient" },
  { from: 102, class: "token_dead" },
  { from: 190, class: "token_dead" },
  { from: 3, class: "permission" },
  { from: 10, class: "permission" },
  { from: 200, to: 299, class: "permission" },
  // A bad proof is a wrong app secret of ours; Meta checks it before anything else, as it does the token.
  { from: badProofCode, class: "token_dead" },
  { from: 368, class: "policy" },
  { from: 803, class: "missing" },
  { from: 100, class: "rejected" },
  { from: 4000, class: "rejected" },
  // The answer to a message that nobody pays for. None of our calls sends one, so it says nothing of their effect.
  { from: 131_042, class: "transient" },
];

/** Any other code: a read is tried again; of a POST or DELETE the outcome is unknown. */
const defaultClass: GraphErrorClass = "transient";

/** Subcodes that say more than their code. */
const subcodeClasses: readonly { code?: number; subcode: number; class: GraphErrorClass }[] = [
  { subcode: 1_752_244, class: "same_business" },
  { subcode: 1_752_294, class: "rejected" },
  { code: 100, subcode: 33, class: "missing" },
];

/** Classes that Meta answers before any effect: only these may close the intent of a first attempt (S5). */
export const noEffectClasses: ReadonlySet<GraphErrorClass> = new Set([
  "throttled",
  "token_dead",
  "permission",
  "policy",
]);

const classReasons: Record<GraphErrorClass, Reason> = {
  throttled: "meta_unavailable",
  transient: "meta_unavailable",
  token_dead: "token_dead",
  permission: "permission_denied",
  policy: "policy_block",
  missing: "waba_not_visible",
  rejected: "refused_by_meta",
  same_business: "same_business",
};

const textIfAny = ifAny((value) => (typeof value === "string" ? value : undefined));
const numberIfAny = ifAny((value) => (typeof value === "number" ? value : undefined));

const envelopeSchema = z.object({
  error: z.object({
    code: z.number(),
    message: textIfAny,
    error_subcode: numberIfAny,
    fbtrace_id: textIfAny,
    is_transient: z.optional(z.unknown()),
  }),
});

/** What is not as documented is as good as absent: it must not hide the code. */
function ifAny<T>(read: (value: unknown) => T | undefined) {
  return z.optional(z.pipe(z.unknown(), z.transform(read)));
}

export type GraphFailure = Failure & { class: GraphErrorClass };

/** Meta repeats a malformed token in its message: what was sent, and whatever looks like a token, is taken out. */
function withoutSecrets(message: string, secrets: readonly string[]): string {
  const redacted = secrets.reduce((text, secret) => text.replaceAll(secret, "[token]"), message);
  return withoutTokens(redacted);
}

/** What Meta says is kept on the item, whose size is bounded in bytes (T3). */
function clipped(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text;
  // The last character may have been cut in two.
  return Buffer.from(text)
    .subarray(0, bytesMax)
    .toString()
    .replace(/\uFFFD$/, "");
}

/** The text without what looks like one of Meta's tokens. */
export function withoutTokens(text: string): string {
  return text.replaceAll(/EAA[A-Za-z0-9]{8,}/g, "[token]");
}

/**
 * Classifies an answer that is no success. Never throws; what has no envelope is `transient`.
 * @param secrets what the call was made with, tokens and proof: no failure repeats them.
 */
export function classify(status: number, body: unknown, secrets: readonly string[], at: number): GraphFailure {
  const parsed = envelopeSchema.safeParse(body);
  if (!parsed.success) return failureOf("transient", { at, message: `HTTP ${status} without an error envelope` });
  const { code, error_subcode: subcode, message, fbtrace_id: fbtraceId, is_transient: isTransient } = parsed.data.error;
  const about = {
    at,
    code,
    ...(subcode === undefined ? {} : { subcode }),
    ...(fbtraceId === undefined ? {} : { fbtraceId: clipped(fbtraceId, 100) }),
    ...(message === undefined ? {} : { message: clipped(withoutSecrets(message, secrets), 500) }),
  };
  const bySubcode = subcodeClasses.find(
    (row) => row.subcode === subcode && (row.code === undefined || row.code === code),
  );
  if (bySubcode !== undefined) return failureOf(bySubcode.class, about);
  const byCode = codeClasses.find((row) => code >= row.from && code <= (row.to ?? row.from));
  // Meta may call a throttle transient; it is a reason to stop all the same, never to call again at once.
  if (byCode?.class === "throttled") return failureOf("throttled", about);
  if (byCode !== undefined && isTransient !== true) return failureOf(byCode.class, about);
  return failureOf(byCode === undefined ? defaultClass : "transient", about);
}

/** What an answer counts as: its class, `ok`, or that there is none. Never throws. */
export function classOf(answer: GraphAnswer, at: number): GraphErrorClass | "ok" | "not-sent" | "no-answer" {
  if (answer.kind !== "answer") return answer.kind;
  const isError = envelopeSchema.safeParse(answer.body).success || answer.status < 200 || answer.status >= 300;
  return isError ? classify(answer.status, answer.body, [], at).class : "ok";
}

/** No answer, or none that can be read. */
export function unanswered(message: string, at: number): GraphFailure {
  return failureOf("transient", { at, message: clipped(message, 500) });
}

function failureOf(errorClass: GraphErrorClass, about: Omit<Failure, "reason">): GraphFailure {
  return { ...about, class: errorClass, reason: classReasons[errorClass] };
}

/** The part of a failure that is stored. */
export function storedFailure({ class: _class, ...failure }: GraphFailure): Failure {
  return failure;
}
