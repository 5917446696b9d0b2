import type { Finding } from "../../shared/domain/findings.ts";
import type { FindingStore } from "../../shared/store/finding-store.ts";
import type { Pointer, Scan } from "../../shared/store/items.ts";
import { keys } from "../../shared/store/items.ts";
import type { ScanStore, Seen, WalkedPage } from "../../shared/store/scan-store.ts";
import { mergeSeen, packIds } from "../../shared/store/scan-store.ts";
import type { Item, MemoryTable, SendToTable } from "./memory-store.ts";

/** What one page of a walk holds. */
const pageItems = 500;

/** The scan's store as `shared/store/scan-store.ts` has it, over the table in memory. */
export function createMemoryScanStore(table: MemoryTable, send: SendToTable): ScanStore {
  return {
    loadScan: () => send("loadScan", () => table.get(keys.scan)?.scan),
    saveScan: (loaded: Scan | undefined, next: Scan, seen?: Seen) =>
      send("saveScan", () => {
        const checkpoint = {
          pk: keys.scan,
          holds: (item: Item | undefined) => item?.scan?.version === loaded?.version,
          next: () => ({ pk: keys.scan, scan: next }),
        };
        if (seen === undefined) return table.write([checkpoint]) === undefined;
        const pk = keys.seen(next.scanId, seen.list, next.chunks[seen.list] - 1);
        const chunk = { pk, holds: () => true, next: () => ({ pk, seen: [...seen.ids] }) };
        return table.write([checkpoint, chunk]) === undefined;
      }),
    loadSeen: (scan, list) =>
      send("loadSeen", () => {
        const pks = Array.from({ length: scan.chunks[list] }, (_, index) => keys.seen(scan.scanId, list, index));
        return mergeSeen(
          pks.map((pk) => {
            const ids = table.get(pk)?.seen;
            if (ids === undefined) throw new Error(`Some of the ids that scan ${scan.scanId} has seen are gone`);
            return packIds(ids);
          }),
        );
      }),
    loadBusinesses: (businessIds) =>
      send("loadBusinesses", () => {
        const found = businessIds.flatMap((id) => table.get(keys.business(id))?.business ?? []);
        return new Map(found.map((business) => [business.businessId, business]));
      }),
    loadPointers: (wabaIds) =>
      send("loadPointers", () => {
        const found = wabaIds.flatMap((id): Pointer[] => {
          const pointer = table.get(keys.waba(id))?.pointer;
          return pointer === undefined ? [] : [pointer];
        });
        return new Map(found.map((pointer) => [pointer.wabaId, pointer]));
      }),
    walk: (cursor, since) =>
      send("walk", () => {
        const pks = [...table.items.keys()];
        const start = cursor === undefined ? 0 : pks.indexOf(cursor) + 1;
        const shown = pks.slice(start, start + pageItems);
        const page: WalkedPage = { businesses: [], transitions: [], unreadable: [] };
        for (const pk of shown) {
          const { business, transition, dueAt } = table.get(pk) ?? {};
          if (business !== undefined) page.businesses.push({ business, indexedAt: dueAt });
          if (transition === undefined || transition.changedAt <= since) continue;
          const { id: transitionId, ...rest } = transition;
          page.transitions.push({ pk, transitionId, ...rest });
        }
        const last = shown.at(-1);
        return start + pageItems >= pks.length || last === undefined ? page : { ...page, next: last };
      }),
  };
}

/** Findings as `shared/store/finding-store.ts` keeps them; the index lags behind nothing here. */
export function createMemoryFindingStore(table: MemoryTable, newId: () => string, send: SendToTable): FindingStore {
  return {
    loadFinding: (kind, subject) => send("loadFinding", () => table.get(keys.finding(kind, subject))?.finding),
    saveFinding(loaded: Finding | undefined, next, events, now) {
      const id = newId();
      const recorded = events.map((draft, index) => ({ ...draft, eventId: `${id}-${index}`, occurredAt: now }));
      const pk = keys.finding(next.kind, next.subject);
      const transition = { id, version: next.version, changedAt: now, events: recorded };
      return send("saveFinding", () => {
        function holds(item: Item | undefined): boolean {
          return item?.finding?.version === loaded?.version;
        }
        return table.write([{ pk, holds, next: () => ({ pk, finding: next, transition }) }]) === undefined;
      });
    },
    unclosedFindings: () =>
      send("unclosedFindings", () =>
        [...table.items.values()]
          .filter(({ finding }) => finding !== undefined && finding.state !== "closed")
          .toSorted((a, b) => (a.pk < b.pk ? -1 : 1))
          .flatMap(({ finding }) => (finding === undefined ? [] : [{ kind: finding.kind, subject: finding.subject }])),
      ),
  };
}
