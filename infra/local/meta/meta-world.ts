import { readFileSync } from "node:fs";
import * as z from "zod";

/**
 * What Meta knows before the first call, and what hands in Meta's console change later. One shape for `--world FILE`
 * and for `POST /_world`, which lays its body over the present world: by id (tokens by value), key by key.
 */
const id = z.string().regex(/^\d{5,20}$/, "must be a string of 5 to 20 digits");

const businessSchema = z.strictObject({ id, name: z.string().min(1) });

const lineSchema = z.strictObject({
  id,
  /** A line of another business is one that the partner has received: listed by E1, but not the partner's to share. */
  ownerBusinessId: id,
  legalEntityName: z.string().min(1).default("Partner Ltd"),
  accessRevoked: z.boolean().default(false),
});

const tokenSchema = z.strictObject({
  value: z.string().min(1),
  kind: z.enum(["system", "business"]),
  /** A business token sees only these; absent = every WABA shared with the partner. */
  wabaIds: z.array(id).optional(),
  /** Unix seconds; 0 = never. */
  expiresAt: z.int().min(0).default(0),
  dead: z.boolean().default(false),
  lacksPermission: z.boolean().default(false),
});

const wabaSchema = z.strictObject({
  id,
  ownerBusinessId: id,
  currency: z.string().regex(/^[A-Z]{3}$/, "must be an ISO 4217 code"),
  name: z.string().min(1).default("Customer WABA"),
  /** False = the customer took it away from the partner. Whatever is attached stays attached. */
  sharedWithPartner: z.boolean().default(true),
  systemUserAssigned: z.boolean().default(true),
  subscribed: z.boolean().default(false),
  /** Funding that is not the partner's. Setting another one takes the partner's line off. */
  primaryFundingId: id.nullable().default(null),
  /** The customer comes from the partner behind `primaryFundingId`, which a share may therefore replace. */
  partnerSwitch: z.boolean().default(false),
});

const allocationSchema = z.strictObject({
  id,
  lineId: id,
  receivingBusinessId: id,
  receivingCredentialId: id.optional(),
  status: z.enum(["live", "deleted"]).default("live"),
  /** The WABAs attached to it, all of them. */
  wabaIds: z.array(id).default([]),
});

const worldSchema = z
  .strictObject({
    partnerBusinessId: id,
    /** When set, every `appsecret_proof` that comes is checked. */
    appSecret: z.string().min(1).optional(),
    businesses: z.array(businessSchema).default([]),
    lines: z.array(lineSchema).default([]),
    tokens: z.array(tokenSchema).default([]),
    wabas: z.array(wabaSchema).default([]),
    allocations: z.array(allocationSchema).default([]),
  })
  .superRefine((world, context) => {
    const lineIds = new Set(world.lines.map((line) => line.id));
    const wabaIds = new Set(world.wabas.map((waba) => waba.id));
    for (const [index, allocation] of world.allocations.entries()) {
      if (!lineIds.has(allocation.lineId)) {
        context.addIssue({ code: "custom", path: ["allocations", index, "lineId"], message: "names no known line" });
      }
      if (!allocation.wabaIds.every((wabaId) => wabaIds.has(wabaId))) {
        context.addIssue({ code: "custom", path: ["allocations", index, "wabaIds"], message: "names an unknown WABA" });
      }
    }
  });

export type World = z.output<typeof worldSchema>;
export type WorldInput = z.input<typeof worldSchema>;
export type Business = World["businesses"][number];
export type Line = World["lines"][number];
export type Token = World["tokens"][number];
export type Waba = World["wabas"][number];
export type WorldAllocation = World["allocations"][number];

/**
 * The items that `input` names, each laid over the same item of `known`: a new WABA needs its owner, a known one may
 * come as `{ "id", "sharedWithPartner": false }`. Faults are those of the whole that results, under `input`'s indexes.
 */
export function parseWorld(input: unknown, known?: World): z.ZodSafeParseResult<World> {
  if (known === undefined || !isRecord(input)) return worldSchema.safeParse(input);
  const parsed = worldSchema.safeParse(layOver(input, known));
  return parsed.success ? { success: true, data: namedIn(input, parsed.data) } : parsed;
}

/** @throws Error that lists every fault of the file (never a value, since tokens stand in it). */
export function readWorld(file: string): World {
  let input: unknown;
  try {
    input = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // No cause: a syntax error quotes the text around it, which may be a token.
    throw new Error(`Cannot read the world file ${file}: it must be a JSON object`);
  }
  const parsed = parseWorld(input);
  if (parsed.success) return parsed.data;
  throw new Error(`The world file ${file} is not valid:\n${z.prettifyError(parsed.error)}`);
}

function layOver(input: Record<string, unknown>, known: World): unknown {
  const { partnerBusinessId, appSecret } = known;
  return {
    partnerBusinessId,
    appSecret,
    ...input,
    businesses: layListOver(input["businesses"], known.businesses, "id"),
    lines: layListOver(input["lines"], known.lines, "id"),
    tokens: layListOver(input["tokens"], known.tokens, "value"),
    wabas: layListOver(input["wabas"], known.wabas, "id"),
    allocations: layListOver(input["allocations"], known.allocations, "id"),
  };
}

/** Without what was only there to be checked against: applied again, it would undo what the named items change. */
function namedIn(input: Record<string, unknown>, world: World): World {
  function count(list: keyof World): number {
    const items = input[list];
    return isList(items) ? items.length : 0;
  }
  return {
    ...world,
    businesses: world.businesses.slice(0, count("businesses")),
    lines: world.lines.slice(0, count("lines")),
    tokens: world.tokens.slice(0, count("tokens")),
    wabas: world.wabas.slice(0, count("wabas")),
    allocations: world.allocations.slice(0, count("allocations")),
  };
}

/** What came stands first, so that a fault's index is the sender's; a list of the wrong shape is left for the schema to refuse. */
function layListOver(input: unknown, known: readonly Record<string, unknown>[], key: string): unknown {
  if (input === undefined) return known;
  if (!isList(input)) return input;
  const knownByKey = new Map(known.map((item) => [item[key], item]));
  const items = input.map((item) => (isRecord(item) ? { ...knownByKey.get(item[key]), ...item } : item));
  const named = new Set(input.map((item) => (isRecord(item) ? item[key] : undefined)));
  return [...items, ...known.filter((item) => !named.has(item[key]))];
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
