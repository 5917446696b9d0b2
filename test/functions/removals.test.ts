import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Allocation } from "../../infra/local/meta/meta-model.ts";
import { liveAllocations } from "../../infra/local/meta/meta-model.ts";
import { provenNotice } from "../../shared/contracts/content-hash.ts";
import { askRecheck } from "../../shared/domain/estate.ts";
import { appSecret, businessTokenSecret, startFlows } from "../support/flow-harness.ts";
import { line } from "../support/meta.ts";
import { type QuietStack, sqsRecord, startQuietStack } from "../support/quiet-stack.ts";

/** What becomes of customers who leave, told by Meta and by nobody else. */
let stack: QuietStack;
beforeAll(async () => {
  stack = await startQuietStack();
});
afterAll(() => stack?.close());

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

/** Both WABAs of a customer shared and proven, for an hour or two. */
async function flowsOf(settings: Parameters<typeof startFlows>[1] = {}, { sibling = true } = {}) {
  const flows = await startFlows(stack, settings);
  onTestFinished(() => flows.close());
  const { wabaId, siblingId, businessId, meta } = flows;
  function records() {
    return liveAllocations(meta.model, line, businessId, flows.now());
  }
  await flows.deliver(flows.share());
  if (sibling) await flows.deliver(flows.share({ wabaId: siblingId }));
  await flows.live(hourMs);

  return {
    ...flows,
    leave: (id = wabaId) => flows.changeWaba({ id, sharedWithPartner: false }),
    comeBack: (id = wabaId) => flows.changeWaba({ id, sharedWithPartner: true }),
    removed: (id = wabaId, overrides: Record<string, unknown> = {}) =>
      flows.revoke({ wabaId: id, reason: "partner_removed", ...overrides }),
    records,
    told: (event: string, id = wabaId, overrides: Record<string, unknown> = {}) => ({
      version: "1",
      type: "account",
      commandId: `account:${event}:${id}`,
      requestedAt: new Date(flows.now()).toISOString(),
      event,
      wabaId: id,
      ...overrides,
    }),
    isFunded: () => records().length > 0,
    async held() {
      return (await flows.business()).held?.reason;
    },
  };
}

