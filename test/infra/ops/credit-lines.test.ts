import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import { control, runSteps } from "../../../infra/local/run-steps.ts";
import { morning, type SampleCommand } from "../../../infra/local/sample/morning.ts";
import { businessId, sampleSystemToken, wabaId } from "../../../infra/local/sample/world.ts";
import { explanations } from "../../../shared/domain/reasons.ts";
import { commandLine, everythingPrinted, type Ran } from "../../support/ops.ts";
import { holdsTranscript } from "../../support/transcript.ts";

// Each look of the person on call is a process of its own.
vi.setConfig({ testTimeout: 120_000 });

/** A sample morning has passed on a local stack; then the person on call comes. */
let stack: LocalStack;
let creditLines: (...args: string[]) => Promise<Ran>;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "credit-lines-test-"));
  stack = await startLocalStack({ port: 0 });
  creditLines = commandLine(stack.aws.endpoint);
  const { faults } = await runSteps(morning, stack, { say: () => {}, patienceMs: 90_000 });
  if (faults.length > 0) throw new Error(faults.join("\n"));
}, 180_000);

afterAll(async () => {
  await stack.close();
  rmSync(folder, { recursive: true });
});

async function json(...args: string[]) {
  const ran = await creditLines(...args, "--json");
  if (ran.stdout === "") throw new Error(`${args.join(" ")}: ${ran.stderr}`);
  return { code: ran.code, value: JSON.parse(ran.stdout) };
}

type Sample = Required<Pick<SampleCommand, "expected">> & { body: Record<string, unknown> };

/** The commands of the morning that can be asked for by their own id. */
const samples = morning
  .flatMap(({ commands }) => commands)
  .filter((one): one is SampleCommand & Sample => typeof one.body === "object" && one.expected !== undefined)
  .filter(({ expected }) => expected.reason !== "command_id_reused");

