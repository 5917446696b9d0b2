import * as z from "zod";
import type { CommandType, Continuation } from "../../../shared/contracts/commands.ts";
import { parseBody } from "../../../shared/contracts/commands.ts";
import type { Policy, Request } from "../../../shared/domain/business.ts";
import { dueEntries } from "../../../shared/domain/business.ts";
import type { Causes, DeadLetterClass, Verdict } from "../../../shared/domain/dead-letters.ts";
import { judgeDeadLetter, judgeDeadLook } from "../../../shared/domain/dead-letters.ts";
import { ownAttributes } from "../../../shared/queues.ts";
import { isReason } from "../../../shared/store/items.ts";
import { isFull, type StateStore } from "../../../shared/store/state-store.ts";
import { ifReadable } from "../../../shared/store/unreadable.ts";
import { firstIdOf, type Letter } from "./dead-letter-queue.ts";

export const commandTypes = ["share", "verify", "revoke"] as const satisfies readonly CommandType[];
export const classNames = [
  "safe",
  "already-done",
  "superseded",
  "needs-probe",
  "never-valid",
  "blocked",
] as const satisfies readonly DeadLetterClass[];

/** A dead letter and what it would do now. One element of what `dlq list --json` prints. */
export const judgedLetterSchema = z.object({
  queue: z.enum(commandTypes),
  messageId: z.string(),
  firstMessageId: z.string().optional().describe("the id that its sender was given, when that was another"),
  kind: z
    .enum(["rejected", "exhausted"])
    .describe("`rejected`: we sent it here; `exhausted`: SQS did, after the last receive in vain"),
  sentAt: z.iso.datetime(),
  type: z.string().describe("share, verify, revoke, continue, or unreadable"),
  commandId: z.string().optional(),
  wabaId: z.string().optional(),
  businessId: z.string().optional(),
  class: z.enum(classNames),
  reason: z.string().optional().describe("what a replay would end with, or what stands against it"),
  diedOf: z.string().optional().describe("what we rejected it for, or what its command failed for last"),
  why: z.string().describe("of its class, in words"),
  replayId: z.string().optional().describe("the replay that brought it back, when there was one"),
});

export type JudgedLetter = z.output<typeof judgedLetterSchema>;

/** The causes that stop commands, as far as they can be asked about from here. */
export type CauseReader = {
  common: Pick<Causes, "systemToken" | "line">;
  businessToken(secretName: string): Promise<Causes["businessToken"]>;
};

export type JudgeDeps = {
  store: Pick<StateStore, "loadCommand" | "loadPointer" | "loadBusiness">;
  policy: Policy & { businessTokenSecretPrefix: string };
  now: () => number;
  causes: CauseReader;
};

/** Holds a dead letter against the table as it is now. Reads strongly; writes nothing. */
export async function judgeLetter(queue: CommandType, letter: Letter, deps: JudgeDeps): Promise<JudgedLetter> {
  const { messageId, attributes } = letter;
  const rejectedFor = attributes[ownAttributes.reason]?.StringValue;
  const replayId = attributes[ownAttributes.replayId]?.StringValue;
  const { diedOf, verdict, ...about } = await judgeBody(queue, letter, deps);
  const firstMessageId = firstIdOf(letter);
  return {
    queue,
    messageId,
    firstMessageId: firstMessageId === messageId ? undefined : firstMessageId,
    kind: rejectedFor === undefined ? "exhausted" : "rejected",
    sentAt: new Date(letter.sentAt).toISOString(),
    ...about,
    ...verdict,
    diedOf: rejectedFor ?? diedOf,
    replayId,
  };
}

type JudgedBody = Pick<JudgedLetter, "type" | "commandId" | "wabaId" | "businessId" | "diedOf"> & { verdict: Verdict };