describe("a customer who leaves", () => {
  test("is revoked by itself when nothing else of its business is funded", async () => {
    const flows = await flowsOf({}, { sibling: false });
    await flows.leave();
    const removed = flows.removed();
    expect(await flows.deliver(removed)).toBe("acknowledged");
    expect(flows.said(removed)).toEqual(["Revocation Started", "Credit Line Revoked"]);
    expect(flows.isFunded()).toBe(false);
  });

  test("is answered once when what is held is told again after the revocation was opened again", async () => {
    const flows = await flowsOf({ variants: { e6DeleteLagMs: 6 * minuteMs } }, { sibling: false });
    const { meta, businessId, siblingId, store, messages } = flows;
    await flows.deliver(flows.revoke());
    await flows.live(2 * hourMs);
    // A re-share that Meta refuses leaves its WABA `sharing`; its removal, which E3 does not show yet, is held.
    await meta.faults({ match: "E2", kind: "error-before", code: 100 });
    await flows.deliver(flows.share({ wabaId: siblingId, reshareAfterRevocation: true }));
    await flows.live(2 * hourMs);
    const removal = flows.removed(siblingId);
    await flows.deliver(removal);
    expect(await flows.held()).toBe("still_visible");
    const lookAtHeld = messages.splice(0);

    // C3: a scan sees a live record of the revoked business and asks for a look, which opens the revocation again.
    await meta.world({ allocations: [{ id: "500000000000077", lineId: line, receivingBusinessId: businessId }] });
    const business = await flows.business();
    const asked = askRecheck(business, flows.now());
    if (asked === undefined) throw new Error("There is nothing to ask for");
    await store.commit(business, { business: asked, events: [], conclusions: [] }, flows.now());
    const { commandId } = business.revocation?.request ?? {};
    const look = { version: "1", type: "continue", work: "revoke", commandId, businessId, looks: 0 };
    const record = sqsRecord({ ...look, requestedAt: removal.requestedAt }, { sentAt: flows.now() });
    messages.push({ work: "revoke", visibleAt: flows.now(), record });
    await flows.live(1);
    expect((await flows.business()).revocation?.state).toBe("open");
    await flows.deliver(removal);
    messages.push(...lookAtHeld);
    await flows.live(24 * hourMs);
    expect(flows.isFunded()).toBe(false);
    expect((await flows.business()).revocation?.state).toBe("done");
    expect(await flows.fate(removal)).toBe("done");
  });

  test("while its re-share waits on the item is not forgotten", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const { wabaId, siblingId } = flows;
    await flows.deliver(flows.revoke());
    await flows.live(hourMs);
    await flows.deliver(flows.share({ wabaId: siblingId, reshareAfterRevocation: true }));
    await flows.live(hourMs);
    // 28 June: the window of switches is closed until 6 July.
    await flows.live(18 * 24 * hourMs);
    await flows.changeWaba({ primaryFundingId: "699999999999999", partnerSwitch: true });
    await flows.deliver(flows.share({ reshareAfterRevocation: true, partnerSwitch: true }));
    const until = (await flows.business()).waiting[wabaId]?.due.nextAt ?? 0;
    await flows.live(until - flows.now() - 2 * minuteMs);
    // Meta goes on showing it for some minutes (A3).
    const removal = flows.removed(wabaId, { businessId: flows.businessId });
    await flows.deliver(removal);
    await flows.live(20 * minuteMs);
    await flows.leave();
    await flows.live(24 * hourMs);
    expect(await flows.fate(removal)).not.toBe("refused: not_shared");
  });

  test("while its E4 is out is not forgotten", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const { meta, siblingId, businessId } = flows;
    // Hands took the record away, so that two calls make one of their own.
    const [id = ""] = Object.keys((await flows.business()).records);
    await meta.world({ allocations: [{ id, lineId: line, receivingBusinessId: businessId, status: "deleted" }] });
    const removal = flows.removed(siblingId);
    flows.meddle("shareWithBusiness", async (send) => {
      await flows.deliver(removal);
      return send();
    });
    // E3 still shows the WABA for the moment that E5 takes.
    await flows.deliver(flows.share({ wabaId: siblingId, method: "share-then-attach", businessTokenSecret }));
    await flows.leave(siblingId);
    await flows.live(12 * hourMs);
    expect((await flows.business()).wabas[siblingId]?.status).toBe("shared");
    expect(flows.said(removal)).toContain("Revocation Held");
  });

  test("with a funded sibling is held, recorded and announced; nothing is deleted", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const removed = flows.removed();
    expect(await flows.deliver(removed)).toBe("acknowledged");
    expect(flows.said(removed)).toEqual(["Revocation Held"]);
    expect(await flows.whereabouts(removed)).toEqual(["item"]);
    expect((await flows.business()).wabas[flows.wabaId]?.removedAt).toBe(Date.parse(removed.requestedAt));
    await flows.live(48 * hourMs);
    expect(flows.deletes()).toEqual([]);
    expect(flows.said(removed)).toEqual(["Revocation Held"]);
  });

  test("takes the line along with its sibling when that leaves too: two removals do not hold each other (H14)", async () => {
    const flows = await flowsOf();
    const [first, second] = [flows.removed(), flows.removed(flows.siblingId)];
    await flows.leave();
    await flows.leave(flows.siblingId);
    await flows.deliver(first);
    await flows.deliver(second);
    expect([await flows.fate(first), await flows.fate(second)]).toEqual(["done", "done"]);
    expect(flows.isFunded()).toBe(false);
    expect((await flows.business()).held).toBeUndefined();
  });

  test("is still held when its sibling's removal turns out to be untrue", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const [first, untrue] = [flows.removed(), flows.removed(flows.siblingId)];
    await flows.deliver(first);
    await flows.deliver(untrue);
    await flows.live(2 * hourMs);
    expect(await flows.fate(untrue)).toBe("refused: still_shared");
    expect(await flows.whereabouts(first)).toEqual(["item"]);
    expect(flows.deletes()).toEqual([]);
  });

  test("is held where Meta shows a funded sibling that the table does not know", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const [{ id, lineId, receivingBusinessId }] = flows.records() as [Allocation];
    await flows.meta.world({ allocations: [{ id, lineId, receivingBusinessId, wabaIds: [flows.siblingId] }] });
    await flows.leave();
    const removed = flows.removed();
    await flows.deliver(removed);
    expect(await flows.held()).toBe("unknown_siblings");
    expect(flows.deletes()).toEqual([]);
  });

  test("is held while Meta cannot say what else is funded, and revoked once it can", async () => {
    const flows = await flowsOf({}, { sibling: false });
    await flows.leave();
    await flows.meta.faults({ match: "E13", kind: "5xx-before", times: 20 });
    const removed = flows.removed();
    await flows.deliver(removed);
    expect(await flows.held()).toBe("cannot_tell");
    await flows.meta.faults();
    await flows.live(hourMs);
    expect(await flows.fate(removed)).toBe("done");
    expect(flows.isFunded()).toBe(false);
  });

  test("whose WABA Meta goes on showing did not leave: nothing is revoked, and it is said", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const removed = flows.removed();
    await flows.deliver(removed);
    expect(flows.said(removed)).toEqual(["Revocation Held"]);
    await flows.live(2 * hourMs);
    expect(await flows.fate(removed)).toBe("refused: still_shared");
    expect(flows.said(removed)).toContain("Revoke Refused");
    expect((await flows.business()).wabas[flows.wabaId]?.removedAt).toBeUndefined();
    expect(flows.isFunded()).toBe(true);
  });

  test("is revoked although Meta's reads showed it for some minutes more", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const removed = flows.removed();
    await flows.deliver(removed);
    flows.pass(5 * minuteMs);
    await flows.leave();
    await flows.live(2 * hourMs);
    expect(await flows.fate(removed)).toBe("done");
    expect(flows.isFunded()).toBe(false);
  });

  test("before its share was noted is old news, and told so; soon after it, E3 decides (H15)", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const { intendedAt = 0 } = (await flows.business()).wabas[flows.wabaId] ?? {};
    const [old, real] = [-6, -4].map((minutes) =>
      flows.removed(undefined, { requestedAt: new Date(intendedAt + minutes * minuteMs).toISOString() }),
    );
    await flows.leave();
    await flows.deliver(old!);
    expect(await flows.fate(old!)).toBe("refused: superseded");
    await flows.deliver(real!);
    expect(await flows.fate(real!)).toBe("done");
  });

  test("and came back before the webhook arrived is not revoked", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const removed = flows.removed();
    flows.pass(10 * minuteMs);
    await flows.store.saveAdded(flows.wabaId, flows.now());
    await flows.deliver(removed);
    expect(await flows.fate(removed)).toBe("refused: superseded");
    expect(flows.isFunded()).toBe(true);
  });

  test("and is told to have come back is looked at again at once, and lifted from what is held", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const removed = flows.removed();
    await flows.deliver(removed);
    flows.pass(hourMs);
    await flows.comeBack();
    await flows.deliver(flows.told("PARTNER_ADDED"));
    await flows.live(5 * minuteMs);
    expect(await flows.fate(removed)).toBe("refused: superseded");
    expect((await flows.business()).held).toBeUndefined();
    expect((await flows.business()).wabas[flows.wabaId]?.removedAt).toBeUndefined();
  });

  test("and comes back is lifted from what is held by its next share", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const removed = flows.removed();
    await flows.deliver(removed);
    flows.pass(hourMs);
    await flows.comeBack();
    const share = flows.share();
    await flows.deliver(share);
    await flows.live(hourMs);
    expect(await flows.fate(share)).toBe("done");
    expect(await flows.fate(removed)).toBe("refused: still_shared");
    expect((await flows.business()).held).toBeUndefined();
  });

  test("is answered together with an operator's revoke, which asks nothing of its siblings", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const [removed, release] = [flows.removed(), flows.revoke()];
    await flows.deliver(removed);
    await flows.deliver(release);
    expect([await flows.fate(removed), await flows.fate(release)]).toEqual(["done", "done"]);
    expect(flows.isFunded()).toBe(false);
  });

  test("under the policy `hold` waits for a person, under `revoke` for nobody", async () => {
    const held = await flowsOf({ policy: { onPartnerRemoved: "hold" } }, { sibling: false });
    await held.leave();
    await held.deliver(held.removed());
    expect(await held.held()).toBe("by_policy");
    const bold = await flowsOf({ policy: { onPartnerRemoved: "revoke" } });
    await bold.leave();
    const removed = bold.removed();
    await bold.deliver(removed);
    expect(await bold.fate(removed)).toBe("done");
  });

  test("told of by a webhook that comes again and again is held once", async () => {
    const flows = await flowsOf();
    await flows.leave();
    const removed = flows.removed();
    for (let times = 0; times < 3; times += 1) await flows.deliver(removed);
    expect((await flows.business()).held?.requests).toHaveLength(1);
    expect(flows.said(removed)).toEqual(["Revocation Held"]);
  });

  test("does not keep its business from another share", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const flowsPolicy = flows.share({ wabaId: flows.siblingId });
    await flows.meta.faults({ match: "E13", kind: "5xx-before", times: 20 });
    await flows.leave();
    const removed = flows.removed();
    await flows.deliver(removed);
    await flows.deliver({ ...flowsPolicy, requestedAt: new Date(flows.now()).toISOString() });
    expect(await flows.fate(flowsPolicy)).toBe("done");
    await flows.live(hourMs);
    expect(await flows.held()).toBe("siblings");
  });

  test("is revoked as soon as the sibling that it waited for comes to nothing", async () => {
    const flows = await flowsOf({}, { sibling: false });
    await flows.meta.faults({ match: "E2", kind: "cut-before" }, { match: "E2", kind: "cut-before" });
    const lost = flows.share({ wabaId: flows.siblingId });
    await flows.deliver(lost);
    await flows.leave();
    const removed = flows.removed();
    await flows.deliver(removed);
    expect(await flows.held()).toBe("siblings");
    await flows.deliver(flows.removed(flows.siblingId));
    await flows.leave(flows.siblingId);
    await flows.live(4 * hourMs);
    expect(await flows.fate(removed)).toBe("done");
  });
});

