import { describe, expect, test } from "vitest";
import {
  acme,
  businessToken,
  errorOf,
  line,
  otherWaba,
  partner,
  sibling,
  startMeta,
  systemToken,
  waba,
} from "./meta-fixture.ts";
import type { Meta } from "./meta-fixture.ts";

const secondMs = 1000;

async function sharedId(meta: Meta, wabaId = waba): Promise<string> {
  return (await meta.share(wabaId)).body.allocation_config_id;
}

async function credentialOf(meta: Meta, allocationId: string): Promise<string> {
  return (await meta.allocation(allocationId)).receiving_credential.id;
}

describe("unknown 1, repeatedShare", () => {
  test("same: E2, E4 and E5 answer the record that is there and change nothing", async () => {
    const meta = await startMeta();
    const id = await sharedId(meta);
    const changes = meta.model.changes.length;
    expect(await sharedId(meta)).toBe(id);
    expect((await meta.shareWithBusiness()).body.allocation_config_id).toBe(id);
    expect((await meta.attach()).body.allocation_config_id).toBe(id);
    expect(meta.model.changes).toHaveLength(changes);
  });

  test("second: another live record funds the WABA too, so that deleting one leaves it funded", async () => {
    const meta = await startMeta({ variants: { repeatedShare: "second" } });
    const [first, second] = [await sharedId(meta), await sharedId(meta)];
    expect(second).not.toBe(first);
    expect(await meta.list()).toEqual([first, second]);
    await meta.revoke(first);
    expect(await meta.funding()).toBe(await credentialOf(meta, second));
    await meta.revoke(second);
    expect(await meta.funding()).toBeUndefined();
  });

  test("second: E4 makes another record and a sibling gets one of its own", async () => {
    const meta = await startMeta({ variants: { repeatedShare: "second" } });
    await sharedId(meta);
    await sharedId(meta, sibling);
    await meta.shareWithBusiness();
    expect(await meta.list()).toHaveLength(3);
  });

  test.each([
    ["error-4000" as const, { status: 400, code: 4000 }],
    ["error-100" as const, { status: 400, code: 100 }],
  ])("%s: a repetition is refused, a sibling is not", async (repeatedShare, expected) => {
    const meta = await startMeta({ variants: { repeatedShare } });
    const id = await sharedId(meta);
    expect(errorOf(await meta.share())).toEqual(expected);
    expect(errorOf(await meta.shareWithBusiness())).toEqual(expected);
    expect(errorOf(await meta.attach())).toEqual(expected);
    expect(await sharedId(meta, sibling)).toBe(id);
    expect(await meta.list()).toEqual([id]);
  });
});

