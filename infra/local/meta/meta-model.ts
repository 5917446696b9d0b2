import type { Business, Line, Token, Waba, World, WorldAllocation } from "./meta-world.ts";
import type { Variants } from "./meta-variants.ts";

/**
 * Meta's side of the credit line as plain data: what exists, what each reader may see of it yet, and the ledger.
 * Deterministic: the time comes with every change, ids come from a counter, nothing here does I/O.
 * The Graph calls upon it are in `meta-graph.ts`.
 */
export type MetaModel = {
  variants: Variants;
  partnerBusinessId: string;
  appSecret: string | undefined;
  /** Where `paging.next` points. */
  baseUrl: string;
  businesses: Map<string, Business>;
  lines: Map<string, Line>;
  /** By value. */
  tokens: Map<string, Token>;
  wabas: Map<string, Waba>;
  allocations: Map<string, Allocation>;
  attachments: Attachment[];
  /** The same by what they are asked for, oldest first: a benchmark knows tens of thousands of customers. */
  byBusiness: Map<string, Allocation[]>;
  byWaba: Map<string, Attachment[]>;
  byAllocation: Map<string, Attachment[]>;
  credentialIds: Set<string>;
  changes: Change[];
  calls: LedgerCall[];
  idsIssued: number;
  usage: Map<string, { used: number; at: number }>;
};

/** The record "line shared with this business". Several spans: it was deleted and came alive again. */
export type Allocation = {
  id: string;
  lineId: string;
  receivingBusinessId: string;
  receivingCredentialId: string;
  spans: Span[];
};

/** "This WABA is paid for through that record." */
export type Attachment = Span & {
  wabaId: string;
  allocationId: string;
  credentialId: string;
  /** Someone else's funding that ends when this one begins to pay. */
  replacesFundingId?: string;
};

/** Who looks: Meta itself, or a read that may lag behind it. */
export type Reader = "truth" | "e6" | "e7" | "e8";
type Moment = Record<Reader, number>;
type Span = { from: Moment; to?: Moment };

export type ChangeKind =
  | "allocation_created"
  | "allocation_revived"
  | "allocation_deleted"
  | "waba_attached"
  | "waba_detached"
  | "waba_unshared"
  | "waba_shared"
  | "funding_changed"
  | "owner_changed"
  | "line_access_changed"
  | "user_assigned"
  | "app_subscribed";

type ChangeSubject = { allocationId?: string; lineId?: string; businessId?: string; wabaId?: string };

/** `time` in epoch milliseconds. Without `callNumber` it was made by hands in Meta's console, or is how the world began. */
export type Change = { n: number; time: number; kind: ChangeKind; callNumber?: number } & ChangeSubject;

/** One call as it arrived (`time`), was judged (`landedAt`, when later) and answered. It holds no token and no proof. */
export type LedgerCall = {
  n: number;
  time: number;
  method: string;
  path: string;
  /** Its number in graph-api.md §1; a read that combines two is "E3+E7". */
  name: string;
  query: Record<string, string>;
  tokenKind: "system" | "business" | "unknown" | "none";
  /** What was decided; whether it also reached the caller, `fault` tells. Absent: never decided. */
  status?: number;
  errorCode?: number;
  errorSubcode?: number;
  landedAt?: number;
  fault?: string;
  violation?: string;
};

/** When, and by which call, a change happens. */
export type Cause = { now: number; callNumber?: number };

export function createMetaModel(world: World, variants: Variants, now: number): MetaModel {
  const noLags = {
    e6ShareLagMs: 0,
    e7ShareLagMs: 0,
    e8ShareLagMs: 0,
    e6DeleteLagMs: 0,
    e7DeleteLagMs: 0,
    e8DeleteLagMs: 0,
  };
  const model: MetaModel = {
    variants: { ...variants, ...noLags },
    partnerBusinessId: world.partnerBusinessId,
    appSecret: undefined,
    baseUrl: "http://127.0.0.1",
    businesses: new Map(),
    lines: new Map(),
    tokens: new Map(),
    wabas: new Map(),
    allocations: new Map(),
    attachments: [],
    byBusiness: new Map(),
    byWaba: new Map(),
    byAllocation: new Map(),
    credentialIds: new Set(),
    changes: [],
    calls: [],
    idsIssued: 0,
    usage: new Map(),
  };
  upsertWorld(model, world, now);
  model.variants = variants;
  return model;
}

