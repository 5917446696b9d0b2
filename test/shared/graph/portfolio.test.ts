import { describe, expect, test } from "vitest";
import { ThrottledError } from "../../../shared/errors.ts";
import { startJsonServer } from "../../support/http-server.ts";
import { line, systemToken } from "../../support/meta.ts";
import { clientOf, funded, send, signal, startMeta } from "./graph-fixture.ts";

type Meta = Awaited<ReturnType<typeof startMeta>>;

/** 130 records of 130 businesses on the line. */
async function estate(meta: Meta) {
  const allocations = Array.from({ length: 130 }, (_, index) => ({
    id: String(9_300_000_000_000_000_000n + BigInt(index)),
    lineId: line,
    receivingBusinessId: String(9_400_000_000_000_000_000n + BigInt(index)),
    receivingCredentialId: String(9_500_000_000_000_000_000n + BigInt(index)),
  }));
  await meta.world({ allocations });
  return allocations;
}

/** Walks every page as a scan does. */
async function walk<T>(
  read: (
    after?: string,
  ) => Promise<{ ok: true; value: { items: T[]; next?: string; fieldsMissing: string[] } } | { ok: false }>,
) {
  const items: T[] = [];
  const missing = new Set<string>();
  let after: string | undefined;
  let pages = 0;
  do {
    const page = await read(after);
    if (!page.ok) throw new Error("A page could not be read");
    items.push(...page.value.items);
    for (const field of page.value.fieldsMissing) missing.add(field);
    after = page.value.next;
    pages += 1;
  } while (after !== undefined);
  return { items, pages, missing: [...missing] };
}

describe("the partner's lines (E1)", () => {
  test("are listed, also received ones", async () => {
    const meta = await startMeta({ listLimitMax: 5 });
    const partner = meta.model.partnerBusinessId;
    await meta.world({
      lines: [{ id: "200000000000009", ownerBusinessId: "100000000000099", legalEntityName: "Other" }],
    });
    expect(await meta.portfolio.listCreditLines(partner, signal)).toEqual({
      ok: true,
      value: [
        { creditLineId: line, legalEntityName: "Partner Ltd" },
        { creditLineId: "200000000000009", legalEntityName: "Other" },
      ],
    });
    expect(new Set(meta.calls("E1").map(({ tokenKind }) => tokenKind))).toEqual(new Set(["system"]));
  });

  test("of another business are a failure", async () => {
    const meta = await startMeta();
    const { businessId } = await meta.customer();
    expect(await meta.portfolio.listCreditLines(businessId, signal)).toMatchObject({
      ok: false,
      failure: { reason: "permission_denied" },
    });
  });
});

describe("the records of a line (E8)", () => {
  test.each([
    { variants: {}, pages: 2 },
    { variants: { shortPages: true }, pages: 3 },
    { variants: { idsPrintedAs: "numbers" as const, readsCarryId: false }, pages: 2 },
    { variants: { listShape: "bare-object" as const }, pages: 2 },
  ])("come page by page ($variants)", async ({ variants, pages }) => {
    const meta = await startMeta(variants);
    const allocations = await estate(meta);
    const walked = await walk((after) => meta.portfolio.pageAllocations(line, after, signal));
    expect(walked).toEqual({
      items: allocations.map((one) => ({
        allocationId: one.id,
        businessId: one.receivingBusinessId,
        credentialId: one.receivingCredentialId,
        deleted: false,
      })),
      pages,
      missing: [],
    });
    expect(JSON.stringify(meta.calls("E8"))).not.toContain("receiving_business_id");
  });

  test.each([{ listFieldExpansions: false }, { listFieldExpansions: false, listLimitMax: 7 }])(
    "say which fields Meta does not give in a list (%j)",
    async (variants) => {
      const meta = await startMeta({ ...variants, listShowsDeleted: true });
      const allocations = await estate(meta);
      const walked = await walk((after) => meta.portfolio.pageAllocations(line, after, signal));
      expect(walked.missing).toEqual(["receiving_credential", "request_status"]);
      expect(walked.items).toEqual(
        allocations.map((one) => ({ allocationId: one.id, businessId: one.receivingBusinessId, deleted: false })),
      );
    },
  );

  test("keep their fields where Meta gives them in smaller portions only", async () => {
    const meta = await startMeta({ listLimitMax: 25 });
    const allocations = await estate(meta);
    const walked = await walk((after) => meta.portfolio.pageAllocations(line, after, signal));
    expect(walked.missing).toEqual([]);
    expect(walked.items.map(({ credentialId }) => credentialId)).toEqual(
      allocations.map((one) => one.receivingCredentialId),
    );
  });

  test("say which of them are deleted", async () => {
    const meta = await startMeta({ listShowsDeleted: true });
    const { allocationId } = await funded(meta);
    const live = await funded(meta);
    await meta.graph.deleteAllocation(allocationId, send());
    expect(await meta.portfolio.pageAllocations(line, undefined, signal)).toMatchObject({
      value: {
        items: [
          { allocationId, deleted: true },
          { allocationId: live.allocationId, deleted: false },
        ],
      },
    });
  });

  test.each([
    { paging: { next: "https://graph/next" }, what: "without a cursor" },
    { paging: { next: "https://graph/next", cursors: { after: "here" } }, what: "with the cursor it was asked for" },
  ])("are a failure when a page leads on $what", async ({ paging }) => {
    const server = await startJsonServer({ data: [{ id: "91" }], paging });
    expect(await clientOf(server.url).portfolio.pageAllocations(line, "here", signal)).toMatchObject({ ok: false });
  });

  test("stop when Meta throttles", async () => {
    const meta = await startMeta();
    await meta.faults({ match: "E8", kind: "throttle" });
    await expect(meta.portfolio.pageAllocations(line, undefined, signal)).rejects.toThrow(ThrottledError);
    expect(meta.calls("E8")).toHaveLength(1);
  });
});

