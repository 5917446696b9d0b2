import * as z from "zod/mini";
import type { AccountNotice } from "../../shared/domain/account.ts";
import { metaId } from "../../shared/graph/answers.ts";
import { parseLossless } from "../../shared/graph/transport.ts";

/** One update of Meta's that concerns us. */
export type Update = Pick<AccountNotice, "event" | "wabaId" | "businessId"> & {
  /** When it happened, ms. */
  at: number;
  /** Meta did not say when, or named a time to come: `at` is ours. */
  untimed: boolean;
};

export type ParsedUpdates = {
  updates: Update[];
  /** Other fields, other events, other partners' customers. */
  ignored: number;
  /** They are about us as far as one can tell, and cannot be used. */
  unreadable: number;
};

/**
 * Meta's samples differ from each other (graph-api.md §6): `field` stands on the change, the entry or nowhere, ids are
 * printed as numbers. So little is required, each update is read alone, and what cannot be read is counted, never guessed.
 */
const loose = z.looseObject({});
const bodySchema = z.object({ object: z.optional(z.unknown()), entry: z.array(z.unknown()) });
const entrySchema = z.object({
  id: z.optional(z.unknown()),
  time: z.optional(z.unknown()),
  field: z.optional(z.unknown()),
  changes: z.array(z.unknown()),
});
const changeSchema = z.object({ field: z.optional(z.unknown()), value: loose });
const eventSchema = z.enum(["PARTNER_REMOVED", "PARTNER_ADDED", "ACCOUNT_DELETED", "DISABLED_UPDATE"]);
const wabaId = z.pipe(metaId, z.string().check(z.regex(/^\d{5,20}$/)));
const wabaInfoSchema = z.object({
  waba_id: wabaId,
  // A WABA that we know has its owner stored, and E3 speaks before anything is revoked: neither may cost us a removal.
  owner_business_id: orNothing(wabaId),
  solution_partner_business_ids: orNothing(z.array(metaId)),
});
const secondsSchema = z.pipe(
  z.union([z.int(), z.pipe(z.string().check(z.regex(/^\d{1,12}$/)), z.transform(Number))]),
  z.int().check(z.positive()),
);

function orNothing<S extends z.ZodMiniType>(schema: S) {
  // oxlint-disable-next-line promise/valid-params -- zod's `catch`, not a promise's
  return z.catch(z.optional(schema), undefined);
}

export function parseUpdates(
  body: string,
  { partnerBusinessId, now, clockSkewMs }: { partnerBusinessId: string; now: number; clockSkewMs: number },
): ParsedUpdates {
  const found: ParsedUpdates = { updates: [], ignored: 0, unreadable: 0 };
  const parsed = bodySchema.safeParse(readJson(body));
  if (!parsed.success) return { ...found, unreadable: 1 };
  const { object, entry: entries } = parsed.data;
  if (object !== undefined && object !== "whatsapp_business_account") return { ...found, ignored: entries.length };
  for (const one of entries) {
    const entry = entrySchema.safeParse(one);
    if (!entry.success) {
      found.unreadable += 1;
      continue;
    }
    for (const change of entry.data.changes) {
      const update = readChange(change, entry.data);
      if (typeof update === "string") found[update] += 1;
      else found.updates.push(update);
    }
  }
  return found;

  function readChange(change: unknown, entry: z.output<typeof entrySchema>): Update | "ignored" | "unreadable" {
    const read = changeSchema.safeParse(change);
    if (!read.success) return "unreadable";
    const { value } = read.data;
    const field = read.data.field ?? value["field"] ?? entry.field;
    if (field !== undefined && field !== "account_update") return "ignored";
    const event = eventSchema.safeParse(value["event"]);
    if (!event.success) return typeof value["event"] === "string" ? "ignored" : "unreadable";

    const about = aboutWaba(event.data, value["waba_info"], entry.id);
    if (about === undefined) return "unreadable";
    const partners = about.solution_partner_business_ids;
    if (partners !== undefined && !partners.includes(partnerBusinessId)) return "ignored";
    const { waba_id: id, owner_business_id: businessId } = about;
    const seconds = secondsSchema.safeParse(entry.time);
    // A time to come would win every comparison for ever (H6d).
    const untimed = !seconds.success || seconds.data * 1000 > now + clockSkewMs;
    return {
      event: event.data,
      wabaId: id,
      ...(businessId === undefined ? {} : { businessId }),
      at: untimed ? now : seconds.data * 1000,
      untimed,
    };
  }
}

/** A partner's event names its WABA in `waba_info`, and the partner in `entry.id`; the others are about the entry itself. */
function aboutWaba(
  event: z.output<typeof eventSchema>,
  info: unknown,
  entryId: unknown,
): z.output<typeof wabaInfoSchema> | undefined {
  const named = wabaInfoSchema.safeParse(info);
  if (named.success) return named.data;
  if (event === "PARTNER_REMOVED" || event === "PARTNER_ADDED") return undefined;
  const own = wabaId.safeParse(entryId);
  return own.success ? { waba_id: own.data } : undefined;
}

function readJson(body: string): unknown {
  try {
    return parseLossless(body);
  } catch {
    return undefined;
  }
}
