import type { GraphAnswer as MetaAnswer, ReceivedCall } from "../../infra/local/meta/meta-graph.ts";
import { answerCall, failCall, receiveCall, usageHeaders } from "../../infra/local/meta/meta-graph.ts";
import type { MetaModel } from "../../infra/local/meta/meta-model.ts";
import { liveAllocations, shareWithBusiness } from "../../infra/local/meta/meta-model.ts";
import type { GraphAnswer, GraphRequest, Transport } from "../../shared/graph/transport.ts";
import type { Engine, Invocation, Process } from "./engine.ts";
import { type History, isNarrow, landingMsMax } from "./history.ts";
import { randomOf } from "./random.ts";

export const metaReadFaults = [
  "crash-before",
  "freeze-before",
  "freeze-answer",
  "cut-before",
  "5xx-before",
  "odd-before",
  "throttle",
  "hang-before",
] as const;

/** `…-before`: no effect. `…-after`: the effect stays, the answer is lost or lies. `half…`: the record is made, but not attached. */
export const metaChangeFaults = [
  "crash-before",
  "crash-sent",
  "freeze-before",
  "freeze-sent",
  "freeze-answer",
  "not-sent",
  "cut-before",
  "cut-after",
  "5xx-before",
  "5xx-after",
  "error-before",
  "error-after",
  "half",
  "half-lost",
  "hang-before",
  "hang-after",
  "late",
  "throttle",
  "policy",
] as const;

const timeoutMs = 8000;
/** The share function's time-out: the slack that A1 leaves. */
export const functionMs = 30_000;

/** A POST or DELETE whose first byte leaves. */
export type SentChange = { name: string; subject: string; invocation: Invocation; sendDeadline: number };

export type MetaWires = {
  model: MetaModel;
  /** Whatever is asked before this is answered "throttled". */
  throttledUntil: number;
  onSent: (sent: SentChange) => void;
  /** The number that the ledger gave to a sent change. */
  onReceived: (sent: SentChange, callNumber: number) => void;
};

