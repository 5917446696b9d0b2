import * as z from "zod";

/**
 * One switch for each thing that Meta does not say (`unknown` = the number in graph-api.md §7), and a few for what it
 * says but seldom shows. The default is the kindest plausible reading; `safe` says what the project must do so that
 * every other reading is harmless too. The schema is the data: `z.toJSONSchema` prints names, values and meanings.
 */
export const variantsSchema = z.strictObject({
  repeatedShare: z.enum(["same", "second", "error-4000", "error-100"]).default("same").meta({
    unknown: 1,
    description:
      "E2, E4 or E5 again: the same record, a second live one (E2 then funds by both; E5 never makes one), or an error. Only `second` gives a sibling WABA a record of its own.",
    safe: "never POST twice on a guess; count every live record, not the first",
  }),
  e6ShareLagMs: lag("a new record is readable by E6"),
  e7ShareLagMs: lag("an attached WABA shows its funding"),
  e8ShareLagMs: lag("a new record is listed by E8"),
  e6DeleteLagMs: lag("E6 of a deleted record says DELETED (also unknown 5)"),
  e7DeleteLagMs: lag("a WABA of a deleted record shows no funding"),
  e8DeleteLagMs: lag("E8 drops a deleted record"),
  listShape: z.enum(["list", "bare-object"]).default("list").meta({
    unknown: 3,
    description: "E8 filtered to one record: a list of one, or the record itself.",
    safe: "accept both",
  }),
  listShowsDeleted: z.boolean().default(false).meta({
    unknown: 3,
    description: "E8 lists deleted records too.",
    safe: "listed is not live: E6 decides",
  }),
  requestStatusOnLive: z.enum(["absent", "ACTIVE"]).default("absent").meta({
    unknown: 3,
    description: "`request_status` of a live record.",
    safe: "only DELETED proves anything",
  }),
  credentialPer: z.enum(["business", "waba", "waba-one-record"]).default("business").meta({
    unknown: 4,
    description:
      "`receiving_credential`: one for the business, whatever the record; one for each WABA, which then has a record of its own; or one for each WABA behind one record, whose E6 shows the first WABA's.",
    safe: "compare per WABA and never derive one WABA's funding from its sibling's",
  }),
  repeatedDelete: z.enum(["success", "error"]).default("success").meta({
    unknown: 5,
    description: "DELETE of a deleted record.",
    safe: "confirm by E6, never by the answer",
  }),
  lostCallLandsAfterMs: z.number().min(0).default(0).meta({
    unknown: 6,
    description: "A call whose answer an `…-after` fault loses takes effect this much later.",
    safe: "absent once is not absent for good: wait for the settle window",
  }),
  reshareAfterRevoke: z.enum(["works-new-id", "works-same-id", "refused"]).default("works-new-id").meta({
    unknown: 7,
    description:
      "A share after a revocation: a new record, the old one alive again, or refused for a WABA that was attached to the line before.",
    safe: "an id that was deleted may live again, but only after a POST's answer names it",
  }),
  currencyErrorCode: errorCode("the currency is unsupported or not the WABA's"),
  fundedElsewhereErrorCode: errorCode("the WABA is funded by someone else or by another line"),
  switchWindowErrorCode: errorCode("a partner switch comes in the last 3 or first 4 days of a month (UTC)"),
  listLimitMax: z.int().min(1).default(1000).meta({
    unknown: 9,
    description: "Biggest `limit` of E1, E8 and E13; a bigger one is error 100.",
    safe: "ask for modest pages",
  }),
  listFieldExpansions: z.boolean().default(true).meta({
    unknown: 9,
    description:
      "False: E8 knows only `id,receiving_business`, E13 only `id,name,currency`, and neither knows `field{…}`; error 100.",
    safe: "fall back to reading one by one",
  }),
  fundingVisibleTo: z.enum(["both", "business", "system"]).default("both").meta({
    unknown: 10,
    description: "Whose token sees `primary_funding_id`; for the other one it is absent, without an error.",
    safe: "absent is proof of nothing where a funded WABA was never seen by that token",
  }),
  combinedReads: z.enum(["works", "permission-error"]).default("works").meta({
    description:
      "E3 that also asks for funding or currency, E6 that asks for credential and business together: answered, or error 10.",
    safe: "then read the fields one by one",
  }),
  readsCarryId: z.boolean().default(true).meta({ description: "A read carries `id` even when it was not asked for." }),
  idsPrintedAs: z.enum(["strings", "numbers"]).default("strings").meta({
    description: "Over HTTP only: ids as JSON strings, or as JSON numbers, too big for a double.",
    safe: "parse without loss",
  }),
  shortPages: z
    .boolean()
    .default(false)
    .meta({ description: "Pages hold half of `limit` though more follow: only the absence of `next` is the end." }),
  supportedCurrencies: z
    .array(z.string())
    .default(["AUD", "EUR", "GBP", "IDR", "INR", "USD"])
    .meta({ description: "What E2 and E5 accept." }),
  oldestLivingVersion: z.int().default(21).meta({
    description: "Major number of the oldest living version: it serves, and names itself for, the dead ones.",
  }),
  appCallsPerHour: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .meta({ description: "Enforced limit of the app; Meta's is 5000. Null: none, and usage stays 0." }),
  wabaCallsPerHour: z.number().positive().nullable().default(null).meta({
    description: "Enforced limit of E3, E7, E10, E16 per WABA; Meta's is 200 before registration. Null: none.",
  }),
});

export type Variants = z.output<typeof variantsSchema>;

/** The switches after `input` (some names, each with its new value) is laid over `current`. */
export function parseVariants(input: unknown, current?: Variants): z.ZodSafeParseResult<Variants> {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return variantsSchema.safeParse(input);
  return variantsSchema.safeParse({ ...current, ...input });
}

function lag(what: string) {
  return z
    .number()
    .min(0)
    .default(0)
    .meta({
      unknown: 2,
      description: `Milliseconds until ${what}. Fixed for each effect when it happens.`,
      safe: "one look proves neither presence nor absence before the settle window ends",
    });
}

function errorCode(when: string) {
  return z
    .int()
    .default(100)
    .meta({
      unknown: 8,
      description: `Error code when ${when}.`,
      safe: "look before the POST; an unknown code after it means that the effect is unknown",
    });
}
