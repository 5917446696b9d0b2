import { describe, expect, test } from "vitest";
import { startJsonServer, startServer } from "../../support/http-server.ts";
import { clientOf, send, signal } from "./graph-fixture.ts";

type Client = ReturnType<typeof clientOf>;

const reads = {
  E1: ({ portfolio }) => portfolio.listCreditLines("10", signal),
  "E3 and E7": ({ graph }) => graph.readWaba("12", undefined, signal),
  E6: ({ graph }) => graph.readAllocation("91", "20", signal),
  E7: ({ graph }) => graph.readFunding("12", undefined, signal),
  "E8 of a business": ({ graph }) => graph.listAllocations("20", "11", signal),
  "E8 of all": ({ portfolio }) => portfolio.pageAllocations("20", undefined, signal),
  E13: ({ portfolio }) => portfolio.pageWabas("10", undefined, signal),
  E14: ({ portfolio }) => portfolio.readLine("20", signal),
  E15: ({ portfolio, tokens }) => portfolio.debugToken(tokens.system, signal),
  E16: ({ portfolio }) => portfolio.readSubscribedApps("12", undefined, signal),
} satisfies Record<string, (client: Client) => Promise<unknown>>;

const shareTarget = { creditLineId: "20", wabaId: "12", currency: "EUR" };
const changes = {
  E2: ({ graph }) => graph.shareAndAttach(shareTarget, send()),
  E4: ({ graph }) => graph.shareWithBusiness({ creditLineId: "20", businessId: "11" }, send()),
  E5: ({ graph }) => graph.attach({ ...shareTarget, businessTokenSecret: "system" }, send()),
  E9: ({ graph }) => graph.deleteAllocation("91", send()),
  E10: ({ graph }) => graph.assignSystemUser({ wabaId: "12", systemUserId: "30" }, send()),
  E16: ({ portfolio }) => portfolio.subscribeApp({ wabaId: "12" }, send()),
} satisfies Record<string, (client: Client) => Promise<{ kind: string }>>;

async function answering(body: string, status = 200) {
  const server = await startServer((_request, response) => response.writeHead(status).end(body));
  return { client: clientOf(server.url), server };
}

const big = "9100000000000000001";
const bigToo = "9100000000000000002";

