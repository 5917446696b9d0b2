import { describe, expect, test } from "vitest";
import { liveAllocations } from "../../../infra/local/meta/meta-model.ts";
import { ThrottledError } from "../../../shared/errors.ts";
import { createGraph } from "../../../shared/graph/client.ts";
import { createTokens } from "../../../shared/graph/tokens.ts";
import { createTransport } from "../../../shared/graph/transport.ts";
import { startJsonServer, startServer } from "../../support/http-server.ts";
import { line, systemToken } from "../../support/meta.ts";
import { clientOf, funded, send, signal, startMeta, targetOf } from "./graph-fixture.ts";

describe("the reads", () => {
  test("tell owner, currency and funding of a WABA, before and after a share", async () => {
    const meta = await startMeta();
    const { businessId, wabaId } = await meta.customer();
    const before = await meta.graph.readWaba(wabaId, undefined, signal);
    expect(before).toEqual({
      ok: true,
      value: { startedAt: expect.any(Number), ownerBusinessId: businessId, currency: "EUR", funding: { known: true } },
    });
    await meta.graph.shareAndAttach(targetOf({ wabaId }), send());
    const credential = meta.model.attachments[0]?.credentialId;
    expect(await meta.graph.readWaba(wabaId, undefined, signal)).toMatchObject({
      value: { funding: { known: true, id: credential } },
    });
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, id: credential });
    expect(meta.calls("E7", wabaId)).toHaveLength(3);
  });

  test("tell a record's business, credential and whether it lives", async () => {
    const meta = await startMeta();
    const { businessId, wabaId, allocationId } = await funded(meta);
    const funding = await meta.graph.readFunding(wabaId, undefined, signal);
    const live = {
      allocationId,
      creditLineId: line,
      readAt: expect.any(Number),
      seen: "live",
      receivingBusinessId: businessId,
      receivingCredentialId: funding.known ? funding.id : "unread",
    };
    expect(await meta.graph.readAllocation(allocationId, line, signal)).toEqual(live);
    await meta.graph.deleteAllocation(allocationId, send());
    expect(await meta.graph.readAllocation(allocationId, line, signal)).toEqual({ ...live, seen: "deleted" });
    expect(await meta.graph.readAllocation("910000000009999", line, signal)).toMatchObject({ seen: "missing" });
    await meta.variants({ requestStatusOnLive: "ACTIVE" });
    const other = await funded(meta);
    expect(await meta.graph.readAllocation(other.allocationId, line, signal)).toMatchObject({ seen: "strange" });
  });

  test("keep every digit of ids that are printed as numbers", async () => {
    const meta = await startMeta({ idsPrintedAs: "numbers" });
    const { businessId, wabaId, allocationId } = await funded(meta);
    expect(meta.model.allocations.has(allocationId)).toBe(true);
    expect(BigInt(allocationId)).toBeGreaterThan(2n ** 53n);
    const credential = meta.model.allocations.get(allocationId)?.receivingCredentialId;
    expect(await meta.graph.readWaba(wabaId, undefined, signal)).toMatchObject({
      value: { ownerBusinessId: businessId, funding: { id: credential } },
    });
    expect(await meta.graph.readAllocation(allocationId, line, signal)).toMatchObject({
      receivingBusinessId: businessId,
      receivingCredentialId: credential,
    });
    expect(await meta.graph.listAllocations(line, businessId, signal)).toEqual({
      ok: true,
      value: [{ allocationId, deleted: false }],
    });
  });

  test.each(["list", "bare-object"] as const)(
    "list a business's records when Meta answers one as a %s",
    async (listShape) => {
      const meta = await startMeta({ listShape });
      const { businessId, allocationId } = await funded(meta);
      const stranger = await meta.customer();
      expect(await meta.graph.listAllocations(line, businessId, signal)).toEqual({
        ok: true,
        value: [{ allocationId, deleted: false }],
      });
      expect(await meta.graph.listAllocations(line, stranger.businessId, signal)).toEqual({ ok: true, value: [] });
    },
  );

  test.each([{ listFieldExpansions: true }, { listFieldExpansions: false }])(
    "list a deleted record as deleted only when the list says so ($listFieldExpansions)",
    async ({ listFieldExpansions }) => {
      const meta = await startMeta({ listShowsDeleted: true, listFieldExpansions });
      const { businessId, allocationId } = await funded(meta);
      await meta.graph.deleteAllocation(allocationId, send());
      expect(await meta.graph.listAllocations(line, businessId, signal)).toEqual({
        ok: true,
        value: [{ allocationId, deleted: listFieldExpansions }],
      });
    },
  );

  test.each([{ shortPages: false }, { shortPages: true }])(
    "list every page (short pages: $shortPages)",
    async (variants) => {
      const meta = await startMeta(variants);
      const { businessId } = await meta.customer();
      const ids = Array.from({ length: 60 }, (_, index) => String(9_300_000_000_000 + index));
      await meta.world({ allocations: ids.map((id) => ({ id, lineId: line, receivingBusinessId: businessId })) });
      const listed = await meta.graph.listAllocations(line, businessId, signal);
      expect(listed).toEqual({ ok: true, value: ids.map((allocationId) => ({ allocationId, deleted: false })) });
      expect(meta.calls("E8").length).toBeGreaterThan(2);
    },
  );

  test("fail a list that is not complete, whatever page is missing", async () => {
    const meta = await startMeta();
    const { businessId } = await meta.customer();
    const ids = Array.from({ length: 60 }, (_, index) => String(9_300_000_000_000 + index));
    await meta.world({ allocations: ids.map((id) => ({ id, lineId: line, receivingBusinessId: businessId })) });
    await meta.faults({ match: "E8", kind: "latency", ms: 0 }, { match: "E8", kind: "5xx-before", times: 2 });
    expect(await meta.graph.listAllocations(line, businessId, signal)).toMatchObject({ ok: false });
  });

  test.each([
    { paging: { next: "https://graph/next", cursors: { after: "same" } }, what: "turns in a circle" },
    { paging: { next: "https://graph/next" }, what: "names no cursor" },
  ])("fail a list whose paging $what", async ({ paging }) => {
    const server = await startJsonServer({ data: [{ id: "91" }], paging });
    const { graph } = clientOf(server.url);
    expect(await graph.listAllocations(line, "11", signal)).toMatchObject({ ok: false });
    expect(server.requests.length).toBeLessThan(4);
  });

  test("leave out a listed record that names another business", async () => {
    const records = [
      { id: "91", receiving_business: { id: "11" } },
      { id: "92", receiving_business: { id: "12" } },
    ];
    const server = await startJsonServer({ data: records });
    const { graph } = clientOf(server.url);
    expect(await graph.listAllocations(line, "11", signal)).toEqual({
      ok: true,
      value: [{ allocationId: "91", deleted: false }],
    });
  });

  test("go field by field when the combined read is not permitted", async () => {
    const meta = await startMeta({ combinedReads: "permission-error" });
    const { businessId, wabaId, allocationId } = await funded(meta);
    expect(await meta.graph.readWaba(wabaId, undefined, signal)).toMatchObject({
      value: { ownerBusinessId: businessId, currency: "EUR", funding: { known: true, id: expect.any(String) } },
    });
    expect(await meta.graph.readAllocation(allocationId, line, signal)).toMatchObject({
      seen: "live",
      receivingBusinessId: businessId,
      receivingCredentialId: expect.any(String),
    });
  });

  test("tell funding that could not be read apart from no funding", async () => {
    const meta = await startMeta();
    const { businessId, wabaId } = await meta.customer();
    await meta.faults({ match: "E7", kind: "error-before", code: 10, times: 2 });
    expect(await meta.graph.readWaba(wabaId, undefined, signal)).toMatchObject({
      value: {
        ownerBusinessId: businessId,
        funding: { known: false, failure: { reason: "permission_denied", code: 10 } },
      },
    });
    await meta.faults({ match: "E7", kind: "5xx-before", times: 2 });
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toMatchObject({ known: false });
  });
});

