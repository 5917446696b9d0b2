import type { Business, DueEntry, Waba } from "../../shared/domain/business.ts";
import { dueEntries, isShared, isSharing } from "../../shared/domain/business.ts";
import { explanations, type Explanation } from "../../shared/domain/reasons.ts";
import type { CommandRecord, Pointer } from "../../shared/store/items.ts";
import type { Limits } from "../../shared/store/limit-store.ts";

/** What happens next by itself, and what a person must do: read from the state alone. */

export type Step = { at: number; what: string; wabaId?: string | undefined; commandId?: string | undefined };

export type Task = { why: string; remedy?: string | undefined; command?: string | undefined; wabaId?: string };

export type Known = {
  business?: Business | undefined;
  pointer?: Pointer | undefined;
  command?: CommandRecord | undefined;
  limits: Limits;
};

/** Fills `{wabaId}` and the like; what is not known stays a placeholder for the person. */
function fill(text: string, ids: Readonly<Record<string, string | undefined>>): string {
  return text.replaceAll(/\{(\w+)\}/g, (_all, name: string) => ids[name] ?? `<${name}>`);
}

export function explain(reason: string, ids: Readonly<Record<string, string | undefined>>): Explanation {
  const known: Explanation = isExplained(reason) ? explanations[reason] : { words: reason };
  return known.command === undefined ? known : { ...known, command: fill(known.command, ids) };
}

function isExplained(reason: string): reason is keyof typeof explanations {
  return Object.hasOwn(explanations, reason);
}

export function nextSteps({ business, pointer }: Known): Step[] {
  const steps = business === undefined ? [] : dueEntries(business).map((entry) => stepOf(business, entry));
  const pending = pointer?.pendingRevoke;
  if (pending !== undefined) {
    const what = "the WABA's owner is looked for again, so that the revoke can go on";
    steps.push({ at: pending.due.nextAt, what, wabaId: pointer?.wabaId, commandId: pending.requests[0]?.commandId });
  }
  return steps.toSorted((one, other) => one.at - other.at);
}

function stepOf(business: Business, { work, wabaId, commandId, due }: DueEntry): Step {
  return { at: due.nextAt, what: wordsOf(business, work, wabaId, commandId), wabaId, commandId };
}

function wordsOf(business: Business, work: DueEntry["work"], wabaId: string | undefined, commandId: string): string {
  const { revocation, recordIntent, held } = business;
  if (work === "revoke") {
    if (held?.requests[0]?.commandId === commandId) return "the held revocation is judged again";
    return revocation?.state === "done"
      ? "Meta is looked at once more: a partner switch may take effect after the revocation"
      : "the revocation goes on: list, DELETE, confirm";
  }
  const waba = wabaId === undefined ? undefined : business.wabas[wabaId];
  if (isSharing(waba) && waba.intent !== undefined && waba.request.commandId === commandId) {
    return "Meta is looked at again: did the POST take effect?";
  }
  if (recordIntent?.request.commandId === commandId && recordIntent.request.wabaId === wabaId) {
    return "Meta is looked at again: was the line shared with the business?";
  }
  if (wabaId !== undefined && business.waiting[wabaId]?.request.commandId === commandId) {
    return "the waiting share is decided again";
  }
  if (work === "verify") return "Meta is asked again what pays for the WABA";
  if (waba?.status === "revoking" || waba?.status === "revoked") return "the overtaken command gets its answer";
  return waba?.status === "allocated" ? "the attachment is made" : "the share is tried again";
}

/** In the order in which they are worth doing. */
export function tasks(known: Known, now: number): Task[] {
  const { business, pointer, command, limits } = known;
  const found: Task[] = [];
  if (limits.tokenIsDead) found.push(taskOf("token_dead", {}, "Commands wait: "));
  if (business !== undefined) {
    found.push(...revocationTasks(business));
    for (const [wabaId, waba] of Object.entries(business.wabas)) found.push(...wabaTasks(business, wabaId, waba));
  }
  const pending = pointer?.pendingRevoke;
  if (pending !== undefined && pointer !== undefined && now - pending.since > ownerUnknownMs) {
    found.push(taskOf("owner_unknown", { wabaId: pointer.wabaId }));
  }
  if (command?.outcome === undefined && command?.blockedAnnounced === true && command.reason !== undefined) {
    const { commandId, wabaId, businessId } = command;
    const task = taskOf(command.reason, { commandId, wabaId, businessId }, `Command ${commandId ?? ""} is blocked: `);
    found.push(task);
  }
  return found.filter(
    (one, index) => found.findIndex(({ why, command: first }) => why === one.why && first === one.command) === index,
  );
}

/** A revoke whose owner nobody knows is a person's after a day (R1). */
const ownerUnknownMs = 24 * 3_600_000;

function wabaTasks(business: Business, wabaId: string, waba: Waba): Task[] {
  const note = business.recordIntent?.request.wabaId === wabaId ? business.recordIntent : undefined;
  const intent = isSharing(waba) ? (waba.intent ?? note) : undefined;
  if (intent?.inDoubt === true) {
    return [
      {
        wabaId,
        why: "The share is in doubt: a POST had no answer, and the looks since cannot tell whether it took effect.",
        remedy: "Compare with Meta. If nothing came of it, close it; if it must end in any case, revoke.",
        command: `settle ${wabaId} --why TEXT`,
      },
    ];
  }
  if (waba.status === "mismatched") {
    return [
      {
        wabaId,
        why: "Shared, and not funded by us: Meta shows another payment, or none.",
        remedy: "See what pays for it. When the customer has put that right, verify.",
        command: `explain ${wabaId} --live`,
      },
    ];
  }
  if (isSharing(waba) && waba.intent === undefined && waba.due === undefined && note === undefined) {
    const reason = waba.lastFailure?.reason;
    if (reason === undefined) return [];
    return [
      { ...taskOf(reason, { wabaId, businessId: business.businessId, commandId: waba.request.commandId }), wabaId },
    ];
  }
  // A WABA that left shows nothing: its removal says so already.
  if (waba.removedAt !== undefined) return [];
  // What Meta could not answer is asked again by itself.
  if (isShared(waba) && waba.lastFailure !== undefined && waba.lastFailure.reason !== "meta_unavailable") {
    const { reason } = waba.lastFailure;
    return [{ ...taskOf(reason, { wabaId, businessId: business.businessId }, "It cannot be verified: "), wabaId }];
  }
  return [];
}

function revocationTasks(business: Business): Task[] {
  const { revocation, businessId, held } = business;
  if (held !== undefined) return [taskOf(held.reason, { businessId }, "An automatic revocation is held: ")];
  const { openReason } = revocation ?? {};
  if (revocation?.state !== "open" || openReason === undefined) return [];
  const task = taskOf(openReason, { businessId }, "The revocation is still open: ");
  return task.remedy === undefined ? [] : [task];
}

function taskOf(reason: string, ids: Record<string, string | undefined>, before = ""): Task {
  const { words, remedy, command } = explain(reason, ids);
  return { why: before === "" ? words : before + lowerFirst(words), remedy, command };
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) && !text.startsWith("Meta") ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
