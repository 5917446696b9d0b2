import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  acme,
  businessToken,
  errorOf,
  line,
  otherBusiness,
  otherWaba,
  partner,
  receivedLine,
  sampleWorld,
  sibling,
  startMeta,
  systemToken,
  waba,
} from "./meta-fixture.ts";

describe("E1 lists lines", () => {
  test("lists every line of the partner, received ones too", async () => {
    const meta = await startMeta();
    const { status, body } = await meta.graph("GET", `/${partner}/extendedcredits?fields=id,legal_entity_name`);
    expect(status).toBe(200);
    expect(body.data).toEqual([
      { id: line, legal_entity_name: "Partner Ltd" },
      { id: receivedLine, legal_entity_name: "Partner Ltd" },
    ]);
    expect(Object.keys(body.paging)).toEqual(["cursors"]);
  });

  test("refuses another business and does not know an unknown one", async () => {
    const meta = await startMeta();
    expect(errorOf(await meta.graph("GET", `/${acme}/extendedcredits`))).toEqual({ status: 403, code: 10 });
    expect(errorOf(await meta.graph("GET", "/999999/extendedcredits"))).toEqual({
      status: 400,
      code: 100,
      subcode: 33,
    });
  });
});

describe("E2 shares and attaches in one call", () => {
  test("answers the record's id without a success flag and funds the WABA by the record's credential", async () => {
    const meta = await startMeta();
    expect(await meta.funding()).toBeUndefined();
    const { status, body } = await meta.share();
    expect(status).toBe(200);
    expect(body).toEqual({ allocation_config_id: expect.stringMatching(/^\d{19}$/), waba_id: waba });
    const allocation = await meta.allocation(body.allocation_config_id);
    expect(allocation).toEqual({
      id: body.allocation_config_id,
      receiving_credential: { id: expect.stringMatching(/^\d{19}$/) },
      receiving_business: { name: "Acme", id: acme },
    });
    expect(await meta.funding()).toBe(allocation.receiving_credential.id);
    expect(await meta.funding(waba, businessToken)).toBe(allocation.receiving_credential.id);
    expect(await meta.funding(sibling)).toBeUndefined();
  });

  test("takes its parameters from a form or JSON body as well", async () => {
    const meta = await startMeta();
    const form = await meta.graph("POST", `/${line}/whatsapp_credit_sharing_and_attach`, systemToken, {
      body: new URLSearchParams({ waba_id: waba, waba_currency: "EUR" }),
    });
    const json = await meta.graph("POST", `/${line}/whatsapp_credit_sharing_and_attach`, systemToken, {
      body: JSON.stringify({ waba_id: sibling, waba_currency: "EUR" }),
      headers: { "content-type": "application/json" },
    });
    expect([form.body.waba_id, json.body.waba_id]).toEqual([waba, sibling]);
    expect((await meta.ledger()).calls[1].query).toEqual({ waba_id: sibling, waba_currency: "EUR" });
  });

  test("lets a sibling WABA join the business's record", async () => {
    const meta = await startMeta();
    const first = await meta.share();
    const second = await meta.share(sibling);
    expect(second.body.allocation_config_id).toBe(first.body.allocation_config_id);
    expect(await meta.funding(sibling)).toBe(await meta.funding(waba));
  });

  test.each([
    ["a missing waba_id", `/${line}/whatsapp_credit_sharing_and_attach?waba_currency=EUR`, { status: 400, code: 100 }],
    ["a missing currency", `/${line}/whatsapp_credit_sharing_and_attach?waba_id=${waba}`, { status: 400, code: 100 }],
  ])("refuses %s", async (_what, path, expected) => {
    const meta = await startMeta();
    expect(errorOf(await meta.graph("POST", path))).toEqual(expected);
  });

  test("refuses what it cannot share, and changes nothing", async () => {
    const own = "120000000000009";
    const meta = await startMeta({
      world: {
        wabas: [
          ...(sampleWorld().wabas ?? []),
          { id: own, ownerBusinessId: partner, currency: "EUR" },
          { id: "120000000000010", ownerBusinessId: acme, currency: "EUR", sharedWithPartner: false },
          { id: "120000000000011", ownerBusinessId: acme, currency: "EUR", systemUserAssigned: false },
          { id: "120000000000012", ownerBusinessId: acme, currency: "EUR", primaryFundingId: "777000000000001" },
          { id: "120000000000013", ownerBusinessId: acme, currency: "MXN" },
        ],
      },
    });
    const unknown = { status: 400, code: 100, subcode: 33 };
    const changesBefore = meta.model.changes.length;
    expect(errorOf(await meta.share("999999"))).toEqual(unknown);
    expect(errorOf(await meta.share(waba, "EUR", "999999"))).toEqual(unknown);
    expect(errorOf(await meta.share("120000000000010"))).toEqual(unknown);
    expect(errorOf(await meta.share("120000000000011"))).toEqual({ status: 403, code: 200 });
    expect(errorOf(await meta.share(waba, "EUR", receivedLine))).toEqual({ status: 403, code: 10 });
    expect(errorOf(await meta.share(own))).toEqual({ status: 400, code: 100, subcode: 1752244 });
    expect(errorOf(await meta.share("120000000000012"))).toEqual({ status: 400, code: 100 });
    expect(errorOf(await meta.share(waba, "USD"))).toEqual({ status: 400, code: 100 });
    expect(errorOf(await meta.share("120000000000013", "MXN"))).toEqual({ status: 400, code: 100 });
    expect(meta.model.changes).toHaveLength(changesBefore);
  });

  test("refuses a line whose access was revoked, yet still lists and deletes its records", async () => {
    const meta = await startMeta();
    const { body } = await meta.share();
    await meta.control("POST", "/_world", { lines: [{ id: line, accessRevoked: true }] });
    expect(errorOf(await meta.share(sibling))).toEqual({ status: 403, code: 10 });
    expect(errorOf(await meta.shareWithBusiness())).toEqual({ status: 403, code: 10 });
    expect(await meta.list()).toEqual([body.allocation_config_id]);
    expect((await meta.revoke(body.allocation_config_id)).body).toEqual({ success: true });
  });

  test("never replaces another line of the partner", async () => {
    const second = "200000000000009";
    const meta = await startMeta({
      world: {
        lines: [
          { id: line, ownerBusinessId: partner },
          { id: second, ownerBusinessId: partner },
        ],
      },
    });
    await meta.share();
    const before = await meta.funding();
    expect(errorOf(await meta.share(waba, "EUR", second))).toEqual({ status: 400, code: 100 });
    await meta.control("POST", "/_world", { wabas: [{ id: waba, partnerSwitch: true }] });
    expect(errorOf(await meta.share(waba, "EUR", second))).toEqual({ status: 400, code: 100 });
    expect(await meta.funding()).toBe(before);
  });
});

