import { createHmac } from "node:crypto";
import type { Allocation, LedgerCall, MetaModel, Reader } from "./meta-model.ts";
import {
  attachWaba,
  allocationsOf,
  attachmentsOf,
  deleteAllocation,
  foreignFundingId,
  isKnown,
  isLive,
  liveAllocations,
  nextMonthStart,
  note,
  shareWithBusiness,
  shownFundingId,
} from "./meta-model.ts";
import type { Business, Line, Token, Waba } from "./meta-world.ts";

/** The Graph calls of graph-api.md §1 upon the model: who may ask what, what it changes, and how Meta answers. */

export type GraphRequest = {
  method: string;
  /** With its version: `/v25.0/{id}/{edge}`. */
  path: string;
  /** Parameters of the query and of the body together. */
  query: Record<string, string>;
  /** From the Authorization header. */
  token?: string | undefined;
  /** Epoch milliseconds. */
  now: number;
};
export type GraphAnswer = { status: number; body: JsonObject; headers: Record<string, string> };
export type ReceivedCall = { request: GraphRequest; entry: LedgerCall };
export type GraphError = { code: number; subcode?: number | undefined; message: string };

type Json = string | number | boolean | Json[] | JsonObject;
type JsonObject = { [key: string]: Json | undefined };
type Field = { name: string; nested?: string[] | undefined };
type FieldReaders = Record<string, () => Json | undefined>;
type Call = {
  model: MetaModel;
  request: GraphRequest;
  id: string;
  fields: Field[];
  token: Token;
  now: number;
  callNumber: number;
};
type Endpoint = { name: string; tokenKinds: Token["kind"][]; answer: (call: Call) => JsonObject };

/** Arrives, is judged and answered in the same instant. */
export function handleGraphCall(model: MetaModel, request: GraphRequest): GraphAnswer {
  return answerCall(model, receiveCall(model, request), request.now);
}

/** The call arrives and enters the ledger; nothing has happened yet, and never will unless `answerCall` follows. */
export function receiveCall(model: MetaModel, request: GraphRequest): ReceivedCall {
  const { id, edge } = route(request.path);
  const token = request.token === undefined ? undefined : model.tokens.get(request.token);
  const parameters = Object.entries(request.query);
  const entry: LedgerCall = {
    n: model.calls.length + 1,
    time: request.now,
    method: request.method,
    path: request.path.replace(/^\/v\d+\.\d+(?=\/|$)/, ""),
    name: callName(model, request, id, edge),
    query: Object.fromEntries(
      parameters.filter(([key, value]) => !/token|proof|secret/i.test(key) && !model.tokens.has(value)),
    ),
    tokenKind: request.token === undefined ? "none" : (token?.kind ?? "unknown"),
  };
  const isTokenMisplaced = parameters.some(
    ([key, value]) => key === "access_token" || (key !== "input_token" && model.tokens.has(value)),
  );
  if (isTokenMisplaced) entry.violation = "token outside the Authorization header";
  model.calls.push(entry);
  return { request, entry };
}

/**
 * Judges a received call by the state of `now`, which may be later than its arrival, and applies it. To lose an answer,
 * throw it away: the effect stays.
 */
export function answerCall(model: MetaModel, received: ReceivedCall, now: number): GraphAnswer {
  const { entry } = received;
  if (now !== entry.time) entry.landedAt = now;
  try {
    const body = respond(model, received, now);
    entry.status ??= 200;
    return { status: 200, body, headers: headersOf(model, received, now) };
  } catch (error) {
    if (!(error instanceof GraphRefusal)) throw error;
    return failCall(model, received, error.error, now);
  }
}

