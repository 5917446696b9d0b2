import { type Customer, customersOf, startStage } from "./partner.ts";
import { quantile, row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

/** What a call to Meta takes. */
const graphMs = 400;
/** Stages side by side, each at concurrency 1: the time is Meta's latency, which waits for no processor. */
const lanes = 5;
const removalsOfLane = 20;

/** One customer who left: when its line was seen to be gone, when that was announced, and the calls to Meta it took. */
type Removal = { confirmedMs: number; announcedMs: number; calls: number };

/** The customer takes us off the WABA in Meta's console; Meta tells the signed webhook; the line is revoked by itself. */
export const webhookSuite: Suite = {
  name: "webhook",
  about: `From a customer's unsharing to its line's confirmed DELETED and announcement, Meta taking ${graphMs} ms a call`,
  run: measureWebhook,
};

async function measureWebhook({ add, plot, progress }: Bench): Promise<void> {
  const lane = Array.from({ length: lanes }, (_, index) => removeAll(index === 0 ? progress : () => {}));
  const removals = (await Promise.all(lane)).flat();
  const confirmed = removals.map(({ confirmedMs }) => confirmedMs);
  const announced = removals.map(({ announcedMs }) => announcedMs);
  const calls = summarize(removals.map((one) => one.calls));
  const own = removals.map((one) => one.announcedMs - one.calls * graphMs);
  add(
    row("webhook.removals", removals.length, "removals", { target: { atLeast: 100 } }),
    row("webhook.graph-calls", calls.median, "calls", { spread: calls.spread }),
    row("webhook.graph-time", calls.median * graphMs, "ms"),
    row("webhook.confirmed.p50", quantile(confirmed, 0.5), "ms"),
    row("webhook.confirmed.p99", quantile(confirmed, 0.99), "ms"),
    row("webhook.announced.p50", quantile(announced, 0.5), "ms"),
    row("webhook.announced.p99", quantile(announced, 0.99), "ms"),
    row("webhook.beyond-graph.p50", quantile(own, 0.5), "ms"),
    row("webhook.beyond-graph.p99", quantile(own, 0.99), "ms", {
      target: { atMost: 1000 },
      ifMissed:
        "what is not Meta's is queue, processes and table of one machine that does other work, too; see the plot",
    }),
  );
  plot({
    name: "webhook-removals",
    title: `${removals.length} customers leave, one after the other`,
    x: { label: "% of the removals" },
    y: { label: "ms beyond the calls to Meta" },
    series: [
      {
        name: "until announced",
        points: own
          .toSorted((one, other) => one - other)
          .map((ms, index): [number, number] => [((index + 1) / own.length) * 100, ms]),
      },
    ],
  });
}

async function removeAll(progress: (text: string) => void): Promise<Removal[]> {
  // The first one warms the processes up.
  const customers = customersOf(removalsOfLane + 1, 1);
  const stage = await startStage(customers, { config: { breaker: { removals: 1000 } } });
  try {
    for (const { wabaIds } of customers) await stage.tell("share", { wabaId: wabaIds[0], currency: "EUR" });
    await stage.hear("Share Verified", { count: customers.length });
    progress(`webhook: ${customers.length} customers in each of ${lanes} stages`);
    await stage.control("_faults", [{ match: "*", times: 1_000_000, kind: "latency", ms: graphMs }]);
    const removals: Removal[] = [];
    for (const [index, customer] of customers.entries()) {
      removals.push(await remove(customer));
      if (index % 10 === 0) progress(`webhook: customer ${index} of ${removalsOfLane} has left`);
    }
    return removals.slice(1);
  } finally {
    await stage.close();
  }

  async function remove({ businessId, wabaIds: [wabaId = ""] }: Customer): Promise<Removal> {
    const { calls, byBusiness } = stage.meta;
    const before = calls.length;
    const heard = stage.stack.aws.events().length;
    const startedAt = Date.now();
    await stage.control("_world", { wabas: [{ id: wabaId, sharedWithPartner: false }] });
    const { detail } = await stage.hear("Credit Line Revoked", { heard });
    const announcedMs = Date.now() - startedAt;
    if (!JSON.stringify(detail).includes(wabaId)) throw new Error(`Another customer than ${wabaId} was revoked`);
    // Besides, the schedule may look at others. E13 lists the WABAs of all customers: it is read to find siblings.
    const ids = [wabaId, businessId, ...(byBusiness.get(businessId) ?? []).map(({ id }) => id)];
    const own = calls
      .slice(before)
      .filter(({ name, path, query }) => name === "E13" || [...path.split("/"), ...Object.values(query)].some(isOwn));
    function isOwn(part: string): boolean {
      return ids.includes(part);
    }
    const deletedAt = own.findIndex(({ name }) => name === "E9");
    const confirmed = own.find(({ name, landedAt }, index) => index > deletedAt && name === "E6" && landedAt);
    if (deletedAt < 0 || confirmed?.landedAt === undefined) throw new Error(`${wabaId} was never seen to be revoked`);
    return { confirmedMs: confirmed.landedAt - startedAt, announcedMs, calls: own.length };
  }
}