describe("E4 and E5 share in two calls", () => {
  test("E4 makes the record but funds nothing; E5 attaches with the customer's token", async () => {
    const meta = await startMeta();
    const shared = await meta.shareWithBusiness();
    expect(shared.body).toEqual({ success: true, allocation_config_id: expect.any(String) });
    expect(await meta.funding()).toBeUndefined();
    const attached = await meta.attach();
    expect(attached.body).toEqual({
      success: true,
      waba_id: waba,
      allocation_config_id: shared.body.allocation_config_id,
    });
    const allocation = await meta.allocation(shared.body.allocation_config_id);
    expect(await meta.funding()).toBe(allocation.receiving_credential.id);
  });

  test("E5 refuses the system token, a WABA its token does not see, and a business without a record", async () => {
    const meta = await startMeta();
    expect(errorOf(await meta.attach())).toEqual({ status: 400, code: 100 });
    await meta.shareWithBusiness();
    expect(errorOf(await meta.attach(waba, systemToken))).toEqual({ status: 403, code: 10 });
    expect(errorOf(await meta.attach(otherWaba, businessToken, "USD"))).toEqual({
      status: 400,
      code: 100,
      subcode: 33,
    });
    expect(await meta.funding()).toBeUndefined();
  });

  test("E4 refuses its own business, an unknown one, a missing one and the customer's token", async () => {
    const meta = await startMeta();
    expect(errorOf(await meta.shareWithBusiness(partner))).toEqual({ status: 400, code: 100, subcode: 1752244 });
    expect(errorOf(await meta.shareWithBusiness("999999"))).toEqual({ status: 400, code: 100, subcode: 33 });
    expect(errorOf(await meta.graph("POST", `/${line}/whatsapp_credit_sharing`))).toEqual({ status: 400, code: 100 });
    const asCustomer = await meta.graph(
      "POST",
      `/${line}/whatsapp_credit_sharing?receiving_business_id=${acme}`,
      businessToken,
    );
    expect(errorOf(asCustomer)).toEqual({ status: 403, code: 10 });
  });
});