/** Answers with an error envelope and changes nothing else. The first status a call gets stands in the ledger. */
export function failCall(model: MetaModel, received: ReceivedCall, error: GraphError, now: number): GraphAnswer {
  const { entry } = received;
  const { code, subcode, message } = error;
  const status = httpStatusOf(code);
  if (entry.status === undefined) {
    Object.assign(entry, { status, errorCode: code, ...(subcode !== undefined && { errorSubcode: subcode }) });
  }
  const envelope = {
    message,
    type: code === 100 && subcode === 33 ? "GraphMethodException" : "OAuthException",
    code,
    ...(subcode !== undefined && { error_subcode: subcode }),
    ...((code === 1 || code === 2) && { is_transient: true }),
    fbtrace_id: `A${String(entry.n).padStart(10, "0")}`,
  };
  return { status, body: { error: envelope }, headers: headersOf(model, received, now) };
}

// Thrown by whatever finds a reason to refuse, so that each call reads as the way to its success.
class GraphRefusal extends Error {
  readonly error: GraphError;
  constructor(error: GraphError) {
    super(error.message);
    this.error = error;
  }
}

const systemOnly = ["system"] satisfies Token["kind"][];
const anyKind = ["system", "business"] satisfies Token["kind"][];

const edges: Record<string, Endpoint> = {
  "GET extendedcredits": { name: "E1", tokenKinds: systemOnly, answer: listLines },
  "POST whatsapp_credit_sharing_and_attach": { name: "E2", tokenKinds: systemOnly, answer: shareAndAttach },
  "POST whatsapp_credit_sharing": { name: "E4", tokenKinds: systemOnly, answer: share },
  "POST whatsapp_credit_attach": { name: "E5", tokenKinds: ["business"], answer: attach },
  "GET owning_credit_allocation_configs": { name: "E8", tokenKinds: systemOnly, answer: listAllocations },
  "POST assigned_users": { name: "E10", tokenKinds: systemOnly, answer: assignUser },
  "GET client_whatsapp_business_accounts": { name: "E13", tokenKinds: systemOnly, answer: listWabas },
  "GET subscribed_apps": { name: "E16", tokenKinds: anyKind, answer: listSubscribedApps },
  "POST subscribed_apps": { name: "E16", tokenKinds: anyKind, answer: subscribeApp },
};
const debugToken: Endpoint = { name: "E15", tokenKinds: systemOnly, answer: describeToken };
const deleteNode: Endpoint = { name: "E9", tokenKinds: systemOnly, answer: revoke };
const readNode: Endpoint = { name: "read", tokenKinds: anyKind, answer: read };

function respond(model: MetaModel, received: ReceivedCall, now: number): JsonObject {
  const { request, entry } = received;
  const token = authenticate(model, received, now);
  const { id, edge, version } = route(request.path);
  const endpoint = version === undefined ? undefined : endpointOf(request.method, id, edge);
  if (endpoint === undefined) throw refusal(2500, `Unknown path components: ${entry.path}`);
  countCall(model, entry.name, id, now);
  if (token.lacksPermission && endpoint !== debugToken) throw refusal(200, "Permissions error");
  if (!endpoint.tokenKinds.includes(token.kind)) throw permissionRefusal();
  const fields = parseFields(request.query["fields"] ?? "");
  return endpoint.answer({ model, request, id, fields, token, now, callNumber: entry.n });
}

function endpointOf(method: string, id: string, edge: string | undefined): Endpoint | undefined {
  if (id === "") return undefined;
  if (edge !== undefined) return edges[`${method} ${edge}`];
  if (method === "GET") return id === "debug_token" ? debugToken : readNode;
  return method === "DELETE" ? deleteNode : undefined;
}

function authenticate(model: MetaModel, { request, entry }: ReceivedCall, now: number): Token {
  const { token: value } = request;
  if (entry.violation !== undefined) throw refusal(100, "The access token must travel in the Authorization header");
  const token = value === undefined ? undefined : model.tokens.get(value);
  if (token === undefined || value === undefined) throw refusal(190, "Invalid OAuth access token.");
  if (token.dead) throw refusal(190, "The session has been invalidated.", 460);
  if (token.expiresAt > 0 && now >= token.expiresAt * 1000) throw refusal(190, "The session has expired.", 463);
  const proof = request.query["appsecret_proof"];
  if (proof === undefined || model.appSecret === undefined) return token;
  const expected = createHmac("sha256", model.appSecret).update(value).digest("hex");
  if (proof !== expected) throw refusal(104, "Invalid appsecret_proof provided in the API argument");
  return token;
}

