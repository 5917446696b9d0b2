import type { Customer, Send } from "../simulation/history.ts";
import type { Judge } from "../simulation/judge.ts";

/** Customers of the simulation's room, with one WABA each. */
export function modelCustomers(count: number, kind: string): Customer[] {
  return Array.from({ length: count }, (_, index) => {
    const number = String(index).padStart(8, "0");
    const wabas = [{ wabaId: `12${kind}${number}`, currency: "EUR", visible: true }];
    return { businessId: `11${kind}${number}`, secret: `business-tokens/${kind}${number}`, wabas };
  });
}

export function shareOf({ businessId, wabas }: Customer, at: number, about: Record<string, unknown> = {}): Send {
  return sendOf("share", `share-${businessId}`, at, { wabaId: wabas[0]?.wabaId, currency: "EUR", ...about });
}

export function revokeOf({ businessId }: Customer, at: number): Send {
  return sendOf("revoke", `revoke-${businessId}`, at, { businessId, reason: "non_payment" });
}

function sendOf(work: Send["work"], commandId: string, at: number, about: Record<string, unknown>): Send {
  const requestedAt = new Date(at).toISOString();
  const body = { version: "1", type: work, commandId, requestedAt, requestedBy: "bench", ...about };
  return { id: commandId, at, work, body: JSON.stringify(body) };
}

/** Listens, and judges nothing. */
export function silentJudge(listens: Pick<Judge, "onEvent"> & { onServed: () => void }): Judge {
  function nothing(): void {}
  const deaf = { onWrite: nothing, onSent: nothing, onReceived: nothing, onAcknowledged: nothing, onLoad: nothing };
  return { ...deaf, onAccepted: nothing, judgeEnd: nothing, attach: nothing, violation: nothing, ...listens } as Judge;
}
