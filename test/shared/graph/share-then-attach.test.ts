import { describe, expect, test } from "vitest";
import { liveAllocations } from "../../../infra/local/meta/meta-model.ts";
import { startJsonServer } from "../../support/http-server.ts";
import { line, systemToken } from "../../support/meta.ts";
import { clientOf, send, signal, startMeta, targetOf } from "./graph-fixture.ts";

type Meta = Awaited<ReturnType<typeof startMeta>>;

const systemUserId = "30000000000000001";

/** A customer whose business token is in the secret `customer`. */
async function customerOf(meta: Meta) {
  const customer = await meta.customer();
  meta.secrets["customer"] = customer.token;
  return { ...customer, target: { ...targetOf(customer), businessTokenSecret: "customer" } };
}

/** The same, with whom the line is shared already. */
async function sharedCustomerOf(meta: Meta) {
  const customer = await customerOf(meta);
  const outcome = await meta.graph.shareWithBusiness({ creditLineId: line, businessId: customer.businessId }, send());
  if (outcome.kind !== "accepted") throw new Error("The share was not accepted");
  return { ...customer, allocationId: outcome.allocationId };
}

function businessOf({ businessId }: { businessId: string }) {
  return { creditLineId: line, businessId };
}

describe("a share with a business (E4)", () => {
  test("is accepted with the id of its allocation, and funds nothing", async () => {
    const meta = await startMeta();
    const { businessId, wabaId, allocationId } = await sharedCustomerOf(meta);
    expect(liveAllocations(meta.model, line, businessId, Date.now()).map(({ id }) => id)).toEqual([allocationId]);
    expect(meta.model.attachments).toEqual([]);
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, blind: true });
    expect(meta.calls("E4")).toMatchObject([
      { method: "POST", tokenKind: "system", query: { receiving_business_id: businessId } },
    ]);
    expect(Object.keys(meta.calls("E4")[0]?.query ?? {})).toEqual(["receiving_business_id"]);
  });

  test.each(["error-4000", "error-100"] as const)(
    "whose repetition Meta refuses (%s) is unknown",
    async (repeatedShare) => {
      const meta = await startMeta({ repeatedShare });
      const customer = await sharedCustomerOf(meta);
      expect(await meta.graph.shareWithBusiness(businessOf(customer), send())).toMatchObject({
        kind: "unknown",
        failure: { reason: "refused_by_meta" },
      });
    },
  );

  test("with the line's own business is refused as that", async () => {
    const meta = await startMeta();
    const own = { creditLineId: line, businessId: meta.model.partnerBusinessId };
    expect(await meta.graph.shareWithBusiness(own, send())).toMatchObject({
      kind: "unknown",
      failure: { reason: "same_business", subcode: 1_752_244 },
    });
  });
});

describe("an attachment (E5)", () => {
  test("is accepted with the id of the allocation that then funds the WABA, by the customer's token", async () => {
    const meta = await startMeta({ idsPrintedAs: "numbers" });
    const { wabaId, allocationId, target } = await sharedCustomerOf(meta);
    expect(await meta.graph.attach(target, send())).toEqual({ kind: "accepted", allocationId });
    const credential = meta.model.allocations.get(allocationId)?.receivingCredentialId;
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, id: credential });
    expect(meta.calls("E5")).toMatchObject([
      { method: "POST", tokenKind: "business", query: { waba_id: wabaId, waba_currency: "EUR" } },
    ]);
  });

  test.each([
    { what: "cannot be read", spoil: (meta: Meta) => void delete meta.secrets["customer"], calls: 0 },
    {
      what: "is dead",
      spoil: (meta: Meta, value: string) => meta.world({ tokens: [{ value, kind: "business", dead: true }] }),
      calls: 1,
    },
    {
      what: "may not attach",
      spoil: (meta: Meta, value: string) =>
        meta.world({ tokens: [{ value, kind: "business", lacksPermission: true }] }),
      calls: 1,
    },
  ])("is not made with the system token when the customer's $what", async ({ spoil, calls }) => {
    const meta = await startMeta();
    const { token, target } = await sharedCustomerOf(meta);
    await spoil(meta, token);
    const reads = meta.secretReads.length;
    expect(await meta.graph.attach(target, send())).toMatchObject({ kind: "no-effect" });
    expect(meta.calls("E5").map(({ tokenKind }) => tokenKind)).toEqual(Array.from({ length: calls }, () => "business"));
    expect(meta.secretReads.slice(reads)).toEqual(["customer"]);
    expect(meta.model.attachments).toEqual([]);
  });

  test("takes the secret's new value the next time, after a dead token", async () => {
    const meta = await startMeta();
    const { token, target, allocationId } = await sharedCustomerOf(meta);
    meta.secrets["customer"] = "EAAdeadTokenOfTheCustomer";
    expect(await meta.graph.attach(target, send())).toMatchObject({ failure: { reason: "token_dead" } });
    meta.secrets["customer"] = token;
    expect(await meta.graph.attach(target, send())).toEqual({ kind: "accepted", allocationId });
  });

  test("is unknown, and keeps the id, when the answer names another WABA", async () => {
    const server = await startJsonServer({ success: true, waba_id: "13", allocation_config_id: "91" });
    const { graph } = clientOf(server.url);
    const target = { ...targetOf({ wabaId: "12" }), businessTokenSecret: "system" };
    expect(await graph.attach(target, send())).toMatchObject({ kind: "unknown", allocationId: "91" });
  });
});