// E1
function listLines(call: Call): JsonObject {
  const { model } = call;
  requirePartner(call);
  const lines = [...model.lines.values()];
  return page(
    call,
    lines,
    () => true,
    (line) => pick(call, lineFields(line), ["id", "legal_entity_name"], line.id),
  );
}

// E2
function shareAndAttach(call: Call): JsonObject {
  const { model, now, callNumber } = call;
  const { repeatedShare } = model.variants;
  const { line, waba, attachedTo } = requireShareable(call);
  const cause = { now, callNumber };
  const allocation =
    repeatedShare === "second"
      ? shareWithBusiness(model, line.id, waba.ownerBusinessId, cause)
      : (attachedTo ??
        freeAllocation(call, line, waba) ??
        shareWithBusiness(model, line.id, waba.ownerBusinessId, cause));
  if (allocation !== attachedTo) attachWaba(model, allocation, waba, cause);
  return { allocation_config_id: allocation.id, waba_id: waba.id };
}

// E4
function share(call: Call): JsonObject {
  const { model, now, callNumber } = call;
  const businessId = requireParameter(call, "receiving_business_id");
  const line = requireOwnLine(call, { toShare: true });
  if (!model.businesses.has(businessId)) throw missing(businessId);
  if (businessId === line.ownerBusinessId) throw sameBusiness();
  const live = liveAllocations(model, line.id, businessId, now).at(0);
  if (live !== undefined) refuseRepetition(call);
  const isKept = live !== undefined && model.variants.repeatedShare === "same";
  const allocation = isKept ? live : shareWithBusiness(model, line.id, businessId, { now, callNumber });
  return { success: true, allocation_config_id: allocation.id };
}

// E5
function attach(call: Call): JsonObject {
  const { model, now, callNumber } = call;
  const { line, waba, attachedTo } = requireShareable(call);
  const live = liveAllocations(model, line.id, waba.ownerBusinessId, now);
  if (live.length === 0) throw refusal(100, "The credit line is not shared with the owner of this account");
  const cause = { now, callNumber };
  const allocation =
    attachedTo ?? freeAllocation(call, line, waba) ?? shareWithBusiness(model, line.id, waba.ownerBusinessId, cause);
  if (allocation !== attachedTo) attachWaba(model, allocation, waba, cause);
  return { success: true, waba_id: waba.id, allocation_config_id: allocation.id };
}

// E3, E6, E7, E14
function read(call: Call): JsonObject {
  const { model, id, now } = call;
  const business = model.businesses.get(id);
  if (model.wabas.has(id)) return readWaba(call, requireVisibleWaba(call, id));
  if (call.token.kind !== "system") throw missing(id);
  const line = model.lines.get(id);
  if (line !== undefined) return pick(call, lineFields(line), ["id", "legal_entity_name"], id);
  if (business !== undefined) return pick(call, businessFields(business), ["id", "name"], id);
  const allocation = model.allocations.get(id);
  if (allocation === undefined || !isKnown(allocation, "e6", now)) throw missing(id);
  refuseCombination(call, [["receiving_credential"], ["receiving_business", "request_status"]]);
  return pick(call, allocationFields(call, allocation, "e6"), ["id", "receiving_business"], id);
}

function readWaba(call: Call, waba: Waba): JsonObject {
  refuseCombination(call, [["owner_business_info"], ["primary_funding_id"], ["currency"]]);
  return pick(call, wabaFields(call, waba), ["id", "name", "currency"], waba.id);
}