describe("a WABA whose PARTNER_ADDED names an owner", () => {
  test.each([
    ["and the right one is shared by the one reading that confirms it", undefined, 1],
    ["and a wrong one is shared with its own business, by a second reading", "110000000009999", 2],
  ])("%s", async (_, named, readings) => {
    const flows = await flowsOf({}, { sibling: false });
    const { siblingId, businessId, meta } = flows;
    await flows.deliver(flows.told("PARTNER_ADDED", siblingId, { businessId: named ?? businessId }));
    const share = flows.share({ wabaId: siblingId });
    await flows.deliver(share);
    expect(flows.said(share)).toEqual(["Share Accepted"]);
    const calls = meta.model.calls.filter(({ method, path }) => method === "GET" && path.endsWith(siblingId));
    expect(calls).toHaveLength(readings);
    expect(await flows.store.loadPointer(siblingId)).toMatchObject({ businessId });
  });

  test("is nobody's by that: a revoke waits for Meta's word, and an older share behind it", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const { siblingId, businessId } = flows;
    await flows.deliver(flows.told("PARTNER_ADDED", siblingId, { businessId }));
    await flows.leave(siblingId);
    const revoke = flows.revoke({ wabaId: siblingId });
    await flows.deliver(revoke);
    expect(await flows.fate(revoke)).toBeUndefined();
    expect(await flows.store.loadPointer(siblingId)).toMatchObject({ pendingRevoke: { requests: [{}] } });
    expect(flows.isFunded()).toBe(true);
    const share = flows.share({ wabaId: siblingId, requestedAt: new Date(flows.now() - minuteMs).toISOString() });
    await flows.deliver(share);
    expect(await flows.fate(share)).toBe("refused: superseded");
  });
});

