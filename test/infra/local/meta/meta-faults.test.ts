import { describe, expect, test, vi } from "vitest";
import {
  acme,
  businessToken,
  errorOf,
  line,
  otherWaba,
  sibling,
  startMeta,
  systemToken,
  waba,
} from "./meta-fixture.ts";
import type { Meta } from "./meta-fixture.ts";

async function isShared(meta: Meta): Promise<boolean> {
  return (await meta.list()).length > 0;
}

async function setFaults(meta: Meta, ...faults: object[]): Promise<void> {
  expect((await meta.control("POST", "/_faults", faults)).status).toBe(200);
}

describe("a fault before the effect leaves Meta unchanged, one after it does not", () => {
  test.each([
    ["5xx-before", false],
    ["5xx-after", true],
    ["error-before", false],
    ["error-after", true],
  ])("%s answers an error", async (kind, expected) => {
    const meta = await startMeta();
    await setFaults(meta, { match: "E2", times: 1, kind, code: 2 });
    const answer = await meta.share();
    expect(errorOf(answer)).toEqual({ status: 503, code: 2 });
    expect(answer.body.error.is_transient).toBe(true);
    expect(await isShared(meta)).toBe(expected);
    const [call] = (await meta.ledger()).calls;
    expect(call).toMatchObject({ name: "E2", fault: kind, status: 503, errorCode: 2 });
    expect((await meta.share()).status).toBe(200);
  });

  test.each([
    ["cut-before", false, undefined],
    ["cut-after", true, 200],
    ["hang-before", false, undefined],
    ["hang-after", true, 200],
  ])("%s gives no answer", async (kind, expected, status) => {
    const meta = await startMeta();
    await setFaults(meta, { match: "E2", times: 1, kind, ms: 20 });
    await expect(meta.share()).rejects.toThrow("fetch failed");
    expect(await isShared(meta)).toBe(expected);
    const [call] = (await meta.ledger()).calls;
    expect(call).toMatchObject({ name: "E2", fault: kind });
    expect(call.status).toBe(status);
  });
});

test("hang answers nothing until its time is over", async () => {
  const meta = await startMeta();
  await setFaults(meta, { match: "E2", times: 1, kind: "hang-after" });
  const answer = fetch(
    `${meta.url}/v25.0/${line}/whatsapp_credit_sharing_and_attach?waba_currency=EUR&waba_id=${waba}`,
    {
      method: "POST",
      headers: { authorization: `Bearer ${systemToken}` },
      signal: AbortSignal.timeout(50),
    },
  );
  await expect(answer).rejects.toThrow("timeout");
  expect(await isShared(meta)).toBe(true);
});

test("latency applies and answers the call later, even for a caller that has given up", async () => {
  const meta = await startMeta();
  await setFaults(meta, { match: "E2", times: 2, kind: "latency", ms: 40 });
  expect((await meta.share()).status).toBe(200);
  const path = `/v25.0/${line}/whatsapp_credit_sharing_and_attach?waba_currency=EUR&waba_id=${sibling}`;
  const init = { method: "POST", headers: { authorization: `Bearer ${systemToken}` }, signal: AbortSignal.timeout(10) };
  await expect(fetch(meta.url + path, init)).rejects.toThrow("timeout");
  expect(await meta.funding(sibling)).toBeUndefined();
  await vi.waitFor(async () => expect(await meta.funding(sibling)).toBeDefined());
});

test("unknown 6: a call whose answer is lost can land later, and the ledger says when", async () => {
  const meta = await startMeta({ variants: { lostCallLandsAfterMs: 30 } });
  await setFaults(meta, { match: "E2", times: 1, kind: "cut-after" });
  await expect(meta.share()).rejects.toThrow("fetch failed");
  const arrivedAt = meta.clock.now;
  meta.clock.now += 5000;
  expect(await isShared(meta)).toBe(false);
  await vi.waitFor(async () => expect(await isShared(meta)).toBe(true));
  const { calls, changes } = await meta.ledger();
  expect(calls[0]).toMatchObject({ time: arrivedAt, landedAt: arrivedAt + 5000, status: 200 });
  expect(changes[0]).toMatchObject({ kind: "allocation_created", time: arrivedAt + 5000, callNumber: 1 });
});

