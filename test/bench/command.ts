import { isWabaCall } from "../../infra/local/meta/meta-graph.ts";
import { customersOf, type Spent, startPartner } from "./partner.ts";
import { row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const repeats = 3;

/** Calls and units are counted, not timed: what differs from run to run is the size of an item by a few bytes. */
export const commandSuite: Suite = {
  name: "command",
  about: "What one command costs, from its message until all is quiet, counted by the local stack",
  run: countCommands,
};

async function countCommands({ add, progress }: Bench): Promise<void> {
  const spent = await spendOnCommands(progress);
  const limits: Record<string, { calls: number; bucket: number; units?: number }> = {
    "new-customer": { calls: 5, bucket: 3, units: 12 },
    "second-waba": { calls: 4, bucket: 2, units: 12 },
    "third-waba-with-claim": { calls: 4, bucket: 2 },
    "new-customer-with-grant": { calls: 6, bucket: 4 },
  };
  for (const [name, runs] of Object.entries(spent)) {
    const limit = limits[name];
    function median(of: (one: Spent) => number): number {
      return summarize(runs.map(of)).median;
    }
    progress(`command: ${name} asks Meta ${runs[0]?.calls.map((call) => call.name).join(", ")}`);
    const units = median((one) => one.writeUnits + one.indexUnits + one.auditUnits);
    add(
      row(`command.${name}.graph-calls`, median(({ calls }) => calls.length), "calls", {
        ...(limit === undefined ? {} : { target: { atMost: limit.calls } }),
      }),
      row(`command.${name}.graph-calls-of-5000`, median(inBucket), "calls", {
        ...(limit === undefined ? {} : { target: { atMost: limit.bucket } }),
      }),
      row(`command.${name}.table-writes`, median((one) => one.writes), "items"),
      row(`command.${name}.write-units`, units, "WRU", {
        ...(limit?.units === undefined ? {} : { target: { atMost: limit.units } }),
      }),
      row(`command.${name}.write-units.state`, median((one) => one.writeUnits), "WRU"),
      row(`command.${name}.write-units.index`, median((one) => one.indexUnits), "WRU"),
      row(`command.${name}.write-units.audit`, median((one) => one.auditUnits), "WRU"),
      row(`command.${name}.read-units`, median((one) => one.readUnits), "RRU"),
      row(`command.${name}.item-bytes`, median((one) => one.itemBytes), "bytes"),
    );
  }
}

/** Calls of the bucket that is the app's for all WABAs together. */
export function inBucket({ calls }: Spent): number {
  return calls.filter(({ name }) => !isWabaCall(name)).length;
}

export async function spendOnCommands(progress: (text: string) => void): Promise<Record<string, Spent[]>> {
  const spent: Record<string, Spent[]> = {};
  function note(name: string, one: Spent): void {
    (spent[name] ??= []).push(one);
  }
  // The first customer warms the processes up; their secrets are read by then.
  const customers = customersOf(repeats + 1, 3);
  const partner = await startPartner(customers);
  try {
    for (const [index, { businessId, wabaIds }] of customers.entries()) {
      progress(`command: customer ${index} of ${repeats}`);
      const [wabaId, secondId, thirdId] = wabaIds;
      const costs = {
        "new-customer": await partner.send("share", { wabaId, currency: "EUR" }, "Share Verified"),
        "second-waba": await partner.send("share", { wabaId: secondId, currency: "EUR" }, "Share Verified"),
        "third-waba-with-claim": await partner.send(
          "share",
          { wabaId: thirdId, currency: "EUR", businessId },
          "Share Verified",
        ),
        verify: await partner.send("verify", { wabaId }, "Share Verified"),
        repeated: await partner.send("share", { wabaId, currency: "EUR" }, "Share Verified"),
        revoke: await partner.send("revoke", { businessId, reason: "operator" }, "Credit Line Revoked"),
      };
      if (index > 0) for (const [name, one] of Object.entries(costs)) note(name, one);
    }
  } finally {
    await partner.close();
  }
  const withGrant = await startPartner(customers, { systemUserId: "300000000000009" });
  try {
    for (const [index, { wabaIds }] of customers.slice(0, 2).entries()) {
      const [wabaId] = wabaIds;
      const granted = await withGrant.send("share", { wabaId, currency: "EUR" }, "Share Verified");
      if (index > 0) note("new-customer-with-grant", granted);
    }
  } finally {
    await withGrant.close();
  }
  return spent;
}