describe("the token of a read", () => {
  test("is the customer's where there is one, and the system's for lines and records", async () => {
    const meta = await startMeta();
    const { businessId, wabaId, allocationId, token } = await funded(meta);
    meta.secrets["customer"] = token;
    await meta.graph.readWaba(wabaId, "customer", signal);
    await meta.graph.readAllocation(allocationId, line, signal);
    await meta.graph.listAllocations(line, businessId, signal);
    expect(meta.calls("E3").map(({ tokenKind }) => tokenKind)).toEqual(["business"]);
    expect([...meta.calls("E2"), ...meta.calls("E6"), ...meta.calls("E8")].map(({ tokenKind }) => tokenKind)).toEqual([
      "system",
      "system",
      "system",
    ]);
  });

  test.each([
    { what: "is dead", world: (value: string) => ({ tokens: [{ value, kind: "business" as const, dead: true }] }) },
    {
      what: "lacks the permission",
      world: (value: string) => ({ tokens: [{ value, kind: "business" as const, lacksPermission: true }] }),
    },
    {
      what: "does not see the WABA",
      world: (value: string) => ({ tokens: [{ value, kind: "business" as const, wabaIds: [] }] }),
    },
  ])("falls back to the system's when the customer's $what", async ({ world }) => {
    const meta = await startMeta();
    const { businessId, wabaId, token } = await meta.customer();
    meta.secrets["customer"] = token;
    await meta.world(world(token));
    expect(await meta.graph.readWaba(wabaId, "customer", signal)).toMatchObject({
      value: { ownerBusinessId: businessId },
    });
    expect(meta.calls("E3", wabaId).at(-1)?.tokenKind).toBe("system");
  });

  test("falls back to the system's when the customer's secret cannot be read", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    expect(await meta.graph.readFunding(wabaId, "not there", signal)).toEqual({ known: true, blind: true });
    expect(meta.calls("E7").map(({ tokenKind }) => tokenKind)).toEqual(["system"]);
  });

  test("is read from its secret once more when Meta calls it dead", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.world({ tokens: [{ value: systemToken, kind: "system", dead: true }] });
    await meta.world({ tokens: [{ value: "EAAtheNewSystemToken", kind: "system" }] });
    // What the client has cached is the old one.
    await meta.graph.readFunding(wabaId, undefined, signal);
    meta.secretReads.length = 0;
    meta.secrets["system"] = "EAAtheNewSystemToken";
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, blind: true });
    expect(meta.secretReads).toHaveLength(1);
  });

  test("is given up when the secret's new value is dead too", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    meta.secrets["system"] = "EAAdeadOne";
    const original = meta.graph.readFunding(wabaId, undefined, signal);
    meta.secrets["system"] = "EAAdeadTwo";
    expect(await original).toMatchObject({ known: false, failure: { reason: "token_dead", code: 190 } });
    expect(meta.secretReads).toHaveLength(2);
    expect(meta.calls("E7")).toHaveLength(2);
  });

  test("is not tried again when the secret has not changed", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    meta.secrets["system"] = "EAAdeadOne";
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toMatchObject({
      failure: { reason: "token_dead" },
    });
    expect(meta.calls("E7")).toHaveLength(1);
  });
});