describe("unknown 2, lags", () => {
  test("E6, E7 and E8 each show a share after a lag of their own", async () => {
    const meta = await startMeta({
      variants: { e6ShareLagMs: 1 * secondMs, e7ShareLagMs: 2 * secondMs, e8ShareLagMs: 3 * secondMs },
    });
    const id = await sharedId(meta);
    async function seen() {
      const e6 = (await meta.graph("GET", `/${id}?fields=receiving_business`)).status === 200;
      return { e6, e7: (await meta.funding()) !== undefined, e8: (await meta.list()).includes(id) };
    }
    expect(await seen()).toEqual({ e6: false, e7: false, e8: false });
    meta.clock.now += secondMs;
    expect(await seen()).toEqual({ e6: true, e7: false, e8: false });
    meta.clock.now += secondMs;
    expect(await seen()).toEqual({ e6: true, e7: true, e8: false });
    meta.clock.now += secondMs;
    expect(await seen()).toEqual({ e6: true, e7: true, e8: true });
  });

  test("E6, E7 and E8 each show a DELETE after a lag of their own (unknown 5: success before DELETED)", async () => {
    const meta = await startMeta({
      variants: { e6DeleteLagMs: 3 * secondMs, e7DeleteLagMs: 1 * secondMs, e8DeleteLagMs: 2 * secondMs },
    });
    const id = await sharedId(meta);
    expect((await meta.revoke(id)).body).toEqual({ success: true });
    async function gone() {
      const e6 = (await meta.allocation(id)).request_status === "DELETED";
      return { e6, e7: (await meta.funding()) === undefined, e8: !(await meta.list()).includes(id) };
    }
    expect(await gone()).toEqual({ e6: false, e7: false, e8: false });
    meta.clock.now += secondMs;
    expect(await gone()).toEqual({ e6: false, e7: true, e8: false });
    meta.clock.now += secondMs;
    expect(await gone()).toEqual({ e6: false, e7: true, e8: true });
    meta.clock.now += secondMs;
    expect(await gone()).toEqual({ e6: true, e7: true, e8: true });
  });

  test("what has once been shown does not vanish when a lag is raised", async () => {
    const meta = await startMeta();
    const id = await sharedId(meta);
    await meta.control("POST", "/_variants", { e7ShareLagMs: secondMs, e8ShareLagMs: secondMs });
    expect(await meta.funding()).toBeDefined();
    expect(await meta.list()).toEqual([id]);
  });

  test("a lag hides nothing from Meta itself: a repeated share still finds the record", async () => {
    const meta = await startMeta({
      variants: { e6ShareLagMs: secondMs, e7ShareLagMs: secondMs, e8ShareLagMs: secondMs },
    });
    expect(await sharedId(meta)).toBe(await sharedId(meta));
  });

  test("what the world begins with is visible at once", async () => {
    const meta = await startMeta({
      world: { allocations: [{ id: "500001", lineId: line, receivingBusinessId: acme, wabaIds: [waba] }] },
      variants: { e6ShareLagMs: secondMs, e7ShareLagMs: secondMs, e8ShareLagMs: secondMs },
    });
    expect(await meta.list()).toEqual(["500001"]);
    expect(await meta.funding()).toBe(await credentialOf(meta, "500001"));
  });
});

describe("unknown 3, the list", () => {
  const path = `/${line}/owning_credit_allocation_configs?receiving_business_id=${acme}&fields=id,receiving_business`;

  test("bare-object: one record stands alone, none or two come as a list", async () => {
    const meta = await startMeta({ variants: { listShape: "bare-object", repeatedShare: "second" } });
    expect((await meta.graph("GET", path)).body).toEqual({ data: [] });
    const id = await sharedId(meta);
    expect((await meta.graph("GET", path)).body).toEqual({ id, receiving_business: { name: "Acme", id: acme } });
    await sharedId(meta);
    expect((await meta.graph("GET", path)).body.data).toHaveLength(2);
  });

  test("listShowsDeleted: deleted records stay listed, with their status where it is asked for", async () => {
    const meta = await startMeta({ variants: { listShowsDeleted: true } });
    const id = await sharedId(meta);
    await meta.revoke(id);
    const { body } = await meta.graph("GET", `${path},request_status`);
    expect(body.data).toEqual([expect.objectContaining({ id, request_status: "DELETED" })]);
  });

  test("requestStatusOnLive: a live record carries a status", async () => {
    const meta = await startMeta({ variants: { requestStatusOnLive: "ACTIVE" } });
    const id = await sharedId(meta);
    expect((await meta.allocation(id)).request_status).toBe("ACTIVE");
    await meta.revoke(id);
    expect((await meta.allocation(id)).request_status).toBe("DELETED");
  });
});

describe("unknown 4, credentialPer", () => {
  test("business: each record of the business has the same credential", async () => {
    const meta = await startMeta({ variants: { repeatedShare: "second" } });
    const [first, second] = [await sharedId(meta), await sharedId(meta, sibling)];
    expect(await credentialOf(meta, second)).toBe(await credentialOf(meta, first));
  });

  test("waba: each WABA has a record and a credential of its own", async () => {
    const meta = await startMeta({ variants: { credentialPer: "waba" } });
    const [first, second] = [await sharedId(meta), await sharedId(meta, sibling)];
    expect(second).not.toBe(first);
    expect(await sharedId(meta)).toBe(first);
    expect(await meta.funding(waba)).toBe(await credentialOf(meta, first));
    expect(await meta.funding(sibling)).toBe(await credentialOf(meta, second));
    expect(await meta.funding(sibling)).not.toBe(await meta.funding(waba));
  });

  test("waba: E5 attaches the first WABA to E4's record and makes one for its sibling", async () => {
    const meta = await startMeta({ variants: { credentialPer: "waba" } });
    const { allocation_config_id: id } = (await meta.shareWithBusiness()).body;
    expect((await meta.attach(waba)).body.allocation_config_id).toBe(id);
    expect((await meta.attach(sibling)).body.allocation_config_id).not.toBe(id);
  });

  test("waba-one-record: a sibling is funded by a credential that no record shows", async () => {
    const meta = await startMeta({ variants: { credentialPer: "waba-one-record" } });
    const id = await sharedId(meta);
    expect(await sharedId(meta, sibling)).toBe(id);
    expect(await meta.funding(waba)).toBe(await credentialOf(meta, id));
    expect(await meta.funding(sibling)).not.toBe(await credentialOf(meta, id));
  });
});

