import { describe, expect, test } from "vitest";
import {
  acme,
  businessToken,
  errorOf,
  line,
  otherBusiness,
  otherWaba,
  partner,
  sampleWorld,
  sibling,
  startMeta,
  systemToken,
  waba,
} from "./meta-fixture.ts";
import { startMetaStandIn } from "../../../../infra/local/meta/meta-server.ts";

describe("GET /_ledger", () => {
  test("tells every change with the call that made it, and every call, refused ones too", async () => {
    const meta = await startMeta();
    const { allocation_config_id: allocationId } = (await meta.share()).body;
    await meta.share(waba, "USD");
    await meta.revoke(allocationId);
    const subject = { time: meta.clock.now, allocationId, lineId: line, businessId: acme };
    const { changes, calls } = await meta.ledger();
    expect(changes).toEqual([
      { n: 1, kind: "allocation_created", ...subject, callNumber: 1 },
      { n: 2, kind: "waba_attached", ...subject, wabaId: waba, callNumber: 1 },
      { n: 3, kind: "allocation_deleted", ...subject, callNumber: 3 },
      { n: 4, kind: "waba_detached", ...subject, wabaId: waba, callNumber: 3 },
    ]);
    const sharing = {
      time: meta.clock.now,
      method: "POST",
      path: `/${line}/whatsapp_credit_sharing_and_attach`,
      name: "E2",
      tokenKind: "system",
    };
    expect(calls).toEqual([
      { n: 1, ...sharing, query: { waba_id: waba, waba_currency: "EUR" }, status: 200 },
      { n: 2, ...sharing, query: { waba_id: waba, waba_currency: "USD" }, status: 400, errorCode: 100 },
      {
        n: 3,
        time: meta.clock.now,
        method: "DELETE",
        path: `/${allocationId}`,
        name: "E9",
        query: {},
        tokenKind: "system",
        status: 200,
      },
    ]);
  });

  test("names each call and the kind of its token, and repeats no secret", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    const calls: [string, string, string, string | null, string][] = [
      ["E1", "GET", `/${partner}/extendedcredits`, systemToken, "system"],
      ["E3", "GET", `/${waba}?fields=owner_business_info`, businessToken, "business"],
      ["E3", "GET", `/${waba}?fields=currency`, businessToken, "business"],
      ["E3+E7", "GET", `/${waba}?fields=owner_business_info,primary_funding_id`, businessToken, "business"],
      ["E4", "POST", `/${line}/whatsapp_credit_sharing`, systemToken, "system"],
      ["E5", "POST", `/${line}/whatsapp_credit_attach`, businessToken, "business"],
      ["E6", "GET", `/${id}?fields=request_status`, systemToken, "system"],
      ["E6", "GET", `/999999?fields=receiving_credential`, systemToken, "system"],
      ["E7", "GET", `/${waba}?fields=primary_funding_id&appsecret_proof=abc`, null, "none"],
      ["E8", "GET", `/${line}/owning_credit_allocation_configs`, systemToken, "system"],
      ["E9", "DELETE", `/${id}`, "never-heard-of", "unknown"],
      ["E10", "POST", `/${waba}/assigned_users`, systemToken, "system"],
      ["E13", "GET", `/${partner}/client_whatsapp_business_accounts`, systemToken, "system"],
      ["E14", "GET", `/${line}?fields=id,legal_entity_name`, systemToken, "system"],
      ["E15", "GET", `/debug_token?input_token=${businessToken}`, systemToken, "system"],
      ["E15", "GET", "/debug_token?input_token=never-heard-of", systemToken, "system"],
      ["E16", "GET", `/${waba}/subscribed_apps`, systemToken, "system"],
      ["unknown", "GET", `/${waba}/nope`, systemToken, "system"],
    ];
    for (const [, method, path, token] of calls) await meta.graph(method, path, token);
    const ledger = await meta.ledger();
    expect(
      ledger.calls.slice(1).map((call: { name: string; tokenKind: string }) => [call.name, call.tokenKind]),
    ).toEqual(calls.map(([name, , , , tokenKind]) => [name, tokenKind]));
    expect(JSON.stringify(ledger)).not.toMatch(/token-of|never-heard-of|abc/);
    expect(ledger.calls.some((call: { violation?: string }) => call.violation !== undefined)).toBe(false);
  });

  test("shows what hands in Meta's console did, without a call", async () => {
    const meta = await startMeta();
    const { allocation_config_id: allocationId } = (await meta.share()).body;
    const changesBefore = meta.model.changes.length;
    const answer = await meta.control("POST", "/_world", {
      lines: [{ id: line, accessRevoked: true }],
      wabas: [
        { id: waba, sharedWithPartner: false },
        { id: sibling, ownerBusinessId: otherBusiness },
        { id: otherWaba, primaryFundingId: "777000000000001" },
      ],
      allocations: [
        { id: allocationId, status: "deleted" },
        { id: "500001", lineId: line, receivingBusinessId: otherBusiness, wabaIds: [otherWaba] },
      ],
    });
    expect(answer.status).toBe(200);
    const changes = (await meta.ledger()).changes.slice(changesBefore);
    expect(answer.body).toEqual({ changes });
    expect(changes.map((change: { kind: string }) => change.kind)).toEqual([
      "line_access_changed",
      "waba_unshared",
      "owner_changed",
      "funding_changed",
      "allocation_deleted",
      "waba_detached",
      "allocation_created",
      "waba_attached",
    ]);
    for (const change of changes) expect(change).not.toHaveProperty("callNumber");
  });
});