describe("throttle", () => {
  test("of an app call is code 4 without effect, and tells when access is regained", async () => {
    const meta = await startMeta();
    await setFaults(meta, { match: "E2", times: 1, kind: "throttle", ms: 90_000 });
    const answer = await meta.share();
    expect(errorOf(answer)).toEqual({ status: 400, code: 4 });
    expect(JSON.parse(answer.headers.get("x-app-usage") ?? "").call_count).toBe(100);
    const useCase = JSON.parse(answer.headers.get("x-business-use-case-usage") ?? "");
    expect(Object.values(useCase)).toEqual([[expect.objectContaining({ estimated_time_to_regain_access: 2 })]]);
    expect(await isShared(meta)).toBe(false);
  });

  test("of a WABA call is code 80008 for that WABA", async () => {
    const meta = await startMeta();
    await setFaults(meta, { match: "E7", times: 1, kind: "throttle" });
    const answer = await meta.graph("GET", `/${waba}?fields=primary_funding_id`);
    expect(errorOf(answer)).toEqual({ status: 400, code: 80_008 });
    expect(JSON.parse(answer.headers.get("x-business-use-case-usage") ?? "")[waba][0].call_count).toBe(100);
  });
});

test("an error fault carries any code and subcode", async () => {
  const meta = await startMeta();
  await setFaults(meta, { match: "E2", times: 1, kind: "error-before", code: 100, subcode: 1752294 });
  expect(errorOf(await meta.share())).toEqual({ status: 400, code: 100, subcode: 1752294 });
});

describe("matching", () => {
  test("is by name, also of a combined read; by method and path; by path; or everything", async () => {
    const meta = await startMeta();
    async function isHit(match: string, method: string, path: string): Promise<boolean> {
      await setFaults(meta, { match, times: 1, kind: "error-before", code: 999 });
      const { body } = await meta.graph(method, path);
      return body.error?.code === 999;
    }
    const combined = `/${waba}?fields=owner_business_info,primary_funding_id`;
    expect(await isHit("E3", "GET", combined)).toBe(true);
    expect(await isHit("E7", "GET", combined)).toBe(true);
    expect(await isHit("E7", "GET", `/${waba}?fields=owner_business_info`)).toBe(false);
    expect(await isHit("E1", "GET", `/${line}/owning_credit_allocation_configs`)).toBe(false);
    expect(await isHit("POST /whatsapp_credit_sharing", "POST", `/${line}/whatsapp_credit_sharing_and_attach`)).toBe(
      true,
    );
    expect(await isHit(`POST /${line}/whatsapp_credit_sharing`, "POST", `/${line}/whatsapp_credit_sharing`)).toBe(true);
    expect(await isHit("GET owning_credit", "GET", `/${line}/owning_credit_allocation_configs`)).toBe(true);
    expect(await isHit("POST owning_credit", "GET", `/${line}/owning_credit_allocation_configs`)).toBe(false);
    expect(await isHit("extendedcredits", "GET", `/${line}/extendedcredits`)).toBe(true);
    expect(await isHit("*", "DELETE", "/999999")).toBe(true);
  });

  test("can be narrowed to a WABA or to a business", async () => {
    const meta = await startMeta();
    const fault = { match: "E2", times: 1, kind: "error-before", code: 999 };
    await setFaults(meta, { ...fault, wabaId: sibling });
    expect((await meta.share(waba)).status).toBe(200);
    expect(errorOf(await meta.share(sibling)).code).toBe(999);
    await setFaults(meta, { ...fault, businessId: acme });
    expect((await meta.share(otherWaba, "USD")).status).toBe(200);
    expect(errorOf(await meta.share(waba)).code).toBe(999);
  });

  test("uses each fault as often as it says, shows what is left, and an empty list clears it", async () => {
    const meta = await startMeta();
    await setFaults(meta, { match: "E2", times: 2, kind: "5xx-before" }, { match: "E7", kind: "5xx-before" });
    expect((await meta.share()).status).toBe(503);
    expect((await meta.control("GET", "/_faults")).body).toEqual([
      { match: "E2", times: 1, kind: "5xx-before" },
      { match: "E7", times: 1, kind: "5xx-before" },
    ]);
    expect((await meta.share()).status).toBe(503);
    expect((await meta.share()).status).toBe(200);
    await setFaults(meta);
    expect((await meta.control("GET", "/_faults")).body).toEqual([]);
    expect((await meta.graph("GET", `/${waba}?fields=primary_funding_id`, businessToken)).status).toBe(200);
  });

  test("refuses a list with faults of its own, naming each", async () => {
    const meta = await startMeta();
    const { status, body } = await meta.control("POST", "/_faults", [
      { match: "", kind: "5xx-before" },
      { match: "*", kind: "nope", times: 0 },
    ]);
    expect(status).toBe(400);
    const paths = body.faults.map((fault: { path: string }) => fault.path);
    expect(paths.toSorted()).toEqual(["0.match", "1.kind", "1.times"]);
  });
});
