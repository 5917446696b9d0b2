import { customersOf, type Spent, startPartner } from "./partner.ts";
import { prices } from "./prices.ts";
import { row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

/** What a call to Meta takes from Lambda's clock. */
const graphMs = 400;
/** What everything else of an invocation takes: a few calls to AWS, and our own work. */
const ownMs = 60;
const memoryGb = 256 / 1024;
const million = 1e6;

/** Lambda's own lines for each invocation: START, END, and REPORT with its trace. */
const lambdaLogBytes = 360;
const repeats = 3;

/**
 * A warm function reads the system token once in five minutes: nothing of a share. Nor are metrics, alarms and keys, which
 * are paid by the month, and traces, of which Lambda takes a sample.
 */
export const costSuite: Suite = {
  name: "cost",
  about:
    `Dollars for a million shares of new customers up to verified, Meta taking ${graphMs} ms a call (list prices of ` +
    `${prices.date}, ${prices.region}); a third of the logs are what happened, a third its metrics (a line of EMF ` +
    "costs less than a call to CloudWatch), a third Lambda's own lines",
  run: measureCost,
};

async function measureCost({ add, progress }: Bench): Promise<void> {
  let logBytes = 0;
  // The local stack puts the function's name before each line.
  const partner = await startPartner(customersOf(repeats + 1, 1), {}, (line) => {
    logBytes += Buffer.byteLength(line.replace(/^\[[^\]]+\] /, "")) + 1;
  });
  const splits: ReturnType<typeof dollarsOf>[] = [];
  try {
    for (const [index, { wabaIds }] of customersOf(repeats + 1, 1).entries()) {
      logBytes = 0;
      const spent = await partner.send("share", { wabaId: wabaIds[0], currency: "EUR" }, "Share Verified");
      progress(`cost: ${JSON.stringify(spent.requests)}, ${logBytes} bytes of logs`);
      // The first one warms the processes up.
      if (index > 0) splits.push(dollarsOf(spent, logBytes));
    }
  } finally {
    await partner.close();
  }
  let total = 0;
  for (const service of ["lambda", "dynamodb", "sqs", "eventbridge", "logs"] as const) {
    const dollars = summarize(splits.map((split) => split[service])).median * million;
    add(row(`cost.share.${service}`, dollars, "$/million"));
    total += dollars;
  }
  add(row("cost.share", total, "$/million"));
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
    logs: ((logBytes + invocations * lambdaLogBytes) / 1e9) * cloudWatchLogs.gigabyte,
  };
}