describe("a read that fails", () => {
  test.each([
    { code: 190, reason: "token_dead", calls: 1 },
    { code: 102, reason: "token_dead", calls: 1 },
    { code: 104, reason: "token_dead", calls: 1 },
    { code: 10, reason: "permission_denied", calls: 1 },
    { code: 3, reason: "permission_denied", calls: 1 },
    { code: 200, reason: "permission_denied", calls: 1 },
    { code: 299, reason: "permission_denied", calls: 1 },
    { code: 368, reason: "policy_block", calls: 1 },
    { code: 803, reason: "waba_not_visible", calls: 1 },
    { code: 100, subcode: 33, reason: "waba_not_visible", calls: 1 },
    { code: 100, reason: "refused_by_meta", calls: 1 },
    { code: 1, reason: "meta_unavailable", calls: 2 },
    { code: 2, reason: "meta_unavailable", calls: 2 },
    { code: 131_016, reason: "meta_unavailable", calls: 2 },
    { code: 987_654, reason: "meta_unavailable", calls: 2 },
  ])("with code $code ($subcode) is $reason after $calls call(s)", async ({ code, subcode, reason, calls }) => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({
      match: "E7",
      kind: "error-before",
      code,
      times: 9,
      ...(subcode === undefined ? {} : { subcode }),
    });
    const funding = await meta.graph.readFunding(wabaId, undefined, signal);
    expect(funding).toMatchObject({ known: false, failure: { reason, code, fbtraceId: expect.any(String) } });
    expect(meta.calls("E7")).toHaveLength(calls);
  });

  test.each(["5xx-before", "cut-before", "cut-after"])("in passing (%s) is tried once more", async (kind) => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({ match: "E7", kind });
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, blind: true });
    expect(meta.calls("E7")).toHaveLength(2);
  });

  test("stops everything when Meta throttles, until the time that the header names", async () => {
    const meta = await startMeta();
    const { wabaId, allocationId, businessId } = await funded(meta);
    const reads = {
      E7: () => meta.graph.readFunding(wabaId, undefined, signal),
      E6: () => meta.graph.readAllocation(allocationId, line, signal),
      E8: () => meta.graph.listAllocations(line, businessId, signal),
    };
    for (const [match, read] of Object.entries(reads)) {
      await meta.faults({ match, kind: "throttle", ms: 180_000, times: 9 });
      const error: unknown = await read().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ThrottledError);
      const waitMs = (error as ThrottledError).until - Date.now();
      expect(waitMs).toBeGreaterThan(170_000);
      expect(waitMs).toBeLessThanOrEqual(180_000);
      expect(meta.calls(match)).toHaveLength(1);
    }
  });

  test("is throttled, and not repeated, also when Meta calls the throttle transient and names no time", async () => {
    const server = await startJsonServer(
      { error: { code: 4, message: "limit reached", is_transient: true } },
      { status: 400 },
    );
    const { graph } = clientOf(server.url);
    await expect(graph.readFunding("12", undefined, signal)).rejects.toThrow(ThrottledError);
    expect(server.requests).toHaveLength(1);
  });
});

