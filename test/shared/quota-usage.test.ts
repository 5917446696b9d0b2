import type { IncomingHttpHeaders } from "node:http";
import { describe, expect, test } from "vitest";
import { createTransport, type GraphRequest } from "../../shared/graph/transport.ts";
import { createUsageMeter, readUsage } from "../../shared/graph/usage.ts";
import { startServer } from "../support/http-server.ts";

const wabaId = "120000000000001";
const partnerId = "100000000000001";
const lineId = "200000000000001";

function headersOf(app?: unknown, useCases?: unknown): IncomingHttpHeaders {
  return {
    ...(app === undefined ? {} : { "x-app-usage": JSON.stringify(app) }),
    ...(useCases === undefined ? {} : { "x-business-use-case-usage": JSON.stringify(useCases) }),
  };
}

function useCase(percent: number, regainMinutes = 0) {
  return {
    type: "whatsapp_business_management",
    call_count: percent,
    total_cputime: 1,
    total_time: 2,
    estimated_time_to_regain_access: regainMinutes,
  };
}

describe("what an answer tells of the budget", () => {
  function read(headers: IncomingHttpHeaders, subjects: string[] = []) {
    return readUsage(headers, new Set(subjects));
  }

  test.each([
    [{ call_count: 81, total_time: 3, total_cputime: 4 }, 0.81],
    [{ call_count: 1, total_time: 82, total_cputime: 4 }, 0.82],
    [{ call_count: 1, total_time: 3, total_cputime: 83.5 }, 0.835],
    [{ call_count: 120 }, 1.2],
    [{ call_count: "81", total_time: null, total_cputime: 7 }, 0.07],
  ])("is the highest of the three counts: %j", (app, used) => {
    expect(read(headersOf(app))).toEqual({ used, regainMs: 0, subjectIsFull: false });
  });

  test("counts every use case but that of the call's own WABA", () => {
    const both = { [partnerId]: [useCase(30), useCase(40, 2)], [wabaId]: [useCase(99, 50)] };
    expect(read(headersOf({ call_count: 10 }, both), [wabaId])).toMatchObject({ used: 0.4, regainMs: 120_000 });
    expect(read(headersOf({ call_count: 10 }, both))).toMatchObject({ used: 0.99, regainMs: 3_000_000 });
  });

  test("says nothing of the app when only the call's own WABA is named", () => {
    const usage = read(headersOf(undefined, { [wabaId]: [useCase(100, 50)] }), [wabaId]);
    expect(usage).toEqual({ regainMs: 0, subjectIsFull: true });
  });

  test.each([
    ["no header", {}],
    ["no JSON", { "x-app-usage": "{call_count: 90", "x-business-use-case-usage": "" }],
    ["JSON of another shape", headersOf([90], { [partnerId]: { call_count: 90 } })],
    ["no object at all", headersOf(90, "90")],
    ["amounts that are none", headersOf({ call_count: -1, total_time: "90" }, { [partnerId]: [{ call_count: {} }] })],
  ])("is nothing where there is %s", (_what, headers) => {
    expect(read(headers)).toEqual({ regainMs: 0, subjectIsFull: false });
  });

  test("is read from one header when the other is malformed", () => {
    const headers = { ...headersOf({ call_count: 55 }), "x-business-use-case-usage": "[" };
    expect(read(headers)).toMatchObject({ used: 0.55 });
  });
});