describe("E3 and E7 read a WABA", () => {
  test("answer owner, currency and funding to both tokens", async () => {
    const meta = await startMeta();
    for (const token of [systemToken, businessToken]) {
      const owner = await meta.graph("GET", `/${waba}?fields=owner_business_info`, token);
      expect(owner.body).toEqual({ owner_business_info: { name: "Acme", id: acme }, id: waba });
      const all = await meta.graph("GET", `/${waba}?fields=owner_business_info,primary_funding_id,currency`, token);
      expect(all.body).toEqual({ owner_business_info: { name: "Acme", id: acme }, currency: "EUR", id: waba });
    }
  });

  test("show nothing of a WABA its customer took away, whose line stays attached", async () => {
    const meta = await startMeta();
    const { body } = await meta.share();
    await meta.control("POST", "/_world", { wabas: [{ id: waba, sharedWithPartner: false }] });
    for (const fields of ["owner_business_info", "primary_funding_id"]) {
      const answer = await meta.graph("GET", `/${waba}?fields=${fields}`);
      expect(errorOf(answer)).toEqual({ status: 400, code: 100, subcode: 33 });
    }
    const world = (await meta.control("GET", "/_world")).body;
    expect(world.allocations[0]).toMatchObject({ id: body.allocation_config_id, status: "live", wabaIds: [waba] });
  });

  test("answer a permission error to the system token until E10 assigns its user", async () => {
    const meta = await startMeta({
      world: { wabas: [{ id: waba, ownerBusinessId: acme, currency: "EUR", systemUserAssigned: false }] },
    });
    function readOwner() {
      return meta.graph("GET", `/${waba}?fields=owner_business_info`);
    }
    expect(errorOf(await readOwner())).toEqual({ status: 403, code: 200 });
    const query = new URLSearchParams({ user: "900000000000001", tasks: "['MANAGE']" }).toString();
    expect((await meta.graph("POST", `/${waba}/assigned_users?${query}`)).body).toEqual({ success: true });
    expect((await readOwner()).status).toBe(200);
    expect((await meta.graph("POST", `/${waba}/assigned_users?${query}`)).body).toEqual({ success: true });
    expect(meta.model.changes.filter(({ kind }) => kind === "user_assigned")).toHaveLength(1);
  });

  test("know selected sub-fields and refuse fields that do not exist", async () => {
    const meta = await startMeta();
    const answer = await meta.graph("GET", `/${waba}?fields=owner_business_info{id},currency`);
    expect(answer.body).toEqual({ owner_business_info: { id: acme }, currency: "EUR", id: waba });
    for (const fields of ["toString", "owner_business_info{nope}", "currency,nope"]) {
      expect(errorOf(await meta.graph("GET", `/${waba}?fields=${fields}`))).toEqual({ status: 400, code: 100 });
    }
    expect(errorOf(await meta.graph("GET", `/${waba}?fields=id,,name`))).toEqual({ status: 400, code: 2500 });
  });
});