describe("a token in Meta's own words", () => {
  const token = "secret-token-without-a-known-shape";

  test.each([
    { where: "at the start", message: `Malformed access token ${token}` },
    { where: "across the place where messages are cut", message: `${"x".repeat(490)}${token}` },
    { where: "twice", message: `${token} and ${token}` },
    { where: "as another token of Meta's", message: "Malformed access token EAAGotherToken123" },
  ])("is not repeated by a failure ($where)", async ({ message }) => {
    const server = await startJsonServer({ error: { code: 190, message, fbtrace_id: "A1" } }, { status: 401 });
    const { graph } = clientOf(server.url, { token });
    const failures = JSON.stringify([
      await graph.readFunding("12", undefined, signal),
      await graph.readAllocation("91", line, signal),
      await graph.shareAndAttach(targetOf({ wabaId: "12" }), send()),
      await graph.deleteAllocation("91", send()),
    ]);
    expect(failures).toContain("A1");
    expect(failures).not.toContain(token.slice(0, 10));
    expect(failures).not.toContain("EAAGother");
  });

  test("is not followed where a page's next address holds it", async () => {
    const meta = await startMeta();
    const { businessId } = await meta.customer();
    const ids = Array.from({ length: 30 }, (_, index) => String(9_300_000_000_000 + index));
    await meta.world({ allocations: ids.map((id) => ({ id, lineId: line, receivingBusinessId: businessId })) });
    await meta.graph.listAllocations(line, businessId, signal);
    expect(meta.calls("E8").map(({ query }) => Object.keys(query).toSorted())).toEqual([
      ["fields", "receiving_business_id"],
      ["after", "fields", "receiving_business_id"],
    ]);
  });
});