/** HTTP to the model of Meta, as `shared/graph/transport.ts` does it, with all that may go wrong on the way. */
export function createMetaTransport(engine: Engine, history: History, process: Process, wires: MetaWires): Transport {
  const { model } = wires;
  const changeFaults = changeFaultsOf(history);
  return (request, { signal, sendDeadline }) => {
    const { promise, resolve } = Promise.withResolvers<GraphAnswer>();
    const { invocation } = process;
    if (!process.isAlive || invocation === undefined) return promise;
    const isChange = sendDeadline !== undefined;
    const { name, subject } = subjectOf(request);
    const plan = engine.draw(
      invocation,
      name,
      isChange ? changeFaults.kinds : metaReadFaults,
      isChange ? (changeProbability[name] ?? 0.1) * changeFaults.rate : 0.004,
    );
    const { kind, spanMs } = plan;
    const odd = invocation.random.next();
    // Of some businesses always, or a later list would show what this one hid.
    const isHidden = history.breach === "A4" && (odd < 0.2 || randomOf(`${history.seed} hides ${subject}`).chance(0.5));

    let isSettled = false;
    /** Past the check of the deadline: from here on bytes may have left. */
    let isOnItsWay = !isChange;
    function settle(answer: GraphAnswer): void {
      if (isSettled) return;
      isSettled = true;
      signal.removeEventListener("abort", abort);
      resolve(answer);
    }
    function abort(): void {
      settle({ kind: isOnItsWay ? "no-answer" : "not-sent", message: "aborted" });
    }
    signal.addEventListener("abort", abort, { once: true });

    engine.at(engine.now() + plan.beforeMs, () => {
      if (kind === "crash-before") return engine.kill(process);
      if (kind === "freeze-before") engine.freeze(process, spanMs);
      engine.deliver(process, connect);
    });
    return promise;

    function connect(): void {
      if (isSettled) return;
      if (!isChange) return signal.aborted ? abort() : leave();
      if (kind === "not-sent") return settle({ kind: "not-sent", message: "no connection" });
      // As the product does it: in the same tick that writes.
      if (process.now() >= sendDeadline || signal.aborted) {
        return settle({ kind: "not-sent", message: "the send deadline had passed" });
      }
      isOnItsWay = true;
      if (kind !== "freeze-sent") return leave();
      // Between that check and the wire: A1 says how long at most.
      const lastAt = sendDeadline + functionMs - 1;
      engine.freeze(process, history.breach === "A1" ? spanMs + 2_400_000 : Math.min(spanMs, lastAt - engine.now()));
      engine.deliver(process, leave);
    }

    function leave(): void {
      const sent = { name, subject, invocation: invocation as Invocation, sendDeadline: sendDeadline ?? Infinity };
      const leftAt = engine.now();
      if (isChange) wires.onSent(sent);
      if (kind === "crash-sent") engine.kill(process);
      engine.at(leftAt + 1 + (plan.beforeMs % 97), () => arrive(sent, leftAt));
    }

    function arrive(sent: SentChange, leftAt: number): void {
      const now = engine.now();
      const received = receiveCall(model, { ...request, path: `/v25.0${request.path}`, now });
      if (isChange) wires.onReceived(sent, received.entry.n);
      const answer = answerOf(received, now, leftAt);
      if (answer === undefined) {
        const isHanging = kind === "hang-before" || kind === "hang-after" || (kind === "late" && odd < 0.5);
        const at = isHanging ? leftAt + timeoutMs : now + plan.afterMs;
        engine.at(at, () => engine.deliver(process, () => settle({ kind: "no-answer", message: "cut" })));
        return;
      }
      if (kind === "freeze-answer") engine.freeze(process, isHiding(history) ? spanMs + 2_400_000 : spanMs);
      function tell(known: MetaAnswer): void {
        if (isSettled) return;
        const isOk = known.status === 200;
        engine.say(
          process,
          () => `${name} ${subject} → ${isOk ? JSON.stringify(known.body) : `error ${errorCodeOf(known)}`}`,
        );
        invocation?.metaReads.push({ name, id: subject, sentAt: leftAt, body: known.body, isOk });
        // An app without a limit is told nothing of how much of it is used.
        const { appCallsPerHour, wabaCallsPerHour } = model.variants;
        const isSilent = isOk && appCallsPerHour === null && wabaCallsPerHour === null;
        settle({ kind: "answer", ...known, ...(isSilent ? { headers: {} } : {}) });
      }
      if (plan.afterMs === 0) engine.deliver(process, () => tell(answer));
      else engine.at(now + plan.afterMs, () => engine.deliver(process, () => tell(answer)));
    }

    /** What Meta does with the call, and says; undefined: nothing that reaches us. */
    function answerOf(received: ReceivedCall, now: number, leftAt: number): MetaAnswer | undefined {
      if (now < wires.throttledUntil || kind === "throttle") return throttle(received, now);
      function fail(code: number, message = "Injected"): MetaAnswer {
        return failCall(model, received, { code, message }, now);
      }
      function land(): MetaAnswer {
        const answer = answerCall(model, received, engine.now());
        return name === "E8" && isHidden ? withoutLast(answer) : answer;
      }
      switch (kind) {
        case "cut-before":
        case "hang-before":
          return undefined;
        case "cut-after":
        case "hang-after":
          land();
          return undefined;
        case "5xx-before":
          return fail(2, "Service temporarily unavailable");
        case "5xx-after": {
          const answer = fail(1, "An unknown error occurred");
          land();
          return answer;
        }
        case "odd-before":
          return fail(odd < 0.5 ? 2500 : 100_500);
        case "error-before":
          return fail(odd < 0.4 ? 100 : odd < 0.6 ? 4000 : 2_388_001, `Malformed access token ${request.token}`);
        case "error-after": {
          const answer = fail(odd < 0.4 ? 100 : odd < 0.6 ? 4000 : 2_388_001);
          land();
          return answer;
        }
        case "half":
        case "half-lost": {
          const businessId = model.wabas.get(subject)?.ownerBusinessId;
          const line = request.path.split("/")[1] ?? "";
          const isPossible =
            name === "E2" && businessId !== undefined && model.tokens.get(request.token)?.dead !== true;
          const makesOne = model.variants.repeatedShare === "second" && kind === "half-lost";
          if (isPossible && (makesOne || liveAllocations(model, line, businessId, now).length === 0)) {
            shareWithBusiness(model, line, businessId, { now, callNumber: received.entry.n });
          }
          if (kind === "half") return fail(100, "Could not attach");
          return odd < 0.7 ? undefined : fail(1, "Could not attach");
        }
        case "late": {
          const waitMs = Math.min(spanMs, history.breach === "A2" ? Infinity : landingMsMax);
          engine.at(leftAt + waitMs, () => {
            engine.say(process, `${name} ${subject} lands late`);
            land();
          });
          return undefined;
        }
        case "policy":
          return fail(368, "Temporarily blocked for policies");
        case undefined:
        default:
          return land();
      }
    }

    function throttle(received: ReceivedCall, now: number): MetaAnswer {
      const answer = failCall(model, received, { code: 4, message: "There have been too many calls" }, now);
      const regainMinutes = Math.max(1, Math.ceil((wires.throttledUntil - now) / 60_000));
      const usage = usageHeaders(100, { id: model.partnerBusinessId, percent: 100, regainMinutes });
      return { ...answer, headers: { ...answer.headers, ...usage } };
    }
  };
}