// E8
function listAllocations(call: Call): JsonObject {
  const { model, now } = call;
  const { listShape, listShowsDeleted } = model.variants;
  const line = requireOwnLine(call);
  const businessId = call.request.query["receiving_business_id"];
  requireListFields(call, ["id", "receiving_business"]);
  function isListed(allocation: Allocation): boolean {
    if (allocation.lineId !== line.id) return false;
    if (businessId !== undefined && allocation.receivingBusinessId !== businessId) return false;
    return listShowsDeleted ? isKnown(allocation, "e8", now) : isLive(allocation, "e8", now);
  }
  function render(allocation: Allocation): JsonObject {
    return pick(call, allocationFields(call, allocation, "e8"), ["id", "receiving_business"], allocation.id);
  }
  const all = businessId === undefined ? [...model.allocations.values()] : allocationsOf(model, businessId);
  const [only, ...others] = all.filter(isListed);
  const isBare = listShape === "bare-object" && businessId !== undefined && others.length === 0;
  return isBare && only !== undefined ? render(only) : page(call, all, isListed, render);
}

// E9
function revoke(call: Call): JsonObject {
  const { model, id, now, callNumber } = call;
  const allocation = model.allocations.get(id);
  if (allocation === undefined) throw missing(id);
  if (model.lines.get(allocation.lineId)?.ownerBusinessId !== model.partnerBusinessId) throw permissionRefusal();
  if (!isLive(allocation, "truth", now) && model.variants.repeatedDelete === "error") {
    throw refusal(100, "This credit allocation has already been revoked");
  }
  deleteAllocation(model, allocation, { now, callNumber });
  return { success: true };
}

// E10
function assignUser(call: Call): JsonObject {
  const { model, id, now, callNumber } = call;
  requireParameter(call, "user");
  if (!requireParameter(call, "tasks").includes("MANAGE")) throw refusal(100, "Param tasks must hold MANAGE");
  const waba = requireSharedWaba(call, id);
  if (!waba.systemUserAssigned)
    note(model, "user_assigned", { wabaId: id, businessId: waba.ownerBusinessId }, { now, callNumber });
  model.wabas.set(id, { ...waba, systemUserAssigned: true });
  return { success: true };
}

// E13
function listWabas(call: Call): JsonObject {
  const { model } = call;
  requirePartner(call);
  requireListFields(call, ["id", "name", "currency"]);
  const clients = [...model.wabas.values()].filter((waba) => waba.ownerBusinessId !== model.partnerBusinessId);
  return page(
    call,
    clients,
    (waba) => waba.sharedWithPartner,
    (waba) => pick(call, wabaFields(call, waba), ["id", "name", "currency"], waba.id),
  );
}

// E15. The token it asks about stands in the query: it is Meta's only call that wants one there.
function describeToken(call: Call): JsonObject {
  const { model, now } = call;
  const token = model.tokens.get(requireParameter(call, "input_token"));
  if (token === undefined) {
    const error = { code: 190, message: "Invalid OAuth access token." };
    return { data: { is_valid: false, error, scopes: [], granular_scopes: [] } };
  }
  const scopes = token.lacksPermission ? [] : ["business_management", "whatsapp_business_management"];
  const targets = token.wabaIds === undefined ? {} : { target_ids: token.wabaIds };
  return {
    data: {
      app_id: appId,
      type: token.kind === "system" ? "SYSTEM_USER" : "USER",
      is_valid: !token.dead && (token.expiresAt === 0 || now < token.expiresAt * 1000),
      expires_at: token.expiresAt,
      scopes,
      granular_scopes: scopes.map((scope) => ({ scope, ...targets })),
    },
  };
}

// E16
function listSubscribedApps(call: Call): JsonObject {
  const waba = requireVisibleWaba(call, call.id);
  const app = { whatsapp_business_api_data: { id: appId, name: "Partner app", link: "https://example.com/" } };
  return { data: waba.subscribed ? [app] : [] };
}