describe("explain", () => {
  describe("of the commands of the morning", () => {
    let told: Map<string, { value: ReturnType<typeof JSON.parse>; text: string }>;

    beforeAll(async () => {
      const ids = samples.map(({ body }) => String(body["commandId"]));
      const [asJson, asText] = await Promise.all([
        creditLines("explain", ...ids, "--json"),
        creditLines("explain", ...ids),
      ]);
      expect(asJson).toMatchObject({ code: 0, stderr: "" });
      const values = asJson.stdout.trim().split("\n");
      const texts = asText.stdout.split(/^(?=Command \S)/m);
      told = new Map(ids.map((id, index) => [id, { value: JSON.parse(values[index]!), text: texts[index] ?? "" }]));
    }, 120_000);

    test.each(samples.map((sample) => [String(sample.body["commandId"]), sample] as const))(
      "%s: says how it ended, why, and what to do",
      (commandId, { expected }) => {
        const { value, text } = told.get(commandId)!;
        expect(value).toMatchObject({
          asked: { id: commandId, is: "command" },
          command: { commandId, outcome: expected.outcome },
          tasks: [],
        });
        expect(text).toContain(`Command ${commandId}`);
        expect(text).toMatch(new RegExp(`^  ((share|verify|revoke): )?${expected.outcome}\\b`, "m"));
        const { reason } = expected;
        if (reason === undefined) return;
        const { words, remedy } = explanations[reason as keyof typeof explanations];
        expect(value.command).toMatchObject({
          reason,
          failure: { words, ...(remedy === undefined ? {} : { remedy }) },
        });
        expect(text).toContain(words);
        if (remedy !== undefined) expect(text).toContain(remedy);
      },
    );
  });

  test("finds a customer by its business, and by Meta's record, too", async () => {
    const { value } = await json("explain", businessId(1));
    expect(value.wabas.map((one: { status: string }) => one.status)).toEqual(["revoked", "revoked"]);
    expect(value.business).toMatchObject({ revocation: { state: "done", reason: "operator", commandId: "revoke-1" } });
    const [record] = value.business.records;
    expect(record).toMatchObject({ state: "deleted" });
    const byRecord = await json("explain", record.allocationConfigId);
    expect(byRecord.value).toMatchObject({ asked: { is: "allocation" }, business: { businessId: businessId(1) } });
  });

  test("tells the history from the audit, and the evidence with its age", async () => {
    const { value } = await json("explain", wabaId(3));
    const events = value.history.map((one: { event: string }) => one.event);
    expect(events.slice(0, 4)).toEqual([
      "Share Accepted",
      "Share Verified",
      "Revocation Started",
      "Credit Line Revoked",
    ]);
    expect(events.slice(4).toSorted()).toEqual(["Share Refused", "Verify Refused"]);
    expect(value.wabas).toMatchObject([{ wabaId: wabaId(3), evidence: { verifiedAt: expect.any(String) } }]);
    const { stdout } = await creditLines("explain", wabaId(2));
    expect(stdout).toMatch(/evidence of \d+ (s|min) ago: paid for by \d+, the credential of our record/);
  });

  test("tells of a WABA everything that names it: what changed no state, and what its sibling's revocation did", async () => {
    const of18 = await json("explain", wabaId(18));
    const told = of18.value.history.map((one: Record<string, string>) =>
      [one["event"], one["commandId"], one["reason"] ?? "-"].join(" "),
    );
    expect(told.toSorted()).toEqual([
      "Command Rejected share-18-unknown-key invalid_command",
      "Command Rejected share-2 command_id_reused",
      "Share Accepted share-18 -",
      "Share Verified share-18 -",
    ]);
    const ofSibling = await json("explain", wabaId(1, 1));
    expect(ofSibling.value.history.map((one: { event: string }) => one.event)).toContain("Credit Line Revoked");
    const ofNobody = await json("explain", wabaId(14));
    expect(ofNobody.value.history).toMatchObject([{ event: "Share Refused", reason: "currency_unsupported" }]);
    const ofBusiness = await json("explain", businessId(3));
    expect(ofBusiness.value.history.map((one: { event: string }) => one.event)).toContain("Verify Refused");
  });

  test("tells that Meta has throttled what is asked about one WABA", async () => {
    const faults = [{ match: "E7", wabaId: wabaId(18), kind: "throttle", times: 1 }];
    await control(`${stack.about.graphUrl}/_faults`, faults);
    expect(await creditLines("verify", wabaId(18))).toMatchObject({ code: 0 });
    await vi.waitFor(
      async () => {
        for (const id of [wabaId(18), businessId(18)]) {
          const { value } = await json("explain", id);
          expect(value.waits).toEqual([expect.stringContaining(`about ${wabaId(18)} until `)]);
        }
      },
      { timeout: 60_000, interval: 1000 },
    );
  });

  test("--live lays Meta beside the table, and they agree on all the customers of the morning", async () => {
    const customers = [2, 1, 3, 4, 5, 12, 13, 18, 19];
    const { code, stdout } = await creditLines(
      "explain",
      ...customers.map((customer) => wabaId(customer)),
      "--live",
      "--json",
    );
    const [value, ...others] = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(others).toHaveLength(customers.length - 1);
    for (const one of [value, ...others]) expect(one.live.differences, one.asked.id).toEqual([]);
    expect(code).toBe(0);
    expect(value.live.wabas).toMatchObject([
      { view: "table", status: "verified", payer: "us" },
      { view: "evidence", payer: "us" },
      { view: "Meta", businessId: businessId(2), payer: "us" },
    ]);
    expect(value.live.records).toMatchObject([{ table: "live", meta: "live", listed: true }]);
  });

  test("--live names what somebody changed behind our back, and ends with 1", async () => {
    const { value } = await json("explain", wabaId(10));
    const allocationId = value.wabas[0].allocationConfigId;
    const answer = await fetch(`${stack.about.graphUrl}/v25.0/${allocationId}`, {
      method: "DELETE",
      headers: { Authorization: `Bearer ${sampleSystemToken}` },
    });
    expect(answer.status).toBe(200);
    const live = await json("explain", wabaId(10), "--live");
    expect(live.code).toBe(1);
    expect(live.value.live.differences).toEqual([
      `WABA ${wabaId(10)} is verified in the table; Meta shows nothing paying for it`,
      `Allocation ${allocationId} is live in the table; Meta shows it deleted`,
    ]);
  });

  test("--live calls what it may not see unknown, and compares it with nothing", async () => {
    await control(`${stack.about.graphUrl}/_world`, { wabas: [{ id: wabaId(9), sharedWithPartner: false }] });
    const { code, value } = await json("explain", wabaId(9), "--live");
    expect(value.live.unread).toEqual([expect.stringContaining(`WABA ${wabaId(9)}`)]);
    expect(value.live.wabas.at(-1)).toMatchObject({ view: "Meta", payer: "unknown" });
    expect(value.live.differences).toEqual([]);
    expect(code).toBe(0);
  });

  test("of an id that nobody knows tells where else to look", async () => {
    const { code, stdout, stderr } = await creditLines("explain", "share-of-nobody", "--json");
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(JSON.parse(stderr).error).toMatchObject({
      reason: "unknown_id",
      remedy: expect.stringContaining("dlq list"),
    });
  });
});

