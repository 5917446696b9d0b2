import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import type { ChildProcesses } from "./child-processes.ts";
import type { Answer } from "./protocol.ts";
import type { Resource, Stack } from "./stack.ts";

export type DynamoDb = {
  answer: (headers: Readonly<Record<string, string>>, body: string) => Promise<Answer>;
  /**
   * Calls DynamoDB, or its streams, with a full target such as `DynamoDB_20120810.DescribeTable`.
   * @throws Error with DynamoDB's own type and message.
   */
  call: (target: string, input: Readonly<Record<string, unknown>>) => Promise<unknown>;
};

const tableProperties = z.strictObject({
  TableName: z.string().optional(),
  KeySchema: z.array(z.unknown()),
  AttributeDefinitions: z.array(z.unknown()),
  BillingMode: z.string().optional(),
  ProvisionedThroughput: z.unknown().optional(),
  GlobalSecondaryIndexes: z.array(z.unknown()).optional(),
  LocalSecondaryIndexes: z.array(z.unknown()).optional(),
  StreamSpecification: z.looseObject({ StreamViewType: z.string() }).optional(),
});

/** Among them the expiry of items: nobody may rely on when DynamoDB deletes them. */
const ignoredTableProperties = [
  "ContributorInsightsSpecification",
  "DeletionProtectionEnabled",
  "PointInTimeRecoverySpecification",
  "ResourcePolicy",
  "SSESpecification",
  "TableClass",
  "Tags",
  "TimeToLiveSpecification",
];

const tableAnswer = z.looseObject({
  Table: z.looseObject({ TableStatus: z.string(), TableArn: z.string(), LatestStreamArn: z.string().optional() }),
});

const startTimeoutMs = 20_000;

/**
 * Starts dynoxide, or uses the server that AWS_ENDPOINT_URL_DYNAMODB names, and makes the stack's tables.
 * The resources learn their ARNs here, since the server makes them up. With a data directory, tables outlive the stack.
 */
export async function startDynamoDb(
  stack: Stack,
  { children, dataDirectory }: { children: ChildProcesses; dataDirectory: string | undefined },
): Promise<DynamoDb> {
  const endpoint = process.env["AWS_ENDPOINT_URL_DYNAMODB"] ?? (await startDynoxide(children, dataDirectory));

  async function answer(headers: Readonly<Record<string, string>>, body: string): Promise<Answer> {
    const response = await fetch(endpoint, { method: "POST", headers, body });
    const contentType = response.headers.get("content-type") ?? "application/x-amz-json-1.0";
    const checksum = response.headers.get("x-amz-crc32");
    return {
      status: response.status,
      headers: { "content-type": contentType, ...(checksum === null ? {} : { "x-amz-crc32": checksum }) },
      body: Buffer.from(await response.arrayBuffer()),
    };
  }

  async function call(target: string, input: Readonly<Record<string, unknown>>): Promise<unknown> {
    const { status, body } = await answer({ ...unsignedHeaders, "x-amz-target": target }, JSON.stringify(input));
    if (status !== 200) throw new Error(`${target} failed: ${body.toString()}`);
    return JSON.parse(body.toString());
  }

  for (const { resource, properties } of stack.each("AWS::DynamoDB::Table", tableProperties, ignoredTableProperties)) {
    await makeTable(call, resource, properties);
  }
  return { answer, call };
}

async function makeTable(
  call: DynamoDb["call"],
  resource: Resource,
  { StreamSpecification, ...properties }: z.output<typeof tableProperties>,
): Promise<void> {
  const stream =
    StreamSpecification === undefined
      ? {}
      : { StreamSpecification: { StreamEnabled: true, StreamViewType: StreamSpecification.StreamViewType } };
  try {
    await call("DynamoDB_20120810.CreateTable", { ...properties, ...stream, TableName: resource.name });
  } catch (error) {
    // It is there already when the data of an earlier run were kept.
    if (!String(error).includes("ResourceInUseException")) throw error;
  }
  for (;;) {
    const { Table } = tableAnswer.parse(await call("DynamoDB_20120810.DescribeTable", { TableName: resource.name }));
    resource.attributes["Arn"] = Table.TableArn;
    if (Table.LatestStreamArn !== undefined) resource.attributes["StreamArn"] = Table.LatestStreamArn;
    if (Table.TableStatus === "ACTIVE") return;
    await sleep(20);
  }
}

/** Servers want to see credentials, and none checks them. */
const unsignedHeaders = {
  "content-type": "application/x-amz-json-1.0",
  "x-amz-date": "20260101T000000Z",
  authorization:
    "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
};

/** @returns its address. */
async function startDynoxide(children: ChildProcesses, dataDirectory: string | undefined): Promise<string> {
  const port = await freePort();
  const file = dataDirectory === undefined ? [] : ["--db-path", tablesFile(dataDirectory)];
  const child = children.start(dynoxideBinary(), ["--host", "127.0.0.1", "--port", String(port), ...file], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let complaints = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-2000);
  });

  const endpoint = `http://127.0.0.1:${port}`;
  const deadlineMs = Date.now() + startTimeoutMs;
  for (;;) {
    const answered = await fetch(endpoint, {
      method: "POST",
      headers: { ...unsignedHeaders, "x-amz-target": "DynamoDB_20120810.ListTables" },
      body: "{}",
    }).catch(() => undefined);
    // An answer is ours only while our child lives: it ends at once when another process has taken the port.
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || Date.now() > deadlineMs) {
      throw new Error(`dynoxide did not start: ${complaints.trim() || "no reason given"}`);
    }
    if (answered?.ok === true) {
      if (dataDirectory !== undefined) indexStreams(tablesFile(dataDirectory));
      return endpoint;
    }
    await sleep(10);
  }
}

function tablesFile(dataDirectory: string): string {
  return path.join(dataDirectory, "tables.sqlite");
}

/**
 * dynoxide numbers each record of a stream by looking through all of them: 7,500 records in, that is eight of nine
 * milliseconds of a write. Its file is SQLite's, where an index answers the same question at once.
 */
function indexStreams(file: string): void {
  const number = "CAST(sequence_number AS INTEGER)";
  const database = new DatabaseSync(file);
  database.exec(
    `CREATE INDEX IF NOT EXISTS stream_numbers ON _stream_records (table_name, ${number});` +
      `CREATE INDEX IF NOT EXISTS shard_numbers ON _stream_records (table_name, shard_id, ${number});`,
  );
  database.close();
}

function dynoxideBinary(): string {
  try {
    return createRequire(import.meta.url).resolve("@dynoxide/linux-x64/dynoxide");
  } catch (error) {
    throw new Error(
      "The local DynamoDB, @dynoxide/linux-x64, is not installed. It exists for Linux on x64 only: elsewhere start " +
        "another server (DynamoDB Local, say) and name it in AWS_ENDPOINT_URL_DYNAMODB",
      { cause: error },
    );
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("No free port");
  return address.port;
}