function subscribeApp(call: Call): JsonObject {
  const { model, id, now, callNumber } = call;
  const waba = requireVisibleWaba(call, id);
  if (!waba.subscribed)
    note(model, "app_subscribed", { wabaId: id, businessId: waba.ownerBusinessId }, { now, callNumber });
  model.wabas.set(id, { ...waba, subscribed: true });
  return { success: true };
}

const appId = "300000000000001";

/** What E2 and E5 ask of line and WABA before they attach, in the order in which they refuse. `attachedTo`: it already is. */
function requireShareable(call: Call): { line: Line; waba: Waba; attachedTo: Allocation | undefined } {
  const { model, now } = call;
  const { variants } = model;
  const wabaId = requireParameter(call, "waba_id");
  const currency = requireParameter(call, "waba_currency");
  // E5 comes with the customer's token, to which the line is not its own either: the same line rules hold.
  const line = requireOwnLine(call, { toShare: true });
  const waba = requireVisibleWaba(call, wabaId);
  if (waba.ownerBusinessId === line.ownerBusinessId) throw sameBusiness();
  if (!variants.supportedCurrencies.includes(currency) || currency !== waba.currency) {
    throw refusal(variants.currencyErrorCode, "The currency is not supported for this account");
  }
  const attachments = attachmentsOf(model, wabaId);
  const held = attachments.find((attachment) => attachment.to === undefined);
  const attachedTo = held === undefined ? undefined : model.allocations.get(held.allocationId);
  if (attachedTo?.lineId === line.id) {
    refuseRepetition(call);
    return { line, waba, attachedTo };
  }
  const isForeign = attachedTo !== undefined || foreignFundingId(model, waba, now) !== undefined;
  if (isForeign && (attachedTo !== undefined || !waba.partnerSwitch)) {
    throw refusal(variants.fundedElsewhereErrorCode, "This account already has a payment method");
  }
  if (isForeign && isSwitchWindowClosed(now)) {
    throw refusal(variants.switchWindowErrorCode, "The credit line cannot be shared at this time of the month");
  }
  const wasAttached = attachments.some(({ allocationId }) => model.allocations.get(allocationId)?.lineId === line.id);
  if (wasAttached && variants.reshareAfterRevoke === "refused") {
    throw refusal(100, "The credit line of this account was revoked and cannot be shared again");
  }
  return { line, waba, attachedTo: undefined };
}

/** The live record that a further WABA of the business joins; with a record for each WABA, one that has none yet. */
function freeAllocation({ model, now }: Call, line: Line, waba: Waba): Allocation | undefined {
  const live = liveAllocations(model, line.id, waba.ownerBusinessId, now);
  if (model.variants.credentialPer !== "waba") return live.at(0);
  return live.find(({ id }) => !model.byAllocation.has(id));
}

function refuseRepetition({ model }: Call): void {
  const { repeatedShare } = model.variants;
  if (repeatedShare === "error-4000") throw refusal(4000, "A credit allocation already exists for this business");
  if (repeatedShare === "error-100") throw refusal(100, "Invalid parameter");
}

/** Closed in the last 3 and the first 4 days of a month, UTC. */
function isSwitchWindowClosed(now: number): boolean {
  const dayMs = 86_400_000;
  return new Date(now).getUTCDate() <= 4 || now >= nextMonthStart(now) - 3 * dayMs;
}

function requireParameter({ request }: Call, name: string): string {
  const value = request.query[name];
  if (value === undefined || value === "") throw refusal(100, `(#100) The parameter ${name} is required`);
  return value;
}

function requirePartner({ model, id }: Call): void {
  if (id === model.partnerBusinessId) return;
  throw model.businesses.has(id) ? permissionRefusal() : missing(id);
}

function requireOwnLine({ model, id }: Call, { toShare = false } = {}): Line {
  const line = model.lines.get(id);
  if (line === undefined) throw missing(id);
  if (line.ownerBusinessId !== model.partnerBusinessId) throw permissionRefusal();
  if (toShare && line.accessRevoked) throw refusal(10, "Access to this credit line has been revoked");
  return line;
}