describe("the partner's WABAs (E13)", () => {
  test("come page by page, with owner and funding", async () => {
    const meta = await startMeta({ listLimitMax: 100, shortPages: true });
    const { businessId, wabaIds } = await meta.customer(60);
    const { wabaId: fundedId, allocationId } = await funded(meta);
    const partner = meta.model.partnerBusinessId;
    const walked = await walk((after) => meta.portfolio.pageWabas(partner, after, signal));
    const plain = { name: "Customer WABA", currency: "EUR", ownerBusinessId: businessId };
    expect(walked.items.slice(0, -1)).toEqual(wabaIds.map((wabaId) => ({ wabaId, ...plain })));
    expect(walked.items.at(-1)).toMatchObject({
      wabaId: fundedId,
      fundingId: meta.model.allocations.get(allocationId)?.receivingCredentialId,
    });
    expect(walked).toMatchObject({ pages: 2, missing: [] });
  });

  test("lack what Meta does not give in a list, and say so", async () => {
    const meta = await startMeta({ listFieldExpansions: false });
    const { wabaId } = await funded(meta);
    expect(await meta.portfolio.pageWabas(meta.model.partnerBusinessId, undefined, signal)).toEqual({
      ok: true,
      value: {
        items: [{ wabaId, name: "Customer WABA", currency: "EUR" }],
        fieldsMissing: ["owner_business_info", "primary_funding_id"],
      },
    });
  });

  test("do not hold one that its customer took away", async () => {
    const meta = await startMeta();
    const { businessId, wabaId } = await meta.customer();
    await meta.world({
      wabas: [{ id: wabaId, ownerBusinessId: businessId, currency: "EUR", sharedWithPartner: false }],
    });
    expect(await meta.portfolio.pageWabas(meta.model.partnerBusinessId, undefined, signal)).toMatchObject({
      value: { items: [] },
    });
  });
});

function dollars(amount: string, hundredths: string) {
  return { amount, amountInHundredths: hundredths, offsettedAmount: hundredths, currency: "USD" };
}

describe("a line (E14)", () => {
  test("tells whose it is, its state and its amounts", async () => {
    const meta = await startMeta();
    expect(await meta.portfolio.readLine(line, signal)).toEqual({
      ok: true,
      value: {
        legalEntityName: "Partner Ltd",
        ownerBusinessId: meta.model.partnerBusinessId,
        accessRevoked: false,
        balance: dollars("0.00", "0"),
        creditAvailable: dollars("100000.00", "10000000"),
        maxBalance: dollars("100000.00", "10000000"),
        unreadable: [],
      },
    });
    await meta.world({ lines: [{ id: line, ownerBusinessId: meta.model.partnerBusinessId, accessRevoked: true }] });
    expect(await meta.portfolio.readLine(line, signal)).toMatchObject({ value: { accessRevoked: true } });
  });

  test("tells what may be read when a field may not", async () => {
    const meta = await startMeta();
    await meta.faults(
      { match: "E14", kind: "error-before", code: 10 },
      ...["legal_entity_name", "owner_business", "is_access_revoked"].map(() => ({
        match: "E14",
        kind: "latency",
        ms: 0,
      })),
      { match: "E14", kind: "error-before", code: 200 },
    );
    expect(await meta.portfolio.readLine(line, signal)).toMatchObject({
      value: { accessRevoked: false, maxBalance: { amount: "100000.00" }, unreadable: ["balance"] },
    });
  });

  test("that is not there is a failure", async () => {
    const meta = await startMeta();
    expect(await meta.portfolio.readLine("200000000000099", signal)).toMatchObject({
      ok: false,
      failure: { class: "missing" },
    });
  });
});

