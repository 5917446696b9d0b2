import type { AccountNotice } from "../../shared/domain/account.ts";
import type { Business, Request, Waba } from "../../shared/domain/business.ts";
import { dueAt } from "../../shared/domain/business.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import type { Failure } from "../../shared/domain/reasons.ts";
import type { DueIndex, DueItem } from "../../shared/store/due-index.ts";
import type { Finding } from "../../shared/domain/findings.ts";
import type { Breaker, CommandRecord, Pointer, Reading, Scan } from "../../shared/store/items.ts";
import type { LimitStore, Removals } from "../../shared/store/limit-store.ts";
import { keys } from "../../shared/store/items.ts";
import type { StateStore, Written } from "../../shared/store/state-store.ts";
import {
  type Concluded,
  type Identified,
  identify,
  recordEvent,
  withoutAnswered,
} from "../../shared/store/transition.ts";

/**
 * The State table in memory: items that no one can change, conditions, transactions, and what the stream would show. It
 * passes the contract suite of the real one (test/shared/store/state-store-contract.ts).
 */
export type Item = {
  pk: string;
  business?: Business;
  pointer?: Pointer;
  command?: CommandRecord;
  quota?: { blockedUntil?: number; used?: number; readAt?: number };
  breaker?: Breaker;
  finding?: Finding;
  scan?: Scan;
  /** The ids that a list named to a scan. */
  seen?: readonly string[];
  removals?: Removals;
  /** What `publish` reads of it; absent from items that announce nothing. */
  transition?: { id: string; version: number; changedAt: number; events: RecordedEvent[] };
  dueAt?: number;
};

/** One item of a write: its condition upon what is there, and what it becomes (nothing, when it is only checked). */
type ItemWrite = {
  pk: string;
  holds: (item: Item | undefined) => boolean;
  next?: (item: Item | undefined) => Item;
};

/** Both images of a change, as a stream record has them. */
export type TableChange = { before: Item | undefined; after: Item };

export type MemoryTable = {
  items: ReadonlyMap<string, Item>;
  get(pk: string): Item | undefined;
  /** All or nothing. Answers which conditions failed, and the items as they stood. */
  write(writes: readonly ItemWrite[]): { failed: boolean[]; items: (Item | undefined)[] } | undefined;
};

export function createMemoryTable(onChange: (change: TableChange) => void = () => {}): MemoryTable {
  const items = new Map<string, Item>();
  return {
    items,
    get: (pk) => items.get(pk),
    write(writes) {
      if (new Set(writes.map(({ pk }) => pk)).size < writes.length) throw new Error("One item stands twice in a write");
      const found = writes.map(({ pk }) => items.get(pk));
      const failed = writes.map(({ holds }, index) => !holds(found[index]));
      if (failed.includes(true)) return { failed, items: found };
      for (const [index, { pk, next }] of writes.entries()) {
        if (next === undefined) continue;
        const before = found[index];
        const after = sealed(next(before));
        items.set(pk, after);
        onChange({ before, after });
      }
      return undefined;
    },
  };
}

/** How a request reaches the table. The request may be sent twice, as the SDK does when an answer is lost. */
export type SendToTable = <T>(operation: string, request: () => T) => Promise<T>;