function requireSharedWaba({ model, token }: Call, wabaId: string): Waba {
  const waba = model.wabas.get(wabaId);
  if (waba === undefined || !waba.sharedWithPartner) throw missing(wabaId);
  if (token.kind === "business" && token.wabaIds?.includes(wabaId) === false) throw missing(wabaId);
  return waba;
}

/** The system token needs E10 on the WABA first. */
function requireVisibleWaba(call: Call, wabaId: string): Waba {
  const waba = requireSharedWaba(call, wabaId);
  if (call.token.kind === "system" && !waba.systemUserAssigned) {
    throw refusal(200, "The system user has no task on this account");
  }
  return waba;
}

function wabaFields({ model, token, now }: Call, waba: Waba): FieldReaders {
  const { fundingVisibleTo } = model.variants;
  return {
    id: () => waba.id,
    name: () => waba.name,
    currency: () => waba.currency,
    owner_business_info: () => businessOf(model, waba.ownerBusinessId),
    primary_funding_id: () =>
      fundingVisibleTo === "both" || fundingVisibleTo === token.kind ? shownFundingId(model, waba, now) : undefined,
  };
}

function allocationFields({ model, now }: Call, allocation: Allocation, reader: Reader): FieldReaders {
  const { requestStatusOnLive } = model.variants;
  const liveStatus = requestStatusOnLive === "absent" ? undefined : requestStatusOnLive;
  return {
    id: () => allocation.id,
    receiving_credential: () => ({ id: allocation.receivingCredentialId }),
    receiving_business: () => businessOf(model, allocation.receivingBusinessId),
    request_status: () => (isLive(allocation, reader, now) ? liveStatus : "DELETED"),
  };
}

function lineFields(line: Line): FieldReaders {
  return {
    id: () => line.id,
    legal_entity_name: () => line.legalEntityName,
    owner_business: () => ({ id: line.ownerBusinessId }),
    is_access_revoked: () => line.accessRevoked,
    balance: () => dollars(0),
    credit_available: () => dollars(100_000),
    max_balance: () => dollars(100_000),
  };
}

function businessFields(business: Business): FieldReaders {
  return { id: () => business.id, name: () => business.name };
}

function businessOf(model: MetaModel, id: string): JsonObject {
  return { name: model.businesses.get(id)?.name ?? id, id };
}

function dollars(amount: number): JsonObject {
  const hundredths = String(amount * 100);
  return { amount: amount.toFixed(2), amount_in_hundredths: hundredths, currency: "USD", offsetted_amount: hundredths };
}

/** `id,receiving_business{id,name}` → its fields; one level deep is all that these calls have. */
function parseFields(text: string): Field[] {
  const compact = text.replaceAll(/\s/g, "");
  if (compact === "") return [];
  if (!/^\w+(\{\w+(,\w+)*\})?(,\w+(\{\w+(,\w+)*\})?)*$/.test(compact)) throw refusal(2500, "Syntax error in fields");
  return [...compact.matchAll(/(\w+)(?:\{([\w,]+)\})?/g)].map(([, name = "", nested]) => ({
    name,
    nested: nested?.split(","),
  }));
}

function pick({ model, fields }: Call, readers: FieldReaders, defaults: string[], id: string): JsonObject {
  const wanted: Field[] = fields.length > 0 ? fields : defaults.map((name) => ({ name }));
  const picked: JsonObject = {};
  for (const { name, nested } of wanted) {
    if (!Object.hasOwn(readers, name)) throw nonexistingField(name);
    const value = readers[name]?.();
    if (value !== undefined) picked[name] = nested === undefined ? value : pickNested(value, nested);
  }
  if (model.variants.readsCarryId) picked["id"] = id;
  return picked;
}