/** Meta's samples, as its page prints them: with and without `id`, in a list or bare, ids as strings or as numbers. */
describe("an answer as Meta's page prints it", () => {
  test.each<[string, string, unknown]>([
    [
      "one line",
      `{"data":[{"id":"20","legal_entity_name":"Partner"}]}`,
      [{ creditLineId: "20", legalEntityName: "Partner" }],
    ],
    [
      "several lines, ids as numbers",
      `{"data":[{"id":${big},"legal_entity_name":"Ours"},{"id":${bigToo}}],"paging":{"cursors":{"before":"b","after":"a"}}}`,
      [{ creditLineId: big, legalEntityName: "Ours" }, { creditLineId: bigToo }],
    ],
  ])("lists %s (E1)", async (_title, body, value) => {
    const { client } = await answering(body);
    expect(await reads.E1(client)).toEqual({ ok: true, value });
  });

  test.each([
    `{"owner_business_info":{"name":"Acme","id":"${big}"},"id":"12"}`,
    `{"owner_business_info":{"name":"Acme","id":"${big}"}}`,
    `{"owner_business_info":{"id":${big}},"id":12}`,
  ])("tells the owner of a WABA that nothing pays for (E3): %s", async (body) => {
    const { client } = await answering(body);
    expect(await reads["E3 and E7"](client)).toEqual({
      ok: true,
      value: { startedAt: expect.any(Number), ownerBusinessId: big, funding: { known: true } },
    });
  });

  test.each([
    `{"id":"91","receiving_credential":{"id":"${bigToo}"},"receiving_business":{"name":"Acme","id":"${big}"}}`,
    `{"receiving_credential":{"id":${bigToo}},"receiving_business":{"id":${big}}}`,
  ])("tells a live record (E6): %s", async (body) => {
    const { client } = await answering(body);
    expect(await reads.E6(client)).toMatchObject({
      seen: "live",
      receivingBusinessId: big,
      receivingCredentialId: bigToo,
    });
  });

  test.each([
    `{"receiving_business":{"name":"Acme","id":"${big}"},"request_status":"DELETED"}`,
    `{"id":91,"receiving_business":{"name":"Acme","id":${big}},"request_status":"DELETED"}`,
  ])("tells a deleted record (E6): %s", async (body) => {
    const { client } = await answering(body);
    expect(await reads.E6(client)).toMatchObject({ seen: "deleted", receivingBusinessId: big });
  });

  test.each([
    [`{"primary_funding_id":"${big}","id":"12"}`, { known: true, id: big }],
    [`{"primary_funding_id":${big}}`, { known: true, id: big }],
    [`{"primary_funding_id":12345}`, { known: true, id: "12345" }],
    [`{"id":"12"}`, { known: true, blind: true }],
    [`{}`, { known: true, blind: true }],
  ])("tells what pays for a WABA (E7): %s", async (body, funding) => {
    const { client } = await answering(body);
    expect(await reads.E7(client)).toEqual(funding);
  });

  test.each([
    `{"id":"${big}","receiving_business":{"name":"Acme","id":"11"}}`,
    `{"id":${big},"receiving_business":{"id":11}}`,
    `{"data":[{"id":"${big}","receiving_business":{"name":"Acme","id":"11"}}],"paging":{"cursors":{"before":"b","after":"a"}}}`,
    `{"data":[{"id":${big}}]}`,
  ])("lists the record of a business (E8): %s", async (body) => {
    const { client } = await answering(body);
    expect(await reads["E8 of a business"](client)).toEqual({
      ok: true,
      value: [{ allocationId: big, deleted: false }],
    });
    expect(await reads["E8 of all"](client)).toMatchObject({
      ok: true,
      value: { items: [{ allocationId: big, deleted: false }], fieldsMissing: [] },
    });
  });

  test("lists the partner's WABAs (E13)", async () => {
    const { client } = await answering(
      `{"data":[{"id":${big},"name":"Acme","currency":"EUR","owner_business_info":{"name":"Acme","id":"11"},"primary_funding_id":${bigToo}},{"id":"13"}],"paging":{}}`,
    );
    const full = { wabaId: big, name: "Acme", currency: "EUR", ownerBusinessId: "11", fundingId: bigToo };
    expect(await reads.E13(client)).toEqual({
      ok: true,
      value: { items: [full, { wabaId: "13" }], fieldsMissing: [] },
    });
  });

  test("tells a line, its amounts in strings (E14)", async () => {
    const amount = `{"amount":"1000.50","amount_in_hundredths":100050,"currency":"USD","offsetted_amount":"100050"}`;
    const { client } = await answering(
      `{"id":20,"legal_entity_name":"Partner","owner_business":{"id":"10"},"is_access_revoked":false,"max_balance":${amount}}`,
    );
    expect(await reads.E14(client)).toEqual({
      ok: true,
      value: {
        legalEntityName: "Partner",
        ownerBusinessId: "10",
        accessRevoked: false,
        maxBalance: { amount: "1000.50", amountInHundredths: "100050", currency: "USD", offsettedAmount: "100050" },
        unreadable: [],
      },
    });
  });

  test.each([
    [`{"data":{"is_valid":false}}`, { valid: false, scopes: [], granularScopes: [] }],
    [
      `{"data":{"app_id":${big},"is_valid":true,"expires_at":0,"scopes":["a"],"granular_scopes":[{"scope":"a","target_ids":[${bigToo}]},{"scope":"b"}]}}`,
      {
        valid: true,
        appId: big,
        expiresAtSeconds: 0,
        scopes: ["a"],
        granularScopes: [{ scope: "a", targetIds: [bigToo] }, { scope: "b" }],
      },
    ],
  ])("tells a token (E15): %s", async (body, value) => {
    const { client } = await answering(body);
    expect(await reads.E15(client)).toEqual({ ok: true, value });
  });

  test("lists the apps of a WABA (E16)", async () => {
    const { client } = await answering(
      `{"data":[{"whatsapp_business_api_data":{"id":${big},"name":"App","link":"https://a"}}]}`,
    );
    expect(await reads.E16(client)).toEqual({ ok: true, value: [big] });
  });

  test.each<[keyof typeof changes, string]>([
    ["E2", `{"allocation_config_id":"${big}","waba_id":"12"}`],
    ["E2", `{"allocation_config_id":${big},"waba_id":12}`],
    ["E4", `{"success":true,"allocation_config_id":"${big}"}`],
    ["E4", `{"success":true,"allocation_config_id":${big}}`],
    ["E4", `{"success":true,"allocation_config_id":"${big}","waba_id":"12"}`],
    ["E5", `{"success":true,"waba_id":"12","allocation_config_id":"${big}"}`],
    ["E5", `{"success":true,"waba_id":12,"allocation_config_id":${big}}`],
  ])("accepts a change (%s): %s", async (name, body) => {
    const { client } = await answering(body);
    expect(await changes[name](client)).toEqual({ kind: "accepted", allocationId: big });
  });

  test.each<[keyof typeof changes, string]>([
    ["E9", "definite"],
    ["E10", "done"],
    ["E16", "done"],
  ])("accepts a change (%s): {success:true}", async (name, kind) => {
    const { client } = await answering(`{"success":true}`);
    expect(await changes[name](client)).toMatchObject({ kind });
  });
});

