import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type {
  Business,
  Change,
  Conclusion,
  RecordIntent,
  Request,
  ShareRequest,
  SharingWaba,
  Waba,
} from "../../../shared/domain/business.ts";
import { newBusiness } from "../../../shared/domain/business.ts";
import type { Failure } from "../../../shared/domain/reasons.ts";
import type { Settlement } from "../../../shared/domain/share.ts";
import { resumeRevocations } from "../../../shared/store/limit-store.ts";
import type { DueIndex, DueItem } from "../../../shared/store/due-index.ts";
import { keys, type Pointer, type Transition } from "../../../shared/store/items.ts";
import type { StateStore, Written } from "../../../shared/store/state-store.ts";
import { revokeRequest, shareRequest } from "../../support/commands.ts";

/** A store that may already hold items of other tests, and what the contract needs to see behind it. */
export type StoreUnderTest = {
  store: StateStore;
  dueIndex: DueIndex;
  /** What an item's last write announces, as `publish` reads it; undefined when there is no such item. */
  transition(pk: string): Promise<Transition | undefined>;
  /** The next write takes effect, but its answer is lost on the way: the client repeats it, as the SDK does. */
  loseNextAnswer(): void;
  /** The next transaction finds another one at work on one of its items: nothing of it is written. */
  conflictNext(): void;
  close(): Promise<void>;
};

const at = 1_700_000_000_000;
const failure: Failure = { at, reason: "token_dead", code: 190 };

