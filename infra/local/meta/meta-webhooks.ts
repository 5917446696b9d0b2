import { createHmac } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Change, MetaModel } from "./meta-model.ts";

/** Where the partner's app has its webhooks delivered, and the app secret that signs them. */
export type Subscription = { url: string; appSecret: string };

/** What was sent, and how it was answered, in order: no answer is 0. */
export type Delivery = { event: string; wabaId: string; time: number; answers: number[] };

const events = { waba_unshared: "PARTNER_REMOVED", waba_shared: "PARTNER_ADDED" } as const;

/** Much quicker than Meta's hours, and as stubborn. */
const delaysMs = [250, 500, 1000, 2000, 4000] as const;

/** The webhooks that changes of the world set off: the customer's hand in Meta's console. */
export function createWebhooks(model: MetaModel) {
  const closing = new AbortController();
  const deliveries: Delivery[] = [];
  let subscription: Subscription | undefined;

  async function deliver(body: string, delivery: Delivery, { url, appSecret }: Subscription): Promise<void> {
    const signature = createHmac("sha256", appSecret).update(body).digest("hex");
    const headers = { "content-type": "application/json", "x-hub-signature-256": `sha256=${signature}` };
    for (let tries = 0; !closing.signal.aborted; tries += 1) {
      const status = await fetch(url, { method: "POST", headers, body, signal: closing.signal }).then(
        (answer) => answer.status,
        () => 0,
      );
      if (closing.signal.aborted) return;
      delivery.answers.push(status);
      if (status === 200) return;
      await pause(delaysMs[tries] ?? delaysMs.at(-1), undefined, { signal: closing.signal }).catch(() => {});
    }
  }

  function subscribe(to: Subscription): void {
    subscription = to;
  }

  function tell(changes: readonly Change[]): void {
    if (subscription === undefined) return;
    for (const { kind, wabaId, businessId, time } of changes) {
      if (wabaId === undefined || (kind !== "waba_unshared" && kind !== "waba_shared")) continue;
      const event = events[kind];
      const delivery = { event, wabaId, time, answers: [] };
      deliveries.push(delivery);
      void deliver(bodyOf(model, event, wabaId, businessId, time), delivery, subscription);
    }
  }

  return { deliveries, subscribe, tell, close: () => closing.abort() };
}

function bodyOf(model: MetaModel, event: string, wabaId: string, businessId: string | undefined, time: number): string {
  const { partnerBusinessId } = model;
  const info = {
    waba_id: wabaId,
    owner_business_id: businessId,
    solution_partner_business_ids: [partnerBusinessId],
  };
  const change = { value: { event, waba_info: info }, field: "account_update" };
  const entry = { id: partnerBusinessId, time: Math.floor(time / 1000), changes: [change] };
  return JSON.stringify({ object: "whatsapp_business_account", entry: [entry] });
}
