import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { DynamoDBClient, GetItemCommand, ScanCommand } from "@aws-sdk/client-dynamodb";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LocalStackAbout } from "../../../infra/local/local-stack.ts";
import { localClient } from "../../../infra/local/observe.ts";

type Event = { n: number; detailType: string; detail: { commandId?: string; wabaId?: string } };

function runLocal(...options: string[]) {
  return spawn("node", ["infra/local/local.ts", ...options], { stdio: ["ignore", "pipe", "pipe"] });
}

describe("npm run local", () => {
  let process: ReturnType<typeof runLocal>;
  let about: LocalStackAbout;

  beforeAll(async () => {
    process = runLocal("--port", "0");
    const [line] = await once(createInterface(process.stdout), "line");
    about = JSON.parse(line);
  });
  afterAll(async () => {
    process.kill("SIGTERM");
    await once(process, "exit");
  });

  async function events(): Promise<Event[]> {
    const answer = await fetch(`${about.endpoint}/_local/events?after=0`);
    return (await answer.json()) as Event[];
  }

  function shareCommand(wabaId: string, commandId: string): string {
    const requestedAt = new Date().toISOString();
    return JSON.stringify({
      version: "1",
      type: "share",
      commandId,
      requestedAt,
      requestedBy: "test",
      wabaId,
      currency: "USD",
    });
  }

  async function provesOneShare(wabaId: string, commandId: string): Promise<void> {
    await expect
      .poll(async () => (await events()).filter(isVerifiedBy), { timeout: 20_000, interval: 200 })
      .toHaveLength(1);
    const answer = await fetch(`${about.graphUrl}/_ledger`);
    const { calls } = (await answer.json()) as { calls: { name: string; query: { waba_id?: string } }[] };
    const shares = calls.filter(({ name, query }) => name === "E2" && query.waba_id === wabaId);
    expect(shares).toHaveLength(1);
    const dynamo = new DynamoDBClient(localClient(about.endpoint));
    const pointer = await dynamo.send(
      new GetItemCommand({ TableName: about.tables.state, Key: { pk: { S: `WABA#${wabaId}` } } }),
    );
    const pk = `BUSINESS#${unmarshall(pointer.Item ?? {})["businessId"]}`;
    const business = await dynamo.send(new GetItemCommand({ TableName: about.tables.state, Key: { pk: { S: pk } } }));
    expect(unmarshall(business.Item ?? {})["wabas"][wabaId].status).toBe("verified");
    const audit = await dynamo.send(new ScanCommand({ TableName: about.tables.audit }));
    const rows = (audit.Items ?? []).map((row) => unmarshall(row)).filter((row) => row["pk"] === pk);
    expect(rows.map((row) => row["version"])).toEqual([1, 2, 3]);

    function isVerifiedBy({ detailType, detail }: Event): boolean {
      return detailType === "Share Verified" && detail.commandId === commandId;
    }
  }

  test("takes a share from an AWS SDK to exactly one Share Verified", async () => {
    const [wabaId = ""] = about.sampleWabaIds;
    const sqs = new SQSClient(localClient(about.endpoint));
    await sqs.send(
      new SendMessageCommand({ QueueUrl: about.queues.share, MessageBody: shareCommand(wabaId, "by-sdk") }),
    );
    sqs.destroy();
    await provesOneShare(wabaId, "by-sdk");
  });

  test("takes a share in the query protocol of the AWS command line, too", async () => {
    const [, wabaId = ""] = about.sampleWabaIds;
    const form = new URLSearchParams({
      Action: "SendMessage",
      Version: "2012-11-05",
      QueueUrl: about.queues.share,
      MessageBody: shareCommand(wabaId, "by-form"),
    });
    const answer = await fetch(about.queues.share, { method: "POST", body: form });
    expect(answer.status).toBe(200);
    await provesOneShare(wabaId, "by-form");
  });

  test("invokes the schedule on demand", async () => {
    const answer = await fetch(`${about.endpoint}/_local/invoke/reconcile`, { method: "POST" });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ served: expect.any(Number) });
  });
});

describe("npm run local, started wrongly,", () => {
  test.each([
    ["refuses a Graph server on another machine", ["--graph-url", "https://graph.example.com"], "--allow-remote-graph"],
    ["names a world file it cannot read", ["--world", "no-such-file.json"], "no-such-file.json"],
    ["names an option it does not have", ["--prot", "1"], "--prot"],
  ])("%s", async (_title, options, expected) => {
    const process = runLocal("--port", "0", ...options);
    let said = "";
    process.stderr.on("data", (chunk) => {
      said += chunk;
    });
    const [code] = await once(process, "exit");
    expect(code).toBe(1);
    expect(said).toContain(expected);
  });
});
