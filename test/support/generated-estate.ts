import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { scanEstate } from "../../functions/reconcile/estate-scan.ts";
import type { ScanDeps } from "../../functions/reconcile/scan-slice.ts";
import { createLogger } from "../../shared/logging.ts";
import type { Scan } from "../../shared/store/items.ts";
import { mergeSeen, packIds } from "../../shared/store/scan-store.ts";
import { customerOf, hourMs, startEstate, verifiedBusiness } from "./estate-harness.ts";

/**
 * `node --expose-gc test/support/generated-estate.ts COUNT`: one scan of so many businesses that are nowhere, but made up
 * whenever they are asked for. Prints the most bytes that were in use after a collection: what the scan itself holds.
 */
const count = Number(process.argv[2]);
const at = Date.UTC(2026, 5, 10, 12);
const now = at + 24 * hourMs;
const folder = mkdtempSync(path.join(tmpdir(), "seen-"));
const numbers = /^1[13]000(\d{8})0$/;

let most = 0;
let steps = 0;
function measure(): void {
  steps += 1;
  if (steps % 10 !== 0) return;
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  most = Math.max(most, heapUsed + arrayBuffers);
}

function businessOf(businessId: string) {
  return verifiedBusiness(customerOf(Number(numbers.exec(businessId)?.[1])), at);
}

/** Entries `from` to `from + size` of all customers; the next page begins behind them. */
function pageFrom(from: number, size: number) {
  measure();
  const some = Array.from({ length: Math.min(size, count - from) }, (_, index) => customerOf(from + index + 1));
  const next = from + size < count ? { next: String(from + size) } : {};
  return { some, ...next };
}

const { deps } = startEstate();
let scan: Scan | undefined;
const generated: ScanDeps = {
  ...deps,
  log: createLogger("generated"),
  now: () => now,
  scans: {
    loadScan: async () => scan,
    async saveScan(_loaded, next, seen) {
      scan = next;
      if (seen === undefined) return true;
      writeFileSync(path.join(folder, `${seen.list}-${next.chunks[seen.list] - 1}`), packIds(seen.ids));
      return true;
    },
    loadSeen: async ({ chunks }, list) =>
      mergeSeen(Array.from({ length: chunks[list] }, (_, n) => readFileSync(path.join(folder, `${list}-${n}`)))),
    loadBusinesses: async (ids) => new Map(ids.map((id) => [id, businessOf(id)])),
    loadPointers: async (ids) =>
      new Map(ids.map((wabaId) => [wabaId, { wabaId, businessId: `11000${wabaId.slice(5, 13)}0`, version: 1 }])),
    async walk(cursor) {
      const { some, ...next } = pageFrom(Number(cursor ?? 0), 500);
      const businesses = some.map((customer) => ({ business: verifiedBusiness(customer, at), indexedAt: undefined }));
      return { businesses, transitions: [], unreadable: [], ...next };
    },
  },
  portfolio: {
    readLine: async () => ({ ok: true, value: { accessRevoked: false, unreadable: [] } }),
    async pageAllocations(_line, after) {
      const { some, ...next } = pageFrom(Number(after ?? 0), 100);
      const items = some.map(({ allocationId, businessId, credentialId }) => ({
        allocationId,
        businessId,
        credentialId,
        deleted: false,
      }));
      return { ok: true, value: { items, fieldsMissing: [], ...next } };
    },
    async pageWabas(_partner, after) {
      const { some, ...next } = pageFrom(Number(after ?? 0), 80);
      const items = some.flatMap(({ wabaIds, businessId: ownerBusinessId, credentialId: fundingId }) =>
        wabaIds.map((wabaId) => ({ wabaId, ownerBusinessId, fundingId, currency: "EUR" })),
      );
      return { ok: true, value: { items, fieldsMissing: [], ...next } };
    },
  },
};
generated.log.setLogLevel("SILENT");
try {
  const turn = { endsAt: now + 57_000, signal: new AbortController().signal };
  const { state } = await scanEstate(true, turn, generated);
  const differences = await deps.findings.unclosedFindings();
  console.log(JSON.stringify({ state, most, listed: scan?.listed, differences: differences.length }));
} finally {
  rmSync(folder, { recursive: true });
}