describe("a share in doubt", () => {
  const subject = wabaId(28);

  test("is not closed while its window is open; after it explain names the command, and settle closes it", async () => {
    await control(`${stack.about.graphUrl}/_faults`, [{ match: "E2", kind: "cut-before", wabaId: subject, times: 2 }]);
    const command = ["share", subject, "--currency", "USD", "--command-id", "doubtful"];
    expect((await creditLines(...command)).code).toBe(0);
    // By Meta's ledger, not by the command line: on a busy machine its start would use up the window.
    await vi.waitUntil(
      () => stack.meta?.model.calls.some(({ name, query }) => name === "E2" && query["waba_id"] === subject),
      { timeout: 30_000, interval: 50 },
    );
    const early = await creditLines("settle", subject, "--why", "impatient", "--json");
    expect(early.code).toBe(4);
    expect(JSON.parse(early.stderr).error.reason).toMatch(/^(wait|nothing_to_settle)$/);

    const explained = await untilExplained(subject, ({ wabas }) => wabas[0]?.attempt?.inDoubt === true);
    expect(explained.tasks).toMatchObject([{ wabaId: subject, command: `settle ${subject} --why TEXT` }]);
    expect(explained.next[0]).toMatchObject({
      wabaId: subject,
      what: expect.stringContaining("Meta is looked at again"),
    });
    const { code, stdout } = await creditLines("explain", subject);
    expect(code).toBe(1);
    holdsTranscript("README.md", "explain", `credit-lines explain ${subject}`, stdout);

    await vi.waitFor(
      async () => {
        const settled = await creditLines("settle", subject, "--why", "nothing at Meta", "--json");
        expect(settled.stderr).toBe("");
        expect(JSON.parse(settled.stdout)).toEqual({
          wabaId: subject,
          result: "closed",
          by: "arn:aws:iam::000000000000:user/alice",
          note: "nothing at Meta",
        });
      },
      { timeout: 30_000, interval: 1000 },
    );
    await untilExplained("doubtful", ({ history }) =>
      history.some((one) => one.event === "Share Refused" && one.by?.endsWith("user/alice") === true),
    );
    expect((await json("explain", "doubtful")).value.command).toMatchObject({ outcome: "refused", reason: "given_up" });
    const again = await json("share", subject, "--currency", "USD", "--wait");
    expect(again).toMatchObject({ code: 0, value: { outcome: "done", event: "Share Accepted" } });
  });

  type Explained = {
    wabas: { attempt?: { inDoubt: boolean } }[];
    tasks: unknown[];
    next: unknown[];
    history: { event: string; by?: string }[];
  };

  async function untilExplained(id: string, holds: (explained: Explained) => boolean): Promise<Explained> {
    return vi.waitFor(
      async () => {
        await stack.aws.invoke("reconcile");
        const { value } = await json("explain", id);
        expect(holds(value), JSON.stringify(value)).toBe(true);
        return value;
      },
      { timeout: 60_000, interval: 500 },
    );
  }
});

