import { randomOf, type Random } from "../simulation/random.ts";

/** Meta's webhook bodies, whole and spoiled, and a second reading of them that shares nothing with the function's. */

export const partnerId = "100000000000001";

type UpdateFields = {
  event: string;
  wabaId: string;
  ownerId?: string;
  partnerIds?: string[];
  time: number;
  padding?: string;
};

export function updatesBody(updates: readonly UpdateFields[]): Buffer {
  return Buffer.from(JSON.stringify({ object: "whatsapp_business_account", entry: updates.map(entryOf) }));
}

function entryOf({ event, wabaId, ownerId, partnerIds, time, padding }: UpdateFields) {
  const info = { waba_id: wabaId, owner_business_id: ownerId, solution_partner_business_ids: partnerIds };
  return { id: partnerId, time, changes: [{ value: { event, waba_info: info, padding }, field: "account_update" }] };
}

const events = [
  "PARTNER_REMOVED",
  "PARTNER_REMOVED",
  "PARTNER_REMOVED",
  "PARTNER_ADDED",
  "ACCOUNT_OFFBOARDED",
  "ACCOUNT_DELETED",
];

/** A body of a few updates, and the same with something wrong in it, or merely unusual. */
export function mutate(seed: number): { original: Buffer; mutated: Buffer } {
  const random = randomOf(`webhook ${seed}`);
  const updates = Array.from({ length: random.whole(1, 4) }, (_, index): UpdateFields => {
    const fields = {
      event: random.pick(events),
      wabaId: `12000${seed}0000000${index}`.slice(-15),
      time: 1_781_000_000 + seed,
    };
    return {
      ...fields,
      ...(random.chance(0.7) ? { ownerId: `11000000000000${index}` } : {}),
      ...(random.chance(0.3)
        ? { partnerIds: random.pick([[partnerId], ["888888888888888"], ["888888888888888", partnerId]]) }
        : {}),
    };
  });
  const original = updatesBody(updates);
  if (random.chance(0.25)) return { original, mutated: spoilBytes(original, random) };
  const tree = JSON.parse(original.toString());
  for (let times = random.whole(0, 6); times > 0; times -= 1) spoilTree(tree, random);
  return { original, mutated: Buffer.from(JSON.stringify(tree)) };
}

function spoilBytes(body: Buffer, random: Random): Buffer {
  const at = random.whole(0, body.length - 1);
  switch (random.pick(["flip", "cut", "insert", "twice", "empty"])) {
    case "flip": {
      const copy = Buffer.from(body);
      copy[at] = random.whole(0, 255);
      return copy;
    }
    case "cut":
      return body.subarray(0, at);
    case "insert":
      return Buffer.concat([body.subarray(0, at), Buffer.from([random.whole(0, 255)]), body.subarray(at)]);
    case "twice":
      return Buffer.concat([body, body]);
    default:
      return Buffer.alloc(0);
  }
}

const oddities = [
  null,
  0,
  -1,
  1.5,
  17,
  "",
  "x",
  "120000000000009",
  120_000_000_000_009,
  [],
  {},
  true,
  [null],
  "account_update",
  partnerId,
];
const names = [
  "object",
  "entry",
  "id",
  "time",
  "changes",
  "value",
  "field",
  "event",
  "waba_info",
  "waba_id",
  "owner_business_id",
];

type Tree = Record<string, unknown>;

/** Anything that a JSON tree can have wrong: values of other types, keys that are missing, renamed, moved or new, items more or less. */
function spoilTree(tree: Tree, random: Random): void {
  const places = placesOf(tree);
  if (places.length === 0) return;
  const { holder, key } = random.pick(places);
  const target = holder as Tree;
  switch (random.pick(["replace", "remove", "rename", "double", "number", "misplace", "other-field", "sibling"])) {
    case "replace":
      target[key] = random.pick(oddities);
      return;
    case "remove":
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete target[key];
      return;
    case "rename":
      if (Array.isArray(holder)) return;
      target[random.pick(names)] = target[key];
      return;
    case "double":
      if (Array.isArray(holder)) holder.push(structuredClone(holder[Number(key)]));
      return;
    case "number":
      if (typeof target[key] === "string" && /^\d{5,15}$/.test(target[key])) target[key] = Number(target[key]);
      return;
    case "misplace":
      if (target["field"] === undefined || !Array.isArray(tree["entry"])) return;
      for (const entry of tree["entry"]) if (typeof entry === "object" && entry !== null) entry.field = target["field"];
      delete target["field"];
      return;
    case "other-field":
      if (target["field"] !== undefined) target["field"] = "messages";
      return;
    default:
      if (!Array.isArray(holder)) target[`new_${key}`] = random.pick(oddities);
  }
}

function placesOf(value: unknown): { holder: Tree | unknown[]; key: string }[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [{ holder: value as Tree, key }, ...placesOf(inner)]);
}

/** The removals that concern us, read by hand from graph-api.md §6: `<WABA> of <owner or ?>`, sorted, each update once. */
export function expectedRemovals(text: string): string[] {
  const found = new Set<string>();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return [];
  }
  const object = get(body, "object");
  if (object !== undefined && object !== "whatsapp_business_account") return [];
  for (const entry of listOf(get(body, "entry"))) {
    for (const change of listOf(get(entry, "changes"))) {
      const value = get(change, "value");
      if (Array.isArray(value)) continue;
      const fields = [get(change, "field"), get(value, "field"), get(entry, "field")];
      const field = fields.find((one) => one !== undefined && one !== null);
      if (field !== undefined && field !== "account_update") continue;
      if (get(value, "event") !== "PARTNER_REMOVED") continue;
      const info = get(value, "waba_info");
      const wabaId = idOf(get(info, "waba_id"));
      if (wabaId === undefined) continue;
      const partners = get(info, "solution_partner_business_ids");
      const isList = Array.isArray(partners) && partners.every((one) => /^\d+$/.test(String(one)));
      if (isList && !partners.map(String).includes(partnerId)) continue;
      found.add(`${wabaId} of ${idOf(get(info, "owner_business_id")) ?? "?"} at ${String(get(entry, "time"))}`);
    }
  }
  return [...found].map((one) => one.replace(/ at .*$/, "")).toSorted();
}

function get(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Tree)[key] : undefined;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function idOf(value: unknown): string | undefined {
  const text = typeof value === "number" && Number.isInteger(value) ? String(value) : value;
  return typeof text === "string" && /^\d{5,20}$/.test(text) ? text : undefined;
}