/** Brings the model to what `world` says of each thing it names; what is not named stays. */
export function upsertWorld(model: MetaModel, world: World, now: number): void {
  const cause = { now };
  model.partnerBusinessId = world.partnerBusinessId;
  model.appSecret = world.appSecret;
  for (const business of world.businesses) model.businesses.set(business.id, business);
  for (const token of world.tokens) model.tokens.set(token.value, token);
  for (const line of world.lines) upsertLine(model, line, cause);
  for (const waba of world.wabas) upsertWaba(model, waba, cause);
  for (const allocation of world.allocations) upsertAllocation(model, allocation, cause);
  for (const id of businessIdsOf(world)) {
    if (!model.businesses.has(id)) model.businesses.set(id, { id, name: `Business ${id}` });
  }
}

/** The world as it truly is now, lags aside. It holds token values: mask them before they leave the process. */
export function exportWorld(model: MetaModel): World {
  const wabaIds = new Map<string, string[]>();
  for (const { allocationId, wabaId, to } of model.attachments) {
    if (to === undefined) wabaIds.set(allocationId, [...(wabaIds.get(allocationId) ?? []), wabaId]);
  }
  return {
    partnerBusinessId: model.partnerBusinessId,
    appSecret: model.appSecret,
    businesses: [...model.businesses.values()],
    lines: [...model.lines.values()],
    tokens: [...model.tokens.values()],
    wabas: [...model.wabas.values()],
    allocations: [...model.allocations.values()].map(({ spans, ...allocation }) => ({
      ...allocation,
      status: spans.at(-1)?.to === undefined ? "live" : "deleted",
      wabaIds: wabaIds.get(allocation.id) ?? [],
    })),
  };
}

/** Live records of a business on a line, oldest first. */
export function liveAllocations(model: MetaModel, lineId: string, businessId: string, now: number): Allocation[] {
  return allocationsOf(model, businessId).filter(
    (allocation) => allocation.lineId === lineId && isLive(allocation, "truth", now),
  );
}

/** Every record a business ever had, oldest first. */
export function allocationsOf(model: MetaModel, businessId: string): readonly Allocation[] {
  return model.byBusiness.get(businessId) ?? [];
}

export function isLive(allocation: Allocation, reader: Reader, now: number): boolean {
  return allocation.spans.some((span) => isOpen(span, reader, now));
}

/** Whether the reader knows of it at all, live or deleted. */
export function isKnown(allocation: Allocation, reader: Reader, now: number): boolean {
  return allocation.spans.some((span) => span.from[reader] <= now);
}

/** Every attachment the WABA ever had, oldest first. */
export function attachmentsOf(model: MetaModel, wabaId: string): readonly Attachment[] {
  return model.byWaba.get(wabaId) ?? [];
}

function isOpen(span: Span, reader: Reader, now: number): boolean {
  return span.from[reader] <= now && (span.to === undefined || now < span.to[reader]);
}

/** What pays for the WABA as E7 would show it; undefined = nothing. The first attachment stays until it ends: a line attached is never replaced. */
export function shownFundingId(model: MetaModel, waba: Waba, now: number): string | undefined {
  const attachment = attachmentsOf(model, waba.id).find((candidate) => isOpen(candidate, "e7", now));
  return attachment?.credentialId ?? foreignFundingId(model, waba, now);
}

/** Someone else's funding, unless one of our attachments has taken its place since (it does not come back). */
export function foreignFundingId(model: MetaModel, waba: Waba, now: number): string | undefined {
  const foreignId = waba.primaryFundingId;
  if (foreignId === null) return undefined;
  const replaced = attachmentsOf(model, waba.id).some(
    ({ replacesFundingId, from, to }) =>
      replacesFundingId === foreignId && from.e7 <= now && (to === undefined || from.e7 <= to.truth),
  );
  return replaced ? undefined : foreignId;
}