describe("commands", () => {
  test("are checked before they are sent", async () => {
    const { code, stderr } = await creditLines("share", "12", "--currency", "USD");
    expect(code).toBe(2);
    expect(stderr).toContain("wabaId");
  });

  test("share, verify and revoke wait for the end, and a revoke shows what will be lost", async () => {
    const shared = await json("share", wabaId(21), "--currency", "USD", "--wait");
    expect(shared).toMatchObject({
      code: 0,
      value: { outcome: "done", command: { requestedBy: expect.stringMatching(/alice$/) } },
    });
    const verified = await json("verify", wabaId(21), "--wait");
    expect(verified).toMatchObject({ code: 0, value: { outcome: "done", event: "Share Verified" } });

    const asked = await creditLines("revoke", wabaId(21), "--reason", "operator");
    expect(asked.code).toBe(4);
    expect(asked.stderr).toContain(wabaId(21));
    const wrong = await creditLines("revoke", wabaId(21), "--reason", "operator", "--yes-business-id", businessId(22));
    expect(wrong.code).toBe(4);
    expect((await json("explain", wabaId(21))).value.wabas).toMatchObject([{ status: "verified" }]);

    const yes = ["--yes-business-id", businessId(21)];
    const revoked = await json("revoke", wabaId(21), "--reason", "operator", ...yes, "--wait");
    expect(revoked).toMatchObject({ code: 0, value: { outcome: "done", event: "Credit Line Revoked" } });
    const refused = await json("share", wabaId(21), "--currency", "USD", "--wait");
    expect(refused).toMatchObject({ code: 1, value: { outcome: "refused" } });
  });

  test("a revoke of a WABA whose owner nobody knows wants the owner named", async () => {
    const { code, stderr } = await creditLines("revoke", "120000000000998", "--reason", "customer_unshared");
    expect(code).toBe(4);
    expect(stderr).toContain("--business BUSINESS_ID");
  });
});

describe("preflight", () => {
  test("passes on a stage that can work, and counts the dead letters of the morning", async () => {
    const before = await json("preflight");
    expect(before.code).toBe(1);
    const unsubscribed = before.value.find(({ check }: { check: string }) => check === "webhook");
    expect(unsubscribed).toMatchObject({ result: "failed", remedy: expect.stringContaining("subscribed_apps") });
    const [, sample] = /WABA (\d+)/.exec(unsubscribed.detail) ?? [];
    const headers = { Authorization: `Bearer ${sampleSystemToken}` };
    await fetch(`${stack.about.graphUrl}/v25.0/${sample}/subscribed_apps`, { method: "POST", headers });

    const { code, value } = await json("preflight");
    expect(code).toBe(0);
    const bad = value.filter(({ result }: { result: string }) => result !== "ok");
    expect(bad).toMatchObject([
      { check: "queue share", result: "warning", remedy: expect.stringContaining("dlq list") },
    ]);
  });

  test("fails with a remedy for a dead token, a line that is not ours, and a paused queue", async () => {
    await creditLines("pause", "verify", "--why", "a test");
    await control(`${stack.about.graphUrl}/_world`, {
      tokens: [{ value: sampleSystemToken, kind: "system", dead: true }],
    });
    const { code, value } = await json("preflight");
    await control(`${stack.about.graphUrl}/_world`, {
      tokens: [{ value: sampleSystemToken, kind: "system", dead: false }],
    });
    expect(code).toBe(1);
    const failed = value.filter(({ result }: { result: string }) => result === "failed");
    expect(failed.map(({ check }: { check: string }) => check)).toEqual(
      expect.arrayContaining(["event sources", "token", "line", "line access"]),
    );
    for (const { check, remedy } of failed) expect(remedy, check).toMatch(/\w{3}/);
  });

  test("fails when Meta answers by another version than the stage asks for, and tells a version's last day", async () => {
    async function version() {
      const { code, value } = await json("preflight");
      return { code, ...value.find(({ check }: { check: string }) => check === "Graph version") };
    }
    expect(await version()).toMatchObject({
      result: "ok",
      detail: "v25.0 asked and answered, last day 2028-07-29",
    });
    await control(`${stack.about.graphUrl}/_variants`, { oldestLivingVersion: 26 });
    const dead = await version();
    await control(`${stack.about.graphUrl}/_variants`, { oldestLivingVersion: 21 });
    expect(dead).toMatchObject({
      code: 1,
      result: "failed",
      detail: "v25.0 asked, v26.0 answered",
      remedy: expect.stringContaining("graphApiVersion"),
    });
  });

  test("a pause tells who and why, outlives the sweep, and ends with resume", async () => {
    await stack.aws.invoke("reconcile");
    const paused = await json("reconcile", "status");
    expect(paused).toMatchObject({
      code: 1,
      value: { paused: [{ queue: "verify", why: "a test", by: expect.stringMatching(/alice$/) }] },
    });
    const sent = await json("verify", wabaId(2), "--wait", "2");
    expect(sent).toMatchObject({ code: 1 });
    expect(sent.value).not.toHaveProperty("outcome");
    await creditLines("resume", "verify");
    expect(await json("reconcile", "status")).toMatchObject({ code: 0, value: { paused: [] } });
    expect((await json("verify", wabaId(2), "--wait")).value).toMatchObject({ outcome: "done" });
  });
});