/** The store as `shared/store/state-store.ts` has it, statement by statement, over the table in memory. */
export function createMemoryStore(table: MemoryTable, newId: () => string, send: SendToTable): StateStore {
  async function putUnless(name: string, item: Item, holds: ItemWrite["holds"]): Promise<boolean> {
    const refused = await send(name, () => table.write([{ pk: item.pk, holds, next: () => item }]));
    return refused === undefined;
  }

  return {
    loadBusiness: (businessId) => send("loadBusiness", () => table.get(keys.business(businessId))?.business),
    loadPointer: (wabaId) => send("loadPointer", () => table.get(keys.waba(wabaId))?.pointer),
    loadCommand: (commandId) => send("loadCommand", () => table.get(keys.command(commandId))?.command),

    async commit(loaded, change, now) {
      const transition = identify(newId(), change, now);
      const pk = keys.business(loaded.businessId);
      function holds(item: Item | undefined): boolean {
        return loaded.version === 0 ? item === undefined : item?.business?.version === loaded.version;
      }
      if (change.business === loaded) return write("conclude", () => ({ pk, holds }), loaded, transition, now, true);
      const business: Business = { ...change.business, version: loaded.version + 1, changedAt: now };
      function guarded(identified: Identified): ItemWrite {
        const item = businessItem(business, identified, dueAt(business));
        return { pk, holds, next: () => item };
      }
      return write("commit", guarded, business, transition, now, false);
    },

    async settle(loaded, settlement, now) {
      const { wabaId, change, record, doubt, guard } = settlement;
      const transition = identify(newId(), change, now);
      const due = Math.min(dueAt(change.business) ?? Infinity, now + settleDueMaxMs);
      const pk = keys.business(loaded.businessId);
      function holds(item: Item | undefined): boolean {
        const { business } = item ?? {};
        if (business === undefined || business.epoch !== settlement.epoch) return false;
        const intent = guard === "record" ? business.recordIntent : business.wabas[wabaId]?.intent;
        return intent?.id === settlement.intentId;
      }
      function next(identified: Identified, item: Item | undefined): Item {
        if (item?.business === undefined) throw new Error("There is nothing to settle");
        const { recordIntent: note, ...current } = item.business;
        const before = current.wabas[wabaId];
        const isOfRecord = guard === "record";
        const noted = doubt === undefined || !isOfRecord || note === undefined ? note : { ...note, failure: doubt };
        const kept = isOfRecord && doubt === undefined ? undefined : noted;
        const waba = doubt === undefined || before === undefined ? settlement.waba : doubted(before, doubt, isOfRecord);
        const business: Business = {
          ...current,
          wabas: { ...current.wabas, [wabaId]: waba },
          ...(record === undefined ? {} : { records: { ...current.records, [record.allocationId]: record.record } }),
          ...(kept === undefined ? {} : { recordIntent: kept }),
          version: current.version + 1,
          changedAt: now,
        };
        return businessItem(business, identified, due);
      }
      function guarded(identified: Identified): ItemWrite {
        return { pk, holds, next: (item) => next(identified, item) };
      }
      return write("settle", guarded, change.business, transition, now, false);
    },

    async conclude(conclusion, now) {
      const transition = identify(newId(), { events: [], conclusions: [conclusion] }, now);
      const [concluded] = transition.concluded;
      if (concluded === undefined) throw new Error("A conclusion was not identified");
      const row = concludedWrite(concluded, transition.id, now, true);
      const refused = await send("conclude", () => table.write([row.write]));
      const there = refused?.items[0]?.command;
      return there ?? row.command;
    },

    async concludeUnowned(conclusion, wabaId, now) {
      const transition = identify(newId(), { events: [], conclusions: [conclusion] }, now);
      const rows = transition.concluded.map((concluded) => concludedWrite(concluded, transition.id, now, true).write);
      const pk = keys.waba(wabaId);
      function isUnowned(item: Item | undefined): boolean {
        return item?.pointer?.businessId === undefined;
      }
      const refused = await send("conclude", () => table.write([{ pk, holds: isUnowned }, ...rows]));
      return refused?.failed[0] !== true;
    },

    async reject(rejection, now) {
      const { commandId, wabaId, reason, hash, detail } = rejection;
      const transitionId = newId();
      const about = { ...(commandId === undefined ? {} : { commandId }), ...(wabaId === undefined ? {} : { wabaId }) };
      const event = recordEvent({ detailType: "Command Rejected", reason, ...about }, transitionId, 0, now);
      const pk = keys.command(`sha256:${hash}`);
      const command: CommandRecord = {
        ...about,
        type: "rejected",
        hash,
        outcome: "rejected",
        reason,
        failure: { at: now, reason, message: detail },
        attempts: 1,
        version: 1,
        changedAt: now,
        event,
      };
      const item = { pk, command, transition: { id: transitionId, version: 1, changedAt: now, events: [event] } };
      if (await putUnless("reject", item, isAbsent)) return undefined;
      return (await send("loadCommand", () => table.get(pk)?.command))?.event;
    },

    async block(request, failure, announce, businessId, now) {
      for (;;) {
        const pk = keys.command(request.commandId);
        const known = await send("loadCommand", () => table.get(pk)?.command);
        if (known?.outcome !== undefined || (known !== undefined && known.hash !== request.hash)) return;
        const transitionId = newId();
        const about = {
          commandId: request.commandId,
          ...(request.wabaId === undefined ? {} : { wabaId: request.wabaId }),
          ...(businessId === undefined ? {} : { businessId }),
        };
        const event = recordEvent(
          { detailType: "Command Blocked", ...about, reason: failure.reason },
          transitionId,
          0,
          now,
        );
        const version = (known?.version ?? 0) + 1;
        const command: CommandRecord = {
          ...about,
          type: request.type,
          hash: request.hash,
          attempts: (known?.attempts ?? 0) + 1,
          reason: failure.reason,
          failure,
          version,
          changedAt: now,
          ...(announce || known?.blockedAnnounced === true ? { blockedAnnounced: true } : {}),
        };
        const events = announce && known?.blockedAnnounced !== true ? [event] : [];
        const item = { pk, command, transition: { id: transitionId, version, changedAt: now, events } };
        if (await putUnless("block", item, (there) => there?.command?.version === known?.version)) return;
      }
    },

    async claimOwner(wabaId, businessId, { overPendingRevoke }) {
      const pk = keys.waba(wabaId);
      return send("claimOwner", () => {
        table.write([
          {
            pk,
            holds: (item) =>
              item?.pointer?.businessId === undefined &&
              (overPendingRevoke || item?.pointer?.pendingRevoke === undefined),
            next: (item) => ({
              ...item,
              pk,
              pointer: { ...item?.pointer, wabaId, businessId, version: (item?.pointer?.version ?? 0) + 1 },
            }),
          },
        ]);
        const pointer = table.get(pk)?.pointer;
        if (pointer === undefined) throw new Error("The pointer is gone");
        return pointer;
      });
    },

    async saveAdded(wabaId, addedAt, hintedOwner) {
      const pk = keys.waba(wabaId);
      await send("saveAdded", () =>
        table.write([
          {
            pk,
            holds: (item) => (item?.pointer?.addedAt ?? -1) < addedAt,
            next: (item) => ({
              ...item,
              pk,
              pointer: {
                ...item?.pointer,
                wabaId,
                addedAt,
                ...(hintedOwner === undefined ? {} : { hintedOwner }),
                version: (item?.pointer?.version ?? 0) + 1,
              },
            }),
          },
        ]),
      );
    },

    async savePendingRevoke(wabaId, loaded, pending) {
      const pk = keys.waba(wabaId);
      const version = (loaded?.version ?? 0) + 1;
      const pointer: Pointer = { wabaId, ...loaded, version, pendingRevoke: pending };
      const item: Item = { pk, pointer, ...(pending === undefined ? {} : { dueAt: pending.due.nextAt }) };
      return putUnless("savePendingRevoke", item, (there) => there?.pointer?.version === loaded?.version);
    },

    ...createMemoryLimits(table, newId, send),
  };

  async function write(
    name: string,
    guard: (transition: Identified) => ItemWrite,
    business: Business,
    transition: Identified,
    now: number,
    announce: boolean,
  ): Promise<Written> {
    const rows = transition.concluded.map((concluded) => concludedWrite(concluded, transition.id, now, announce));
    const guarded = guard(transition);
    const isUnwritten = rows.length === 0 && guarded.next === undefined;
    if (isUnwritten) return { saved: true, business };
    const refused = await send(name, () => table.write([guarded, ...rows.map((row) => row.write)]));
    if (refused === undefined) return { saved: true, business };
    const [lostItem, ...lostRows] = refused.failed;
    if (lostItem !== true) {
      const answered = lostRows.flatMap((isLost, index) => (isLost ? [index] : []));
      return write(name, guard, business, withoutAnswered(transition, answered), now, announce);
    }
    const [item] = refused.items;
    if (item?.business === undefined) return { saved: false, current: undefined };
    if (item.transition?.id === transition.id) return { saved: true, business: item.business };
    return { saved: false, current: item.business };
  }
}