describe("E6, E8 and E9 read, list and delete records", () => {
  test("a DELETE empties the funding, the list and says DELETED", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    expect(await meta.list()).toEqual([id]);
    expect((await meta.revoke(id)).body).toEqual({ success: true });
    expect(await meta.funding()).toBeUndefined();
    expect((await meta.allocation(id)).request_status).toBe("DELETED");
    expect(await meta.list()).toEqual([]);
    expect((await meta.revoke(id)).body).toEqual({ success: true });
  });

  test("list a business's records with the fields asked for, and an empty list without paging", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    await meta.share(otherWaba, "USD");
    const path = `/${line}/owning_credit_allocation_configs?fields=id,receiving_business,receiving_credential,request_status`;
    const filtered = (await meta.graph("GET", `${path}&receiving_business_id=${acme}`)).body;
    expect(filtered.data).toEqual([
      { id, receiving_business: { name: "Acme", id: acme }, receiving_credential: { id: expect.any(String) } },
    ]);
    expect((await meta.graph("GET", path)).body.data).toHaveLength(2);
    expect((await meta.graph("GET", `${path}&receiving_business_id=${partner}`)).body).toEqual({ data: [] });
  });

  test("do not list or delete the records of a line that the partner only received", async () => {
    const meta = await startMeta({
      world: { allocations: [{ id: "500001", lineId: receivedLine, receivingBusinessId: acme, wabaIds: [waba] }] },
    });
    const refused = { status: 403, code: 10 };
    expect(errorOf(await meta.graph("GET", `/${receivedLine}/owning_credit_allocation_configs`))).toEqual(refused);
    expect(errorOf(await meta.revoke("500001"))).toEqual(refused);
    expect(await meta.funding()).toBeDefined();
  });

  test("do not know a record that does not exist, nor one that the customer's token asks for", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    const unknown = { status: 400, code: 100, subcode: 33 };
    expect(errorOf(await meta.graph("GET", "/999999?fields=receiving_business"))).toEqual(unknown);
    expect(errorOf(await meta.revoke("999999"))).toEqual(unknown);
    expect(errorOf(await meta.revoke(waba))).toEqual(unknown);
    expect(errorOf(await meta.graph("GET", `/${id}?fields=receiving_business`, businessToken))).toEqual(unknown);
    expect(errorOf(await meta.graph("DELETE", `/${id}`, businessToken))).toEqual({ status: 403, code: 10 });
    expect((await meta.allocation(id)).request_status).toBeUndefined();
  });
});