/** What leaves us without an answer to rely on, whether or not Meta acted. */
const lostAnswers = metaChangeFaults.filter((kind) => /^(cut|hang|5xx|error)-|^late$|^half-lost$/.test(kind));

/**
 * A history that breaks an assumption does so often; where reads may not show a record, its answer comes late as well. Of the
 * others, every fourth loses most answers, and most of the narrow ones, so that a second attempt meets what the first one met.
 */
function changeFaultsOf(history: History): { kinds: readonly string[]; rate: number } {
  const { breach, seed } = history;
  const often = { A1: "freeze-sent", A2: "late", A3: "freeze-answer", A4: "freeze-answer" } as const;
  if (breach !== undefined && breach !== "A5" && breach !== "A6") {
    return { kinds: [...metaChangeFaults, ...Array.from({ length: 12 }, () => often[breach])], rate: 1 };
  }
  return randomOf(`${seed} loses`).chance(isNarrow(history) ? 0.8 : 0.25)
    ? { kinds: lostAnswers, rate: 3 }
    : { kinds: metaChangeFaults, rate: 1 };
}

function isHiding({ breach }: History): boolean {
  return breach === "A3" || breach === "A4";
}

const changeProbability: Record<string, number> = { E2: 0.22, E4: 0.22, E5: 0.22, E9: 0.15, E10: 0.05 };

/** Which call it is (graph-api.md §1), and what it is about. */
function subjectOf({ method, path, query }: GraphRequest): { name: string; subject: string } {
  const [, id = "", edge] = path.split("/");
  if (edge === "whatsapp_credit_sharing_and_attach") return { name: "E2", subject: query["waba_id"] ?? "" };
  if (edge === "whatsapp_credit_sharing") return { name: "E4", subject: query["receiving_business_id"] ?? "" };
  if (edge === "whatsapp_credit_attach") return { name: "E5", subject: query["waba_id"] ?? "" };
  if (edge === "assigned_users") return { name: "E10", subject: id };
  if (edge === "owning_credit_allocation_configs") return { name: "E8", subject: query["receiving_business_id"] ?? "" };
  if (edge === "client_whatsapp_business_accounts") return { name: "E13", subject: id };
  if (method === "DELETE") return { name: "E9", subject: id };
  const fields = query["fields"] ?? "";
  if (fields.includes("receiving_") || fields.includes("request_status")) return { name: "E6", subject: id };
  if (fields.includes("owner_business_info") || fields === "currency") return { name: "E3", subject: id };
  return { name: fields.includes("primary_funding_id") ? "E7" : "E14", subject: id };
}

function errorCodeOf({ body }: MetaAnswer): string {
  const { error } = body;
  return typeof error === "object" && error !== null && "code" in error && typeof error["code"] === "number"
    ? String(error["code"])
    : "?";
}

/** A list that lacks a record, which A4 says cannot be. */
function withoutLast(answer: MetaAnswer): MetaAnswer {
  const { data } = answer.body;
  if (Array.isArray(data)) return { ...answer, body: { ...answer.body, data: data.slice(0, -1) } };
  return answer.status === 200 ? { ...answer, body: { data: [] } } : answer;
}
