import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { describe, expect, test, vi } from "vitest";
import { startLocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { clientConfig, details, synthesizeSampleStack } from "./sample-stack.ts";

const localAws = fileURLToPath(new URL("../../../../infra/local/aws/local-aws.ts", import.meta.url));

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
}

/** A process that has ended but that nobody has waited for does not run. */
function runs(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

describe("closing", () => {
  test("leaves no process, no open port and nothing under way", async () => {
    const before = childrenOf(process.pid);
    const aws = await startLocalAws({ templateDirectory: synthesizeSampleStack(), port: 0, secrets: {} });
    await aws.invoke("tool", {});
    const underWay = aws.invoke("tool", { does: "spin" });
    await vi.waitFor(() => expect(details(aws, "spinning")).toHaveLength(1), { timeout: 5000 });
    const children = childrenOf(process.pid).filter((pid) => !before.includes(pid));
    expect(children.length).toBeGreaterThanOrEqual(3);
    await aws.close();
    expect(children.filter(runs)).toEqual([]);
    await expect(underWay).resolves.toMatchObject({ ok: false });
    await expect(fetch(aws.endpoint)).rejects.toThrow("fetch failed");
    await aws.close();
  });

  test.each(["SIGKILL", "SIGTERM", "SIGINT"] as const)(
    "is not needed: when its process ends by %s no other process is left",
    async (signal) => {
      const options = { templateDirectory: synthesizeSampleStack(), port: 0, secrets: {} };
      const script = `
        const { startLocalAws } = await import(${JSON.stringify(localAws)});
        const aws = await startLocalAws(${JSON.stringify(options)});
        void aws.invoke("tool", { does: "spin" });
        while (aws.events().length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
        console.log("spinning");
      `;
      const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(parent.stdout, "data");
      const children = childrenOf(parent.pid ?? 0);
      expect(children.length).toBeGreaterThanOrEqual(3);
      parent.kill(signal);
      await once(parent, "exit");
      await vi.waitFor(() => expect(children.filter(runs)).toEqual([]), { timeout: 5000 });
    },
  );
});

describe("a data directory", () => {
  test("keeps tables and how far their streams were read", async () => {
    const dataDirectory = path.join(mkdtempSync(path.join(tmpdir(), "sample-data-")), "kept");
    const options = { templateDirectory: synthesizeSampleStack(), port: 0, secrets: {}, dataDirectory };
    const Item = { pk: { S: "kept" } };

    const first = await startLocalAws(options);
    await new DynamoDBClient(clientConfig(first)).send(new PutItemCommand({ TableName: "sample-state", Item }));
    await vi.waitFor(() => expect(details(first, "followed")).toHaveLength(1), { timeout: 5000 });
    await vi.waitFor(() => expect(readdirSync(dataDirectory).join()).toContain(".json"), { timeout: 5000 });
    await first.close();

    const second = await startLocalAws(options);
    const client = new DynamoDBClient(clientConfig(second));
    expect(await client.send(new GetItemCommand({ TableName: "sample-state", Key: Item }))).toMatchObject({ Item });
    await client.send(new PutItemCommand({ TableName: "sample-state", Item: { pk: { S: "second" } } }));
    await vi.waitFor(() => expect(details(second, "followed")).toHaveLength(1), { timeout: 5000 });
    expect(details(second, "followed")).toMatchObject([{ pk: "second" }]);
    await second.close();
  });

  test("lets a stream number its next record without looking through all that it has", async () => {
    const dataDirectory = mkdtempSync(path.join(tmpdir(), "sample-data-"));
    const aws = await startLocalAws({
      templateDirectory: synthesizeSampleStack(),
      port: 0,
      secrets: {},
      dataDirectory,
    });
    await aws.close();
    const database = new DatabaseSync(path.join(dataDirectory, "tables.sqlite"), { readOnly: true });
    const asked = "SELECT MAX(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = ?";
    const plan = database.prepare(`EXPLAIN QUERY PLAN ${asked}`).all("sample-state");
    database.close();
    expect(plan).toMatchObject([{ detail: expect.stringContaining("INDEX stream_numbers") }]);
  });
});