describe("a token (E15)", () => {
  test("is told valid or not, with its scopes, by the system token", async () => {
    const meta = await startMeta();
    const { token, wabaIds } = await meta.customer();
    meta.secrets["customer"] = token;
    const scopes = ["business_management", "whatsapp_business_management"];
    expect(await meta.portfolio.debugToken(meta.tokens.system, signal)).toEqual({
      ok: true,
      value: {
        valid: true,
        appId: expect.any(String),
        expiresAtSeconds: 0,
        scopes,
        granularScopes: scopes.map((scope) => ({ scope })),
      },
    });
    await meta.world({ tokens: [{ value: token, kind: "business", wabaIds, dead: true, expiresAt: 4_000_000_000 }] });
    expect(await meta.portfolio.debugToken(meta.tokens.business("customer"), signal)).toMatchObject({
      value: { valid: false, expiresAtSeconds: 4_000_000_000, granularScopes: [{ targetIds: wabaIds }, {}] },
    });
    expect(meta.calls("E15").map(({ tokenKind }) => tokenKind)).toEqual(["system", "system"]);
  });

  test("stands in the query of this one call and nowhere else", async () => {
    const inspected = "a-token-without-a-known-shape";
    const server = await startJsonServer(
      { error: { code: 100, message: `Bad input_token ${inspected}`, fbtrace_id: "A1" } },
      { status: 400 },
    );
    const { portfolio, tokens, secrets } = clientOf(server.url);
    secrets["customer"] = inspected;
    const told = JSON.stringify(await portfolio.debugToken(tokens.business("customer"), signal));
    expect(told).toContain("A1");
    expect(told).not.toContain(inspected);
    const [request] = server.requests;
    expect(new URL(request?.url ?? "", server.url).searchParams.get("input_token")).toBe(inspected);
    expect(request?.headers.authorization).toBe(`Bearer ${systemToken}`);
    expect(JSON.stringify(request?.headers)).not.toContain(inspected);
  });

  test("is looked at in its new value when the old one died on the way", async () => {
    const meta = await startMeta();
    await meta.portfolio.debugToken(meta.tokens.system, signal);
    await meta.world({
      tokens: [
        { value: systemToken, kind: "system", dead: true },
        { value: "EAAtheNewSystemToken", kind: "system" },
      ],
    });
    meta.secrets["system"] = "EAAtheNewSystemToken";
    expect(await meta.portfolio.debugToken(meta.tokens.system, signal)).toMatchObject({ value: { valid: true } });
  });
});

describe("the app's subscription to a WABA (E16)", () => {
  test("is read and made, with the customer's token where there is one", async () => {
    const meta = await startMeta();
    const { wabaId, token } = await meta.customer();
    meta.secrets["customer"] = token;
    expect(await meta.portfolio.readSubscribedApps(wabaId, "customer", signal)).toEqual({ ok: true, value: [] });
    const target = { wabaId, businessTokenSecret: "customer" };
    expect(await meta.portfolio.subscribeApp(target, send())).toEqual({ kind: "done" });
    expect(await meta.portfolio.subscribeApp({ wabaId }, send())).toEqual({ kind: "done" });
    expect(await meta.portfolio.readSubscribedApps(wabaId, undefined, signal)).toEqual({
      ok: true,
      value: [expect.stringMatching(/^\d+$/)],
    });
    expect(meta.calls("E16").map(({ tokenKind }) => tokenKind)).toEqual(["business", "business", "system", "system"]);
  });

  test("falls back to the system token for the read only", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    meta.secrets["customer"] = "EAAdeadTokenOfTheCustomer";
    expect(await meta.portfolio.readSubscribedApps(wabaId, "customer", signal)).toEqual({ ok: true, value: [] });
    expect(await meta.portfolio.subscribeApp({ wabaId, businessTokenSecret: "customer" }, send())).toMatchObject({
      kind: "failed",
      failure: { reason: "token_dead" },
    });
    expect(meta.model.changes.filter(({ kind }) => kind === "app_subscribed")).toEqual([]);
  });

  test("is asked for once, whatever Meta answers", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({ match: "E16", kind: "5xx-after", times: 9 });
    expect(await meta.portfolio.subscribeApp({ wabaId }, send())).toMatchObject({ kind: "failed" });
    expect(meta.calls("E16")).toHaveLength(1);
  });
});