/** A new record, or the last deleted one alive again where the variant has it so. */
export function shareWithBusiness(model: MetaModel, lineId: string, businessId: string, cause: Cause): Allocation {
  const earlier = allocationsOf(model, businessId).filter((allocation) => allocation.lineId === lineId);
  const last = earlier.at(-1);
  const isReshare = last !== undefined && !earlier.some((allocation) => isLive(allocation, "truth", cause.now));
  if (isReshare && model.variants.reshareAfterRevoke === "works-same-id") {
    reviveAllocation(model, last, cause);
    return last;
  }
  const credentialId = model.variants.credentialPer === "waba" ? undefined : last?.receivingCredentialId;
  return createAllocation(model, { id: newId(model), lineId, businessId, credentialId }, cause);
}

export function attachWaba(model: MetaModel, allocation: Allocation, waba: Waba, cause: Cause): void {
  const foreignId = foreignFundingId(model, waba, cause.now);
  const from = moment(cause.now, model.variants, "Share");
  // A partner switch is accepted now and pays from the next month.
  if (foreignId !== undefined && waba.partnerSwitch) from.e7 = Math.max(from.e7, nextMonthStart(cause.now));
  const attachment: Attachment = {
    wabaId: waba.id,
    allocationId: allocation.id,
    credentialId: credentialFor(model, allocation, waba.id),
    from,
    ...(foreignId !== undefined && { replacesFundingId: foreignId }),
  };
  model.attachments.push(attachment);
  append(model.byWaba, waba.id, attachment);
  append(model.byAllocation, allocation.id, attachment);
  note(model, "waba_attached", { ...subjectOf(allocation), wabaId: waba.id }, cause);
}

/** The record dies, and with it the funding of exactly the WABAs attached to it. */
export function deleteAllocation(model: MetaModel, allocation: Allocation, cause: Cause): void {
  const span = allocation.spans.at(-1);
  if (span === undefined || span.to !== undefined) return;
  span.to = moment(cause.now, model.variants, "Delete");
  note(model, "allocation_deleted", subjectOf(allocation), cause);
  detachWhere(model, (attachment) => attachment.allocationId === allocation.id, cause);
}

/** Unused ids, too long for a double and alike but for their last digits: who parses them as numbers confuses them. */
function newId(model: MetaModel): string {
  for (;;) {
    model.idsIssued += 1;
    const id = `910000${String(model.idsIssued).padStart(13, "0")}`;
    if (!isTaken(model, id)) return id;
  }
}

/** Enters a change in the ledger. */
export function note(model: MetaModel, kind: ChangeKind, subject: ChangeSubject, cause: Cause): void {
  const { now: time, callNumber } = cause;
  const by = callNumber === undefined ? {} : { callNumber };
  model.changes.push({ n: model.changes.length + 1, time, kind, ...subject, ...by });
}