/** What every state store must do, whatever it is made of. */
export function describeStateStore(name: string, create: () => Promise<StoreUnderTest>): void {
  let subject: StoreUnderTest;
  let store: StateStore;
  beforeAll(async () => {
    subject = await create();
    store = subject.store;
  });
  afterAll(() => subject?.close());

  /** A business as it stands after `change` was committed to it. */
  async function stored(change: (business: Business) => Business = (business) => business): Promise<Business> {
    const fresh = newBusiness(newId("11"), at);
    return savedBusiness(await store.commit(fresh, changeTo(change({ ...fresh, name: "Acme" })), at));
  }

  async function load(businessId: string): Promise<Business> {
    const business = await store.loadBusiness(businessId);
    if (business === undefined) throw new Error("The business is not stored");
    return business;
  }

  async function transition(pk: string): Promise<Transition> {
    const found = await subject.transition(pk);
    if (found === undefined) throw new Error(`Nothing was recorded under ${pk}`);
    return found;
  }

  async function dueKind(id: string, now: number): Promise<DueItem["kind"] | undefined> {
    for await (const item of subject.dueIndex.dueItems(now)) if (item.id === id) return item.kind;
    return undefined;
  }

  async function isDue(id: string, now: number): Promise<boolean> {
    return (await dueKind(id, now)) !== undefined;
  }

  describe(`a state store ${name}`, () => {
    test("has nothing under an id that was never written", async () => {
      expect(await store.loadBusiness("110")).toBeUndefined();
      expect(await store.loadPointer("120")).toBeUndefined();
      expect(await store.loadCommand("none")).toBeUndefined();
    });

    test("loads a business exactly as it was committed", async () => {
      const [request, sibling] = [shareRequest(newId("12")), shareRequest(newId("12"))];
      const business = await stored((fresh) => ({
        ...attempting(fresh, request),
        listedAt: at,
        reshare: { commandId: "c", requestedAt: at },
        records: { "91": { creditLineId: "20", epoch: 0, state: "live", recordedAt: at, readAt: at } },
        waiting: { [sibling.wabaId]: { request: sibling, due: { nextAt: at, looks: 1, sweeps: 2 } } },
        revocation: {
          request: revokeRequest({ businessId: fresh.businessId }),
          requestedAt: at,
          state: "done",
          epoch: 1,
          startedAt: at,
          doneAt: at,
          joined: [revokeRequest()],
        },
      }));
      expect(business).toMatchObject({ version: 1, changedAt: at });
      expect(await load(business.businessId)).toEqual(business);
    });

    describe("commit", () => {
      test("saves one of 50 racing decisions and shows each loser the item that won", async () => {
        const business = await stored();
        const written = await Promise.all(
          Array.from({ length: 50 }, (_, index) =>
            store.commit(business, changeTo({ ...business, name: `${index}` }), at),
          ),
        );
        const winners = written.filter(({ saved }) => saved);
        expect(winners).toHaveLength(1);
        const current = await load(business.businessId);
        expect(current.version).toBe(2);
        for (const one of written) expect(one.saved ? one.business : one.current).toEqual(current);
      });

      test("lets one of two first writes of a business win", async () => {
        const fresh = newBusiness(newId("11"), at);
        const written = await Promise.all([
          store.commit(fresh, changeTo({ ...fresh, name: "one" }), at),
          store.commit(fresh, changeTo({ ...fresh, name: "two" }), at),
        ]);
        expect(written.filter(({ saved }) => saved)).toHaveLength(1);
      });

      test("gives each event the id of its write and its place in it", async () => {
        const business = await stored();
        const { businessId } = business;
        const request = shareRequest(newId("12"));
        const change: Change = {
          business: { ...business, epoch: 1 },
          events: [
            { detailType: "Revocation Started", businessId },
            { detailType: "Drift Found", businessId },
          ],
          conclusions: [conclusionOf(request)],
        };
        savedBusiness(await store.commit(business, change, at + 5));
        const { transitionId, version, changedAt, events } = await transition(keys.business(businessId));
        expect({ version, changedAt }).toEqual({ version: 2, changedAt: at + 5 });
        expect(events.map(({ eventId, detailType }) => [eventId, detailType])).toEqual([
          [`${transitionId}-0`, "Revocation Started"],
          [`${transitionId}-1`, "Drift Found"],
          [`${transitionId}-2`, "Share Accepted"],
        ]);
        expect(events.every(({ occurredAt }) => occurredAt === at + 5)).toBe(true);
        // The command's row keeps its event for a repetition, but the business's write is what announces it.
        expect((await store.loadCommand(request.commandId))?.event).toEqual(events[2]);
        await expect(transition(keys.command(request.commandId))).rejects.toThrow();
      });

      test("gives every write events of new ids", async () => {
        const business = await stored();
        const events = [{ detailType: "Drift Found" as const }];
        const once = savedBusiness(await store.commit(business, { ...changeTo({ ...business }), events }, at));
        const first = await transition(keys.business(business.businessId));
        savedBusiness(await store.commit(once, { ...changeTo({ ...once }), events }, at));
        const second = await transition(keys.business(business.businessId));
        expect(second.events[0]?.eventId).not.toBe(first.events[0]?.eventId);
      });

      test("records no conclusion when the decision lost", async () => {
        const business = await stored();
        const current = savedBusiness(await store.commit(business, changeTo({ ...business, name: "newer" }), at));
        const request = shareRequest(newId("12"));
        const late: Change = { ...changeTo({ ...business, name: "late" }), conclusions: [conclusionOf(request)] };
        expect(await store.commit(business, late, at)).toEqual({ saved: false, current });
        expect(await store.loadCommand(request.commandId)).toBeUndefined();
        expect(await load(business.businessId)).toEqual(current);
      });

      test("records a conclusion of a business that does not change without writing the business", async () => {
        const business = await stored();
        const request = shareRequest(newId("12"));
        expect(
          await store.commit(business, { ...changeTo(business), conclusions: [conclusionOf(request)] }, at),
        ).toEqual({
          saved: true,
          business,
        });
        expect(await load(business.businessId)).toEqual(business);
        const { transitionId, events } = await transition(keys.command(request.commandId));
        expect(events.map(({ eventId }) => eventId)).toEqual([`${transitionId}-0`]);
      });

      test("answers no command by a state that has changed since, and shows what it is now (I10)", async () => {
        const business = await stored();
        const fresh = newBusiness(business.businessId, at);
        const current = savedBusiness(await store.commit(business, changeTo({ ...business, name: "newer" }), at));
        const request = shareRequest(newId("12"));
        const conclusions = [conclusionOf(request, "refused")];
        for (const stale of [business, fresh]) {
          expect(await store.commit(stale, { ...changeTo(stale), conclusions }, at)).toEqual({ saved: false, current });
        }
        expect(await store.loadCommand(request.commandId)).toBeUndefined();
      });

      test("answers a command of a business that is not stored yet without storing it", async () => {
        const fresh = newBusiness(newId("11"), at);
        const request = shareRequest(newId("12"));
        savedBusiness(await store.commit(fresh, { ...changeTo(fresh), conclusions: [conclusionOf(request)] }, at));
        expect(await store.loadBusiness(fresh.businessId)).toBeUndefined();
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "done" });
      });

      test.each(["written", "left as it is"])(
        "records the outcome of each command, though one of them was concluded before (state %s)",
        async (state) => {
          const business = await stored();
          const requests = ["12", "12", "12"].map((prefix) => shareRequest(newId(prefix)));
          const [, second] = requests;
          if (second === undefined) throw new Error("There is no second command");
          const before = await store.conclude(conclusionOf(second, "refused"), at);
          const next = state === "written" ? { ...business, name: "next" } : business;
          const conclusions = requests.map((request) => conclusionOf(request));
          savedBusiness(await store.commit(business, { ...changeTo(next), conclusions }, at + 1));
          const outcomes = await Promise.all(requests.map(({ commandId }) => store.loadCommand(commandId)));
          expect(outcomes.map((row) => row?.outcome)).toEqual(["done", "refused", "done"]);
          expect(outcomes[1]).toEqual(before);
          expect((await load(business.businessId)).name).toBe(next.name);
        },
      );

      test("is not lost to another transaction that is at work in the same moment", async () => {
        const business = await stored();
        const request = shareRequest(newId("12"));
        subject.conflictNext();
        const change: Change = { ...changeTo({ ...business, name: "next" }), conclusions: [conclusionOf(request)] };
        savedBusiness(await store.commit(business, change, at));
        expect(await load(business.businessId)).toMatchObject({ version: 2, name: "next" });
      });

      test("writes the state, but never again the outcome of a command that is concluded", async () => {
        const business = await stored();
        const request = shareRequest(newId("12"));
        const before = await store.conclude(conclusionOf(request, "refused"), at);
        const change: Change = { ...changeTo({ ...business, name: "next" }), conclusions: [conclusionOf(request)] };
        savedBusiness(await store.commit(business, change, at + 1));
        expect(await load(business.businessId)).toMatchObject({ version: 2, name: "next" });
        expect(await store.loadCommand(request.commandId)).toEqual(before);
      });

      test("tells an answer that was told before not once more under another id, but always a WABA's new status", async () => {
        const business = await stored();
        const request = shareRequest(newId("12"));
        await store.conclude(conclusionOf(request, "refused"), at);
        const refused = { ...changeTo({ ...business, name: "next" }), conclusions: [conclusionOf(request, "refused")] };
        const after = savedBusiness(await store.commit(business, refused, at + 1));
        expect((await transition(keys.business(business.businessId))).events).toEqual([]);

        const done = conclusionOf(request);
        const event = { ...done.event, status: "shared", previousStatus: "sharing" } as const;
        const accepted = { ...changeTo({ ...after, name: "shared" }), conclusions: [{ ...done, event }] };
        const last = savedBusiness(await store.commit(after, accepted, at + 2));
        expect((await transition(keys.business(business.businessId))).events).toMatchObject([{ status: "shared" }]);

        const again = { ...event, previousStatus: "shared" } as const;
        const repeated = { ...changeTo({ ...last, name: "again" }), conclusions: [{ ...done, event: again }] };
        savedBusiness(await store.commit(last, repeated, at + 3));
        expect((await transition(keys.business(business.businessId))).events).toEqual([]);
      });

      test("leaves the record of another content under the same id alone", async () => {
        const business = await stored();
        const first = shareRequest(newId("12"));
        await store.block(first, failure, false, undefined, at);
        const before = await store.loadCommand(first.commandId);
        const other = { ...first, hash: "another content" };
        const change: Change = { ...changeTo({ ...business, name: "next" }), conclusions: [conclusionOf(other)] };
        savedBusiness(await store.commit(business, change, at + 1));
        expect(await store.loadCommand(first.commandId)).toEqual(before);
      });

      test("concludes a command that was blocked before", async () => {
        const business = await stored();
        const request = shareRequest(newId("12"));
        await store.block(request, failure, true, undefined, at);
        const change: Change = { ...changeTo({ ...business, name: "next" }), conclusions: [conclusionOf(request)] };
        savedBusiness(await store.commit(business, change, at + 1));
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "done" });
      });

      test("counts its own write as saved when the answer was lost and the client repeated it", async () => {
        const business = await stored();
        subject.loseNextAnswer();
        const alone = savedBusiness(await store.commit(business, changeTo({ ...business, name: "alone" }), at));
        expect(await load(business.businessId)).toEqual(alone);

        const request = shareRequest(newId("12"));
        subject.loseNextAnswer();
        const change: Change = { ...changeTo({ ...alone, name: "both" }), conclusions: [conclusionOf(request)] };
        const together = savedBusiness(await store.commit(alone, change, at));
        expect(await load(business.businessId)).toEqual(together);
        expect(together).toMatchObject({ version: 3, name: "both" });
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "done" });
      });
    });

    describe("settle", () => {
      test("records the outcome of a POST though a sibling has raised the version meanwhile", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        const sibling = shareRequest(newId("12"));
        savedBusiness(await store.commit(business, changeTo(attempting(business, sibling)), at));

        savedBusiness(await store.settle(business, acceptance(business, request, "91"), at + 1));
        const current = await load(business.businessId);
        expect(current.version).toBe(3);
        expect(current.wabas[request.wabaId]).toEqual(sharedWaba(request, "91"));
        expect(current.wabas[sibling.wabaId]?.status).toBe("sharing");
        expect(current.records["91"]).toEqual({ creditLineId: "20", epoch: 0, state: "unknown", recordedAt: at });
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "done" });
        const { transitionId, events } = await transition(keys.business(business.businessId));
        expect(events.map(({ eventId }) => eventId)).toEqual([`${transitionId}-0`]);
      });

      test.each([
        {
          change: "another intent has taken its place",
          meanwhile: (business: Business, request: ShareRequest) => attempting(business, request),
        },
        {
          change: "the attempt is settled",
          meanwhile: (business: Business, request: ShareRequest) => shared(business, request, "92"),
        },
        {
          change: "a revocation has raised the epoch",
          meanwhile: (business: Business) => ({ ...business, epoch: business.epoch + 1 }),
        },
        {
          change: "the WABA is gone",
          meanwhile: (business: Business) => ({ ...business, wabas: {} }),
        },
      ])("changes nothing and shows the current item when $change", async ({ meanwhile }) => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        const current = savedBusiness(await store.commit(business, changeTo(meanwhile(business, request)), at));
        const settlement = acceptance(business, request, "91");

        expect(await store.settle(business, settlement, at)).toEqual({ saved: false, current });
        const withoutConclusion = { ...settlement, change: { ...settlement.change, conclusions: [] } };
        expect(await store.settle(business, withoutConclusion, at)).toEqual({ saved: false, current });
        expect(await load(business.businessId)).toEqual(current);
        expect(await store.loadCommand(request.commandId)).toBeUndefined();
      });

      test.each(["waba", "record"] as const)(
        "of a POST whose effect is unknown notes why, beside what looks have written meanwhile (guard: %s)",
        async (guard) => {
          const request = shareRequest(newId("12"));
          const { wabaId } = request;
          const business = await stored((fresh) => {
            const begun = attempting(fresh, request);
            const { intent, ...waba } = { intent: undefined, ...begun.wabas[wabaId] } as SharingWaba;
            if (guard === "waba" || intent === undefined) return begun;
            const note = { ...intent, creditLineId: "20", request, due: { nextAt: at + 5000, looks: 0, sweeps: 0 } };
            return { ...begun, wabas: { [wabaId]: waba }, recordIntent: note };
          });
          const intent = guard === "waba" ? business.wabas[wabaId]?.intent : business.recordIntent;
          if (intent === undefined) throw new Error("There is no attempt to look at");
          const seen = { absentAt: at + 1, inDoubt: true } as const;
          const looked: Business = { ...business };
          if (guard === "waba") {
            const waba = business.wabas[wabaId] as SharingWaba;
            looked.wabas = { [wabaId]: { ...waba, intent: { ...intent, ...seen } } };
          } else looked.recordIntent = { ...intent, ...seen } as RecordIntent;
          savedBusiness(await store.commit(business, changeTo(looked), at + 1));

          const doubt: Failure = { at: at + 2, reason: "meta_unavailable", message: "no answer" };
          const settlement: Settlement = {
            guard,
            wabaId,
            intentId: intent.id,
            epoch: intent.epoch,
            doubt,
            waba: business.wabas[wabaId] as SharingWaba,
            change: changeTo(business),
          };
          savedBusiness(await store.settle(business, settlement, at + 2));
          const current = await load(business.businessId);
          const noted = guard === "waba" ? current.wabas[wabaId]?.intent : current.recordIntent;
          expect(noted).toEqual({ ...intent, ...seen, failure: doubt });
          expect(current.wabas[wabaId]?.lastFailure).toEqual(doubt);
          expect(await isDue(business.businessId, at + 5000)).toBe(true);
        },
      );

      test("happens though another transaction is at work in the same moment: that is no intent gone (H26)", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        subject.conflictNext();
        savedBusiness(await store.settle(business, acceptance(business, request, "91"), at));
        expect((await load(business.businessId)).wabas[request.wabaId]).toEqual(sharedWaba(request, "91"));
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "done" });
      });

      test("happens once when the same answer is settled twice", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        const settlement = acceptance(business, request, "91");
        const written = await Promise.all([
          store.settle(business, settlement, at),
          store.settle(business, settlement, at),
        ]);
        expect(written.filter(({ saved }) => saved)).toHaveLength(1);
        expect(await load(business.businessId)).toMatchObject({ version: 2 });
      });

      test("counts its own write as saved when the answer was lost and the client repeated it", async () => {
        const [alone, together] = [shareRequest(newId("12")), shareRequest(newId("12"))];
        const business = await stored((fresh) => attempting(attempting(fresh, alone), together));
        const settlement = acceptance(business, alone, "91");
        subject.loseNextAnswer();
        savedBusiness(
          await store.settle(business, { ...settlement, change: { ...settlement.change, conclusions: [] } }, at),
        );
        subject.loseNextAnswer();
        savedBusiness(await store.settle(business, acceptance(business, together, "92"), at));
        expect((await load(business.businessId)).version).toBe(3);
        expect(await store.loadCommand(together.commandId)).toMatchObject({ outcome: "done" });
      });
    });

    describe("the due index", () => {
      test("shows a business from the earliest time of its entries on", async () => {
        const [early, late] = [shareRequest(newId("12")), shareRequest(newId("12"))];
        const { businessId } = await stored((fresh) => ({
          ...attempting(fresh, late, { nextAt: at + 900 }),
          waiting: { [early.wabaId]: { request: early, due: { nextAt: at + 100, looks: 0, sweeps: 0 } } },
        }));
        expect(await isDue(businessId, at + 99)).toBe(false);
        expect(await dueKind(businessId, at + 100)).toBe("business");
      });

      test("forgets a business once nothing of it is due", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        expect(await isDue(business.businessId, at + 1e12)).toBe(true);
        const { due: _due, ...waba } = sharedWaba(request, "91");
        const settled = { ...business, wabas: { [request.wabaId]: waba } };
        savedBusiness(await store.commit(business, changeTo(settled), at));
        expect(await isDue(business.businessId, at + 1e12)).toBe(false);
      });

      test("shows a settled business from the time of its verification on", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request, { nextAt: at + 10 }));
        savedBusiness(await store.settle(business, acceptance(business, request, "91"), at));
        expect(await isDue(business.businessId, at + verifyAfterMs - 1)).toBe(false);
        expect(await isDue(business.businessId, at + verifyAfterMs)).toBe(true);
      });

      test("shows a settled business within a minute, whatever a sibling that the settle did not see has due", async () => {
        const request = shareRequest(newId("12"));
        const business = await stored((fresh) => attempting(fresh, request));
        const sibling = shareRequest(newId("12"));
        savedBusiness(
          await store.commit(business, changeTo(attempting(business, sibling, { nextAt: at + 70_000 })), at),
        );
        const settlement = acceptance(business, request, "91");
        const { due: _due, ...waba } = sharedWaba(request, "91");
        const change = changeTo({ ...business, wabas: { [request.wabaId]: waba } });
        savedBusiness(await store.settle(business, { ...settlement, waba, change }, at));
        expect(await isDue(business.businessId, at + 60_000)).toBe(true);
      });

      test("shows a WABA whose revoke waits for its owner, until the revoke is gone", async () => {
        const wabaId = newId("12");
        await store.savePendingRevoke(wabaId, undefined, pendingRevoke());
        expect(await isDue(wabaId, at + 99)).toBe(false);
        expect(await dueKind(wabaId, at + 100)).toBe("waba");
        await store.savePendingRevoke(wabaId, await store.loadPointer(wabaId), undefined);
        expect(await isDue(wabaId, at + 1e12)).toBe(false);
      });
    });

    describe("a WABA's owner", () => {
      test("is written once: whoever comes later is told who it is", async () => {
        const wabaId = newId("12");
        const claims = await Promise.all(
          ["1101", "1102", "1103"].map((businessId) =>
            store.claimOwner(wabaId, businessId, { overPendingRevoke: false }),
          ),
        );
        const [owner, ...others] = new Set(claims.map(({ businessId }) => businessId));
        expect(others).toEqual([]);
        expect(await store.loadPointer(wabaId)).toMatchObject({ wabaId, businessId: owner });
        expect(await store.claimOwner(wabaId, "1109", { overPendingRevoke: true })).toMatchObject({
          businessId: owner,
        });
      });

      test("is known to whoever claimed it when the answer was lost and the client repeated it", async () => {
        const wabaId = newId("12");
        subject.loseNextAnswer();
        const claimed = await store.claimOwner(wabaId, "1101", { overPendingRevoke: false });
        expect(claimed).toMatchObject({ businessId: "1101" });
      });

      test("is not written over a revoke that waits for it, but by the one who asks to", async () => {
        const wabaId = newId("12");
        const pending = pendingRevoke();
        await store.savePendingRevoke(wabaId, undefined, pending);
        const blocked = await store.claimOwner(wabaId, "1101", { overPendingRevoke: false });
        expect(blocked).toMatchObject({ pendingRevoke: pending });
        expect(blocked.businessId).toBeUndefined();
        expect(await store.claimOwner(wabaId, "1101", { overPendingRevoke: true })).toMatchObject({
          businessId: "1101",
          pendingRevoke: pending,
        });
      });
    });

    describe("when Meta says that a WABA was added", () => {
      test("the latest time stays, beside the owner and what waits for it", async () => {
        const wabaId = newId("12");
        const waiting = pendingRevoke();
        await store.savePendingRevoke(wabaId, undefined, waiting);
        await store.saveAdded(wabaId, at + 5);
        await store.saveAdded(wabaId, at + 3);
        await store.claimOwner(wabaId, "1101", { overPendingRevoke: true });
        expect(await store.loadPointer(wabaId)).toMatchObject({
          wabaId,
          businessId: "1101",
          addedAt: at + 5,
          pendingRevoke: waiting,
        });
      });

      test("the owner it named is kept as a hint, which neither is the stored owner nor stands in its way", async () => {
        const wabaId = newId("12");
        await store.saveAdded(wabaId, at, "1102");
        await store.saveAdded(wabaId, at - 1, "1103");
        await store.saveAdded(wabaId, at + 1);
        const hinted = await store.loadPointer(wabaId);
        expect(hinted).toMatchObject({ addedAt: at + 1, hintedOwner: "1102" });
        expect(hinted?.businessId).toBeUndefined();
        const claimed = await store.claimOwner(wabaId, "1101", { overPendingRevoke: false });
        expect(claimed).toMatchObject({ businessId: "1101", hintedOwner: "1102" });
      });

      test("a write that was decided without it is lost", async () => {
        const wabaId = newId("12");
        await store.savePendingRevoke(wabaId, undefined, pendingRevoke());
        const loaded = await store.loadPointer(wabaId);
        await store.saveAdded(wabaId, at);
        expect(await store.savePendingRevoke(wabaId, loaded, undefined)).toBe(false);
      });
    });

    describe("an answer that holds while nobody owns the WABA", () => {
      test("is recorded then, once, and not when an owner is stored", async () => {
        const [unowned, owned] = [newId("12"), newId("12")];
        await store.claimOwner(owned, newId("11"), { overPendingRevoke: false });
        const request = shareRequest(unowned);
        expect(await store.concludeUnowned(conclusionOf(request, "refused"), unowned, at)).toBe(true);
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "refused" });
        // Somebody else's answer to the same command stands.
        expect(await store.concludeUnowned(conclusionOf(request), unowned, at + 1)).toBe(true);
        expect(await store.loadCommand(request.commandId)).toMatchObject({ outcome: "refused" });
        expect((await transition(keys.command(request.commandId))).events).toHaveLength(1);

        const other = shareRequest(owned);
        expect(await store.concludeUnowned(conclusionOf(other, "refused"), owned, at)).toBe(false);
        expect(await store.loadCommand(other.commandId)).toBeUndefined();
      });
    });

    describe("the breaker of automatic revocations", () => {
      test("is written by one of those who loaded the same, announces only what it is told to, and is resumed once", async () => {
        const before = await store.loadRemovals();
        const next = { state: "closed", recent: { "1101": at } } as const;
        const racing = [1, 2, 3].map(() => store.saveRemovals(before, { next, events: [] }, at));
        expect((await Promise.all(racing)).filter((saved) => saved)).toHaveLength(1);
        const counted = await store.loadRemovals();
        expect(counted?.breaker).toEqual(next);

        const stopped = { ...next, state: "stopped" } as const;
        const events = [{ detailType: "Revocations Stopped", reason: "breaker" }] as const;
        expect(await store.saveRemovals(counted, { next: stopped, events: [...events] }, at + 1)).toBe(true);
        expect((await transition(keys.removalBreaker)).events).toMatchObject(events);

        expect(await resumeRevocations(store, at + 2)).toBe(true);
        expect(await resumeRevocations(store, at + 3)).toBe(false);
        const resumed = await store.loadRemovals();
        expect(resumed?.breaker).toEqual({ state: "closed", recent: {}, resumedAt: at + 2, waking: true });
        const { transitionId, version } = await transition(keys.removalBreaker);
        expect((await transition(keys.removalBreaker)).events).toMatchObject([{ detailType: "Revocations Resumed" }]);
        const { waking: _over, ...awake } = resumed!.breaker;
        expect(await store.saveRemovals(resumed, { next: awake, events: [] }, at + 4)).toBe(true);
        expect((await store.loadRemovals())?.breaker).toEqual(awake);
        // The audit knows a change by both: what announces nothing must not look like one that was never announced.
        expect(await transition(keys.removalBreaker)).toMatchObject({ transitionId, version });
      });

      test("tells whom it holds, wherever they stand in the due index", async () => {
        const request = revokeRequest({ reason: "partner_removed" });
        const due = { nextAt: at + 1_000_000, looks: 0, sweeps: 0 };
        const held: string[] = [];
        for (const reason of ["breaker", "siblings", undefined, "breaker"] as const) {
          const businessId = newId("11");
          const business = newBusiness(businessId, at);
          const hold = reason === undefined ? {} : { held: { requests: [request], reason, since: at, due } };
          await store.commit(business, changeTo({ ...business, ...hold }), at);
          if (reason === "breaker") held.push(businessId);
        }
        const told = new Set<string>();
        for await (const page of store.heldByBreaker()) for (const businessId of page) told.add(businessId);
        expect([...told].filter((id) => held.includes(id)).toSorted()).toEqual(held.toSorted());
        expect(told.size).toBe(held.length);
      });
    });

    describe("a revoke that waits for the owner", () => {
      test("is stored only over what was loaded", async () => {
        const wabaId = newId("12");
        const [first, second] = [pendingRevoke(), pendingRevoke()];
        expect(await store.savePendingRevoke(wabaId, undefined, first)).toBe(true);
        expect(await store.savePendingRevoke(wabaId, undefined, second)).toBe(false);
        const loaded = await store.loadPointer(wabaId);
        expect(loaded?.pendingRevoke).toEqual(first);
        expect(await store.savePendingRevoke(wabaId, loaded, second)).toBe(true);
        expect(await store.savePendingRevoke(wabaId, loaded, first)).toBe(false);
        expect((await store.loadPointer(wabaId))?.pendingRevoke).toEqual(second);
      });

      test("does not hide an owner that was stored since it was loaded", async () => {
        const wabaId = newId("12");
        await store.savePendingRevoke(wabaId, undefined, pendingRevoke());
        const loaded = await store.loadPointer(wabaId);
        await store.claimOwner(wabaId, "1101", { overPendingRevoke: true });
        expect(await store.savePendingRevoke(wabaId, loaded, undefined)).toBe(false);
        expect(await store.savePendingRevoke(wabaId, await store.loadPointer(wabaId), undefined)).toBe(true);
        const pointer = await store.loadPointer(wabaId);
        expect(pointer?.businessId).toBe("1101");
        expect(pointer?.pendingRevoke).toBeUndefined();
      });
    });

    describe("a blocked command", () => {
      test("counts its attempts, keeps its last failure and is announced once", async () => {
        const request = shareRequest(newId("12"));
        const pk = keys.command(request.commandId);
        await store.block(request, failure, false, "1101", at);
        expect((await transition(pk)).events).toEqual([]);
        await store.block(request, failure, true, "1101", at + 1);
        const { transitionId, events } = await transition(pk);
        expect(events).toEqual([
          {
            detailType: "Command Blocked",
            eventId: `${transitionId}-0`,
            occurredAt: at + 1,
            commandId: request.commandId,
            wabaId: request.wabaId,
            businessId: "1101",
            reason: "token_dead",
          },
        ]);
        const later: Failure = { at: at + 2, reason: "permission_denied", code: 10 };
        await store.block(request, later, true, "1101", at + 2);
        expect((await transition(pk)).events).toEqual([]);
        const record = await store.loadCommand(request.commandId);
        expect(record).toMatchObject({ attempts: 3, failure: later, reason: "permission_denied", hash: request.hash });
        expect(record?.outcome).toBeUndefined();
      });

      test("is announced though others count their failures in the same moment", async () => {
        const request = shareRequest(newId("12"));
        await Promise.all(
          Array.from({ length: 8 }, (_, index) => store.block(request, failure, index === 7, undefined, at)),
        );
        expect(await store.loadCommand(request.commandId)).toMatchObject({ attempts: 8, blockedAnnounced: true });
      });

      test("stays as it is once the command is concluded, or when the id belongs to another content", async () => {
        const request = shareRequest(newId("12"));
        await store.block(request, failure, false, undefined, at);
        await store.block({ ...request, hash: "another content" }, failure, true, undefined, at);
        expect(await store.loadCommand(request.commandId)).toMatchObject({ attempts: 1, hash: request.hash });
        const concluded = await store.conclude(conclusionOf(request), at);
        await store.block(request, failure, true, undefined, at);
        expect(await store.loadCommand(request.commandId)).toEqual(concluded);
      });
    });

    describe("a conclusion of its own", () => {
      test("is recorded with the event that announces it, and answered as it stands when it was there before", async () => {
        const request = shareRequest(newId("12"));
        const first = await store.conclude(conclusionOf(request, "refused"), at);
        const { transitionId, events } = await transition(keys.command(request.commandId));
        expect(first).toMatchObject({ outcome: "refused", reason: "funded_elsewhere", attempts: 1 });
        expect(first.event).toMatchObject({ eventId: `${transitionId}-0`, detailType: "Share Refused" });
        expect(events).toEqual([first.event]);

        expect(await store.conclude(conclusionOf(request), at + 1)).toEqual(first);
        expect(await store.loadCommand(request.commandId)).toEqual(first);
      });

      test("is answered as recorded when the answer was lost and the client repeated it", async () => {
        const request = shareRequest(newId("12"));
        subject.loseNextAnswer();
        const concluded = await store.conclude(conclusionOf(request), at);
        expect(concluded).toMatchObject({ outcome: "done", commandId: request.commandId });
      });
    });

    describe("a rejected body", () => {
      test("H22: is recorded and announced once, under its hash: the command of that id is another matter", async () => {
        const hash = randomUUID();
        const commandId = randomUUID();
        const rejection = {
          hash,
          commandId,
          wabaId: "1201",
          reason: "invalid_command",
          detail: "currency: bad",
        } as const;
        expect(await store.reject(rejection, at)).toBeUndefined();
        const first = await transition(keys.command(`sha256:${hash}`));
        expect(first.events).toEqual([
          {
            detailType: "Command Rejected",
            eventId: `${first.transitionId}-0`,
            occurredAt: at,
            commandId,
            wabaId: "1201",
            reason: "invalid_command",
          },
        ]);
        expect(await store.reject(rejection, at + 1)).toEqual(first.events[0]);
        expect(await transition(keys.command(`sha256:${hash}`))).toEqual(first);
        expect(await store.loadCommand(commandId)).toBeUndefined();
        expect(await store.loadCommand(`sha256:${hash}`)).toMatchObject({
          outcome: "rejected",
          reason: "invalid_command",
          failure: { message: "currency: bad" },
        });
      });
    });

    test("keeps the latest end of a throttle, whoever saves it last", async () => {
      for (const until of [at + 3, at + 9, at + 6]) await store.saveBlockedUntil(until);
      expect(await store.loadBlockedUntil()).toBe(at + 9);
      // That of one WABA is its own.
      const [wabaId, other] = [newId("12"), newId("12")];
      for (const until of [at + 30, at + 90, at + 60]) await store.saveBlockedUntil(until, wabaId);
      expect(await store.loadBlockedUntil(wabaId)).toBe(at + 90);
      expect(await store.loadBlockedUntil(other)).toBeUndefined();
      expect(await store.loadBlockedUntil()).toBe(at + 9);
    });
  });
}