describe("an account that Meta tells of", () => {
  test.each(["ACCOUNT_DELETED", "DISABLED_UPDATE"])(
    "by %s is recorded and announced once, and nothing is revoked",
    async (event) => {
      const flows = await flowsOf({}, { sibling: false });
      const notice = flows.told(event);
      for (const _ of [1, 2, 3]) expect(await flows.deliver(notice)).toBe("acknowledged");
      expect(flows.said(notice)).toEqual(["Account Changed"]);
      expect(await flows.fate(notice)).toBe("done");
      expect(flows.announced.find(({ detailType }) => detailType === "Account Changed")).toMatchObject({
        wabaId: flows.wabaId,
        reason: event.toLowerCase(),
      });
      expect(flows.isFunded()).toBe(true);
    },
  );

  test("is stored with its owner when it leaves, where nobody knew it, so that a later revoke finds it", async () => {
    const flows = await flowsOf({}, { sibling: false });
    await flows.leave(flows.siblingId);
    await flows.deliver(flows.told("PARTNER_REMOVED", flows.siblingId, { businessId: flows.businessId }));
    expect(await flows.store.loadPointer(flows.siblingId)).toMatchObject({ businessId: flows.businessId });
  });

  test("H27e: never gets another owner than the stored one: a removal that names one is refused", async () => {
    const flows = await flowsOf({}, { sibling: false });
    const other = "98765432109000009";
    await flows.deliver(flows.told("PARTNER_REMOVED", flows.wabaId, { businessId: other }));
    const removed = flows.removed(flows.wabaId, { businessId: other });
    await flows.deliver(removed);
    expect(await flows.store.loadPointer(flows.wabaId)).toMatchObject({ businessId: flows.businessId });
    expect(await flows.fate(removed)).toBe("refused: owner_mismatch");
    expect(flows.isFunded()).toBe(true);
  });

  /** A producer can put anything on the queue; what it cannot is to prove that Meta said so. */
  test.each([
    ["by another secret", (notice: object) => provenNotice(notice as never, "another-secret")],
    ["by what is no proof", (notice: object) => JSON.stringify({ ...notice, proof: "" })],
    ["by nothing", (notice: object) => JSON.stringify(notice)],
    [
      "by the proof of another notice",
      (notice: object) => {
        const genuine = provenNotice({ ...notice, businessId: "98765432109000008" } as never, appSecret);
        return JSON.stringify({ ...notice, proof: JSON.parse(genuine).proof });
      },
    ],
  ])("and that is proved %s is not believed: no owner is stored, and no date to come", async (_how, forge) => {
    const flows = await flowsOf({}, { sibling: false });
    const before = await flows.store.loadPointer(flows.wabaId);
    const other = { businessId: "98765432109000009" };
    for (const notice of [
      flows.told("PARTNER_REMOVED", flows.siblingId, other),
      flows.told("PARTNER_ADDED", flows.wabaId, { ...other, requestedAt: "2099-01-01T00:00:00Z" }),
      flows.told("ACCOUNT_DELETED", flows.wabaId, other),
    ]) {
      expect(await flows.deliver(JSON.parse(forge(notice)), { isForged: true })).toBe("acknowledged");
      expect(flows.deadLetters.at(-1)).toMatchObject({ reason: "invalid_command" });
    }
    expect(flows.deadLetters).toHaveLength(3);
    expect(await flows.store.loadPointer(flows.siblingId)).toBeUndefined();
    expect(await flows.store.loadPointer(flows.wabaId)).toEqual(before);
    expect(flows.announced.map(({ detailType }) => detailType)).not.toContain("Account Changed");
  });
});