test("unknown 5, repeatedDelete: a second DELETE is an error and changes nothing", async () => {
  const meta = await startMeta({ variants: { repeatedDelete: "error" } });
  const id = await sharedId(meta);
  expect((await meta.revoke(id)).status).toBe(200);
  expect(errorOf(await meta.revoke(id))).toEqual({ status: 400, code: 100 });
});

describe("unknown 7, reshareAfterRevoke", () => {
  test("works-new-id: the WABA is funded by a new record", async () => {
    const meta = await startMeta();
    const first = await sharedId(meta);
    await meta.revoke(first);
    const second = await sharedId(meta);
    expect(second).not.toBe(first);
    expect((await meta.allocation(first)).request_status).toBe("DELETED");
    expect(await meta.funding()).toBe(await credentialOf(meta, second));
  });

  test("works-same-id: the deleted record lives again, but only for the WABA shared anew", async () => {
    const meta = await startMeta({ variants: { reshareAfterRevoke: "works-same-id" } });
    const id = await sharedId(meta);
    await sharedId(meta, sibling);
    await meta.revoke(id);
    expect(await sharedId(meta)).toBe(id);
    expect((await meta.allocation(id)).request_status).toBeUndefined();
    expect(await meta.list()).toEqual([id]);
    expect(await meta.funding(waba)).toBeDefined();
    expect(await meta.funding(sibling)).toBeUndefined();
    expect(meta.model.changes.filter(({ kind }) => kind === "allocation_revived")).toHaveLength(1);
  });

  test("refused: only for a WABA that was attached before", async () => {
    const meta = await startMeta({ variants: { reshareAfterRevoke: "refused" } });
    await meta.revoke(await sharedId(meta));
    expect(errorOf(await meta.share())).toEqual({ status: 400, code: 100 });
    expect((await meta.share(sibling)).status).toBe(200);
  });
});

describe("unknown 8, error codes", () => {
  const foreignId = "777000000000001";

  test("are the variant's for a currency and for a WABA funded elsewhere", async () => {
    const meta = await startMeta({ variants: { currencyErrorCode: 2655, fundedElsewhereErrorCode: 2656 } });
    await meta.control("POST", "/_world", { wabas: [{ id: waba, primaryFundingId: foreignId }] });
    expect(errorOf(await meta.share(waba, "USD"))).toEqual({ status: 400, code: 2655 });
    expect(errorOf(await meta.share(waba))).toEqual({ status: 400, code: 2656 });
    expect(await meta.funding()).toBe(foreignId);
  });

  test("a partner switch is refused in the last 3 and the first 4 days of a month, UTC", async () => {
    const meta = await startMeta({ variants: { switchWindowErrorCode: 2657 } });
    await meta.control("POST", "/_world", {
      wabas: [{ id: waba, primaryFundingId: foreignId, partnerSwitch: true }],
    });
    for (const closed of [
      "2026-05-01T00:00:00Z",
      "2026-05-04T23:59:59Z",
      "2026-05-29T00:00:00Z",
      "2026-02-26T00:00:00Z",
    ]) {
      meta.clock.now = Date.parse(closed);
      expect(errorOf(await meta.share()), closed).toEqual({ status: 400, code: 2657 });
    }
    meta.clock.now = Date.parse("2026-02-25T23:59:59Z");
    expect((await meta.share()).status).toBe(200);
  });

  test("a partner switch pays from the 1st of the following month, and the former funding does not return", async () => {
    const meta = await startMeta({
      world: {
        wabas: [{ id: waba, ownerBusinessId: acme, currency: "EUR", primaryFundingId: foreignId, partnerSwitch: true }],
      },
    });
    meta.clock.now = Date.parse("2026-12-15T00:00:00Z");
    const id = await sharedId(meta);
    expect(await meta.funding()).toBe(foreignId);
    meta.clock.now = Date.parse("2026-12-31T23:59:59Z");
    expect(await meta.funding()).toBe(foreignId);
    meta.clock.now = Date.parse("2027-01-01T00:00:00Z");
    expect(await meta.funding()).toBe(await credentialOf(meta, id));
    await meta.revoke(id);
    expect(await meta.funding()).toBeUndefined();
  });

  test("a partner switch revoked before it pays leaves the former funding in place", async () => {
    const meta = await startMeta();
    await meta.control("POST", "/_world", {
      wabas: [{ id: waba, primaryFundingId: foreignId, partnerSwitch: true }],
    });
    await meta.revoke(await sharedId(meta));
    meta.clock.now = Date.parse("2026-06-02T00:00:00Z");
    expect(await meta.funding()).toBe(foreignId);
  });
});