const oddBodies: [string, string, number?][] = [
  ["HTML", "<html><body>Bad gateway</body></html>", 502],
  ["HTML that claims success", "<html></html>"],
  ["nothing at all", ""],
  ["an error without a body", "", 500],
  ["truncated JSON", `{"id":"91","allocation_config_id":"9`],
  ["no success", `{"success":false}`],
  ["a bare null", "null"],
  ["a bare true", "true"],
  ["a bare number", "91"],
  ["a text", `"ok"`],
  ["a list without an envelope", "[]"],
  [
    "ids that are none",
    `{"id":{},"data":[{"id":-1}],"allocation_config_id":1.5,"primary_funding_id":"EUR","receiving_business":91,"balance":7}`,
  ],
  ["a list of nothing", `{"data":[null],"primary_funding_id":null,"receiving_business":null,"balance":null}`],
  ["an error that is a text", `{"error":"invalid_request"}`, 400],
  ["an error that is null", `{"error":null}`],
  [
    "an error with HTTP 200",
    `{"error":{"code":2,"message":"Service unavailable"},"success":true,"allocation_config_id":"91"}`,
  ],
  ["a code that is a text", `{"error":{"code":"190"}}`, 401],
  ["a redirect", `{"success":true}`, 302],
  ["more brackets than a parser can hold", "[".repeat(20_000)],
  ["a list as deep", "[".repeat(10_000) + "]".repeat(10_000)],
];

describe("an answer that is odd", () => {
  test.each(oddBodies)("is a failure to every read, and nothing is thrown: %s", async (_title, body, status) => {
    const { client } = await answering(body, status);
    for (const [name, read] of Object.entries(reads)) {
      const result: unknown = await read(client);
      const failed = expect.objectContaining({ failure: expect.objectContaining({ reason: "meta_unavailable" }) });
      expect([name, result]).toEqual([
        name,
        {
          E6: expect.objectContaining({ seen: "unreadable", failure: expect.anything() }),
          E7: expect.objectContaining({ known: false, failure: expect.anything() }),
        }[name] ?? failed,
      ]);
    }
  });

  test.each(oddBodies)(
    "leaves the effect of every change unknown, which is sent once: %s",
    async (_title, body, status) => {
      const { client, server } = await answering(body, status);
      for (const [name, change] of Object.entries(changes)) {
        server.requests.length = 0;
        const { kind } = await change(client);
        expect([name, kind, server.requests.length]).toEqual([
          name,
          name === "E10" || name === "E16" ? "failed" : "unknown",
          1,
        ]);
      }
    },
  );
});

describe("an error envelope", () => {
  test("is read by its code though everything else in it is odd", async () => {
    const error = {
      code: 10,
      message: { text: "No" },
      error_subcode: null,
      fbtrace_id: 7,
      is_transient: "no",
      error_data: "{}",
    };
    const server = await startJsonServer({ error }, { status: 403 });
    expect(await clientOf(server.url).graph.readFunding("12", undefined, signal)).toEqual({
      known: false,
      failure: { at: expect.any(Number), reason: "permission_denied", code: 10 },
    });
  });
});