const posts = {
  E4: async (meta: Meta) => {
    const customer = await customerOf(meta);
    return (graph: Meta["graph"], how = send()) => graph.shareWithBusiness(businessOf(customer), how);
  },
  E5: async (meta: Meta) => {
    const { target } = await sharedCustomerOf(meta);
    return (graph: Meta["graph"], how = send()) => graph.attach(target, how);
  },
};

describe.each(["E4", "E5"] as const)("a POST of the two-call share (%s)", (name) => {
  test.each([
    { kind: "throttle", outcome: "no-effect", landed: false },
    { kind: "5xx-before", outcome: "unknown", landed: false },
    { kind: "5xx-after", outcome: "unknown", landed: true },
    { kind: "cut-before", outcome: "unknown", landed: false },
    { kind: "cut-after", outcome: "unknown", landed: true },
    { kind: "hang-before", outcome: "unknown", landed: false },
    { kind: "hang-after", outcome: "unknown", landed: true },
  ])("is sent once and $outcome when Meta answers with $kind", async ({ kind, outcome, landed }) => {
    const meta = await startMeta();
    const post = await posts[name](meta);
    const { graph, secrets } = clientOf(meta.url, { timeoutMs: 150 });
    Object.assign(secrets, meta.secrets);
    await meta.faults({ match: name, kind, ms: 120_000 });
    const changes = meta.model.changes.length;
    const calls = meta.calls(name).length;
    const answer = await post(graph);
    expect(answer.kind).toBe(outcome);
    if (kind === "throttle") {
      expect(answer).toMatchObject({ throttledUntil: expect.closeTo(Date.now() + 120_000, -4) });
    }
    expect(meta.calls(name)).toHaveLength(calls + 1);
    expect(meta.model.changes.length > changes).toBe(landed);
  });

  test.each([
    { code: 4, outcome: "no-effect", reason: "meta_unavailable" },
    { code: 190, outcome: "no-effect", reason: "token_dead" },
    { code: 104, outcome: "no-effect", reason: "token_dead" },
    { code: 200, outcome: "no-effect", reason: "permission_denied" },
    { code: 368, outcome: "no-effect", reason: "policy_block" },
    { code: 100, outcome: "unknown", reason: "refused_by_meta" },
    { code: 100, subcode: 33, outcome: "unknown", reason: "waba_not_visible" },
    { code: 1, outcome: "unknown", reason: "meta_unavailable" },
    { code: 987_654, outcome: "unknown", reason: "meta_unavailable" },
  ])("that Meta answers with code $code ($subcode) had $outcome effect", async ({ code, subcode, outcome, reason }) => {
    const meta = await startMeta();
    const post = await posts[name](meta);
    const calls = meta.calls(name).length;
    await meta.faults({
      match: name,
      kind: "error-before",
      code,
      times: 9,
      ...(subcode === undefined ? {} : { subcode }),
    });
    expect(await post(meta.graph)).toMatchObject({ kind: outcome, failure: { reason, code } });
    expect(meta.calls(name)).toHaveLength(calls + 1);
  });

  test.each([
    { what: "its deadline has passed", late: () => ({ signal, sendDeadline: Date.now() }) },
    { what: "its turn has ended", late: () => ({ ...send(), signal: AbortSignal.abort() }) },
  ])("is not sent, and had no effect, when $what", async ({ late }) => {
    const meta = await startMeta();
    const post = await posts[name](meta);
    const calls = meta.model.calls.length;
    expect(await post(meta.graph, late())).toMatchObject({ kind: "no-effect" });
    expect(meta.model.calls).toHaveLength(calls);
  });
});

