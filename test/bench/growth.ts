import { type AttributeValue, BatchWriteItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { dueShardOf, keys } from "../../shared/store/items.ts";
import { startQuietPartner } from "./quiet-partner.ts";
import { ratios, row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const sizes = [100, 1000, 10_000, 100_000];
const rounds = 15;
const manyWabas = 50;

type Partner = Awaited<ReturnType<typeof startQuietPartner>>;

/** One stage for each size, side by side, so that their rounds can be interleaved. */
export const growthSuite: Suite = {
  name: "growth",
  about: "Units and time of a command while the table grows to 100,000 businesses, and one business to 50 WABAs",
  run: measureGrowth,
};

async function measureGrowth({ add, plot, progress, wants }: Bench): Promise<void> {
  if (wants("growth.businesses")) await growTable(add, plot, progress);
  if (wants("growth.wabas")) await growBusiness(add, plot, progress);
}

async function growTable(add: Bench["add"], plot: Bench["plot"], progress: Bench["progress"]): Promise<void> {
  const partners: Partner[] = [];
  try {
    for (const size of sizes) {
      const partner = await startQuietPartner();
      partners.push(partner);
      await fill(partner, size);
      progress(`growth: ${size} businesses are in the table`);
    }
    const kinds = ["share", "verify", "revoke"] as const;
    const times = kinds.map(() => sizes.map((): number[] => []));
    const units = kinds.map(() => sizes.map(() => 0));
    for (let round = 0; round <= rounds; round += 1) {
      for (const [index, partner] of partners.entries()) {
        const { businessId, wabaId } = await partner.meta.customer();
        // The first round warms the processes up, and is the one that counts units.
        if (round === 0) partner.meter.connect(partner.stack.endpoint);
        for (const [kind, name] of kinds.entries()) {
          const taken = await partner[name](name === "revoke" ? businessId : wabaId);
          const { writeUnits, indexUnits, readUnits } = partner.meter.take();
          if (round > 0) times[kind]?.[index]?.push(taken);
          else if (units[kind] !== undefined) units[kind][index] = writeUnits + indexUnits + readUnits;
        }
        if (round === 0) partner.meter.close();
      }
    }
    for (const [kind, name] of kinds.entries()) {
      const own = times[kind] ?? [];
      const ownUnits = units[kind] ?? [];
      const ratio = summarize(ratios(own.at(-1) ?? [], own[0] ?? []));
      add(
        row(`growth.businesses.${name}.time`, ratio.median, "×", {
          spread: ratio.spread,
          target: { atMost: 1.2 },
          ifMissed:
            "milliseconds on a clock: the spread tells how much of it is the machine's noise. No command looks at another " +
            "business, which the units say without noise; a quiet machine, or more rounds, would show it here",
        }),
        row(`growth.businesses.${name}.units`, (ownUnits.at(-1) ?? 0) / (ownUnits[0] ?? 0), "×", {
          target: { atMost: 1.2 },
        }),
      );
    }
    plot({
      name: "growth-businesses-time",
      title: "Time of a command while the table grows",
      x: { label: "businesses in the table", isLog: true },
      y: { label: "ms (median)" },
      series: kinds.map((name, kind) => ({
        name,
        points: sizes.map((size, index) => [size, summarize(times[kind]?.[index] ?? []).median]),
      })),
    });
    plot({
      name: "growth-businesses-units",
      title: "Read and write units of a command while the table grows",
      x: { label: "businesses in the table", isLog: true },
      y: { label: "units" },
      series: kinds.map((name, kind) => ({
        name,
        points: sizes.map((size, index) => [size, units[kind]?.[index] ?? 0]),
      })),
    });
  } finally {
    for (const partner of partners) await partner.close();
  }
}

async function growBusiness(add: Bench["add"], plot: Bench["plot"], progress: Bench["progress"]): Promise<void> {
  const partner = await startQuietPartner();
  try {
    const { businessId, wabaIds } = await partner.meta.customer(manyWabas);
    const shares: [number, number][] = [];
    const calls: [number, number][] = [];
    let bytes = 0;
    partner.meter.connect(partner.stack.endpoint);
    for (const [index, wabaId] of wabaIds.entries()) {
      const before = partner.meta.model.calls.length;
      await partner.share(wabaId);
      await partner.verify(wabaId);
      const { writeUnits, indexUnits, itemBytes } = partner.meter.take();
      shares.push([index + 1, writeUnits + indexUnits]);
      calls.push([index + 1, partner.meta.model.calls.length - before]);
      bytes = itemBytes;
    }
    progress(`growth: a business has ${manyWabas} WABAs`);
    await partner.revoke(businessId);
    const revoke = partner.meter.take();
    add(
      row("growth.wabas.item-bytes", bytes, "bytes"),
      row("growth.wabas.share.write-units", shares.at(-1)?.[1] ?? 0, "WRU", { baseline: shares[0]?.[1] ?? 0 }),
      row("growth.wabas.share.graph-calls", calls.at(-1)?.[1] ?? 0, "calls", { baseline: calls[0]?.[1] ?? 0 }),
      row("growth.wabas.revoke.write-units", revoke.writeUnits + revoke.indexUnits, "WRU"),
    );
    plot({
      name: "growth-wabas",
      title: "Write units of a share up to verified, by the WABAs its business has",
      x: { label: "WABAs of the business" },
      y: { label: "write units" },
      series: [{ name: "share", points: shares }],
    });
  } finally {
    await partner.close();
  }
}

/** Businesses with a verified WABA and a verification that is due in a week, as they are most of the time. */
async function fill({ stack }: Partner, count: number): Promise<void> {
  const client = new DynamoDBClient(stack.client);
  const TableName = stack.output("StateTableName");
  const now = Date.now();
  let batch: Record<string, AttributeValue>[] = [];
  const pending: Promise<unknown>[] = [];
  async function flush(): Promise<void> {
    const requests = batch.map((Item) => ({ PutRequest: { Item } }));
    batch = [];
    pending.push(client.send(new BatchWriteItemCommand({ RequestItems: { [TableName]: requests } })));
    if (pending.length >= 8) await Promise.all(pending.splice(0));
  }
  for (let number = 0; number < count; number += 1) {
    batch.push(businessItem(number, now));
    if (batch.length === 25) await flush();
  }
  if (batch.length > 0) await flush();
  await Promise.all(pending);
  client.destroy();
}

function businessItem(number: number, now: number): Record<string, AttributeValue> {
  const businessId = `13${String(number).padStart(10, "0")}`;
  const wabaId = `14${String(number).padStart(10, "0")}`;
  const allocationId = `15${String(number).padStart(10, "0")}`;
  const pk = keys.business(businessId);
  const nextAt = now + 7 * 24 * 3_600_000;
  const request = {
    type: "share",
    commandId: `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`,
    hash: "0".repeat(64),
    requestedAt: now,
    requestedBy: "bench",
    wabaId,
    currency: "EUR",
    reshareAfterRevocation: false,
    partnerSwitch: false,
  };
  const common = { currency: "EUR", method: "share-and-attach", creditLineId: "200000000000001", request };
  const due = { request, nextAt, looks: 0, sweeps: 0 };
  const waba = { ...common, status: "verified", allocationId, due };
  const record = { creditLineId: "200000000000001", epoch: 0, state: "live", recordedAt: now, readAt: now };
  return marshall({
    pk,
    businessId,
    version: 3,
    epoch: 0,
    changedAt: now,
    records: { [allocationId]: record },
    wabas: { [wabaId]: waba },
    waiting: {},
    dueShard: dueShardOf(pk),
    dueAt: nextAt,
  });
}