describe("POST /_world", () => {
  test("changes only the keys it names, and GET /_world shows the result", async () => {
    const meta = await startMeta();
    await meta.control("POST", "/_world", {
      wabas: [
        { id: waba, name: "Renamed" },
        { id: "120000000000009", ownerBusinessId: "110000000000009", currency: "USD" },
      ],
    });
    const { body } = await meta.control("GET", "/_world");
    expect(body.wabas.map((item: { id: string }) => item.id)).toEqual([waba, sibling, otherWaba, "120000000000009"]);
    expect(body.wabas[0]).toMatchObject({
      name: "Renamed",
      ownerBusinessId: acme,
      currency: "EUR",
      sharedWithPartner: true,
    });
    expect(body.businesses.at(-1)).toEqual({ id: "110000000000009", name: "Business 110000000000009" });
  });

  test("changes nothing when the world it shows is posted back, tokens aside", async () => {
    const meta = await startMeta();
    await meta.share();
    await meta.revoke((await meta.share(otherWaba, "USD")).body.allocation_config_id);
    const { tokens: _masked, hasAppSecret: _known, ...world } = (await meta.control("GET", "/_world")).body;
    expect((await meta.control("POST", "/_world", world)).body).toEqual({ changes: [] });
    const after = (await meta.control("GET", "/_world")).body;
    expect(after).toMatchObject(world);
  });

  test("masks tokens and the app secret", async () => {
    const meta = await startMeta({ world: { appSecret: "the-app-secret" } });
    const { body } = await meta.control("GET", "/_world");
    expect(body.tokens).toEqual([
      { kind: "system", expiresAt: 0, dead: false, lacksPermission: false, endsWith: "1111" },
      {
        kind: "business",
        wabaIds: [waba, sibling],
        expiresAt: 0,
        dead: false,
        lacksPermission: false,
        endsWith: "2222",
      },
    ]);
    expect(JSON.stringify(body)).not.toMatch(/token-of|the-app-secret/);
  });

  test("kills and revives a token by its value", async () => {
    const meta = await startMeta();
    await meta.control("POST", "/_world", { tokens: [{ value: systemToken, dead: true }] });
    expect(errorOf(await meta.share())).toEqual({ status: 401, code: 190, subcode: 460 });
    await meta.control("POST", "/_world", { tokens: [{ value: systemToken, dead: false }] });
    expect((await meta.share()).status).toBe(200);
  });

  test("moves a WABA to other funding, which takes the line off it and leaves the record alive", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    await meta.control("POST", "/_world", { wabas: [{ id: waba, primaryFundingId: "777000000000001" }] });
    expect(await meta.funding()).toBe("777000000000001");
    expect(await meta.list()).toEqual([id]);
    await meta.control("POST", "/_world", { wabas: [{ id: waba, primaryFundingId: null }] });
    expect(await meta.funding()).toBeUndefined();
    await meta.revoke(id);
    const detached = meta.model.changes.filter(({ kind }) => kind === "waba_detached");
    expect(detached.map(({ callNumber }) => callNumber)).toEqual([undefined]);
  });

  test("attaches in the console at once what a share would refuse: a WABA that is funded elsewhere", async () => {
    const meta = await startMeta();
    await meta.control("POST", "/_world", {
      wabas: [{ id: waba, primaryFundingId: "777000000000001" }],
      allocations: [
        { id: "500001", lineId: line, receivingBusinessId: acme, receivingCredentialId: "600001", wabaIds: [waba] },
      ],
    });
    expect(await meta.funding()).toBe("600001");
  });

  test("detaches a WABA that its record no longer names and attaches one that it names anew", async () => {
    const meta = await startMeta();
    const { allocation_config_id: id } = (await meta.share()).body;
    await meta.control("POST", "/_world", { allocations: [{ id, wabaIds: [sibling] }] });
    expect(await meta.funding(waba)).toBeUndefined();
    expect(await meta.funding(sibling)).toBeDefined();
  });

  test("refuses a body with faults, naming every one by its path and no value, and changes nothing", async () => {
    const meta = await startMeta();
    const before = (await meta.control("GET", "/_world")).body;
    const { status, body } = await meta.control("POST", "/_world", {
      wabas: [{ id: waba, name: "Renamed" }, { id: "12" }],
      tokens: [{ value: "fresh-secret", kind: "fresh-secret" }],
      allocations: "none",
      surprise: true,
    });
    expect(status).toBe(400);
    expect(body.error).toBe("invalid_body");
    expect(body.faults.map((fault: { path: string }) => fault.path).toSorted()).toEqual([
      "",
      "allocations",
      "tokens.0.kind",
      "wabas.1.currency",
      "wabas.1.id",
      "wabas.1.ownerBusinessId",
    ]);
    expect(JSON.stringify(body)).not.toContain("fresh-secret");
    expect((await meta.control("GET", "/_world")).body).toEqual(before);
  });

  test("refuses records that name an unknown line or WABA, and a body that is no JSON", async () => {
    const meta = await startMeta();
    const record = { id: "500001", lineId: "999999", receivingBusinessId: acme, wabaIds: ["999999"] };
    const { body } = await meta.control("POST", "/_world", { allocations: [record] });
    expect(body.faults).toEqual([
      { path: "allocations.0.lineId", message: "names no known line" },
      { path: "allocations.0.wabaIds", message: "names an unknown WABA" },
    ]);
    const broken = await fetch(`${meta.url}/_world`, { method: "POST", body: "{" });
    expect(broken.status).toBe(400);
  });
});

test("an unknown control path is answered with those that exist", async () => {
  const meta = await startMeta();
  const { status, body } = await meta.control("GET", "/_nope");
  expect(status).toBe(404);
  expect(body.endpoints).toContain("GET /_ledger");
});

test("the stand-in refuses to start with a faulty world, without repeating a token", async () => {
  const world = sampleWorld({ tokens: [{ value: "fresh-secret", kind: "nope" as "system" }], partnerBusinessId: "1" });
  const started = startMetaStandIn({ world });
  await expect(started).rejects.toThrow(/partnerBusinessId/);
  await expect(started).rejects.toThrow(/tokens\[0\]\.kind/);
  await expect(started).rejects.not.toThrow(/fresh-secret/);
});

test("the stand-in says so when its port is taken", async () => {
  const meta = await startMeta();
  const port = Number(new URL(meta.url).port);
  await expect(startMetaStandIn({ port, world: sampleWorld() })).rejects.toThrow("EADDRINUSE");
});