describe("findings", () => {
  test("are listed with what sets them right, and closed in a person's name", async () => {
    // The line is shared with customer 26 by hand; two scans in a row must see it.
    const record = { id: "130000000000026", lineId: stack.config.creditLineId, receivingBusinessId: businessId(26) };
    await control(`${stack.about.graphUrl}/_world`, {
      allocations: [{ ...record, receivingCredentialId: "140000000000026", wabaIds: [] }],
    });
    const open = await vi.waitFor(
      async () => {
        await creditLines("reconcile", "run", "--scan");
        const { code, value } = await json("findings", "list");
        const found = value.find(
          ({ kind, state }: Record<string, string>) => kind === "allocation_unknown" && state === "open",
        );
        expect(found, JSON.stringify(value)).toMatchObject({ businessId: businessId(26) });
        expect(code).toBe(1);
        return found;
      },
      { timeout: 100_000, interval: 1000 },
    );
    expect(readFileSync(open.runbook, "utf8")).toContain("`allocation_unknown`");

    const closed = await json("findings", "close", "allocation_unknown", open.subject, "--why", "a test");
    expect(closed).toMatchObject({ code: 0, value: { state: "closed" } });
    await vi.waitFor(() => {
      const said = stack.aws.events().filter(({ detailType }) => detailType === "Drift Closed");
      expect(said.map(({ detail }) => detail)).toContainEqual(
        expect.objectContaining({ reason: "allocation_unknown", by: expect.stringMatching(/alice$/), note: "a test" }),
      );
    });
    expect((await creditLines("findings", "close", "allocation_unknown", open.subject, "--why", "again")).code).toBe(4);
  });
});

describe("a removal that is held", () => {
  const [left, sibling] = [wabaId(24), "120000000020024"];

  test("is listed with its reason, explained, and released", async () => {
    const world = `${stack.about.graphUrl}/_world`;
    await control(world, { wabas: [{ id: sibling, ownerBusinessId: businessId(24), currency: "USD" }] });
    for (const id of [left, sibling]) {
      expect((await json("share", id, "--currency", "USD", "--wait")).value).toMatchObject({ outcome: "done" });
    }
    await control(world, { wabas: [{ id: left, sharedWithPartner: false }] });
    const yes = ["--yes-business-id", businessId(24)];
    expect((await creditLines("revoke", left, "--reason", "partner_removed", ...yes)).code).toBe(0);

    await vi.waitFor(
      async () => {
        const { code, value } = await json("held", "list");
        expect({ code, value }).toMatchObject({
          code: 1,
          value: [{ businessId: businessId(24), reason: "siblings", wabaIds: [left] }],
        });
      },
      { timeout: 60_000, interval: 500 },
    );
    const explained = await json("explain", businessId(24));
    expect(explained).toMatchObject({ code: 1, value: { business: { held: { reason: "siblings" } } } });
    expect(explained.value.tasks).toMatchObject([{ why: expect.stringContaining("held") }]);

    const released = await json("held", "release", businessId(24), ...yes, "--wait");
    expect(released).toMatchObject({ code: 0, value: { outcome: "done", event: "Credit Line Revoked" } });
    expect((await json("held", "list")).value).toEqual([]);
    expect((await creditLines("held", "release", businessId(24), ...yes)).code).toBe(4);
    expect(await json("revocations", "resume")).toMatchObject({ code: 4, value: { resumed: false } });
  });
});