function pickNested(value: Json, names: string[]): Json {
  if (typeof value !== "object" || Array.isArray(value)) throw nonexistingField(names.join());
  const picked: JsonObject = {};
  for (const name of new Set([...names, "id"])) {
    if (!Object.hasOwn(value, name)) throw nonexistingField(name);
    picked[name] = value[name];
  }
  return picked;
}

function refuseCombination({ model, fields }: Call, groups: string[][]): void {
  if (model.variants.combinedReads === "works") return;
  const asked = groups.filter((group) => fields.some((field) => group.includes(field.name)));
  if (asked.length > 1) throw permissionRefusal();
}

function requireListFields({ model, fields }: Call, plain: string[]): void {
  if (model.variants.listFieldExpansions) return;
  const expanded = fields.find((field) => field.nested !== undefined || !plain.includes(field.name));
  if (expanded !== undefined) throw nonexistingField(expanded.name);
}

/** A cursor names the last item shown by its place among `all`, so that items which leave in between shift nothing. */
function page<T extends { id: string }>(
  call: Call,
  all: readonly T[],
  isListed: (item: T) => boolean,
  render: (item: T) => JsonObject,
): JsonObject {
  const { variants } = call.model;
  const { limit: limitText = "25", after } = call.request.query;
  const limit = Number(limitText);
  if (!/^\d+$/.test(limitText) || limit < 1 || limit > variants.listLimitMax) {
    throw refusal(100, "(#100) Param limit is out of range");
  }
  const start = after === undefined ? 0 : all.findIndex(({ id }) => cursorOf(id) === after) + 1;
  if (after !== undefined && start === 0) throw refusal(100, "(#100) Invalid cursor");
  const rest = all.slice(start).filter(isListed);
  const shown = rest.slice(0, variants.shortPages ? Math.ceil(limit / 2) : limit);
  const [first, last] = [shown.at(0), shown.at(-1)];
  if (first === undefined || last === undefined) return { data: [] };
  const cursors = { before: cursorOf(first.id), after: cursorOf(last.id) };
  const next = rest.length > shown.length ? { next: nextUrl(call, cursors.after) } : {};
  return { data: shown.map(render), paging: { cursors, ...next } };
}

function cursorOf(id: string): string {
  return Buffer.from(id).toString("base64url");
}

/** As at Meta, it carries the token: whoever logs, stores or follows it gives the token away. */
function nextUrl({ model, request, token }: Call, after: string): string {
  const query = new URLSearchParams({ ...request.query, access_token: token.value, after });
  return `${model.baseUrl}${request.path}?${query.toString()}`;
}

/** One leaking bucket for the app and one for each WABA; a call refused counts too, so that knocking prolongs the block. */
function countCall(model: MetaModel, name: string, id: string, now: number): void {
  const bucket = bucketOf(model, name, id);
  if (bucket.limit === null) return;
  const used = usedOf(model, bucket, now) + 1;
  model.usage.set(bucket.key, { used, at: now });
  if (used > bucket.limit) throw refusal(bucket.errorCode, `(#${bucket.errorCode}) Request limit reached`);
}

type Bucket = { key: string; limit: number | null; errorCode: number };

function bucketOf(model: MetaModel, name: string, id: string): Bucket {
  const { appCallsPerHour, wabaCallsPerHour } = model.variants;
  return isWabaCall(name)
    ? { key: id, limit: wabaCallsPerHour, errorCode: 80_008 }
    : { key: "app", limit: appCallsPerHour, errorCode: 4 };
}

function usedOf(model: MetaModel, { key, limit }: Bucket, now: number): number {
  const { used, at } = model.usage.get(key) ?? { used: 0, at: now };
  return limit === null ? 0 : Math.max(0, used - ((now - at) / 3_600_000) * limit);
}

