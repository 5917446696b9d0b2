import type { DriftCommand, ScanDeps, ScanPolicy } from "../../functions/reconcile/scan-slice.ts";
import type { ScanReport } from "../../functions/reconcile/estate-scan.ts";
import { scanEstate } from "../../functions/reconcile/estate-scan.ts";
import { createScanGraph } from "../../functions/reconcile/scan-graph.ts";
import { revokeFlow } from "../../functions/revoke/revoke-allocations.ts";
import { failCall, handleGraphCall, receiveCall, usageHeaders } from "../../infra/local/meta/meta-graph.ts";
import type { MetaModel } from "../../infra/local/meta/meta-model.ts";
import { createMetaModel, upsertWorld } from "../../infra/local/meta/meta-model.ts";
import type { Variants } from "../../infra/local/meta/meta-variants.ts";
import { variantsSchema } from "../../infra/local/meta/meta-variants.ts";
import type { WorldInput } from "../../infra/local/meta/meta-world.ts";
import { parseWorld } from "../../infra/local/meta/meta-world.ts";
import type { CommandDeps } from "../../shared/command-deps.ts";
import type { Business, SharedWaba, ShareRequest } from "../../shared/domain/business.ts";
import { newBusiness } from "../../shared/domain/business.ts";
import type { Finding } from "../../shared/domain/findings.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import type { CallerDeps } from "../../shared/graph/caller.ts";
import { countGraphCall } from "../../shared/graph/call-count.ts";
import { createGraph } from "../../shared/graph/client.ts";
import { createPortfolio } from "../../shared/graph/portfolio.ts";
import type { GraphAnswer, GraphRequest } from "../../shared/graph/transport.ts";
import { createLogger } from "../../shared/logging.ts";
import { queueHandler } from "../../shared/queue-handler.ts";
import type { Transition } from "../../shared/store/items.ts";
import { keys } from "../../shared/store/items.ts";
import { createMemoryFindingStore, createMemoryScanStore } from "../simulation/memory-scan-store.ts";
import { createMemoryStore, createMemoryTable } from "../simulation/memory-store.ts";
import { revokeCommand } from "./commands.ts";
import { lambdaContext } from "./lambda.ts";
import { sqsRecord } from "./quiet-stack.ts";

export const partnerId = "100000000000001";
export const lineId = "200000000000001";
const systemToken = "EAAsystemTokenOfThePartner";
export const minuteMs = 60_000;
export const hourMs = 60 * minuteMs;
const callMs = 150;
/** What a slice may use of its function's minute. */
const sliceMs = 57_000;

export type Customer = { businessId: string; wabaIds: string[]; allocationId: string; credentialId: string };

/** Each customer has one WABA, every fourth a second one. */
export function customerOf(index: number): Customer {
  const number = String(index).padStart(8, "0");
  const wabaIds = [`12000${number}0`, ...(index % 4 === 0 ? [`12000${number}1`] : [])];
  return {
    businessId: `11000${number}0`,
    wabaIds,
    allocationId: `13000${number}0`,
    credentialId: `14000${number}0`,
  };
}

/** What goes wrong with a call to Meta: the process dies, the function's time is over while it waits, Meta says stop. */
type Fault = "crash" | "time-out" | "throttle" | "forbidden";

