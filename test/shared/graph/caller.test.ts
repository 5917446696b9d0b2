import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { startJsonServer, startServer } from "../../support/http-server.ts";
import { line, systemToken } from "../../support/meta.ts";
import { clientOf, funded, send, signal, startMeta, targetOf } from "./graph-fixture.ts";

function proofOf(token: string, appSecret: string): string {
  return createHmac("sha256", appSecret).update(token).digest("hex");
}

function proofsOf(requests: { url?: string | undefined }[]): (string | null)[] {
  return requests.map(({ url }) => new URL(url ?? "", "http://meta").searchParams.get("appsecret_proof"));
}

describe("the appsecret_proof", () => {
  const appSecret = "the-app-secret-0123456789";

  test("goes with every call, made from the very token of that call", async () => {
    const server = await startJsonServer({ success: true, allocation_config_id: "91", data: [] });
    const { graph, portfolio, tokens, secrets } = clientOf(server.url, { appSecret });
    secrets["customer"] = "EAAtheTokenOfTheCustomer";
    const target = { ...targetOf({ wabaId: "12" }), businessTokenSecret: "customer" };
    await graph.readAllocation("91", line, signal);
    await graph.listAllocations(line, "11", signal);
    await portfolio.debugToken(tokens.business("customer"), signal);
    await graph.shareAndAttach(target, send());
    await graph.deleteAllocation("91", send());
    const bySystem = server.requests.length;
    await graph.attach(target, send());
    expect(proofsOf(server.requests.slice(0, bySystem))).toEqual(
      Array.from({ length: bySystem }, () => proofOf(systemToken, appSecret)),
    );
    expect(proofsOf(server.requests.slice(bySystem))).toEqual([proofOf(secrets["customer"], appSecret)]);
    for (const { url, headers } of server.requests) expect(JSON.stringify([url, headers])).not.toContain(appSecret);
  });

  test("is absent without an app secret", async () => {
    const server = await startJsonServer({ success: true });
    const { graph } = clientOf(server.url);
    await graph.readFunding("12", undefined, signal);
    await graph.deleteAllocation("91", send());
    expect(new Set(proofsOf(server.requests))).toEqual(new Set([null]));
  });

  test("is what Meta checks: the right one passes, a wrong one is refused (104)", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.world({ appSecret });
    expect(await clientOf(meta.url, { appSecret }).graph.readFunding(wabaId, undefined, signal)).toEqual({
      known: true,
      blind: true,
    });
    const { graph } = clientOf(meta.url, { appSecret: "another" });
    expect(await graph.readFunding(wabaId, undefined, signal)).toMatchObject({
      failure: { code: 104, reason: "token_dead" },
    });
    expect(await graph.shareAndAttach(targetOf({ wabaId }), send())).toMatchObject({ kind: "no-effect" });
  });

  test("that Meta refuses makes the app secret be read again, once", async () => {
    const renewed = "the-new-secret";
    const server = await startServer(({ url }, response) => {
      client.secrets["app"] = renewed;
      const isRight = proofsOf([{ url }])[0] === proofOf(systemToken, renewed);
      response.end(isRight ? "{}" : '{"error":{"code":104,"message":"Invalid appsecret_proof"}}');
    });
    const client = clientOf(server.url, { appSecret });
    expect(await client.graph.readFunding("12", undefined, signal)).toEqual({ known: true, blind: true });
    expect(await client.graph.readFunding("12", undefined, signal)).toEqual({ known: true, blind: true });
    expect(client.secretReads).toEqual(["system", "app", "system", "app"]);
  });

  test("that cannot be made sends nothing", async () => {
    const server = await startJsonServer({ success: true });
    const { graph, secrets } = clientOf(server.url, { appSecret });
    delete secrets["app"];
    expect(await graph.readFunding("12", undefined, signal)).toMatchObject({ failure: { reason: "token_dead" } });
    expect(await graph.deleteAllocation("91", send())).toMatchObject({ kind: "no-effect" });
    expect(server.requests).toEqual([]);
  });

  test("is not repeated by a failure, though Meta repeats it", async () => {
    const proof = proofOf(systemToken, appSecret);
    const server = await startJsonServer(
      { error: { code: 104, message: `Invalid appsecret_proof ${proof}` } },
      { status: 400 },
    );
    const { graph } = clientOf(server.url, { appSecret });
    const told = JSON.stringify([
      await graph.readFunding("12", undefined, signal),
      await graph.shareAndAttach(targetOf({ wabaId: "12" }), send()),
    ]);
    expect(told).toContain("Invalid appsecret_proof [token]");
    expect(told).not.toContain(proof.slice(0, 10));
  });
});

describe("the funding that only one token may see (unknown 10)", () => {
  test.each(["business", "system", "both"] as const)("is told when %s may see it", async (fundingVisibleTo) => {
    const meta = await startMeta({ fundingVisibleTo });
    const { businessId, wabaId, allocationId, token } = await funded(meta);
    meta.secrets["customer"] = token;
    const id = meta.model.allocations.get(allocationId)?.receivingCredentialId;
    expect(await meta.graph.readFunding(wabaId, "customer", signal)).toEqual({ known: true, id });
    expect(await meta.graph.readWaba(wabaId, "customer", signal)).toMatchObject({
      value: { ownerBusinessId: businessId, currency: "EUR", funding: { known: true, id } },
    });
  });

  test("costs a second call only where the customer's token saw none", async () => {
    const meta = await startMeta();
    const { wabaId, token } = await meta.customer();
    meta.secrets["customer"] = token;
    expect(await meta.graph.readFunding(wabaId, "customer", signal)).toEqual({ known: true });
    expect(meta.calls("E7").map(({ tokenKind }) => tokenKind)).toEqual(["business", "system"]);
    await meta.graph.shareAndAttach(targetOf({ wabaId }), send());
    await meta.graph.readFunding(wabaId, "customer", signal);
    expect(meta.calls("E7").map(({ tokenKind }) => tokenKind)).toEqual(["business", "system", "business"]);
  });

  test("is none by the customer's token alone when the system's may not look", async () => {
    const meta = await startMeta();
    const { wabaId, token } = await meta.customer();
    meta.secrets["customer"] = token;
    await meta.world({ tokens: [{ value: systemToken, kind: "system", lacksPermission: true }] });
    expect(await meta.graph.readWaba(wabaId, "customer", signal)).toMatchObject({
      ok: true,
      value: { funding: { known: true } },
    });
  });
});

