import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** Announces what happens to it on the bus, so that a test can see inside its process. */
const announce = `
  export async function announce(detailType, detail) {
    const entry = { EventBusName: process.env.BUS_NAME, Source: "sample", DetailType: detailType, Detail: JSON.stringify(detail) };
    const response = await fetch(process.env.AWS_ENDPOINT_URL, {
      method: "POST",
      headers: {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "AWSEvents.PutEvents",
        authorization: "AWS4-HMAC-SHA256 Credential=" + process.env.AWS_ACCESS_KEY_ID + "/20260101/us-east-1/events/aws4_request, SignedHeaders=host, Signature=0",
      },
      body: JSON.stringify({ Entries: [entry] }),
    });
    if (!response.ok) throw new Error(await response.text());
  }
`;

/** The body of a message tells what becomes of it: `{ id, does, holdMs? }`. */
const worker = `
  import { announce } from "./announce.mjs";
  export async function handler(event, context) {
    const batchItemFailures = [];
    const batch = event.Records.length;
    for (const record of event.Records) {
      const { id, does, holdMs = 0 } = JSON.parse(record.body);
      await announce("received", { id, batch, record, pid: process.pid });
      if (does === "throw") throw new Error("thrown by " + id);
      if (does === "hang") await new Promise(() => setInterval(() => {}, 1000));
      if (does === "answer-nonsense") return { batchItemFailures: [{ itemIdentifier: "nobody" }] };
      if (does === "fail") batchItemFailures.push({ itemIdentifier: record.messageId });
      if (holdMs > 0) await new Promise((resolve) => setTimeout(resolve, holdMs));
      await announce("left", { id });
    }
    return { batchItemFailures };
  }
`;

/** The key of an item tells what becomes of its stream record. */
const follower = `
  import { announce } from "./announce.mjs";
  let stumbles = 0;
  export async function handler(event) {
    await announce("batch", { keys: event.Records.map((record) => record.dynamodb.Keys.pk.S) });
    for (const record of event.Records) {
      const pk = record.dynamodb.Keys.pk.S;
      if (pk.startsWith("hold")) await new Promise((resolve) => setTimeout(resolve, 400));
      if (pk.startsWith("stumble") && (stumbles += 1) <= 2) throw new Error("stumbled over " + pk);
      if (pk.startsWith("poison")) throw new Error("poisoned by " + pk);
      if (pk.startsWith("reported")) return { batchItemFailures: [{ itemIdentifier: record.dynamodb.SequenceNumber }] };
      await announce("followed", { pk, record });
    }
  }
`;

const tool = `
  import { announce } from "./announce.mjs";
  let invocations = 0;
  export async function handler(event, context) {
    invocations += 1;
    console.log("tool says", JSON.stringify(event));
    if (event.does === "throw") throw new RangeError("as asked");
    if (event.does === "exit") process.exit(7);
    if (event.does === "reject-later") { Promise.reject(new Error("nobody cares")); await new Promise((resolve) => setTimeout(resolve, 5000)); }
    if (event.does === "spin") { await announce("spinning", { pid: process.pid }); for (;;); }
    if (event.requestContext !== undefined) return { statusCode: 201, headers: { "X-Echo": event.rawPath }, body: JSON.stringify(event) };
    const { getRemainingTimeInMillis, ...plain } = context;
    return { event, context: plain, remainingMs: getRemainingTimeInMillis(), environment: { ...process.env }, pid: process.pid, invocations, execPath: process.execPath, execArgv: process.execArgv };
  }
`;

const broken = `throw new SyntaxError("broken at load"); export const handler = () => {};`;

/** Writes the functions to a folder of their own, as a bundler would. @returns the folder. */
export function writeSampleFunctions(): string {
  const directory = mkdtempSync(path.join(tmpdir(), "sample-functions-"));
  const files = { announce, worker, follower, tool, broken };
  for (const [name, code] of Object.entries(files)) writeFileSync(path.join(directory, `${name}.mjs`), code);
  return directory;
}