describe("unknown 9, what lists accept", () => {
  test("listLimitMax: a bigger limit is an error", async () => {
    const meta = await startMeta({ variants: { listLimitMax: 2 } });
    const list = `/${partner}/client_whatsapp_business_accounts`;
    expect((await meta.graph("GET", `${list}?limit=2`)).body.data).toHaveLength(2);
    expect(errorOf(await meta.graph("GET", `${list}?limit=3`))).toEqual({ status: 400, code: 100 });
  });

  test("listFieldExpansions off: E8 and E13 know their plain fields only", async () => {
    const meta = await startMeta({ variants: { listFieldExpansions: false } });
    const [e8, e13] = [`/${line}/owning_credit_allocation_configs`, `/${partner}/client_whatsapp_business_accounts`];
    expect((await meta.graph("GET", `${e8}?fields=id,receiving_business`)).status).toBe(200);
    expect((await meta.graph("GET", `${e13}?fields=id,name,currency`)).status).toBe(200);
    for (const path of [
      `${e8}?fields=request_status`,
      `${e8}?fields=receiving_business{id}`,
      `${e13}?fields=primary_funding_id`,
    ]) {
      expect(errorOf(await meta.graph("GET", path))).toEqual({ status: 400, code: 100 });
    }
  });
});

describe("unknown 10, fundingVisibleTo", () => {
  test.each([
    ["business" as const, businessToken, systemToken],
    ["system" as const, systemToken, businessToken],
  ])("%s: the other token gets an answer without the field", async (fundingVisibleTo, seeing, blind) => {
    const meta = await startMeta({ variants: { fundingVisibleTo } });
    await sharedId(meta);
    expect(await meta.funding(waba, seeing)).toBeDefined();
    const { status, body } = await meta.graph("GET", `/${waba}?fields=primary_funding_id`, blind);
    expect({ status, body }).toEqual({ status: 200, body: { id: waba } });
  });
});