describe("what is there", () => {
  test("list tells every WABA, and exports them as CSV", async () => {
    const { value } = await json("list", "--status", "verified");
    expect(value.map((one: { wabaId: string }) => one.wabaId)).toEqual(expect.arrayContaining([wabaId(2), wabaId(18)]));
    expect(new Set(value.map((one: { status: string }) => one.status))).toEqual(new Set(["verified"]));
    const file = path.join(folder, "estate.csv");
    await creditLines("list", "--export", file);
    const lines = readFileSync(file, "utf8").split("\r\n");
    expect(lines[0]).toMatch(/^wabaId,businessId/);
    expect(lines.find((line) => line.startsWith(wabaId(1)))).toContain(`${businessId(1)},`);
  });

  test("list and report write CSV to standard output, and nothing else", async () => {
    const { code, stdout } = await creditLines("list", "--export", "csv", "--older-than", "0s", "--status", "verified");
    expect(code).toBe(0);
    const [head, ...lines] = stdout.trim().split("\r\n");
    expect(head).toMatch(/^wabaId,businessId,.*,lastFailure$/);
    expect(lines.map((line) => line.split(",")[0])).toContain(wabaId(2));
    // A bare number is of days: nobody was proved that long ago.
    const old = await creditLines("list", "--export", "csv", "--older-than", "3", "--status", "verified");
    expect(old.stdout.trim()).toBe(head);
    const report = await creditLines("report", "--month", new Date().toISOString().slice(0, 7), "--export", "csv");
    expect(report.stdout).toMatch(/^wabaId,.*,daysInMonth\r\n/);
  });

  test("report tells what was shared this month, and until when", async () => {
    const month = new Date().toISOString().slice(0, 7);
    const { code, value } = await json("report", "--month", month);
    expect(code).toBe(0);
    const first = value.shares.find((one: { wabaId: string }) => one.wabaId === wabaId(1));
    expect(first).toMatchObject({ businessId: businessId(1), currency: "EUR", until: expect.any(String) });
    expect((await json("report", "--month", "2020-01")).value.shares).toEqual([]);
    expect((await creditLines("report", "--month", "2020-13")).code).toBe(2);
  });

  test("tail shows what is recorded while it listens", async () => {
    const tail = spawn(process.execPath, ["infra/ops/credit-lines.ts", "tail", "--json"], {
      env: { AWS_ENDPOINT_URL: stack.aws.endpoint },
    });
    const said = { stdout: "", stderr: "" };
    tail.stdout.on("data", (chunk) => (said.stdout += String(chunk)));
    tail.stderr.on("data", (chunk) => (said.stderr += String(chunk)));
    await vi.waitFor(() => expect(said.stderr).toContain("Listening"), { timeout: 20_000 });
    await creditLines("share", wabaId(22), "--currency", "USD", "--command-id", "tailed");
    await vi.waitFor(
      () => {
        const events = said.stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line));
        const tailed = events.filter(({ commandId }) => commandId === "tailed");
        expect(tailed).toMatchObject([{ event: "Share Accepted" }, { event: "Share Verified", wabaId: wabaId(22) }]);
      },
      { timeout: 30_000 },
    );
    tail.kill("SIGINT");
  });
});

describe("what is in the way", () => {
  test.each([
    ["no stage is named", [], 2, "--stage NAME"],
    ["there is no such stack", ["--stage", "prod"], 3, "There is no stack credit-lines-prod"],
    ["nothing answers", ["--endpoint", "http://127.0.0.1:9"], 3, "npm run local"],
  ])("when %s, the remedy is told", async (_title, options, code, text) => {
    const bare = commandLine(options.includes("prod") ? stack.aws.endpoint : "");
    const ran = await bare("list", ...options);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(text);
    expect(ran.stdout).toBe("");
  });

  test.each([[["--help"]], [["explain", "--help"]], [["revoke", "--help"]], [["reconcile", "run", "--help"]]])(
    "%j tells the options",
    async (args) => {
      const { code, stdout } = await creditLines(...args);
      expect(code).toBe(0);
      expect(stdout).toContain("Usage: credit-lines");
    },
  );
});

test("no secret was printed", () => {
  expect(everythingPrinted().length).toBeGreaterThan(10_000);
  expect(everythingPrinted()).not.toContain(sampleSystemToken);
  expect(everythingPrinted()).not.toMatch(/EAA[A-Za-z0-9]/);
});