describe("E13, E14, E15 and E16", () => {
  test("E13 lists every client WABA but those that left", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    const credentialId = (await meta.allocation(id)).receiving_credential.id;
    await meta.control("POST", "/_world", {
      wabas: [
        { id: sibling, sharedWithPartner: false },
        { id: "120000000000009", ownerBusinessId: partner, currency: "EUR" },
      ],
    });
    const fields = "id,name,currency,owner_business_info,primary_funding_id";
    const { body } = await meta.graph("GET", `/${partner}/client_whatsapp_business_accounts?fields=${fields}`);
    expect(body.data).toEqual([
      {
        id: waba,
        name: "Acme one",
        currency: "EUR",
        owner_business_info: { name: "Acme", id: acme },
        primary_funding_id: credentialId,
      },
      {
        id: otherWaba,
        name: "Customer WABA",
        currency: "USD",
        owner_business_info: { name: "Other", id: otherBusiness },
      },
    ]);
  });

  test("E14 describes the line", async () => {
    const meta = await startMeta();
    const fields = "id,legal_entity_name,owner_business,is_access_revoked,balance,credit_available,max_balance";
    const { body } = await meta.graph("GET", `/${line}?fields=${fields}`);
    expect(body).toMatchObject({ id: line, owner_business: { id: partner }, is_access_revoked: false });
    expect(body.max_balance).toEqual({
      amount: "100000.00",
      amount_in_hundredths: "10000000",
      currency: "USD",
      offsetted_amount: "10000000",
    });
  });

  test("E15 tells a living token from a dead, an expired and an unknown one", async () => {
    const tokens = sampleWorld().tokens ?? [];
    const meta = await startMeta({
      world: {
        tokens: [
          ...tokens,
          { value: "dead-token", kind: "business", dead: true },
          { value: "old-token", kind: "business", expiresAt: Date.UTC(2026, 0) / 1000 },
        ],
      },
    });
    async function isValid(token: string): Promise<boolean> {
      return (await meta.graph("GET", `/debug_token?input_token=${token}`)).body.data.is_valid;
    }
    expect(await isValid(businessToken)).toBe(true);
    for (const token of ["dead-token", "old-token", "never-heard-of"]) expect(await isValid(token)).toBe(false);
  });

  test("E16 subscribes the app", async () => {
    const meta = await startMeta();
    const path = `/${waba}/subscribed_apps`;
    expect((await meta.graph("GET", path)).body).toEqual({ data: [] });
    expect((await meta.graph("POST", path, businessToken)).body).toEqual({ success: true });
    expect((await meta.graph("GET", path)).body.data).toHaveLength(1);
  });
});

describe("tokens", () => {
  test("are refused with 190 when absent, unknown, dead or expired", async () => {
    const meta = await startMeta({
      world: {
        tokens: [
          { value: "dead-token", kind: "system", dead: true },
          { value: "old-token", kind: "system", expiresAt: Date.UTC(2026, 0) / 1000 },
        ],
      },
    });
    function read(token: string | null) {
      return meta.graph("GET", `/${waba}?fields=currency`, token);
    }
    expect(errorOf(await read(null))).toEqual({ status: 401, code: 190 });
    expect(errorOf(await read("never-heard-of"))).toEqual({ status: 401, code: 190 });
    expect(errorOf(await read("dead-token"))).toEqual({ status: 401, code: 190, subcode: 460 });
    expect(errorOf(await read("old-token"))).toEqual({ status: 401, code: 190, subcode: 463 });
  });

  test("without the permission are refused with 200", async () => {
    const meta = await startMeta({
      world: { tokens: [{ value: "weak-token", kind: "system", lacksPermission: true }] },
    });
    expect(errorOf(await meta.graph("GET", `/${waba}?fields=currency`, "weak-token"))).toEqual({
      status: 403,
      code: 200,
    });
  });

  test("in the URL or a body are refused, noted as a violation and kept out of the ledger", async () => {
    const meta = await startMeta();
    const refused = [
      await meta.graph("GET", `/${waba}?access_token=${systemToken}`, null),
      await meta.graph("GET", `/${waba}?access_token=${systemToken}`),
      await meta.graph("GET", `/${waba}?note=${businessToken}`),
      await meta.graph("POST", `/${waba}/subscribed_apps`, systemToken, { body: `access_token=${systemToken}` }),
    ];
    for (const answer of refused) expect(errorOf(answer)).toEqual({ status: 400, code: 100 });
    const { calls } = await meta.ledger();
    expect(calls.map((call: { violation?: string }) => call.violation)).toEqual(
      Array(4).fill("token outside the Authorization header"),
    );
    expect(JSON.stringify(calls)).not.toContain(systemToken);
    expect(JSON.stringify(calls)).not.toContain(businessToken);
  });

  test("come with a proof that is checked once the app secret is known", async () => {
    const meta = await startMeta({ world: { appSecret: "app-secret" } });
    function proofOf(token: string): string {
      return createHmac("sha256", "app-secret").update(token).digest("hex");
    }
    function read(proof: string) {
      return meta.graph("GET", `/${waba}?fields=currency&appsecret_proof=${proof}`);
    }
    expect((await read(proofOf(systemToken))).status).toBe(200);
    expect(errorOf(await read(proofOf(businessToken)))).toEqual({ status: 400, code: 104 });
  });
});