describe("the grant to the system user (E10)", () => {
  test("opens a WABA to the system token, and may be set again", async () => {
    const meta = await startMeta();
    const { businessId, wabaId } = await meta.customer();
    await meta.world({
      wabas: [{ id: wabaId, ownerBusinessId: businessId, currency: "EUR", systemUserAssigned: false }],
    });
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toMatchObject({ known: false });
    const target = { wabaId, systemUserId };
    expect(await meta.graph.assignSystemUser(target, send())).toEqual({ kind: "done" });
    expect(await meta.graph.assignSystemUser(target, send())).toEqual({ kind: "done" });
    expect(await meta.graph.readFunding(wabaId, undefined, signal)).toEqual({ known: true, blind: true });
    expect(meta.model.changes.filter(({ kind }) => kind === "user_assigned")).toHaveLength(1);
    expect(meta.calls("E10")[0]).toMatchObject({
      method: "POST",
      path: `/${wabaId}/assigned_users`,
      tokenKind: "system",
      query: { user: systemUserId, tasks: "['MANAGE']" },
    });
  });

  test.each([
    { fault: { kind: "5xx-after" }, failure: { class: "transient" } },
    { fault: { kind: "cut-before" }, failure: { class: "transient" } },
    { fault: { kind: "error-before", code: 200 }, failure: { class: "permission", reason: "permission_denied" } },
    { fault: { kind: "error-before", code: 190 }, failure: { class: "token_dead", reason: "token_dead" } },
    { fault: { kind: "error-before", code: 100, subcode: 33 }, failure: { class: "missing" } },
  ])("is sent once and failed when Meta answers with $fault", async ({ fault, failure }) => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({ match: "E10", ...fault, times: 9 });
    const outcome = await meta.graph.assignSystemUser({ wabaId, systemUserId }, send());
    expect(outcome).toMatchObject({ kind: "failed", failure });
    expect(outcome).not.toHaveProperty("throttledUntil");
    expect(meta.calls("E10")).toHaveLength(1);
  });

  test("says until when to stop when Meta throttles", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    await meta.faults({ match: "E10", kind: "throttle", ms: 180_000 });
    expect(await meta.graph.assignSystemUser({ wabaId, systemUserId }, send())).toMatchObject({
      kind: "failed",
      failure: { class: "throttled" },
      throttledUntil: expect.closeTo(Date.now() + 180_000, -4),
    });
  });

  test("is not sent after its deadline", async () => {
    const meta = await startMeta();
    const { wabaId } = await meta.customer();
    const late = { signal, sendDeadline: Date.now() };
    expect(await meta.graph.assignSystemUser({ wabaId, systemUserId }, late)).toMatchObject({ kind: "failed" });
    expect(meta.model.calls).toEqual([]);
  });
});

test("no token of either kind is in what a failed share of two calls tells", async () => {
  const message = `Malformed access token ${systemToken} EAAbusinessToken123456`;
  const server = await startJsonServer({ error: { code: 190, message, fbtrace_id: "A1" } }, { status: 401 });
  const { graph, secrets } = clientOf(server.url);
  secrets["customer"] = "a-token-without-a-known-shape";
  const told = JSON.stringify([
    await graph.shareWithBusiness({ creditLineId: "20", businessId: "11" }, send()),
    await graph.attach({ ...targetOf({ wabaId: "12" }), businessTokenSecret: "customer" }, send()),
    await graph.assignSystemUser({ wabaId: "12", systemUserId }, send()),
  ]);
  expect(told.match(/A1/g)).toHaveLength(3);
  expect(told).not.toMatch(/EAA|without-a-known-shape/);
});