async function judgeBody(queue: CommandType, { body, attributes }: Letter, deps: JudgeDeps): Promise<JudgedBody> {
  const now = deps.now();
  // As the function would read it after a replay: sent now.
  const parsed = parseBody(queue, body, { sentAt: now, clockSkewMs: deps.policy.clockSkewMs });
  switch (parsed.kind) {
    case "invalid": {
      const { commandId, wabaId, detail } = parsed;
      const verdict: Verdict = { class: "never-valid", reason: "invalid_command", why: detail };
      return { type: "unreadable", commandId, wabaId, verdict };
    }
    case "continuation":
      return judgeLook(parsed.continuation, deps);
    case "notice": {
      const { commandId, wabaId, businessId } = parsed.notice;
      if (attributes[ownAttributes.reason] !== undefined) {
        const why = "its proof was not made with the app secret: it does not come from Meta";
        const verdict: Verdict = { class: "never-valid", reason: "invalid_command", why };
        return { type: "account", commandId, wabaId, businessId, verdict };
      }
      const isRecorded = (await deps.store.loadCommand(commandId))?.outcome !== undefined;
      const verdict: Verdict = isRecorded
        ? { class: "already-done", why: "Meta's notice is recorded" }
        : { class: "safe", why: "Meta's notice of an account is recorded and announced" };
      return { type: "account", commandId, wabaId, businessId, verdict };
    }
    case "command":
      return judgeCommand(parsed.request, now, deps);
  }
}

const unreadable: Verdict = {
  class: "blocked",
  why: "the item of its business cannot be read by this release (runbook item-unserved)",
};

async function judgeLook(continuation: Continuation, { store }: JudgeDeps): Promise<JudgedBody> {
  const { commandId, wabaId, businessId } = continuation;
  const about = { type: "continue", commandId, wabaId, businessId };
  if (businessId !== undefined) {
    const business = await ifReadable(store.loadBusiness(businessId));
    if (business === "unreadable") return { ...about, verdict: unreadable };
    return { ...about, verdict: judgeDeadLook(business === undefined ? [] : dueEntries(business), continuation) };
  }
  const pending = wabaId === undefined ? undefined : (await store.loadPointer(wabaId))?.pendingRevoke;
  const entries = (pending?.requests ?? []).map(({ requestedAt, ...request }) => ({
    work: "revoke" as const,
    commandId: request.commandId,
    requestedAt,
    due: pending?.due ?? { nextAt: 0, looks: 0, sweeps: 0 },
    wabaId,
  }));
  return { ...about, verdict: judgeDeadLook(entries, continuation) };
}

async function judgeCommand(request: Request, now: number, deps: JudgeDeps): Promise<JudgedBody> {
  const { store, policy, causes } = deps;
  const { type, commandId, hash, wabaId } = request;
  const [record, pointer] = await Promise.all([
    store.loadCommand(commandId),
    wabaId === undefined ? undefined : store.loadPointer(wabaId),
  ]);
  const claim = request.type === "verify" ? undefined : request.businessId;
  const businessId = pointer?.businessId ?? claim;
  const business = businessId === undefined ? undefined : await ifReadable(store.loadBusiness(businessId));
  if (business === "unreadable") return { type, commandId, wabaId, businessId, verdict: unreadable };
  const reason = record?.reason !== undefined && isReason(record.reason) ? record.reason : undefined;
  const secret = request.type === "revoke" ? undefined : request.businessTokenSecret;
  const asks = reason === "token_dead" && secret?.startsWith(policy.businessTokenSecretPrefix) === true;
  const facts = {
    now,
    request,
    command:
      record === undefined
        ? undefined
        : { sameContent: record.hash === hash && record.type === type, outcome: record.outcome, reason },
    ownerBusinessId: pointer?.businessId,
    pendingRevokes: pointer?.pendingRevoke?.requests ?? [],
    business,
    full: business !== undefined && isFull(business),
    causes: { ...causes.common, businessToken: asks ? await causes.businessToken(secret) : ("unknown" as const) },
  };
  return {
    type,
    commandId,
    wabaId,
    businessId,
    diedOf: record?.outcome === undefined ? record?.reason : undefined,
    verdict: judgeDeadLetter(facts, policy),
  };
}