describe("every answer", () => {
  test("names the version that served it, the oldest living one for a dead one", async () => {
    const meta = await startMeta();
    async function versionOf(version: string) {
      const response = await fetch(`${meta.url}/${version}/${waba}`, {
        headers: { authorization: `Bearer ${systemToken}` },
      });
      return response.headers.get("facebook-api-version");
    }
    expect(await versionOf("v25.0")).toBe("v25.0");
    expect(await versionOf("v19.0")).toBe("v21.0");
  });

  test("carries Meta's error envelope with a trace id of its own", async () => {
    const meta = await startMeta();
    const first = await meta.graph("GET", "/999999?fields=currency");
    const second = await meta.graph("GET", "/999999?fields=currency");
    expect(first.body.error).toEqual({
      message: expect.any(String),
      type: "GraphMethodException",
      code: 100,
      error_subcode: 33,
      fbtrace_id: expect.any(String),
    });
    expect(second.body.error.fbtrace_id).not.toBe(first.body.error.fbtrace_id);
  });

  test("refuses paths that Graph does not have", async () => {
    const meta = await startMeta();
    for (const path of [`/${line}/nope`, "", `/${line}/a/b`]) {
      expect(errorOf(await meta.graph("GET", path))).toEqual({ status: 400, code: 2500 });
    }
    const unversioned = await fetch(`${meta.url}/${waba}`, { headers: { authorization: `Bearer ${systemToken}` } });
    expect(unversioned.status).toBe(400);
  });
});

describe("paging", () => {
  test("walks every item once by cursor and ends without a next", async () => {
    const wabas = Array.from({ length: 7 }, (_, n) => ({
      id: `12000000000010${n}`,
      ownerBusinessId: acme,
      currency: "EUR",
    }));
    const meta = await startMeta({ world: { wabas } });
    const ids: string[] = [];
    const sizes: number[] = [];
    for (let after = ""; ;) {
      const query = after === "" ? "limit=3" : `limit=3&after=${after}`;
      const { body } = await meta.graph("GET", `/${partner}/client_whatsapp_business_accounts?${query}`);
      ids.push(...body.data.map((item: { id: string }) => item.id));
      sizes.push(body.data.length);
      if (body.paging.next === undefined) break;
      after = body.paging.cursors.after;
    }
    expect(ids).toEqual(wabas.map(({ id }) => id));
    expect(sizes).toEqual([3, 3, 1]);
  });

  test("shifts nothing when an item shown before has left", async () => {
    const meta = await startMeta();
    async function page(query: string) {
      return (await meta.graph("GET", `/${partner}/client_whatsapp_business_accounts?${query}`)).body;
    }
    const first = await page("limit=1");
    await meta.control("POST", "/_world", { wabas: [{ id: waba, sharedWithPartner: false }] });
    const rest = await page(`after=${first.paging.cursors.after}`);
    expect(rest.data.map((item: { id: string }) => item.id)).toEqual([sibling, otherWaba]);
  });

  test("has a next that points here and holds the token, as Meta's does: following it is a violation", async () => {
    const meta = await startMeta();
    const { body } = await meta.graph("GET", `/${partner}/client_whatsapp_business_accounts?limit=1`);
    const next = new URL(body.paging.next);
    expect(next.origin).toBe(meta.url);
    expect(next.searchParams.get("access_token")).toBe(systemToken);
    expect((await fetch(next)).status).toBe(400);
  });

  test("refuses a limit out of range and an unknown cursor", async () => {
    const meta = await startMeta();
    for (const query of ["limit=0", "limit=1001", "limit=x", "after=bm9wZQ"]) {
      const answer = await meta.graph("GET", `/${line}/owning_credit_allocation_configs?${query}`);
      expect(errorOf(answer)).toEqual({ status: 400, code: 100 });
    }
  });
});
