import { DynamoDBClient, GetItemCommand, UpdateTableCommand } from "@aws-sdk/client-dynamodb";
import { marshall } from "@aws-sdk/util-dynamodb";
import { dueShardOf, keys } from "../../shared/store/items.ts";
import { prices } from "./prices.ts";
import { startQuietPartner } from "./quiet-partner.ts";
import { quantile, ratios, row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const sizes = [100, 1000, 10_000, 100_000];
const rounds = 25;
const manyWabas = 50;
/** Businesses of so many WABAs that are timed, after one that is counted; and the last WABAs of each that are. */
const businessesTimed = 4;
const wabasTimed = 8;

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

/**
 * Businesses that grow to 50 WABAs, and beside each of their last ones the second WABA of a small business: of the same
 * commands, what differs is the item. Units are counted at the first such business, times are taken while nobody counts.
 */
async function growBusiness(add: Bench["add"], plot: Bench["plot"], progress: Bench["progress"]): Promise<void> {
  const partner = await startQuietPartner();
  const { meter, meta, stack } = partner;
  const large = ofEach();
  const small = ofEach();
  const points: [number, number][] = [];
  let bytes = 0;

  async function run(size: typeof large, name: keyof typeof large, id: string): Promise<void> {
    const before = meta.model.calls.length;
    const ms = await partner[name](id);
    const { writeUnits, indexUnits, readUnits, itemBytes } = meter.take();
    const one = size[name];
    one.calls = meta.model.calls.length - before;
    bytes = Math.max(bytes, itemBytes);
    // A meter that is off counts nothing, and takes no time.
    if (writeUnits === 0) one.times.push(ms);
    else Object.assign(one, { writes: writeUnits + indexUnits, reads: readUnits });
  }

  async function runBoth(size: typeof large, wabaId: string): Promise<void> {
    await run(size, "share", wabaId);
    await run(size, "verify", wabaId);
  }

  try {
    for (let business = 0; business <= businessesTimed; business += 1) {
      const { businessId, wabaIds } = await meta.customer(manyWabas);
      if (business === 0) meter.connect(stack.endpoint);
      for (const [index, wabaId] of wabaIds.entries()) {
        const isBeside = index >= manyWabas - (business === 0 ? 1 : wabasTimed);
        await runBoth(isBeside || business === 0 ? large : ofEach(), wabaId);
        if (business === 0) points.push([index + 1, large.share.writes + large.verify.writes]);
        if (!isBeside) continue;
        const other = await meta.customer(2);
        const [firstId = "", secondId = ""] = other.wabaIds;
        await runBoth(ofEach(), firstId);
        await runBoth(small, secondId);
        if (index === manyWabas - 1) await run(small, "revoke", other.businessId);
      }
      await run(large, "revoke", businessId);
      meter.close();
      progress(`growth: ${business} of ${businessesTimed} businesses of ${manyWabas} WABAs`);
    }
    for (const name of ["share", "verify", "revoke"] as const) {
      const [many, few] = [large[name], small[name]];
      const moreMs = summarize(many.times).median - summarize(few.times).median;
      const dollars = (many.writes - few.writes) * prices.dynamoDb.writeUnit * 1e6;
      add(
        row(`growth.wabas.${name}.time`, quantile(many.times, 0.25) / quantile(few.times, 0.25), "×", {
          spread: summarize(ratios(many.times, few.times)).spread,
          target: { atMost: 1.2 },
          ifMissed:
            `${moreMs.toFixed(0)} ms more here, for an item of ${Math.round(bytes / 1024)} KB that is sent, parsed and written whole` +
            (name === "revoke"
              ? `, and for a look at the funding of each WABA, ten at a time: ${many.calls} calls to Meta in place of ` +
                `${few.calls}, of 400 ms each in service. More at a time would use up the WABAs' and the app's budgets in bursts`
              : `; the ${many.calls} calls to Meta, which answers at once here, take ${many.calls * 400} ms in service. An item ` +
                "for each WABA would change it"),
        }),
        row(`growth.wabas.${name}.units`, (many.writes + many.reads) / (few.writes + few.reads), "×", {
          target: { atMost: 1.2 },
          ifMissed:
            "DynamoDB bills each write of the whole item, and one in the transaction with the command's outcome twice: " +
            `$${dollars.toFixed(0)} more a million. Entries without what others imply (line, method, the funding that equals its ` +
            "credential) would be a quarter shorter, and harder to read; flat would only be an item for each WABA, and then no " +
            "revocation could take all of them in one write (R2, R6)",
        }),
        row(`growth.wabas.${name}.write-units`, many.writes, "WRU", { baseline: few.writes }),
        row(`growth.wabas.${name}.read-units`, many.reads, "RRU", { baseline: few.reads }),
        row(`growth.wabas.${name}.graph-calls`, many.calls, "calls", { baseline: few.calls }),
      );
    }
    add(row("growth.wabas.item-bytes", bytes, "bytes"));
    plot({
      name: "growth-wabas",
      title: "Write units of a share up to verified, by the WABAs its business has",
      x: { label: "WABAs of the business" },
      y: { label: "write units" },
      series: [{ name: "share", points }],
    });
  } finally {
    await partner.close();
  }
}

/** What a command costs: its calls to Meta and units, the last time they were counted, and its times (ms). */
function measured() {
  return { calls: 0, writes: 0, reads: 0, times: [] as number[] };
}

function ofEach() {
  return { share: measured(), verify: measured(), revoke: measured() };
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