function headersOf(model: MetaModel, { request, entry }: ReceivedCall, now: number): Record<string, string> {
  const { version, id } = route(request.path);
  const appBucket = bucketOf(model, "app", "");
  const bucket = bucketOf(model, entry.name, id);
  const { limit } = bucket;
  const used = usedOf(model, bucket, now);
  const regainMinutes = limit === null ? 0 : Math.max(0, Math.ceil(((used - limit) / limit) * 60));
  const useCaseId = isWabaCall(entry.name) ? id : model.partnerBusinessId;
  const hasUseCase = isWabaCall(entry.name) || regainMinutes > 0;
  return {
    "facebook-api-version": `v${Math.max(Number(version ?? 0), model.variants.oldestLivingVersion)}.0`,
    ...usageHeaders(
      percentOf(usedOf(model, appBucket, now), appBucket.limit),
      hasUseCase ? { id: useCaseId, percent: percentOf(used, limit), regainMinutes } : undefined,
    ),
  };
}

function percentOf(used: number, limit: number | null): number {
  return limit === null ? 0 : Math.min(100, Math.round((used / limit) * 100));
}

/** How much of the app's limit is used, and of one business use case (a WABA, or the partner's whole business). */
export function usageHeaders(
  appPercent: number,
  useCase?: { id: string; percent: number; regainMinutes: number },
): Record<string, string> {
  const app = { call_count: appPercent, total_time: 0, total_cputime: 0 };
  if (useCase === undefined) return { "x-app-usage": JSON.stringify(app) };
  const item = {
    type: "whatsapp_business_management",
    call_count: useCase.percent,
    total_cputime: 0,
    total_time: 0,
    estimated_time_to_regain_access: useCase.regainMinutes,
  };
  return {
    "x-app-usage": JSON.stringify(app),
    "x-business-use-case-usage": JSON.stringify({ [useCase.id]: [item] }),
  };
}

/** WABA calls have a limit of their own; all others count for the app. */
export function isWabaCall(name: string): boolean {
  return ["E3", "E7", "E3+E7", "E10", "E16"].includes(name);
}

function callName(model: MetaModel, { method, query }: GraphRequest, id: string, edge: string | undefined): string {
  const endpoint = endpointOf(method, id, edge);
  if (endpoint !== readNode) return endpoint?.name ?? "unknown";
  const fields = query["fields"] ?? "";
  const isOwnerRead = /\b(owner_business_info|currency)\b/.test(fields);
  const isFundingRead = /\bprimary_funding_id\b/.test(fields);
  if (isOwnerRead || isFundingRead) return isOwnerRead && isFundingRead ? "E3+E7" : isOwnerRead ? "E3" : "E7";
  if (/\b(receiving_credential|receiving_business|request_status)\b/.test(fields)) return "E6";
  if (model.wabas.has(id)) return "E3";
  if (model.allocations.has(id)) return "E6";
  return model.lines.has(id) || fields.includes("legal_entity_name") ? "E14" : "unknown";
}

function route(path: string): { version: string | undefined; id: string; edge: string | undefined } {
  const [, version, id = "", edge] = /^\/v(\d+)\.\d+\/([^/]+)(?:\/([^/]+))?\/?$/.exec(path) ?? [];
  return { version, id, edge };
}

function httpStatusOf(code: number): number {
  if (code === 102 || code === 190) return 401;
  if (code === 3 || code === 10 || (code >= 200 && code <= 299)) return 403;
  if (code === 1) return 500;
  return code === 2 ? 503 : 400;
}

function missing(id: string): GraphRefusal {
  const message = `Unsupported request. Object with ID '${id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation.`;
  return refusal(100, message, 33);
}

function permissionRefusal(): GraphRefusal {
  return refusal(10, "(#10) Application does not have permission for this action");
}

function sameBusiness(): GraphRefusal {
  return refusal(100, "The owner of the credit line and of the account are the same business", 1_752_244);
}

function nonexistingField(name: string): GraphRefusal {
  return refusal(100, `(#100) Tried accessing nonexisting field (${name})`);
}

function refusal(code: number, message: string, subcode?: number): GraphRefusal {
  return new GraphRefusal({ code, subcode, message });
}
