import { DynamoDBClient, GetItemCommand, UpdateTableCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { dueShardOf, keys } from "../../shared/store/items.ts";
import { startQuietPartner } from "./quiet-partner.ts";
import { quantile, ratios, row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const sizes = [100, 1000, 10_000, 100_000];
const rounds = 25;
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
      const stages = await Promise.all(
        partners.map(async (partner, size) => ({ partner, size, customer: await partner.meta.customer() })),
      );
      const turned = [...stages.slice(round % stages.length), ...stages.slice(0, round % stages.length)];
      // The first round warms the processes up, and is the one that counts units.
      if (round === 0) for (const { meter, stack } of partners) meter.connect(stack.endpoint);
      for (const [kind, name] of kinds.entries()) {
        for (const { partner, size, customer } of turned) {
          const taken = await partner[name](name === "revoke" ? customer.businessId : customer.wabaId);
          const { writeUnits, indexUnits, readUnits } = partner.meter.take();
          if (round > 0) times[kind]?.[size]?.push(taken);
          else if (units[kind] !== undefined) units[kind][size] = writeUnits + indexUnits + readUnits;
        }
      }
      if (round === 0) for (const { meter } of partners) meter.close();
      if (round % 5 === 0) progress(`growth: round ${round} of ${rounds}`);
    }
    for (const [kind, name] of kinds.entries()) {
      const own = times[kind] ?? [];
      const ownUnits = units[kind] ?? [];
      const [small = [], large = []] = [own[0], own.at(-1)];
      add(
        // The quickest quarter of each: what else the machine does only ever adds.
        row(`growth.businesses.${name}.time`, quantile(large, 0.25) / quantile(small, 0.25), "×", {
          spread: summarize(ratios(large, small)).spread,
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
      y: { label: "ms (25th percentile)" },
      series: kinds.map((name, kind) => ({
        name,
        points: sizes.map((size, index) => [size, quantile(times[kind]?.[index] ?? [], 0.25)]),
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

/**
 * Copies of a customer as its share has left it, with its verification due in a week, under other ids. Without the table's
 * stream: the stand-in numbers a stream's records by counting them all, and nobody here reads them.
 */
async function fill({ stack, meta, share }: Partner, count: number): Promise<void> {
  const { businessId, wabaId } = await meta.customer();
  await share(wabaId);
  const TableName = stack.output("StateTableName");
  const client = new DynamoDBClient(stack.client);
  const { Item } = await client.send(
    new GetItemCommand({ TableName, Key: marshall({ pk: keys.business(businessId) }) }),
  );
  await client.send(new UpdateTableCommand({ TableName, StreamSpecification: { StreamEnabled: false } }));
  client.destroy();
  if (Item === undefined) throw new Error("The share has left no item");
  const model = JSON.stringify({ ...Item, dueAt: { N: String(Date.now() + 7 * 24 * 3_600_000) } });
  let made = 0;
  async function put(): Promise<void> {
    while (made < count) {
      const first = made;
      made = Math.min(made + batchMax, count);
      const requests = Array.from({ length: made - first }, (_, index) => {
        const number = String(first + index).padStart(10, "0");
        const item = model.replaceAll(businessId, `13${number}`).replaceAll(wabaId, `14${number}`);
        const shard = dueShardOf(keys.business(`13${number}`));
        return `{"PutRequest":{"Item":${item.replace(/"due-\d"/, `"${shard}"`)}}}`;
      });
      // The client of the SDK would take twice the time of the table.
      const body = `{"RequestItems":{"${TableName}":[${requests.join(",")}]}}`;
      const answer = await fetch(stack.endpoint, { method: "POST", headers, body });
      if (!answer.ok) throw new Error(`The table was not filled: ${await answer.text()}`);
      await answer.arrayBuffer();
    }
  }
  await Promise.all([put(), put()]);
}

/** DynamoDB's limit for one call. */
const batchMax = 25;

/** The stand-in wants to see a signature, and checks none. */
const headers = {
  "content-type": "application/x-amz-json-1.0",
  "x-amz-target": "DynamoDB_20120810.BatchWriteItem",
  "x-amz-date": "20260101T000000Z",
  authorization:
    "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
};
