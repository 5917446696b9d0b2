import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { liveAllocations } from "../../infra/local/meta/meta-model.ts";
import { businessTokenSecret, startFlows } from "../support/flow-harness.ts";
import { line } from "../support/meta.ts";
import { type QuietStack, startQuietStack } from "../support/quiet-stack.ts";

/** Histories that once broke a promise of design.md §1, each as short as it was found. */
let stack: QuietStack;
beforeAll(async () => {
  stack = await startQuietStack();
});
afterAll(() => stack?.close());

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const otherLine = "400000000000009";
const strangerFunding = "699999999999999";

async function flowsOf(settings: Parameters<typeof startFlows>[1] = {}) {
  const flows = await startFlows(stack, settings);
  onTestFinished(() => flows.close());
  return flows;
}

/** The line was shared and proven, then revoked, a few minutes ago. */
async function revokedFlows() {
  const flows = await flowsOf();
  await flows.deliver(flows.share());
  await flows.live(20 * minuteMs);
  await flows.deliver(flows.revoke());
  expect((await flows.business()).revocation?.state).toBe("done");
  flows.pass(6 * minuteMs);
  return flows;
}

describe("a share", () => {
  test("that was refused after its attempt had been closed without effect is never sent again", async () => {
    const flows = await revokedFlows();
    const { meta, wabaId } = flows;
    const reshare = flows.share({ reshareAfterRevocation: true });
    expect(await flows.deliver(reshare)).toBe("acknowledged");
    await meta.faults({ match: "E2", kind: "error-before", code: 200 });
    flows.meddle("shareAndAttach", async (send) => {
      const outcome = await send();
      await flows.changeWaba({ primaryFundingId: strangerFunding });
      return outcome;
    });
    await flows.live(hourMs);
    expect(await flows.fate(reshare)).toBe("refused: funded_elsewhere");

    const posts = flows.posts().length;
    await flows.changeWaba({ primaryFundingId: null });
    await flows.live(24 * hourMs);
    expect(flows.posts()).toHaveLength(posts);
    expect((await flows.business()).wabas[wabaId]?.status).toBe("sharing");
  });

  test("that waits behind another one's attempt is asked about by itself, before any sweep", async () => {
    const flows = await flowsOf();
    await flows.meta.faults({ match: "E2", kind: "cut-before" });
    await flows.deliver(flows.share());
    flows.pass(1000);
    const second = flows.share();
    await flows.deliver(second);
    expect(await flows.whereabouts(second)).toEqual(["item"]);
    const asked = flows.messages.map(({ record }) => JSON.parse(record.body));
    expect(asked).toContainEqual(expect.objectContaining({ type: "continue", commandId: second.commandId }));
  });

  test("is not refused by a duplicate that asked before the customer shared its WABA", async () => {
    const flows = await flowsOf();
    const share = flows.share();
    await flows.changeWaba({ sharedWithPartner: false });
    const [asked, sent] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    flows.meddle("readWaba", async (read) => {
      const reply = await read();
      asked.resolve();
      await sent.promise;
      return reply;
    });
    const slow = flows.deliver(share);
    await asked.promise;
    await flows.changeWaba({ sharedWithPartner: true });
    flows.meddle("shareAndAttach", async (send) => {
      const outcome = await send();
      sent.resolve();
      await slow;
      return outcome;
    });
    await flows.deliver(share);
    await flows.live(hourMs);
    expect([await flows.fate(share), flows.said(share)]).toEqual(["done", ["Share Accepted", "Share Verified"]]);
  });

  test("is not sent when its duplicate refused it as the first command of its business", async () => {
    const flows = await flowsOf({ policy: { systemUserId: "300000000000009" } });
    const { wabaId, businessId, store } = flows;
    await store.claimOwner(wabaId, businessId, { overPendingRevoke: false });
    const share = flows.share();
    await flows.changeWaba({ primaryFundingId: strangerFunding });
    const [asked, granting] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    flows.meddle("readWaba", async (read) => {
      const reply = await read();
      asked.resolve();
      return reply;
    });
    flows.meddle("listAllocations", async (list) => {
      await granting.promise;
      return list();
    });
    const slow = flows.deliver(share);
    await asked.promise;
    // The customer takes its own payment off; the other delivery is past its look at the command's row.
    await flows.changeWaba({ primaryFundingId: null });
    flows.meddle("assignSystemUser", async () => {
      granting.resolve();
      await slow;
      return { kind: "done" } as const;
    });
    await flows.deliver(share);
    expect(await flows.fate(share)).toBe("refused: funded_elsewhere");
    expect(flows.posts()).toEqual([]);
  });

  test("is not refused by a duplicate whose reads at Meta show what the attempt is just bringing about", async () => {
    const flows = await flowsOf({ variants: { credentialPer: "waba", e8ShareLagMs: 10 * minuteMs } });
    await flows.deliver(flows.share({ wabaId: flows.siblingId }));
    flows.pass(1000);

    const share = flows.share();
    const [loaded, landed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    flows.meddle("readWaba", (read) => read());
    flows.meddle("readWaba", async (read) => {
      loaded.resolve();
      await landed.promise;
      return read();
    });
    const duplicate = flows.deliver(share);
    await loaded.promise;
    flows.meddle("shareAndAttach", async (send) => {
      const answer = await send();
      landed.resolve();
      expect(await duplicate).toBe("acknowledged");
      return answer;
    });
    expect(await flows.deliver(share)).toBe("acknowledged");
    await flows.live(hourMs);
    expect(await flows.fate(share)).toBe("done");
    expect(flows.said(share)).toEqual(["Share Accepted", "Share Verified"]);
  });

  test("that waits while an attempt is closed and made again is answered all the same", async () => {
    const flows = await flowsOf();
    const [first, second] = [flows.share(), flows.share()];
    await flows.meta.faults({ match: "E2", kind: "throttle" });
    flows.meddle("shareAndAttach", async (send) => {
      flows.pass(1000);
      expect(await flows.deliver({ ...second, requestedAt: new Date(flows.now()).toISOString() })).toBe("acknowledged");
      return send();
    });
    expect(await flows.deliver(first)).toBe("acknowledged");
    await flows.live(2 * hourMs);
    expect([await flows.fate(first), await flows.fate(second)]).toEqual(["done", "done"]);
  });

  test.each([
    { what: "throttled", fault: { kind: "throttle" }, waits: "queue" },
    { what: "without effect", fault: { kind: "error-before", code: 200 }, waits: "item" },
  ])("in whose turn another command's second POST is $what waits itself ($waits)", async ({ fault, waits }) => {
    const flows = await flowsOf();
    const [first, second] = [flows.share(), flows.share()];
    await flows.meta.faults({ match: "E2", kind: "cut-before" }, { match: "E2", ...fault });
    await flows.deliver(first);
    await flows.live(5 * minuteMs);
    flows.pass(45 * minuteMs);
    const posts = flows.posts().length;
    await flows.deliver({ ...second, requestedAt: new Date(flows.now()).toISOString() });
    expect(flows.posts()).toHaveLength(posts + 1);
    expect(await flows.whereabouts(first)).toContain("item");
    expect(await flows.whereabouts(second)).toEqual([waits]);
  });

  test("in doubt because one token alone saw nothing is found by the token that a later share brings", async () => {
    const flows = await flowsOf({ variants: { fundingVisibleTo: "business" } });
    await flows.deliver(flows.share({ wabaId: flows.siblingId, businessTokenSecret }));
    await flows.live(hourMs);
    await flows.meta.faults({ match: "E2", kind: "cut-after" });
    const share = flows.share();
    await flows.deliver(share);
    await flows.live(3 * hourMs);
    expect(flows.said(share)).toEqual(["Share In Doubt"]);
    const posts = flows.posts().length;
    const again = flows.share({ businessTokenSecret });
    await flows.deliver(again);
    expect([await flows.fate(share), await flows.fate(again)]).toEqual(["done", "done"]);
    expect(flows.posts()).toHaveLength(posts);
  });

  test("is sent a second time on the line of its first attempt, whatever is configured since", async () => {
    const flows = await flowsOf();
    await flows.meta.world({ lines: [{ id: otherLine, ownerBusinessId: flows.policy.partnerBusinessId }] });
    await flows.meta.faults({ match: "E2", kind: "cut-before" });
    const share = flows.share();
    await flows.deliver(share);
    flows.policy.creditLineId = otherLine;
    await flows.live(2 * hourMs);
    expect(flows.posts().map(({ path }) => path.split("/").at(-2))).toEqual([line, line]);
    expect(await flows.fate(share)).toBe("done");
    const { wabas, records } = await flows.business();
    const lines = [wabas[flows.wabaId], ...Object.values(records)].map((one) => one?.creditLineId);
    expect(lines).toEqual([line, line]);
  });

  test("is not answered twice when it is revoked before its verification", async () => {
    const flows = await flowsOf();
    const share = flows.share();
    await flows.deliver(share);
    flows.pass(10 * minuteMs);
    await flows.deliver(flows.revoke());
    await flows.live(hourMs);
    expect(flows.said(share)).toEqual(["Share Accepted"]);
    expect(await flows.fate(share)).toBe("done");
  });

  test("of the same id and other content is rejected while the first is unsettled, which goes on", async () => {
    const flows = await flowsOf();
    const share = flows.share();
    await flows.meta.faults({ match: "E2", kind: "cut-after" });
    await flows.deliver(share);
    const other = { ...share, currency: "USD" };
    expect(await flows.deliver(other)).toBe("acknowledged");
    expect(flows.deadLetters).toEqual([{ body: JSON.stringify(other), reason: "command_id_reused" }]);
    expect(flows.said(share)).toEqual(["Command Rejected"]);
    await flows.live(5 * minuteMs);
    expect(await flows.fate(share)).toBe("done");
  });

  test("tells the owner that only its business token can read to the older revoke that waits for it", async () => {
    const flows = await flowsOf();
    const { wabaId, businessId } = flows;
    const revoke = flows.revoke({ wabaId });
    // To the system user the WABA is invisible for as long as it has no task on it.
    await flows.changeWaba({ systemUserAssigned: false });
    await flows.deliver(revoke);
    expect((await flows.store.loadPointer(wabaId))?.pendingRevoke).toBeDefined();
    flows.pass(10 * minuteMs);
    const share = flows.share({ businessTokenSecret });
    expect(await flows.deliver(share)).toBe("acknowledged");
    expect(await flows.store.loadPointer(wabaId)).toMatchObject({ businessId });
    await flows.changeWaba({ systemUserAssigned: true });
    await flows.live(3 * hourMs);
    expect([await flows.fate(revoke), await flows.fate(share)]).toEqual(["done", "done"]);
  });

  test("that takes over the attachment of a re-share is as new as that one to an older revoke, and needs its flag no more", async () => {
    const flows = await flowsOf({ policy: { shareMethod: "share-then-attach" } });
    const { wabaId } = flows;
    await flows.deliver(flows.share({ businessTokenSecret }));
    await flows.live(20 * minuteMs);
    const older = flows.revoke();
    flows.pass(1000);
    await flows.deliver(flows.revoke());
    await flows.live(hourMs);
    await flows.meta.faults({ match: "E5", kind: "error-before", code: 200, times: 1 });
    const reshare = flows.share({ businessTokenSecret, reshareAfterRevocation: true });
    await flows.deliver(reshare);
    expect((await flows.business()).wabas[wabaId]?.status).toBe("allocated");
    flows.pass(1000);
    const share = flows.share({ businessTokenSecret });
    await flows.deliver(share);
    await flows.live(hourMs);
    expect((await flows.business()).wabas[wabaId]?.status).toBe("verified");

    await flows.deliver(older);
    expect(await flows.fate(older)).toBe("refused: superseded");
    expect(flows.deletes()).toHaveLength(1);
    const sibling = flows.share({ wabaId: flows.siblingId, businessTokenSecret });
    await flows.deliver(sibling);
    expect(await flows.fate(sibling)).toBe("done");
  });

  test("does not go before a newer revoke that came to wait for the owner, which somebody else has stored meanwhile", async () => {
    const flows = await flowsOf();
    const { wabaId, businessId } = flows;
    const share = flows.share();
    const revoke = flows.revoke({ wabaId, requestedAt: new Date(flows.now() + minuteMs).toISOString() });
    flows.meddle("readWaba", async (read) => {
      const reply = await read();
      await flows.meta.faults({ match: "E3", kind: "5xx-before", times: 9 });
      await flows.deliver(revoke);
      expect((await flows.store.loadPointer(wabaId))?.pendingRevoke).toBeDefined();
      // As a scan does, or the webhook that tells of the removal.
      await flows.store.claimOwner(wabaId, businessId, { overPendingRevoke: true });
      await flows.meta.faults();
      return reply;
    });
    await flows.deliver(share);
    expect(flows.posts()).toEqual([]);
    await flows.live(hourMs);
    expect([await flows.fate(share), await flows.fate(revoke)]).toEqual(["refused: superseded", "done"]);
    expect(flows.posts()).toEqual([]);
  });

  test("in doubt is announced once, however late its sender tells that it knows nothing", async () => {
    const flows = await flowsOf({ policy: { secondPost: "person" } });
    const share = flows.share();
    const [sent, thawed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await flows.meta.faults({ match: "E2", kind: "cut-before" });
    flows.meddle("shareAndAttach", async (send) => {
      const outcome = await send();
      sent.resolve();
      await thawed.promise;
      return outcome;
    });
    const frozen = flows.deliver(share);
    await sent.promise;
    await flows.live(hourMs);
    expect(flows.said(share)).toEqual(["Share In Doubt"]);
    thawed.resolve();
    await frozen;
    await flows.live(4 * hourMs);
    expect(flows.said(share)).toEqual(["Share In Doubt"]);
  });
});

describe("a verification", () => {
  test.each(["share-and-attach", "share-then-attach"] as const)(
    "that comes while the POST of a share is out waits for it (%s)",
    async (method) => {
      const flows = await flowsOf();
      const verify = flows.verify();
      const isTwoCalls = method === "share-then-attach";
      async function whileSent<T>(send: () => Promise<T>): Promise<T> {
        await flows.deliver(verify);
        return send();
      }
      if (isTwoCalls) flows.meddle("shareWithBusiness", whileSent);
      else flows.meddle("shareAndAttach", whileSent);
      await flows.deliver(flows.share({ method, businessTokenSecret }));
      expect(await flows.fate(verify)).toBeUndefined();
      await flows.live(hourMs);
      expect(await flows.fate(verify)).toBe("done");
    },
  );

  test.each(["E2", "E4"])(
    "that waits for a share in doubt asks no more often than that is looked at (%s)",
    async (post) => {
      const flows = await flowsOf({ policy: { secondPost: "person" } });
      await flows.meta.faults({ match: post, kind: "cut-before" });
      const method = post === "E2" ? "share-and-attach" : "share-then-attach";
      await flows.deliver(flows.share({ method, businessTokenSecret }));
      await flows.live(2 * hourMs);
      await flows.deliver(flows.verify());
      expect(flows.copied()).toBe(1);
      await flows.live(12 * hourMs);
      expect(flows.copied()).toBeLessThan(12 * 10);
    },
  );
});

describe("a revocation", () => {
  test.each(["throttle", "5xx-before"])(
    "is not over while it cannot be read whether a WABA is still funded (E7: %s)",
    async (kind) => {
      const flows = await flowsOf();
      await flows.deliver(flows.share());
      await flows.live(20 * minuteMs);
      await flows.meta.faults({ match: "E7", kind, times: 2 });
      const revoke = flows.revoke();
      await flows.deliver(revoke);
      expect(flows.deletes()).toHaveLength(1);
      expect((await flows.business()).revocation).toMatchObject({ state: "open", openReason: "unreadable" });
      expect(flows.said(revoke)).toEqual(["Revocation Started", "Revocation Incomplete"]);
      await flows.live(hourMs);
      expect(flows.said(revoke).at(-1)).toBe("Credit Line Revoked");
    },
  );

  test("asks what pays for its WABAs side by side: one after the other, hundreds would never fit into a turn", async () => {
    const flows = await flowsOf();
    await flows.deliver(flows.share());
    await flows.deliver(flows.share({ wabaId: flows.siblingId }));
    await flows.live(20 * minuteMs);
    const bothAsked = Promise.withResolvers<void>();
    flows.meddle("readFunding", async (read) => {
      await bothAsked.promise;
      return read();
    });
    flows.meddle("readFunding", (read) => {
      bothAsked.resolve();
      return read();
    });
    expect(await flows.deliver(flows.revoke())).toBe("acknowledged");
    expect((await flows.business()).revocation?.state).toBe("done");
  });

  test("of nothing deletes no share that came after it, however slow its worker is", async () => {
    const flows = await flowsOf();
    const { meta, businessId, wabaId } = flows;
    const revoke = flows.revoke({ requestedAt: new Date(flows.now() - 10 * minuteMs).toISOString() });
    const [loaded, shared] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    flows.meddle("listAllocations", async (list) => {
      loaded.resolve();
      await shared.promise;
      return list();
    });
    const slow = flows.deliver(revoke);
    await loaded.promise;
    await flows.deliver(revoke);
    expect((await flows.business()).revocation?.state).toBe("nothing");
    flows.pass(2000);
    const share = flows.share();
    expect(await flows.deliver(share)).toBe("acknowledged");
    flows.pass(2000);
    shared.resolve();
    await slow;
    await flows.live(2 * hourMs);
    expect(await flows.fate(share)).toBe("done");
    expect((await flows.business()).wabas[wabaId]?.status).toBe("verified");
    expect(liveAllocations(meta.model, line, businessId, flows.now())).toHaveLength(1);
    expect(flows.deletes()).toEqual([]);
  });

  test("of nothing that a duplicate was told meanwhile takes no later share along, however slow it is to begin", async () => {
    const flows = await flowsOf();
    const { wabaId } = flows;
    const revoke = flows.revoke({ wabaId });
    const [asked, shared] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    flows.meddle("readWaba", async (read) => {
      asked.resolve();
      await shared.promise;
      return read();
    });
    const slow = flows.deliver(revoke);
    await asked.promise;
    await flows.deliver(revoke);
    expect((await flows.business()).revocation?.state).toBe("nothing");
    flows.pass(40 * minuteMs);
    const share = flows.share();
    expect(await flows.deliver(share)).toBe("acknowledged");
    await flows.live(hourMs);
    shared.resolve();
    expect(await slow).toBe("acknowledged");
    await flows.live(hourMs);
    expect(flows.deletes()).toEqual([]);
    expect((await flows.business()).wabas[wabaId]?.status).toBe("verified");
    expect(flows.repeated).toMatchObject([{ commandId: revoke.commandId, detailType: "Credit Line Revoked" }]);
  });

  test("is not over by a list that was read before a lost POST landed, however late that run ends", async () => {
    const flows = await flowsOf({ variants: { reshareAfterRevoke: "works-same-id", fundingVisibleTo: "business" } });
    const { meta, businessId, wabaId, siblingId } = flows;
    await flows.deliver(flows.share({ wabaId: siblingId }));
    await flows.live(hourMs);
    let land: (() => Promise<unknown>) | undefined;
    flows.meddle("shareAndAttach", async (send) => {
      land = send;
      return { kind: "unknown", failure: { at: flows.now(), reason: "meta_unavailable" } } as const;
    });
    await flows.deliver(flows.share({ wabaId }));
    await flows.deliver(flows.revoke());
    expect(flows.deletes()).toHaveLength(1);
    expect((await flows.business()).revocation).toMatchObject({ state: "open", openReason: "share_in_flight" });

    flows.meddle("listAllocations", async (list) => {
      const listed = await list();
      // What this revocation has deleted lives again, and the worker is frozen until the window is over.
      await land?.();
      flows.pass(31 * minuteMs);
      return listed;
    });
    await flows.deliver(flows.revoke());
    expect(liveAllocations(meta.model, line, businessId, flows.now())).toHaveLength(1);
    expect((await flows.business()).revocation?.state).toBe("open");
    await flows.live(2 * hourMs);
    expect((await flows.business()).revocation?.state).toBe("done");
    expect(liveAllocations(meta.model, line, businessId, flows.now())).toEqual([]);
  });

  test("keeps a late answer's record though Meta throttles the reading of it", async () => {
    const flows = await flowsOf({ variants: { e8ShareLagMs: 5 * minuteMs } });
    const { meta, businessId } = flows;
    const revoke = flows.revoke();
    flows.meddle("shareAndAttach", async (send) => {
      const answer = await send();
      flows.pass(1000);
      await flows.deliver(revoke);
      await meta.faults({ match: "E6", kind: "throttle" });
      return answer;
    });
    await flows.deliver(flows.share());
    const live = liveAllocations(meta.model, line, businessId, flows.now()).map(({ id }) => id);
    expect(live).toHaveLength(1);
    expect(Object.keys((await flows.business()).records)).toEqual(live);
    await flows.live(2 * hourMs);
    expect(await flows.fate(revoke)).toBe("done");
    expect(liveAllocations(meta.model, line, businessId, flows.now())).toEqual([]);
  });

  test("is asked of a claimed business only when Meta says that there is nothing to see, not when Meta fails", async () => {
    const flows = await flowsOf();
    const { meta, wabaId } = flows;
    const bystander = await meta.customer();
    const allocationId = "500000000000099";
    await meta.world({ allocations: [{ id: allocationId, lineId: line, receivingBusinessId: bystander.businessId }] });
    await meta.faults({ match: "E3", kind: "5xx-before", times: 4 });
    const revoke = flows.revoke({ wabaId, businessId: bystander.businessId });
    expect(await flows.deliver(revoke)).toBe("acknowledged");
    expect((await flows.store.loadPointer(wabaId))?.pendingRevoke?.requests).toMatchObject([
      { commandId: revoke.commandId },
    ]);
    await flows.live(hourMs);
    expect(await flows.fate(revoke)).toBe("refused: owner_mismatch");
    expect(flows.deletes()).toEqual([]);

    await flows.changeWaba({ id: flows.siblingId, sharedWithPartner: false });
    const claimed = flows.revoke({ wabaId: flows.siblingId, businessId: bystander.businessId });
    await flows.deliver(claimed);
    expect(await flows.fate(claimed)).toBe("done");
    expect(flows.deletes().map(({ path }) => path.split("/").at(-1))).toEqual([allocationId]);
  });

  test.each(["done", "nothing"])(
    "A7: that is asked for after one that was over (%s) deletes what hands have shared since",
    async (state) => {
      const flows = await flowsOf();
      const { meta, businessId } = flows;
      if (state === "done") await flows.deliver(flows.share());
      await flows.live(hourMs);
      await flows.deliver(flows.revoke());
      expect((await flows.business()).revocation?.state).toBe(state);
      flows.pass(hourMs);
      await meta.world({
        allocations: [{ id: "500000000000096", lineId: line, receivingBusinessId: businessId }],
      });
      const revoke = flows.revoke();
      await flows.deliver(revoke);
      await flows.live(hourMs);
      expect(await flows.fate(revoke)).toBe("done");
      expect(liveAllocations(meta.model, line, businessId, flows.now())).toEqual([]);
    },
  );

  test("H5: takes a claim for the owner only while none is stored, also when a share stores it meanwhile", async () => {
    const flows = await flowsOf();
    const { meta, wabaId } = flows;
    const bystander = await meta.customer();
    await meta.world({
      allocations: [{ id: "500000000000097", lineId: line, receivingBusinessId: bystander.businessId }],
    });
    const claimed = flows.revoke({ wabaId, businessId: bystander.businessId });
    flows.meddle("readWaba", async (read) => {
      await flows.deliver(flows.share());
      await flows.changeWaba({ sharedWithPartner: false });
      return read();
    });
    expect(await flows.deliver(claimed)).toBe("acknowledged");
    expect(await flows.fate(claimed)).toBe("refused: owner_mismatch");
    expect(flows.deletes()).toEqual([]);
  });

  test("that names the owner of an invisible WABA takes along those that waited for it, and no claim becomes the stored owner", async () => {
    const flows = await flowsOf();
    const { meta, wabaId, businessId } = flows;
    await meta.world({ allocations: [{ id: "500000000000098", lineId: line, receivingBusinessId: businessId }] });
    await flows.changeWaba({ sharedWithPartner: false });
    const waiting = [flows.revoke({ wabaId }), flows.revoke({ wabaId })];
    for (const one of waiting) await flows.deliver(one);
    await flows.live(3 * hourMs);
    expect(await Promise.all(waiting.map((one) => flows.fate(one)))).toEqual([undefined, undefined]);

    const named = flows.revoke({ wabaId, businessId });
    expect(await flows.deliver(named)).toBe("acknowledged");
    expect(flows.deletes()).toHaveLength(1);
    expect(await Promise.all([...waiting, named].map((one) => flows.fate(one)))).toEqual(["done", "done", "done"]);
    const pointer = await flows.store.loadPointer(wabaId);
    expect([pointer?.pendingRevoke, pointer?.businessId]).toEqual([undefined, undefined]);
    await flows.live(26 * hourMs);
    expect(waiting.map((one) => flows.said(one))).toEqual([
      ["Revocation Started", "Credit Line Revoked"],
      ["Credit Line Revoked"],
    ]);
  });

  test("that comes while those before it are resolved goes on waiting for its owner", async () => {
    const flows = await flowsOf();
    const { wabaId, businessId } = flows;
    await flows.changeWaba({ sharedWithPartner: false });
    await flows.deliver(flows.revoke({ wabaId }));
    const late = flows.revoke({ wabaId });
    flows.meddle("listAllocations", async (list) => {
      await flows.deliver(late);
      return list();
    });
    await flows.deliver(flows.revoke({ wabaId, businessId }));
    expect((await flows.store.loadPointer(wabaId))?.pendingRevoke?.requests).toMatchObject([
      { commandId: late.commandId },
    ]);
  });

  test("that waits is answered under its own id when a repeated one names the owner", async () => {
    const flows = await flowsOf();
    const { wabaId, businessId } = flows;
    await flows.changeWaba({ sharedWithPartner: false });
    const [named, nameless] = [flows.revoke({ wabaId, businessId }), flows.revoke({ wabaId })];
    for (const one of [named, nameless, named]) await flows.deliver(one);
    expect([await flows.fate(named), await flows.fate(nameless)]).toEqual(["done", "done"]);
    expect(flows.said(nameless)).toEqual(["Credit Line Revoked"]);
    expect(flows.repeated.map(({ commandId }) => commandId)).toEqual([named.commandId]);
  });

  test("leaves those that wait for the owner of their WABA to a person when two others name two owners", async () => {
    const flows = await flowsOf();
    const { meta, wabaId, businessId } = flows;
    const bystander = await meta.customer();
    await meta.faults({ match: "E3", kind: "5xx-before", times: 9 });
    const nameless = flows.revoke({ wabaId });
    const named = [businessId, bystander.businessId].map((owner) => flows.revoke({ wabaId, businessId: owner }));
    for (const one of [nameless, ...named]) await flows.deliver(one);
    await flows.changeWaba({ sharedWithPartner: false });
    await flows.live(hourMs);
    expect(await Promise.all(named.map((one) => flows.fate(one)))).toEqual(["done", "done"]);
    expect((await flows.store.loadPointer(wabaId))?.pendingRevoke?.requests).toMatchObject([
      { commandId: nameless.commandId },
    ]);
    await flows.live(60 * hourMs);
    expect(await flows.fate(nameless)).toBe("blocked: owner_unknown");
  });

  test("of a partner switch that was not yet found pending is looked at once more after the 1st, too (H27c)", async () => {
    const flows = await flowsOf();
    await flows.changeWaba({ primaryFundingId: strangerFunding, partnerSwitch: true });
    await flows.deliver(flows.share({ partnerSwitch: true }));
    await flows.live(5 * minuteMs);
    const { wabas } = await flows.business();
    expect(wabas[flows.wabaId]?.status).toBe("shared");
    const revoke = flows.revoke();
    await flows.deliver(revoke);
    await flows.live(hourMs);
    expect(await flows.fate(revoke)).toBe("done");
    // The switch takes effect all the same.
    await flows.changeWaba({ primaryFundingId: wabas[flows.wabaId]?.evidence?.receivingCredentialId ?? "" });
    await flows.live(30 * 24 * hourMs);
    expect((await flows.business()).revocation).toMatchObject({ state: "open", openReason: "still_funded" });
  });

  test("of a partner switch takes no re-share along when it is looked at once more after the 1st", async () => {
    const flows = await flowsOf();
    await flows.changeWaba({ primaryFundingId: strangerFunding, partnerSwitch: true });
    await flows.deliver(flows.share({ partnerSwitch: true }));
    await flows.live(2 * hourMs);
    expect((await flows.business()).wabas[flows.wabaId]?.status).toBe("pending");
    await flows.deliver(flows.revoke());
    await flows.live(hourMs);
    await flows.deliver(flows.share({ partnerSwitch: true, reshareAfterRevocation: true }));
    await flows.live(30 * 24 * hourMs);
    expect(new Date(flows.now()).toISOString()).toContain("2026-07-10");
    expect((await flows.business()).wabas[flows.wabaId]?.status).toBe("verified");
    expect(flows.deletes()).toHaveLength(1);
  });

  test.each(["revoke", "revoke-unless-siblings"] as const)(
    "by itself that a duplicate was told meanwhile takes no later share along either (%s)",
    async (onPartnerRemoved) => {
      const flows = await flowsOf({ policy: { onPartnerRemoved } });
      const { wabaId, siblingId } = flows;
      await flows.changeWaba({ sharedWithPartner: false });
      const removal = flows.revoke({ wabaId, businessId: flows.businessId, reason: "partner_removed" });
      const [asked, shared] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      flows.meddle("readWaba", async (read) => {
        asked.resolve();
        await shared.promise;
        return read();
      });
      const slow = flows.deliver(removal);
      await asked.promise;
      await flows.deliver(removal);
      expect((await flows.business()).revocation?.state).toBe("nothing");
      flows.pass(40 * minuteMs);
      await flows.deliver(flows.share({ wabaId: siblingId }));
      await flows.live(hourMs);
      const said = flows.said(removal);
      shared.resolve();
      expect(await slow).toBe("acknowledged");
      await flows.live(hourMs);
      expect(flows.deletes()).toEqual([]);
      expect((await flows.business()).wabas[siblingId]?.status).toBe("verified");
      expect((await flows.business()).held).toBeUndefined();
      expect(flows.said(removal)).toEqual(said);
      expect(flows.repeated).toMatchObject([{ commandId: removal.commandId, detailType: "Credit Line Revoked" }]);
    },
  );

  test("H24: that waits for its owner is not swallowed by other content under its id", async () => {
    const flows = await flowsOf();
    const { meta, wabaId, businessId } = flows;
    await meta.world({ allocations: [{ id: "500000000000098", lineId: line, receivingBusinessId: businessId }] });
    const bystander = await meta.customer();
    await meta.faults({ match: "E3", kind: "5xx-before", times: 4 });
    const revoke = flows.revoke({ wabaId });
    await flows.deliver(revoke);
    const other = { ...revoke, businessId: bystander.businessId };
    await flows.deliver(other);
    await flows.live(2 * hourMs);
    expect(await flows.fate(revoke)).toBe("done");
    expect(liveAllocations(meta.model, line, businessId, flows.now())).toEqual([]);
    expect(flows.deadLetters).toEqual([{ body: JSON.stringify(other), reason: "command_id_reused" }]);
  });

  test("of nothing, where a partner switch was lost, is looked at once more and then due no longer", async () => {
    const flows = await flowsOf();
    await flows.changeWaba({ primaryFundingId: strangerFunding, partnerSwitch: true });
    await flows.meta.faults({ match: "E2", kind: "cut-before" });
    await flows.deliver(flows.share({ partnerSwitch: true }));
    await flows.deliver(flows.revoke());
    await flows.live(60 * 24 * hourMs);
    const { revocation } = await flows.business();
    expect(revocation?.state).toBe("nothing");
    expect(revocation?.due).toBeUndefined();
  });

  test("that is older than a re-share which came to nothing is carried out", async () => {
    const flows = await flowsOf();
    await flows.deliver(flows.share());
    await flows.live(20 * minuteMs);
    const revoke = flows.revoke();
    flows.pass(20 * minuteMs);
    await flows.meta.faults({ match: "E2", kind: "error-before", code: 100 });
    const reshare = flows.share({ wabaId: flows.siblingId, reshareAfterRevocation: true });
    await flows.deliver(reshare);
    await flows.live(hourMs);
    expect(await flows.fate(reshare)).toBe("refused: refused_by_meta");
    await flows.deliver(revoke);
    expect(await flows.fate(revoke)).toBe("done");
    expect(liveAllocations(flows.meta.model, line, flows.businessId, flows.now())).toEqual([]);
  });

  test("still demands the flag of a share after a re-share that came to nothing", async () => {
    const flows = await revokedFlows();
    flows.pass(40 * minuteMs);
    await flows.meta.faults({ match: "E2", kind: "error-before", code: 200 });
    const reshare = flows.share({ reshareAfterRevocation: true });
    expect(await flows.deliver(reshare)).toBe("returned");
    flows.pass(1000);
    const share = flows.share();
    await flows.deliver(share);
    expect(await flows.fate(share)).toBe("refused: business_revoked");
  });
});

describe("a WABA that stays attached to a deleted record (H27c, H27f), and was never verified", () => {
  /** Right after the DELETE Meta shows it as paid for by what the record paid by. */
  async function staysAttached(flows: Awaited<ReturnType<typeof flowsOf>>) {
    const credential = [...flows.meta.model.allocations.values()][0]?.receivingCredentialId ?? "";
    flows.meddle("deleteAllocation", async (send) => {
      const outcome = await send();
      await flows.changeWaba({ primaryFundingId: credential });
      return outcome;
    });
  }

  test.each([
    ["was accepted", undefined],
    ["had no answer", "cut-after"],
  ])("keeps the revocation open, where its share %s", async (_how, kind) => {
    const flows = await flowsOf();
    if (kind !== undefined) await flows.meta.faults({ match: "E2", kind });
    await flows.deliver(flows.share());
    flows.pass(10_000);
    await staysAttached(flows);
    const revoke = flows.revoke();
    await flows.deliver(revoke);
    await flows.live(3 * hourMs);
    expect(await flows.fate(revoke)).toBeUndefined();
    expect((await flows.business()).revocation).toMatchObject({ state: "open", openReason: "still_funded" });
  });

  test.each([
    ["at once", false],
    ["when its partner switch takes effect", true],
  ])("keeps a further revocation open, where it is so %s", async (_when, partnerSwitch) => {
    const flows = await flowsOf();
    if (partnerSwitch) await flows.changeWaba({ primaryFundingId: strangerFunding, partnerSwitch });
    await flows.deliver(flows.share({ partnerSwitch }));
    flows.pass(10_000);
    const revoke = flows.revoke();
    await flows.deliver(revoke);
    await flows.live(hourMs);
    expect(await flows.fate(revoke)).toBe("done");
    const [record] = Object.values((await flows.business()).records);
    await flows.changeWaba({ primaryFundingId: record?.credentialId ?? "" });
    if (partnerSwitch) await flows.live(30 * 24 * hourMs);
    const again = flows.revoke();
    await flows.deliver(again);
    await flows.live(hourMs);
    expect(await flows.fate(again)).toBeUndefined();
    expect((await flows.business()).revocation).toMatchObject({ state: "open", openReason: "still_funded" });
  });
});

describe("a late answer, whose POST a look has found applied meanwhile", () => {
  /** The answer of the share's first call comes when `answer` is called. */
  async function slowly(
    flows: Awaited<ReturnType<typeof flowsOf>>,
    call: "shareWithBusiness" | "shareAndAttach",
    share: ReturnType<typeof flows.share>,
  ) {
    const [sent, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    async function slow<T>(send: () => Promise<T>): Promise<T> {
      const outcome = await send();
      sent.resolve();
      await go.promise;
      return outcome;
    }
    if (call === "shareAndAttach") flows.meddle(call, slow);
    else flows.meddle(call, slow);
    const delivery = flows.deliver(share);
    await sent.promise;
    return async function answer(): Promise<void> {
      go.resolve();
      await delivery;
    };
  }

  test("is no drift when it names the record by which its WABA is allocated", async () => {
    const flows = await flowsOf({ policy: { shareMethod: "share-then-attach" } });
    const share = flows.share({ businessTokenSecret });
    const answer = await slowly(flows, "shareWithBusiness", share);
    await flows.meta.faults({ match: "E5", kind: "error-before", code: 200, times: 50 });
    await flows.deliver(share);
    await answer();
    expect(flows.announced.map(({ detailType }) => detailType)).not.toContain("Drift Found");
  });

  test("keeps no second call in doubt whose POST was lost", async () => {
    const flows = await flowsOf({ policy: { shareMethod: "share-then-attach" } });
    const share = flows.share({ businessTokenSecret });
    const answer = await slowly(flows, "shareWithBusiness", share);
    flows.pass(1000);
    await flows.meta.faults({ match: "E5", kind: "cut-before" });
    flows.meddle("attach", async (send) => {
      flows.pass(1000);
      return send();
    });
    flows.meddle("readFunding", async (read) => {
      flows.pass(1000);
      return read();
    });
    await flows.deliver(share);
    flows.pass(1000);
    await answer();
    await flows.live(48 * hourMs);
    expect((await flows.business()).wabas[flows.wabaId]?.status).toBe("verified");
  });

  test("keeps no sibling in doubt", async () => {
    const flows = await flowsOf();
    const { siblingId, wabaId } = flows;
    await flows.meta.faults({ match: "E2", kind: "cut-before" });
    await flows.deliver(flows.share({ wabaId: siblingId, businessTokenSecret }));
    flows.pass(1000);
    const share = flows.share();
    const answer = await slowly(flows, "shareAndAttach", share);
    flows.pass(1000);
    await flows.deliver(share);
    expect((await flows.business()).wabas[wabaId]?.status).toBe("shared");
    await answer();
    await flows.live(48 * hourMs);
    expect((await flows.business()).wabas[siblingId]?.status).toBe("verified");
  });
});

test("of several revokes that wait for one owner, one under a reused id takes no other along", async () => {
  const flows = await flowsOf();
  const { wabaId } = flows;
  await flows.meta.faults({ match: "E3", kind: "5xx-before", times: 4 });
  const innocent = flows.revoke({ wabaId });
  await flows.deliver(innocent);
  const reused = flows.revoke({ wabaId });
  await flows.deliver(reused);
  // A share that is in flight keeps the revocation open.
  await flows.meta.faults({ match: "E2", kind: "cut-before" });
  await flows.deliver(flows.share({ wabaId: flows.siblingId }));
  await flows.deliver({ ...flows.revoke(), commandId: reused.commandId });
  await flows.live(4 * hourMs);
  expect(flows.said(innocent)).not.toContain("Command Rejected");
  expect(await flows.fate(innocent)).toBe("done");
});
