import type { Business } from "../domain/business.ts";
import type { EstateReading, RecordReading } from "../domain/readings.ts";
import { linesOf, recordsToRead } from "../domain/readings.ts";
import type { Graph } from "./client.ts";
import { storedFailure } from "./errors.ts";

/** E6 is asked of this many records at a time. */
const readsAtOnce = 5;

/** E8 of one business on every line of ours. Never throws for a list that fails: it is then not complete. */
export async function listEstate(
  graph: Graph,
  business: Business,
  creditLineId: string,
  now: () => number,
  signal: AbortSignal,
): Promise<EstateReading> {
  const reading: EstateReading = { startedAt: now(), complete: true, listed: {}, records: [] };
  for (const line of linesOf(business, creditLineId)) {
    const reply = await graph.listAllocations(line, business.businessId, signal);
    if (!reply.ok) {
      return { ...reading, complete: false, failure: storedFailure(reply.failure) };
    }
    for (const { allocationId, deleted } of reply.value) {
      reading.listed[allocationId] = { creditLineId: line, deleted };
    }
  }
  return reading;
}

/** The list, and E6 of each record that is listed or recorded. */
export async function readEstate(
  graph: Graph,
  business: Business,
  creditLineId: string,
  now: () => number,
  signal: AbortSignal,
): Promise<EstateReading> {
  const estate = await listEstate(graph, business, creditLineId, now, signal);
  const ids = recordsToRead(business, estate.listed);
  return { ...estate, records: await readRecords(graph, business, ids, estate.listed, creditLineId, signal) };
}

export async function readRecords(
  graph: Graph,
  business: Business,
  allocationIds: readonly string[],
  listed: EstateReading["listed"],
  creditLineId: string,
  signal: AbortSignal,
): Promise<RecordReading[]> {
  const readings: RecordReading[] = [];
  for (let start = 0; start < allocationIds.length; start += readsAtOnce) {
    const some = allocationIds.slice(start, start + readsAtOnce);
    const read = some.map((allocationId) => {
      const line = listed[allocationId]?.creditLineId ?? business.records[allocationId]?.creditLineId ?? creditLineId;
      return graph.readAllocation(allocationId, line, signal);
    });
    readings.push(...(await Promise.all(read)));
  }
  return readings;
}