/** Start of the following month, UTC, in epoch milliseconds. */
export function nextMonthStart(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

function upsertLine(model: MetaModel, line: Line, cause: Cause): void {
  const before = model.lines.get(line.id);
  model.lines.set(line.id, line);
  if ((before?.accessRevoked ?? false) !== line.accessRevoked) {
    note(model, "line_access_changed", { lineId: line.id }, cause);
  }
}

function upsertWaba(model: MetaModel, waba: Waba, cause: Cause): void {
  const before = model.wabas.get(waba.id);
  const subject = { wabaId: waba.id, businessId: waba.ownerBusinessId };
  model.wabas.set(waba.id, waba);
  if ((before?.sharedWithPartner ?? true) !== waba.sharedWithPartner) {
    note(model, waba.sharedWithPartner ? "waba_shared" : "waba_unshared", subject, cause);
  }
  if (before !== undefined && before.ownerBusinessId !== waba.ownerBusinessId) {
    note(model, "owner_changed", subject, cause);
  }
  if ((before?.primaryFundingId ?? null) === waba.primaryFundingId) return;
  note(model, "funding_changed", subject, cause);
  if (waba.primaryFundingId !== null) detachWhere(model, (attachment) => attachment.wabaId === waba.id, cause);
}

function upsertAllocation(model: MetaModel, wanted: WorldAllocation, cause: Cause): void {
  const { id, lineId, receivingBusinessId: businessId, receivingCredentialId: credentialId } = wanted;
  const known = model.allocations.get(id);
  const allocation = known ?? createAllocation(model, { id, lineId, businessId, credentialId }, cause);
  if (credentialId !== undefined) {
    allocation.receivingCredentialId = credentialId;
    model.credentialIds.add(credentialId);
  }
  if (wanted.status === "deleted") {
    deleteAllocation(model, allocation, cause);
    return;
  }
  if (!isLive(allocation, "truth", cause.now)) reviveAllocation(model, allocation, cause);
  detachWhere(
    model,
    (attachment) => attachment.allocationId === id && !wanted.wabaIds.includes(attachment.wabaId),
    cause,
  );
  for (const wabaId of wanted.wabaIds) {
    const waba = model.wabas.get(wabaId);
    const isAttached = attachmentsOf(model, wabaId).some(
      (attachment) => attachment.allocationId === id && attachment.to === undefined,
    );
    if (waba !== undefined && !isAttached) attachWaba(model, allocation, waba, cause);
  }
}

function createAllocation(
  model: MetaModel,
  {
    id,
    lineId,
    businessId,
    credentialId = newId(model),
  }: { id: string; lineId: string; businessId: string; credentialId?: string | undefined },
  cause: Cause,
): Allocation {
  const spans = [{ from: moment(cause.now, model.variants, "Share") }];
  const allocation = { id, lineId, receivingBusinessId: businessId, receivingCredentialId: credentialId, spans };
  model.allocations.set(id, allocation);
  append(model.byBusiness, businessId, allocation);
  model.credentialIds.add(credentialId);
  note(model, "allocation_created", subjectOf(allocation), cause);
  return allocation;
}

function reviveAllocation(model: MetaModel, allocation: Allocation, cause: Cause): void {
  allocation.spans.push({ from: moment(cause.now, model.variants, "Share") });
  note(model, "allocation_revived", subjectOf(allocation), cause);
}

function detachWhere(model: MetaModel, isMeant: (attachment: Attachment) => boolean, cause: Cause): void {
  for (const attachment of model.attachments) {
    if (attachment.to !== undefined || !isMeant(attachment)) continue;
    attachment.to = moment(cause.now, model.variants, "Delete");
    const allocation = model.allocations.get(attachment.allocationId);
    const subject = allocation === undefined ? {} : subjectOf(allocation);
    note(model, "waba_detached", { ...subject, wabaId: attachment.wabaId }, cause);
  }
}

function credentialFor(model: MetaModel, allocation: Allocation, wabaId: string): string {
  const earlier = model.byAllocation.get(allocation.id) ?? [];
  const own = earlier.find((attachment) => attachment.wabaId === wabaId);
  if (own !== undefined) return own.credentialId;
  const isFirst = earlier.length === 0;
  return isFirst || model.variants.credentialPer !== "waba-one-record"
    ? allocation.receivingCredentialId
    : newId(model);
}

function moment(now: number, variants: Variants, effect: "Share" | "Delete"): Moment {
  return {
    truth: now,
    e6: now + variants[`e6${effect}LagMs`],
    e7: now + variants[`e7${effect}LagMs`],
    e8: now + variants[`e8${effect}LagMs`],
  };
}

function subjectOf({ id, lineId, receivingBusinessId }: Allocation): ChangeSubject {
  return { allocationId: id, lineId, businessId: receivingBusinessId };
}

function businessIdsOf(world: World): string[] {
  return [
    world.partnerBusinessId,
    ...world.lines.map((line) => line.ownerBusinessId),
    ...world.wabas.map((waba) => waba.ownerBusinessId),
    ...world.allocations.map((allocation) => allocation.receivingBusinessId),
  ];
}

function append<T>(lists: Map<string, T[]>, key: string, one: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [one]);
  else list.push(one);
}

function isTaken(model: MetaModel, id: string): boolean {
  return (
    model.businesses.has(id) ||
    model.lines.has(id) ||
    model.wabas.has(id) ||
    model.allocations.has(id) ||
    model.credentialIds.has(id)
  );
}
