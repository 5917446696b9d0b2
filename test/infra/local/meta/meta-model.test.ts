import * as fc from "fast-check";
import { expect, test } from "vitest";
import * as z from "zod";
import { answerCall, handleGraphCall, receiveCall } from "../../../../infra/local/meta/meta-graph.ts";
import type { MetaModel } from "../../../../infra/local/meta/meta-model.ts";
import { createMetaModel, exportWorld, shownFundingId } from "../../../../infra/local/meta/meta-model.ts";
import type { Variants } from "../../../../infra/local/meta/meta-variants.ts";
import { variantsSchema } from "../../../../infra/local/meta/meta-variants.ts";
import { parseWorld } from "../../../../infra/local/meta/meta-world.ts";
import { line, sampleWorld, systemToken, waba } from "./meta-fixture.ts";

function buildModel(variants: Partial<Variants> = {}, wabas = sampleWorld().wabas): MetaModel {
  const world = parseWorld(sampleWorld({ wabas }));
  if (!world.success) throw world.error;
  return createMetaModel(world.data, variantsSchema.parse(variants), 0);
}

function shareRequest(wabaId: string, now: number) {
  const query = { waba_id: wabaId, waba_currency: "EUR" };
  return { method: "POST", path: `/v25.0/${line}/whatsapp_credit_sharing_and_attach`, query, token: systemToken, now };
}

function deleteRequest(id: string, now: number) {
  return { method: "DELETE", path: `/v25.0/${id}`, query: {}, token: systemToken, now };
}

function fundings(model: MetaModel, now: number): Record<string, string | undefined> {
  return Object.fromEntries([...model.wabas.values()].map((item) => [item.id, shownFundingId(model, item, now)]));
}

test("a call that arrives has no effect until it is applied, then by the state of that later time", () => {
  const model = buildModel();
  const received = receiveCall(model, shareRequest(waba, 1000));
  expect(model.calls).toHaveLength(1);
  expect(model.changes).toEqual([]);
  const earlier = handleGraphCall(model, shareRequest(waba, 2000));
  const later = answerCall(model, received, 3000);
  expect(later.body).toEqual(earlier.body);
  expect(model.calls[0]).toMatchObject({ time: 1000, landedAt: 3000, status: 200 });
  expect(model.changes.every((change) => change.callNumber === 2)).toBe(true);
});

test("the same history gives the same world, ledger and answers", () => {
  function run() {
    const model = buildModel({ repeatedShare: "second" });
    const answers = [1, 2, 3].map((now) => handleGraphCall(model, shareRequest(waba, now)));
    return { answers, world: exportWorld(model), changes: model.changes, calls: model.calls };
  }
  expect(run()).toEqual(run());
});

const wabaIds = ["120000000000001", "120000000000002", "120000000000003", "120000000000004"];
const step = fc.oneof(
  fc.record({ kind: fc.constant("share" as const), index: fc.nat({ max: 3 }) }),
  fc.record({ kind: fc.constant("delete" as const), index: fc.nat({ max: 7 }) }),
);
const variants = fc.record({
  repeatedShare: fc.constantFrom("same" as const, "second" as const, "error-4000" as const),
  credentialPer: fc.constantFrom("business" as const, "waba" as const, "waba-one-record" as const),
  reshareAfterRevoke: fc.constantFrom("works-new-id" as const, "works-same-id" as const, "refused" as const),
});

test("in every history a WABA is funded while, and only while, a live record has it attached", () => {
  fc.assert(
    fc.property(variants, fc.array(step, { maxLength: 25 }), (drawn, steps) => {
      // Two businesses with two WABAs each.
      const wabas = wabaIds.map((id, index) => ({
        id,
        ownerBusinessId: `11000000000000${index % 2}`,
        currency: "EUR",
      }));
      const model = buildModel(drawn, wabas);
      // What should hold, kept apart from the model: which records hold which WABA.
      const holders = new Map(wabaIds.map((id) => [id, new Set<string>()]));
      for (const [now, { kind, index }] of steps.entries()) {
        const allocationIds = [...model.allocations.keys()];
        const id = kind === "share" ? (wabaIds[index] ?? "") : (allocationIds[index % allocationIds.length] ?? "");
        if (id === "") continue;
        const answer = handleGraphCall(model, kind === "share" ? shareRequest(id, now) : deleteRequest(id, now));
        if (kind === "delete") for (const held of holders.values()) held.delete(id);
        if (kind === "share" && answer.status === 200)
          holders.get(id)?.add(z.string().parse(answer.body["allocation_config_id"]));
        const funded = Object.entries(fundings(model, now)).filter(([, fundingId]) => fundingId !== undefined);
        const expected = wabaIds.filter((wabaId) => (holders.get(wabaId)?.size ?? 0) > 0);
        expect(funded.map(([wabaId]) => wabaId)).toEqual(expected);
      }
    }),
    { numRuns: 200 },
  );
});

test("in every history the ledger alone rebuilds which records live and which WABAs they hold", () => {
  fc.assert(
    fc.property(variants, fc.array(step, { maxLength: 25 }), (drawn, steps) => {
      const wabas = wabaIds.map((id) => ({ id, ownerBusinessId: "110000000000001", currency: "EUR" }));
      const model = buildModel(drawn, wabas);
      for (const [now, { kind, index }] of steps.entries()) {
        const id = kind === "share" ? wabaIds[index] : [...model.allocations.keys()][index];
        if (id === undefined) continue;
        handleGraphCall(model, kind === "share" ? shareRequest(id, now) : deleteRequest(id, now));
      }
      const held = new Map<string, Set<string>>();
      for (const { kind, allocationId = "", wabaId = "" } of model.changes) {
        if (kind === "allocation_created" || kind === "allocation_revived") held.set(allocationId, new Set());
        if (kind === "waba_attached") held.get(allocationId)?.add(wabaId);
        if (kind === "waba_detached") held.get(allocationId)?.delete(wabaId);
        if (kind === "allocation_deleted") held.delete(allocationId);
      }
      const live = exportWorld(model).allocations.filter(({ status }) => status === "live");
      expect(new Map([...held].map(([id, ids]) => [id, [...ids].toSorted()]))).toEqual(
        new Map(live.map((allocation) => [allocation.id, allocation.wabaIds.toSorted()])),
      );
    }),
    { numRuns: 200 },
  );
});