/** The estate scan as it is deployed, over the model of Meta and the table in memory, on a clock of its own. */
export function startEstate(options: { variants?: Partial<Variants>; policy?: Partial<ScanPolicy> } = {}) {
  const clock = { now: Date.UTC(2026, 5, 10, 12) };
  const variants = variantsSchema.parse(options.variants ?? {});
  const empty: WorldInput = {
    partnerBusinessId: partnerId,
    lines: [{ id: lineId, ownerBusinessId: partnerId }],
    tokens: [{ value: systemToken, kind: "system" }],
  };
  const model: MetaModel = createMetaModel(worldOf(empty), variants, clock.now);
  const announced: RecordedEvent[] = [];
  const audited = new Set<string>();
  const table = createMemoryTable(({ before, after }) => {
    const { transition } = after;
    if (transition === undefined || transition.id === before?.transition?.id) return;
    if (unheard.delete(after.pk)) return;
    announced.push(...transition.events);
    audited.add(transition.id);
  });
  /** Items whose next change `publish` misses. */
  const unheard = new Set<string>();
  let ids = 0;
  let isDead = false;
  async function send<T>(_operation: string, request: () => T): Promise<T> {
    if (isDead) throw new Error("The process is dead");
    return request();
  }
  function newId(): string {
    ids += 1;
    return `id-${ids}`;
  }
  const store = createMemoryStore(table, newId, send);
  /** Another process's. */
  const others = createMemoryStore(table, newId, async (_operation, request) => request());

  /** When each call to Meta was made. */
  const calls: number[] = [];
  const faults = new Map<number, Fault>();
  const onCall = new Map<number, (() => void)[]>();
  async function transport(request: GraphRequest): Promise<GraphAnswer> {
    countGraphCall();
    calls.push(clock.now);
    const { length: n } = calls;
    for (const happens of onCall.get(n) ?? []) happens();
    const fault = faults.get(n);
    clock.now += fault === "time-out" ? 2 * minuteMs : callMs;
    if (fault === "crash" || fault === "time-out") {
      isDead = true;
      throw new Error(fault);
    }
    const call = { ...request, path: `/v25.0${request.path}`, now: clock.now };
    if (fault === "throttle") {
      const answer = failCall(model, receiveCall(model, call), { code: 4, message: "Too many calls" }, clock.now);
      const usage = usageHeaders(100, { id: partnerId, percent: 100, regainMinutes: 10 });
      return { kind: "answer", ...answer, headers: { ...answer.headers, ...usage } };
    }
    if (fault === "forbidden") {
      return { kind: "answer", ...failCall(model, receiveCall(model, call), { code: 10, message: "No" }, clock.now) };
    }
    return { kind: "answer", ...handleGraphCall(model, call) };
  }
  const system = { read: async () => systemToken, forget: () => {} };
  const caller: CallerDeps = {
    transport,
    tokens: { system, business: () => system },
    now: () => clock.now,
  };
  const log = createLogger("estate");
  log.setLogLevel("SILENT");
  const commands: DriftCommand[] = [];
  const policy: ScanPolicy = {
    partnerBusinessId: partnerId,
    creditLineId: lineId,
    settleWindowMs: 30 * minuteMs,
    clockSkewMs: 5 * minuteMs,
    callsPerHour: 1000,
    stopAt: 0.8,
    shrinkLimit: 0.05,
    verifications: { ageMs: 7 * 24 * hourMs, scanEveryMs: 24 * hourMs, spreadMs: 24 * hourMs },
    mayStart: ["probe", "verify", "revoke-left"],
    ...options.policy,
  };
  const deps: ScanDeps = {
    store,
    scans: createMemoryScanStore(table, send),
    findings: createMemoryFindingStore(table, newId, send),
    portfolio: createPortfolio(caller),
    graph: createScanGraph(caller, [partnerId, lineId]),
    command: async (command) => void commands.push(command),
    unaudited: async (transitions: Transition[]) =>
      transitions.filter(({ transitionId }) => !audited.has(transitionId)),
    announcing: {
      events: { send: async (events) => void announced.push(...events) },
      audit: { append: async ({ transitionId }) => void audited.add(transitionId), keepPoison: async () => {} },
      log,
    },
    log,
    now: () => clock.now,
    policy,
  };

  const commandDeps: CommandDeps = {
    ...deps,
    graph: createGraph(caller),
    queues: { copy: async () => {}, deadLetter: async () => {}, wake: async () => {} },
    events: deps.announcing.events,
    newId,
    policy: {
      ...policy,
      currencies: ["EUR"],
      shareMethod: "share-and-attach",
      secondPost: "auto",
      verifyGraceMs: [30_000],
      onPartnerRemoved: "revoke-unless-siblings",
      breaker: { removals: 20, windowMs: 10 * minuteMs },
    },
    graphTimeoutMs: 8000,
    clockSkewMs: policy.clockSkewMs,
    maxReceiveCount: 5,
    businessTokenSecretPrefix: "business-tokens/",
  };
  const revoke = queueHandler(commandDeps, revokeFlow(commandDeps));

  async function slice(mayStart: boolean, ms = sliceMs): Promise<ScanReport | "died"> {
    isDead = false;
    const turn = { endsAt: clock.now + ms, signal: new AbortController().signal };
    try {
      return await scanEstate(mayStart, turn, deps);
    } catch (error) {
      if (isDead) return "died";
      throw error;
    } finally {
      isDead = false;
    }
  }

  return {
    model,
    table,
    deps,
    clock,
    calls,
    commands,
    announced,
    unheard,
    slice,
    /** The next call but `ahead` goes wrong. */
    fault: (ahead: number, fault: Fault) => faults.set(calls.length + ahead, fault),
    /** Something happens at Meta or here while the scan is at its next call but `ahead`. */
    during(ahead: number, happens: () => void): void {
      const n = calls.length + ahead;
      onCall.set(n, [...(onCall.get(n) ?? []), happens]);
    },
    world: (world: Partial<WorldInput>) => upsertWorld(model, worldOf(world, model), clock.now),

    /** A whole scan, a slice every five minutes. Answers how many slices it took. */
    async scan(): Promise<number> {
      for (let slices = 1; slices < 1000; slices += 1) {
        const began = clock.now;
        const report = await slice(slices === 1);
        if (report !== "died" && report.state === "done") return slices;
        if (report !== "died" && report.state === "idle" && slices > 1) throw new Error("The scan is gone");
        clock.now = Math.max(clock.now, began + 5 * minuteMs);
      }
      throw new Error("The scan does not end");
    },
    /** Delivers a revoke to its function. */
    async revoke(command: Record<string, unknown>): Promise<void> {
      const body = revokeCommand({ requestedAt: new Date(clock.now).toISOString(), ...command });
      const record = sqsRecord(body, { sentAt: clock.now });
      const { batchItemFailures } = await revoke({ Records: [record] }, lambdaContext(30_000));
      if (batchItemFailures.length > 0) throw new Error("The revoke was given back");
    },
    /** A day goes by. */
    nextDay: () => {
      clock.now += 24 * hourMs;
    },
    /** Writes an item as a function would, at this moment. */
    async put(business: Business): Promise<void> {
      const loaded = (await others.loadBusiness(business.businessId)) ?? newBusiness(business.businessId, clock.now);
      const change = { business: { ...business, version: loaded.version }, events: [], conclusions: [] };
      const written = await others.commit(loaded, change, clock.now);
      if (!written.saved) throw new Error("The item was in the way");
    },
    async business(businessId: string): Promise<Business> {
      const business = await others.loadBusiness(businessId);
      if (business === undefined) throw new Error(`There is no business ${businessId}`);
      return business;
    },
    findings(state: Finding["state"]): Finding[] {
      return [...table.items.values()].flatMap(({ finding }) => (finding?.state === state ? [finding] : []));
    },
    owner: (wabaId: string): string | undefined => table.get(keys.waba(wabaId))?.pointer?.businessId,
  };
}