describe("further switches", () => {
  test("combinedReads permission-error: fields are readable one by one only", async () => {
    const meta = await startMeta({ variants: { combinedReads: "permission-error" } });
    const id = await sharedId(meta);
    const refused = { status: 403, code: 10 };
    expect(errorOf(await meta.graph("GET", `/${waba}?fields=owner_business_info,currency`))).toEqual(refused);
    expect(errorOf(await meta.graph("GET", `/${id}?fields=receiving_credential,request_status`))).toEqual(refused);
    for (const path of [
      `/${waba}?fields=owner_business_info`,
      `/${waba}?fields=currency`,
      `/${waba}?fields=id,primary_funding_id`,
      `/${id}?fields=receiving_credential`,
      `/${id}?fields=receiving_business,request_status`,
    ]) {
      expect((await meta.graph("GET", path)).status).toBe(200);
    }
  });

  test("readsCarryId off: only the fields asked for", async () => {
    const meta = await startMeta({ variants: { readsCarryId: false } });
    expect((await meta.graph("GET", `/${waba}?fields=currency`)).body).toEqual({ currency: "EUR" });
  });

  test("idsPrintedAs numbers: ids are too big for a double to hold", async () => {
    const meta = await startMeta({ variants: { idsPrintedAs: "numbers" } });
    const { text } = await meta.share();
    const printed = /"allocation_config_id":(\d+),"waba_id":(\d+)/.exec(text);
    expect(printed?.[2]).toBe(waba);
    expect(String(Number(printed?.[1]))).not.toBe(printed?.[1]);
  });

  test("shortPages: a page holds less than its limit though more follow", async () => {
    const meta = await startMeta({ variants: { shortPages: true } });
    const { body } = await meta.graph("GET", `/${partner}/client_whatsapp_business_accounts?limit=3`);
    expect(body.data).toHaveLength(2);
    expect(body.paging.next).toBeDefined();
  });

  test("supportedCurrencies: what they name can be shared", async () => {
    const meta = await startMeta({ variants: { supportedCurrencies: ["EUR"] } });
    expect((await meta.share(waba, "EUR")).status).toBe(200);
    expect(errorOf(await meta.share(otherWaba, "USD"))).toEqual({ status: 400, code: 100 });
  });

  test("oldestLivingVersion: a dead version is served by it, and the answer says so", async () => {
    const meta = await startMeta({ variants: { oldestLivingVersion: 26 } });
    const { headers } = await meta.graph("GET", `/${waba}?fields=currency`);
    expect(headers.get("facebook-api-version")).toBe("v26.0");
  });

  test("appCallsPerHour: usage grows, the call over the limit has no effect, and an hour later all is well", async () => {
    const meta = await startMeta({ variants: { appCallsPerHour: 4 } });
    const percents: unknown[] = [];
    for (let n = 0; n < 4; n += 1) {
      const { headers } = await meta.graph("GET", `/${line}?fields=id,legal_entity_name`);
      percents.push(JSON.parse(headers.get("x-app-usage") ?? "").call_count);
    }
    expect(percents).toEqual([25, 50, 75, 100]);
    const refused = await meta.share();
    expect(errorOf(refused)).toEqual({ status: 400, code: 4 });
    const usage = JSON.parse(refused.headers.get("x-business-use-case-usage") ?? "");
    expect(usage[partner][0]).toMatchObject({ call_count: 100, estimated_time_to_regain_access: 15 });
    expect(await meta.funding()).toBeUndefined();
    meta.clock.now += 3_600_000;
    expect((await meta.share()).status).toBe(200);
  });

  test("wabaCallsPerHour: each WABA has a limit of its own", async () => {
    const meta = await startMeta({ variants: { wabaCallsPerHour: 1 } });
    expect((await meta.graph("GET", `/${waba}?fields=currency`)).status).toBe(200);
    const refused = await meta.graph("GET", `/${waba}?fields=currency`);
    expect(errorOf(refused)).toEqual({ status: 400, code: 80_008 });
    expect(JSON.parse(refused.headers.get("x-business-use-case-usage") ?? "")[waba][0].call_count).toBe(100);
    expect((await meta.graph("GET", `/${sibling}?fields=currency`)).status).toBe(200);
  });
});

test("the switches can be read with their meanings and are changed by name", async () => {
  const meta = await startMeta();
  const changed = await meta.control("POST", "/_variants", { repeatedShare: "second" });
  expect(changed.status).toBe(200);
  const { variants, schema } = (await meta.control("GET", "/_variants")).body;
  expect(variants).toMatchObject({ repeatedShare: "second", credentialPer: "business" });
  expect(schema.properties.repeatedShare).toMatchObject({ unknown: 1, enum: expect.arrayContaining(["error-4000"]) });
  const unknowns = Object.values<{ unknown?: number }>(schema.properties).map((property) => property.unknown);
  expect(new Set(unknowns.filter((unknown) => unknown !== undefined))).toEqual(
    new Set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
  );
});

test("a wrong switch is refused with every fault and changes none", async () => {
  const meta = await startMeta();
  const { status, body } = await meta.control("POST", "/_variants", {
    repeatedShare: "twice",
    e7ShareLagMs: -1,
    listShape: "bare-object",
  });
  expect(status).toBe(400);
  expect(body.faults.map((fault: { path: string }) => fault.path).toSorted()).toEqual([
    "e7ShareLagMs",
    "repeatedShare",
  ]);
  expect(meta.model.variants.listShape).toBe("list");
});