/** Which items are due, by what the index shows of them: it may lag behind the table. */
export function createMemoryDueIndex({ items }: Pick<MemoryTable, "items">): DueIndex {
  return {
    async *dueItems(now) {
      const due = [...items.values()].filter((item) => item.dueAt !== undefined && item.dueAt <= now);
      for (const { pk } of due) {
        const [kind, id = ""] = pk.split("#");
        const item: DueItem = { kind: kind === "WABA" ? "waba" : "business", id };
        yield item;
      }
    },
  };
}

function createMemoryLimits(table: MemoryTable, newId: () => string, send: SendToTable): LimitStore {
  async function setIf(name: string, pk: string, holds: ItemWrite["holds"], set: (item: Item) => Item) {
    function next(item: Item | undefined): Item {
      return set(item ?? { pk });
    }
    return (await send(name, () => table.write([{ pk, holds, next }]))) === undefined;
  }
  return {
    loadBreaker: () => send("loadBreaker", () => table.get(keys.tokenBreaker)?.breaker),
    loadLimits: () =>
      send("loadLimits", () => {
        const { blockedUntil, used, readAt } = table.get(keys.quota())?.quota ?? {};
        const reading = used === undefined || readAt === undefined ? undefined : { used, readAt };
        return { blockedUntil, reading, tokenIsDead: table.get(keys.tokenBreaker)?.breaker?.state === "open" };
      }),
    // Read in one go with the command and the limits, which are the step that takes time and may fail.
    loadBlockedUntil: async (wabaId?: string) => table.get(keys.quota(wabaId))?.quota?.blockedUntil,
    async saveBlockedUntil(blockedUntil: number, wabaId?: string) {
      await setIf(
        "saveBlockedUntil",
        keys.quota(wabaId),
        (item) => item?.quota?.blockedUntil === undefined || item.quota.blockedUntil < blockedUntil,
        (item) => ({ ...item, quota: { ...item.quota, blockedUntil } }),
      );
    },
    async saveReading({ used, readAt }: Reading) {
      await setIf(
        "saveReading",
        keys.quota(),
        (item) => item?.quota?.readAt === undefined || item.quota.readAt < readAt,
        (item) => ({ ...item, quota: { ...item.quota, used, readAt } }),
      );
    },
    claimReading: (reading: Reading, now: number) =>
      setIf(
        "claimReading",
        keys.quota(),
        (item) => item?.quota?.readAt === reading.readAt,
        (item) => ({ ...item, quota: { ...item.quota, readAt: now } }),
      ),
    async openBreaker(now: number) {
      await setIf(
        "openBreaker",
        keys.tokenBreaker,
        (item) => item?.breaker?.state !== "open",
        (item) => ({ ...item, breaker: { state: "open", since: now } }),
      );
    },
    moveBreaker: (loaded: Breaker, state: Breaker["state"]) =>
      setIf(
        "moveBreaker",
        keys.tokenBreaker,
        (item) => item?.breaker?.state === loaded.state && item.breaker.since === loaded.since,
        (item) => ({ ...item, breaker: { state, since: loaded.since } }),
      ),
    loadRemovals: () => send("loadRemovals", () => table.get(keys.removalBreaker)?.removals),
    async *heldByBreaker() {
      const held = [...table.items.values()].filter(({ business }) => business?.held?.reason === "breaker");
      yield held.flatMap(({ business }) => business?.businessId ?? []);
    },
    async saveRemovals(loaded, { next: breaker, events }, now) {
      const id = newId();
      const lock = (loaded?.lock ?? 0) + 1;
      const recorded = events.map((draft, index) => recordEvent(draft, id, index, now));
      const announced =
        events.length === 0 ? {} : { transition: { id, version: lock, changedAt: now, events: recorded } };
      return setIf(
        "saveRemovals",
        keys.removalBreaker,
        (item) => item?.removals?.lock === loaded?.lock,
        (item) => ({ ...item, removals: { breaker, lock }, ...announced }),
      );
    },
  };
}