describe("the time to stop when Meta throttles", () => {
  const hourMs = 3_600_000;
  test.each([
    { what: "the longest that its header names", minutes: "[3,60,7]", waitMs: hourMs },
    { what: "a minute when it names none", minutes: "[0]", waitMs: 60_000 },
    { what: "a day at most", minutes: `[${"9".repeat(400)}]`, waitMs: 24 * hourMs },
  ])("is $what", async ({ minutes, waitMs }) => {
    const usage = minutes.replaceAll(/\d+/g, '{"estimated_time_to_regain_access":$&}');
    const headers = { "x-business-use-case-usage": `{"10":${usage}}` };
    const server = await startJsonServer({ error: { code: 80_008 } }, { status: 400, headers });
    const { graph } = clientOf(server.url);
    expect(await graph.shareAndAttach(targetOf({ wabaId: "12" }), send())).toMatchObject({
      kind: "no-effect",
      throttledUntil: expect.closeTo(Date.now() + waitMs, -4),
    });
  });
});

describe("reads of answers without an id", () => {
  test("tell the same", async () => {
    const meta = await startMeta({ readsCarryId: false });
    const { businessId, wabaId, allocationId } = await funded(meta);
    const id = meta.model.allocations.get(allocationId)?.receivingCredentialId;
    expect(await meta.graph.readWaba(wabaId, undefined, signal)).toMatchObject({
      value: { ownerBusinessId: businessId, funding: { id } },
    });
    expect(await meta.graph.readAllocation(allocationId, line, signal)).toMatchObject({
      seen: "live",
      receivingBusinessId: businessId,
    });
    expect(await meta.graph.listAllocations(line, businessId, signal)).toMatchObject({ value: [{ allocationId }] });
  });
});

describe("a list that Meta gives in smaller portions than we ask for", () => {
  test.each([{ listLimitMax: 10 }, { listLimitMax: 1 }, { listLimitMax: 3, listFieldExpansions: false }])(
    "is complete all the same (%j)",
    async (variants) => {
      const meta = await startMeta(variants);
      const { businessId } = await meta.customer();
      const ids = Array.from({ length: 23 }, (_, index) => String(9_300_000_000_000 + index));
      await meta.world({ allocations: ids.map((id) => ({ id, lineId: line, receivingBusinessId: businessId })) });
      const all = { ok: true, value: ids.map((allocationId) => ({ allocationId, deleted: false })) };
      expect(await meta.graph.listAllocations(line, businessId, signal)).toEqual(all);
      const calls = meta.calls("E8");
      const refused = calls.findIndex(({ status }) => status === 200);
      expect(calls.slice(refused).filter(({ status }) => status !== 200)).toEqual([]);
      // What Meta refused once is not asked for again.
      expect(await meta.graph.listAllocations(line, businessId, signal)).toEqual(all);
      expect(meta.calls("E8").filter(({ status }) => status !== 200)).toHaveLength(refused);
    },
  );

  test("fails when Meta refuses the most modest request too", async () => {
    const server = await startJsonServer(
      { error: { code: 100, message: "Param limit is out of range" } },
      { status: 400 },
    );
    const { graph } = clientOf(server.url);
    expect(await graph.listAllocations(line, "11", signal)).toMatchObject({ ok: false, failure: { code: 100 } });
    expect(server.requests).toHaveLength(4);
  });

  test("asks for fewer fields, but not for fewer items, when a field is not permitted", async () => {
    const server = await startJsonServer({ error: { code: 10, message: "No" } }, { status: 403 });
    const { graph } = clientOf(server.url);
    expect(await graph.listAllocations(line, "11", signal)).toMatchObject({ ok: false, failure: { code: 10 } });
    expect(server.requests).toHaveLength(2);
  });

  test("fails when its cursors turn in a longer circle", async () => {
    let page = 0;
    const server = await startServer((_request, response) => {
      page += 1;
      const paging = { next: "https://graph/next", cursors: { after: `cursor ${page % 3}` } };
      response.end(JSON.stringify({ data: [{ id: "91" }], paging }));
    });
    expect(await clientOf(server.url).graph.listAllocations(line, "11", signal)).toMatchObject({ ok: false });
    expect(server.requests).toHaveLength(4);
  });

  test("fails when it has more pages than any list of one business", async () => {
    let page = 0;
    const server = await startServer((_request, response) => {
      page += 1;
      const paging = { next: "https://graph/next", cursors: { after: `cursor ${page}` } };
      response.end(JSON.stringify({ data: [], paging }));
    });
    expect(await clientOf(server.url).graph.listAllocations(line, "11", signal)).toMatchObject({ ok: false });
    expect(server.requests).toHaveLength(200);
  });
});