export type Estate = ReturnType<typeof startEstate>;

function worldOf(world: Partial<WorldInput>, model?: MetaModel) {
  const partial = { partnerBusinessId: partnerId, ...world };
  if (model === undefined) return ok(parseWorld(partial));
  // What is named must be known, or the whole world would have to be parsed anew each time.
  const lines = [...model.lines.values()];
  const wabas = (world.wabas ?? []).map((waba) => ({ ...model.wabas.get(waba.id), ...waba }));
  const named = new Set((world.allocations ?? []).flatMap(({ wabaIds = [] }) => wabaIds));
  const known = [...named]
    .flatMap((id) => model.wabas.get(id) ?? [])
    .filter(({ id }) => !wabas.some((w) => w.id === id));
  const allocations = (world.allocations ?? []).map((one) => ({
    ...model.allocations.get(one.id),
    spans: undefined,
    ...one,
  }));
  return ok(
    parseWorld({
      ...partial,
      lines: world.lines ?? lines,
      wabas: [...wabas, ...known],
      allocations: allocations.map(({ spans: _not, ...one }) => one),
    }),
  );
}

function ok<T>(parsed: { success: true; data: T } | { success: false; error: Error }): T {
  if (!parsed.success) throw parsed.error;
  return parsed.data;
}

/** What Meta knows of a customer who is funded by the line. */
export function worldOfCustomers(customers: readonly Customer[]): Partial<WorldInput> {
  return {
    wabas: customers.flatMap(({ businessId, wabaIds }) =>
      wabaIds.map((id) => ({ id, ownerBusinessId: businessId, currency: "EUR" })),
    ),
    allocations: customers.map(({ businessId, wabaIds, allocationId, credentialId }) => ({
      id: allocationId,
      lineId,
      receivingBusinessId: businessId,
      receivingCredentialId: credentialId,
      wabaIds,
    })),
  };
}

/** What the table knows of a customer whose WABAs were shared and verified. */
export function verifiedBusiness({ businessId, wabaIds, allocationId, credentialId }: Customer, at: number): Business {
  const wabas = wabaIds.map((wabaId): [string, SharedWaba] => {
    const request: ShareRequest = {
      type: "share",
      commandId: `share-${wabaId}`,
      hash: "hash",
      requestedAt: at,
      requestedBy: "tests",
      wabaId,
      currency: "EUR",
      reshareAfterRevocation: false,
      partnerSwitch: false,
    };
    const evidence = {
      receivingCredentialId: credentialId,
      primaryFundingId: credentialId,
      checkedAt: at,
      verifiedAt: at,
    };
    const common = { currency: "EUR", method: "share-and-attach", creditLineId: lineId } as const;
    return [wabaId, { ...common, status: "verified", allocationId, request, evidence }];
  });
  return {
    ...newBusiness(businessId, at),
    listedAt: at,
    records: { [allocationId]: { creditLineId: lineId, epoch: 0, state: "live", recordedAt: at, readAt: at } },
    wabas: Object.fromEntries(wabas),
  };
}

/** Enters customers at Meta and on the table, in agreement. */
export async function settleIn(estate: Estate, customers: readonly Customer[]): Promise<void> {
  estate.world(worldOfCustomers(customers));
  for (const customer of customers) {
    await estate.put(verifiedBusiness(customer, estate.clock.now));
    for (const wabaId of customer.wabaIds) {
      await estate.deps.store.claimOwner(wabaId, customer.businessId, { overPendingRevoke: false });
    }
  }
}