describe("a share", () => {
  test("is accepted with the id of its allocation", async () => {
    const meta = await startMeta();
    const { wabaId, businessId } = await meta.customer();
    const outcome = await meta.graph.shareAndAttach(targetOf({ wabaId }), send());
    const [live] = liveAllocations(meta.model, line, businessId, Date.now());
    expect(outcome).toEqual({ kind: "accepted", allocationId: live?.id });
    expect(meta.calls("E2")).toMatchObject([{ method: "POST", query: { waba_id: wabaId, waba_currency: "EUR" } }]);
  });

  test.each([
    { kind: "throttle", outcome: "no-effect", shared: false },
    { kind: "5xx-before", outcome: "unknown", shared: false },
    { kind: "5xx-after", outcome: "unknown", shared: true },
    { kind: "cut-before", outcome: "unknown", shared: false },
    { kind: "cut-after", outcome: "unknown", shared: true },
    { kind: "hang-before", outcome: "unknown", shared: false },
    { kind: "hang-after", outcome: "unknown", shared: true },
  ])("is sent once and $outcome when Meta answers with $kind", async ({ kind, outcome, shared }) => {
    const meta = await startMeta();
    const { graph } = clientOf(meta.url, { timeoutMs: 150 });
    const { wabaId, businessId } = await meta.customer();
    await meta.faults({ match: "E2", kind, ms: 120_000 });
    const answer = await graph.shareAndAttach(targetOf({ wabaId }), send());
    expect(answer.kind).toBe(outcome);
    if (kind === "throttle") {
      expect(answer).toMatchObject({ throttledUntil: expect.closeTo(Date.now() + 120_000, -4) });
    }
    expect(meta.calls("E2")).toHaveLength(1);
    expect(liveAllocations(meta.model, line, businessId, Date.now())).toHaveLength(shared ? 1 : 0);
  });

  test.each([
    { code: 4, outcome: "no-effect", reason: "meta_unavailable" },
    { code: 80_008, outcome: "no-effect", reason: "meta_unavailable" },
    { code: 190, outcome: "no-effect", reason: "token_dead" },
    { code: 10, outcome: "no-effect", reason: "permission_denied" },
    { code: 200, outcome: "no-effect", reason: "permission_denied" },
    { code: 368, outcome: "no-effect", reason: "policy_block" },
    { code: 100, outcome: "unknown", reason: "refused_by_meta" },
    { code: 4000, outcome: "unknown", reason: "refused_by_meta" },
    { code: 100, subcode: 1_752_244, outcome: "unknown", reason: "same_business" },
    { code: 100, subcode: 33, outcome: "unknown", reason: "waba_not_visible" },
    { code: 1, outcome: "unknown", reason: "meta_unavailable" },
    { code: 987_654, outcome: "unknown", reason: "meta_unavailable" },
  ])("that Meta answers with code $code ($subcode) had $outcome effect", async ({ code, subcode, outcome, reason }) => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({ match: "E2", kind: "error-before", code, ...(subcode === undefined ? {} : { subcode }) });
    expect(await meta.graph.shareAndAttach(targetOf({ wabaId }), send())).toMatchObject({
      kind: outcome,
      failure: { reason, code },
    });
    expect(meta.calls("E2")).toHaveLength(1);
  });

  test.each([
    { what: "another WABA", body: { allocation_config_id: "91", waba_id: "13" }, named: { allocationId: "91" } },
    { what: "no allocation", body: { waba_id: "12" }, named: {} },
    { what: "an error with HTTP 200", body: { error: { code: 1, message: "oops" } }, named: {} },
  ])("is unknown when the answer names $what", async ({ body, named }) => {
    const server = await startJsonServer(body);
    const outcome = await clientOf(server.url).graph.shareAndAttach(targetOf({ wabaId: "12" }), send());
    expect(outcome).toMatchObject({ kind: "unknown", ...named });
    expect("allocationId" in outcome).toBe("allocationId" in named);
  });

  test.each([
    { what: "its deadline has passed", late: () => ({ signal, sendDeadline: Date.now() }) },
    { what: "its turn has ended", late: () => ({ ...send(), signal: AbortSignal.abort() }) },
  ])("is not sent, and had no effect, when $what", async ({ late }) => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    expect(await meta.graph.shareAndAttach(targetOf({ wabaId }), late())).toMatchObject({ kind: "no-effect" });
    expect(meta.model.calls).toEqual([]);
  });

  test("is not sent after its deadline though the secret took long to read", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    const sendDeadline = Date.now() + 30;
    const tokens = createTokens(
      "system",
      async () => {
        while (Date.now() < sendDeadline);
        return systemToken;
      },
      Date.now,
    );
    const transport = createTransport({ baseUrl: meta.url, version: "v25.0", timeoutMs: 2000, now: Date.now });
    const graph = createGraph({ transport, tokens, now: Date.now });
    expect(await graph.shareAndAttach(targetOf({ wabaId }), { signal, sendDeadline })).toMatchObject({
      kind: "no-effect",
    });
    expect(meta.model.calls).toEqual([]);
  });

  test("had no effect when its token cannot be read", async () => {
    const server = await startServer((_request, response) => response.end("{}"));
    const { graph, secrets } = clientOf(server.url);
    delete secrets["system"];
    expect(await graph.shareAndAttach(targetOf({ wabaId: "12" }), send())).toMatchObject({
      kind: "no-effect",
      failure: { reason: "token_dead" },
    });
    expect(server.requests).toEqual([]);
  });
});