describe("a meter around the calls of one process", () => {
  const ownRead = {
    method: "GET",
    path: `/${lineId}/owning_credit_allocation_configs`,
    query: {},
    token: "t",
  } as const;
  const wabaRead = { method: "GET", path: `/${wabaId}`, query: { fields: "primary_funding_id" }, token: "t" } as const;
  const share: GraphRequest = {
    method: "POST",
    path: `/${lineId}/whatsapp_credit_sharing_and_attach`,
    query: { waba_id: wabaId },
    token: "t",
  };

  /** Answers in turn; the last one again and again. */
  async function metered(...answers: { status?: number; code?: number; headers?: IncomingHttpHeaders }[]) {
    let now = 1_700_000_000_000;
    const server = await startServer((_request, response) => {
      const { status, code, headers = {} } = answers[Math.min(server.requests.length, answers.length) - 1] ?? {};
      const body = code === undefined ? { id: "1" } : { error: { code, message: "m" } };
      response.writeHead(status ?? (code === undefined ? 200 : 400), headers).end(JSON.stringify(body));
    });
    const meter = createUsageMeter({ ownIds: [partnerId, lineId], now: () => now });
    const transport = createTransport({ baseUrl: server.url, version: "v25.0", timeoutMs: 2000, now: Date.now });
    const call = meter.meter(transport);
    return {
      meter,
      send: (request: GraphRequest) =>
        call(request, {
          signal: new AbortController().signal,
          ...(request.method === "GET" ? {} : { sendDeadline: Date.now() + 1000 }),
        }),
      sent: () => server.requests.length,
      blockedForMs: () => meter.blockedUntil() - now,
      pass: (ms: number) => {
        now += ms;
      },
    };
  }

  test("keeps the highest reading until it is taken", async () => {
    const { meter, send } = await metered(
      { headers: headersOf({ call_count: 70 }) },
      { headers: headersOf({ call_count: 90 }) },
      { headers: headersOf({ call_count: 80 }) },
    );
    for (let calls = 0; calls < 3; calls += 1) await send(ownRead);
    expect(meter.takeUsed()).toBe(0.9);
    expect(meter.takeUsed()).toBeUndefined();
  });

  test("takes the silence of an answer for little use, but not that of an error", async () => {
    const { meter, send } = await metered({ status: 503, code: 2 }, {});
    await send(ownRead);
    expect(meter.takeUsed()).toBeUndefined();
    await send(ownRead);
    expect(meter.takeUsed()).toBe(0);
  });

  test("counts what is said under the partner's own ids, though they are the subject of the call", async () => {
    const { meter, send } = await metered({ headers: headersOf(undefined, { [lineId]: [useCase(88)] }) });
    await send(ownRead);
    expect(meter.takeUsed()).toBe(0.88);
  });

  test.each([
    ["a read of the WABA", wabaRead],
    ["a share with it", share],
  ])("does not take a WABA's own bucket for the app's after %s", async (_what, request) => {
    const ofWaba = headersOf({ call_count: 5 }, { [wabaId]: [useCase(100, 30)] });
    const { meter, send, sent } = await metered({ code: 80_008, headers: ofWaba });
    await send(request);
    expect(meter.takeUsed()).toBe(0.05);
    expect(meter.blockedUntil()).toBe(0);
    await send(ownRead);
    expect(sent()).toBe(2);
  });

  test.each([
    ["the app is throttled", 4, headersOf({ call_count: 100 }, { [partnerId]: [useCase(100, 5)] }), 300_000],
    ["Meta names no time", 613, headersOf({ call_count: 100 }), 60_000],
    ["Meta says nothing but the code", 80_008, {}, 60_000],
    ["Meta names a time beyond reason", 4, headersOf(undefined, { [partnerId]: [useCase(100, 1e9)] }), 86_400_000],
    [
      "the code is the app's, whatever the WABA's bucket holds",
      4,
      headersOf(undefined, { [wabaId]: [useCase(100, 9)] }),
      60_000,
    ],
  ])("sends nothing more until the block ends when %s", async (_what, code, headers, blockMs) => {
    const { send, sent, blockedForMs, pass } = await metered({ code, headers }, {});
    const first = await send(wabaRead);
    expect(blockedForMs()).toBe(blockMs);
    pass(blockMs - 1);
    expect(await send(wabaRead)).toEqual(first);
    expect(await send(share)).toEqual(first);
    expect(sent()).toBe(1);
    pass(1);
    expect(await send(ownRead)).toMatchObject({ status: 200 });
    expect(sent()).toBe(2);
  });
});