const verifyAfterMs = 1000;

/** An id that no other test uses. */
function newId(prefix: string): string {
  return prefix + String(BigInt(`0x${randomUUID().replaceAll("-", "").slice(0, 13)}`));
}

function changeTo(business: Business): Change {
  return { business, events: [], conclusions: [] };
}

function savedBusiness(written: Written): Business {
  if (!written.saved) throw new Error("The write was lost");
  return written.business;
}

function conclusionOf(request: Request, outcome: "done" | "refused" = "done"): Conclusion {
  const { commandId } = request;
  return outcome === "done"
    ? { request, outcome, event: { detailType: "Share Accepted", commandId } }
    : { request, outcome, reason: "funded_elsewhere", event: { detailType: "Share Refused", commandId } };
}

function attempting(business: Business, request: ShareRequest, { nextAt = at + 5000 } = {}): Business {
  const waba: Waba = {
    ...wabaOf(request),
    status: "sharing",
    intent: { id: randomUUID(), epoch: business.epoch, attempt: 1, madeAt: at, sendDeadline: at + 1000 },
    due: { request, nextAt, looks: 0, sweeps: 0 },
  };
  return { ...business, wabas: { ...business.wabas, [request.wabaId]: waba } };
}

function sharedWaba(request: ShareRequest, allocationId: string): Waba {
  const due = { request, nextAt: at + verifyAfterMs, looks: 0, sweeps: 0 };
  return { ...wabaOf(request), status: "shared", allocationId, due };
}

function shared(business: Business, request: ShareRequest, allocationId: string): Business {
  return { ...business, wabas: { ...business.wabas, [request.wabaId]: sharedWaba(request, allocationId) } };
}

function wabaOf(request: ShareRequest) {
  return { currency: request.currency, method: "share-and-attach", creditLineId: "20", request } as const;
}

/** The POST was answered with this allocation. */
function acceptance(business: Business, request: ShareRequest, allocationId: string): Settlement {
  const waba = business.wabas[request.wabaId];
  if (waba?.intent === undefined) throw new Error("There is no attempt to settle");
  const next = shared(business, request, allocationId);
  const record = { creditLineId: "20", epoch: business.epoch, state: "unknown", recordedAt: at } as const;
  return {
    guard: "waba",
    wabaId: request.wabaId,
    intentId: waba.intent.id,
    epoch: waba.intent.epoch,
    waba: sharedWaba(request, allocationId),
    record: { allocationId, record },
    change: { ...changeTo(next), conclusions: [conclusionOf(request)] },
  };
}

function pendingRevoke(): NonNullable<Pointer["pendingRevoke"]> {
  return { requests: [revokeRequest()], since: at, due: { nextAt: at + 100, looks: 0, sweeps: 0 } };
}