describe("a DELETE", () => {
  test("is definite when Meta says so; refused of a record that is deleted already or unknown", async () => {
    const meta = await startMeta({ repeatedDelete: "error" });
    const { allocationId, businessId } = await funded(meta);
    expect(await meta.graph.deleteAllocation(allocationId, send())).toEqual({
      kind: "definite",
      at: expect.any(Number),
    });
    expect(liveAllocations(meta.model, line, businessId, Date.now())).toEqual([]);
    expect(await meta.graph.deleteAllocation(allocationId, send())).toMatchObject({ kind: "refused" });
    expect(await meta.graph.deleteAllocation("910000000009999", send())).toMatchObject({ kind: "refused" });
    expect(meta.calls("E9")).toHaveLength(3);
  });

  test.each([
    { kind: "5xx-before", lives: true },
    { kind: "5xx-after", lives: false },
    { kind: "cut-before", lives: true },
    { kind: "cut-after", lives: false },
    { kind: "hang-before", lives: true },
    { kind: "hang-after", lives: false },
  ])("is sent once and its effect unknown when Meta answers with $kind", async ({ kind, lives }) => {
    const meta = await startMeta();
    const { allocationId, businessId } = await funded(meta);
    const { graph } = clientOf(meta.url, { timeoutMs: 150 });
    await meta.faults({ match: "E9", kind });
    expect(await graph.deleteAllocation(allocationId, send())).toMatchObject({ kind: "unknown" });
    expect(meta.calls("E9")).toHaveLength(1);
    expect(liveAllocations(meta.model, line, businessId, Date.now())).toHaveLength(lives ? 1 : 0);
  });

  test.each([190, 10, 368])("had no effect when Meta answers with code %i", async (code) => {
    const meta = await startMeta();
    const { allocationId } = await funded(meta);
    await meta.faults({ match: "E9", kind: "error-before", code });
    expect(await meta.graph.deleteAllocation(allocationId, send())).toMatchObject({ kind: "no-effect" });
    expect(meta.calls("E9")).toHaveLength(1);
  });

  test("stops the run when Meta throttles", async () => {
    const meta = await startMeta();
    const { allocationId } = await funded(meta);
    await meta.faults({ match: "E9", kind: "throttle", ms: 120_000 });
    const error: unknown = await meta.graph.deleteAllocation(allocationId, send()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ThrottledError);
    expect((error as ThrottledError).until).toBeGreaterThan(Date.now() + 110_000);
    expect(meta.calls("E9")).toHaveLength(1);
  });

  test("is not sent after its deadline", async () => {
    const meta = await startMeta();
    const { allocationId } = await funded(meta);
    expect(await meta.graph.deleteAllocation(allocationId, { signal, sendDeadline: Date.now() })).toMatchObject({
      kind: "no-effect",
    });
    expect(meta.calls("E9")).toEqual([]);
  });
});