/** As in the real store: a settle does not see what siblings wrote meanwhile. */
const settleDueMaxMs = 60_000;
const concludedVersion = 1_000_000;

function businessItem(business: Business, { id, events }: Identified, due: number | undefined): Item {
  const { version, changedAt } = business;
  const pk = keys.business(business.businessId);
  const transition = { id, version, changedAt, events };
  return { pk, business, transition, ...(due === undefined ? {} : { dueAt: due }) };
}

function concludedWrite(
  { conclusion, event }: Concluded,
  transitionId: string,
  now: number,
  announce: boolean,
): { write: ItemWrite; command: CommandRecord } {
  const { request, outcome, reason, failure } = conclusion;
  const command = sealed({ ...subject(request), businessId: event.businessId, outcome, reason, failure, attempts: 1 });
  const row: CommandRecord = { ...command, version: concludedVersion, changedAt: now, event };
  const pk = keys.command(request.commandId);
  const transition = { id: transitionId, version: concludedVersion, changedAt: now, events: [event] };
  const write: ItemWrite = {
    pk,
    holds: (item) => item === undefined || (item.command?.outcome === undefined && item.command?.hash === request.hash),
    next: () => ({ pk, command: row, ...(announce ? { transition } : {}) }),
  };
  return { write, command: row };
}

function doubted(waba: Waba, failure: Failure, isOfRecord: boolean): Waba {
  const { intent } = waba;
  const isIntents = !isOfRecord && intent !== undefined;
  return { ...waba, lastFailure: failure, ...(isIntents ? { intent: { ...intent, failure } } : {}) } as Waba;
}

function subject({ type, hash, commandId, wabaId }: Request | AccountNotice) {
  return { type, hash, commandId, wabaId };
}

function isAbsent(item: Item | undefined): boolean {
  return item === undefined;
}

/**
 * The value as a table keeps it: without undefined, and unchangeable, so that it can be handed out as it is. What was
 * sealed before is shared, which makes a write cost what it changes.
 */
function sealed<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  if (Array.isArray(value)) return Object.freeze(value.map(sealed)) as T;
  const copy: Record<string, unknown> = {};
  for (const [key, one] of Object.entries(value)) if (one !== undefined) copy[key] = sealed(one);
  return Object.freeze(copy) as T;
}
