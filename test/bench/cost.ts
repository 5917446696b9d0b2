import { customersOf, type Spent, startPartner } from "./partner.ts";
import { prices } from "./prices.ts";
import { row } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

/** What a call to Meta takes from Lambda's clock. */
const graphMs = 400;
/** What everything else of an invocation takes: a few calls to AWS, and our own work. */
const ownMs = 60;
const memoryGb = 256 / 1024;
const million = 1e6;

/** A warm function reads the system token once in five minutes: nothing of a share. */
export const costSuite: Suite = {
  name: "cost",
  about: `Dollars for a million shares of new customers up to verified, Meta taking ${graphMs} ms a call (list prices of ${prices.date}, ${prices.region})`,
  run: measureCost,
};

async function measureCost({ add, progress }: Bench): Promise<void> {
  const [warm, measured] = customersOf(2, 1);
  if (warm === undefined || measured === undefined) throw new Error("There are no customers");
  const logs = { bytes: 0 };
  const partner = await startPartner([warm, measured], {}, (line) => (logs.bytes += Buffer.byteLength(line) + 1));
  try {
    await partner.send("share", { wabaId: warm.wabaIds[0], currency: "EUR" }, "Share Verified");
    logs.bytes = 0;
    const spent = await partner.send("share", { wabaId: measured.wabaIds[0], currency: "EUR" }, "Share Verified");
    progress(`cost: ${JSON.stringify(spent.requests)}`);
    const split = dollarsOf(spent, logs.bytes);
    for (const [service, dollars] of Object.entries(split))
      add(row(`cost.share.${service}`, dollars * million, "$/million"));
    const total = Object.values(split).reduce((sum, one) => sum + one, 0);
    add(row("cost.share", total * million, "$/million"));
  } finally {
    await partner.close();
  }
}

function dollarsOf({ requests, calls, writeUnits, indexUnits, auditUnits, readUnits }: Spent, logBytes: number) {
  const { lambda, sqs, dynamoDb, eventBridge, cloudWatchLogs } = prices;
  // Share and verify once each; publish for each write that announces or is audited, were none batched with another's.
  const published = requests["events.PutEvents"] ?? 0;
  const audited = Math.max(published, auditUnits);
  const invocations = 2 + audited;
  const seconds = (calls.length * graphMs + invocations * ownMs) / 1000;
  // Each of the two messages is sent, received and deleted.
  const messages = 2 * 3;
  return {
    lambda: invocations * lambda.request + seconds * memoryGb * lambda.gbSecond,
    dynamodb: (writeUnits + indexUnits + auditUnits) * dynamoDb.writeUnit + readUnits * dynamoDb.readUnit,
    sqs: messages * sqs.request,
    eventbridge: published * eventBridge.event,
    logs: (logBytes / 1e9) * cloudWatchLogs.gigabyte,
  };
}
