import type { IncomingHttpHeaders } from "node:http";
import * as z from "zod/mini";
import { classify } from "./errors.ts";
import type { GraphRequest, Transport } from "./transport.ts";

/** What one answer tells of the hour's budget (graph-api.md §3). What is malformed tells nothing. */
export type Usage = {
  /** The highest used fraction of the app's budget, 1 being all of it; undefined when the answer does not say. */
  used?: number;
  /** Until the app's calls are let through again; 0 while they are. */
  regainMs: number;
  /** The bucket of the call's own subject is empty. */
  subjectIsFull: boolean;
};

const fieldsSchema = z.record(z.string(), z.unknown());
const useCasesSchema = z.record(z.string(), z.array(fieldsSchema));
const percentFields = ["call_count", "total_time", "total_cputime"];

/**
 * @param subjectIds the ids that the call itself is about, a WABA's above all. Beside the app's 5,000 calls an hour each WABA
 * has 200 of its own, and Meta names that bucket by the WABA's id: one busy customer must not stop everybody. Any other id
 * counts, since Meta does not say by which of ours (business, line, app) it names the big one.
 */
export function readUsage(headers: IncomingHttpHeaders, subjectIds: ReadonlySet<string>): Usage {
  const app = parseHeader(headers["x-app-usage"], fieldsSchema) ?? {};
  const useCases = Object.entries(parseHeader(headers["x-business-use-case-usage"], useCasesSchema) ?? {});
  const ofApp = [app, ...useCases.flatMap(([id, entries]) => (subjectIds.has(id) ? [] : entries))];
  const ofSubject = useCases.flatMap(([id, entries]) => (subjectIds.has(id) ? entries : []));
  const percents = ofApp.flatMap(percentsOf);
  return {
    ...(percents.length === 0 ? {} : { used: Math.max(...percents) / 100 }),
    regainMs: Math.max(...ofApp.map(regainMsOf)),
    subjectIsFull: ofSubject.some((entry) => regainMsOf(entry) > 0 || percentsOf(entry).some((one) => one >= 100)),
  };
}

/** What the answers of one process told since it was asked last. */
export type UsageMeter = {
  /** Lays the meter around a transport. */
  meter(transport: Transport): Transport;
  /** The highest used fraction told since the last time. */
  takeUsed(): number | undefined;
  /** Until when Meta lets none of the app's calls through, as far as this process was told. */
  blockedUntil(): number;
};

/** How long to stop when Meta says "throttled" without a time. */
const blockMsDefault = 60_000;

/** Whatever a header says, one call a day may ask whether it is still so. */
const blockMsMax = 24 * 3_600_000;

/** @param ownIds the partner's own: business and line, which are the subject of calls but no customer's bucket. */
export function createUsageMeter({ ownIds, now }: { ownIds: readonly string[]; now: () => number }): UsageMeter {
  let highest: number | undefined;
  let blocked: { answer: Answer; until: number } | undefined;

  function note(request: GraphRequest, answer: Answer): void {
    const subjects = [request.path.split("/")[1] ?? "", request.query["waba_id"] ?? ""];
    const usage = readUsage(answer.headers, new Set(subjects.filter((id) => !ownIds.includes(id))));
    // An app that uses little is told nothing at all.
    const used = usage.used ?? (answer.status < 300 && isSilent(answer.headers) ? 0 : undefined);
    if (used !== undefined) highest = Math.max(highest ?? 0, used);
    const { class: failureClass, code = 0 } = classify(answer.status, answer.body, [request.token], now());
    // Codes from 80000 on are those of single use cases.
    if (failureClass !== "throttled" || (code >= 80_000 && usage.subjectIsFull)) return;
    blocked = { answer, until: now() + Math.min(usage.regainMs || blockMsDefault, blockMsMax) };
  }

  return {
    meter: (transport) => async (request, options) => {
      // Calls made while throttled prolong the block: what is still to come in this process hears Meta's own words again.
      if (blocked !== undefined && now() < blocked.until) return blocked.answer;
      const answer = await transport(request, options);
      if (answer.kind === "answer") note(request, answer);
      return answer;
    },
    takeUsed() {
      const taken = highest;
      highest = undefined;
      return taken;
    },
    blockedUntil: () => blocked?.until ?? 0,
  };
}

type Answer = Extract<Awaited<ReturnType<Transport>>, { kind: "answer" }>;

function isSilent(headers: IncomingHttpHeaders): boolean {
  return headers["x-app-usage"] === undefined && headers["x-business-use-case-usage"] === undefined;
}

function parseHeader<S extends z.ZodMiniType>(header: string | string[] | undefined, schema: S) {
  if (header === undefined) return undefined;
  try {
    return schema.safeParse(JSON.parse(String(header))).data;
  } catch {
    return undefined;
  }
}

function percentsOf(entry: Record<string, unknown>): number[] {
  return percentFields.map((name) => entry[name]).filter(isAmount);
}

function regainMsOf(entry: Record<string, unknown>): number {
  const minutes = entry["estimated_time_to_regain_access"];
  return isAmount(minutes) ? minutes * 60_000 : 0;
}

function isAmount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
