import * as z from "zod/mini";
import type { WabaStatus } from "../domain/business.ts";
import type { DetailType, RecordedEvent } from "../domain/events.ts";
import type { Reason } from "../domain/reasons.ts";
import { detailTypes } from "../domain/events.ts";

export type { DetailType, Reason };

/** The source of every event on the partner's bus (design.md §4). */
export const eventSource = "credit-lines";

/** The `detail` of an event: what was recorded, as consumers read it. */
type Detail = Omit<RecordedEvent, "detailType" | "occurredAt"> & {
  schemaVersion: "1";
  occurredAt: string;
  aggregateVersion?: number;
};

const metaId = z.string().check(z.regex(/^[0-9]{5,20}$/));
const statuses = [
  "sharing",
  "allocated",
  "shared",
  "verified",
  "pending",
  "mismatched",
  "revoking",
  "revoked",
] as const satisfies readonly WabaStatus[];

/** New keys may come without a new `schemaVersion`; none goes or changes its meaning. */
const detailFields = {
  schemaVersion: z.literal("1"),
  eventId: z
    .string()
    .check(
      z.minLength(1),
      z.describe("The same event, however often it comes, has the same id. Keep it to skip repeats."),
    ),
  occurredAt: z.iso.datetime().check(z.describe("When it was recorded: ISO 8601, UTC, with milliseconds.")),
  commandId: z.optional(
    z.string().check(z.regex(/^[A-Za-z0-9._:-]{1,128}$/), z.describe("The command it answers or goes back to.")),
  ),
  wabaId: z.optional(metaId.check(z.describe("The WhatsApp Business Account."))),
  wabaIds: z.optional(
    z.array(metaId).check(z.maxLength(100), z.describe("Of a revocation: the WABAs of the business, at most 100.")),
  ),
  businessId: z.optional(metaId.check(z.describe("The customer's business at Meta."))),
  allocationConfigId: z.optional(
    z.string().check(z.describe("Meta's record that the line is shared with the business.")),
  ),
  creditLineId: z.optional(metaId.check(z.describe("The partner's credit line."))),
  currency: z.optional(z.string().check(z.regex(/^[A-Z]{3}$/), z.describe("ISO 4217 code."))),
  status: z.optional(z.enum(statuses).check(z.describe("Of the WABA, once this was recorded."))),
  previousStatus: z.optional(z.enum(statuses).check(z.describe("Of the WABA, before it."))),
  reason: z.optional(
    z.string().check(z.describe("Why, as one word. New ones may come: treat one you do not know as a failure.")),
  ),
  by: z.optional(z.string().check(z.describe("Of what a person did: who, as their cloud account names them."))),
  note: z.optional(z.string().check(z.describe("Of what a person did: why, in their words."))),
  aggregateVersion: z.optional(
    z
      .int()
      .check(
        z.positive(),
        z.describe(
          "Orders the events of one business. Absent from an event that changed no business, and from repeats.",
        ),
      ),
  ),
} satisfies Record<keyof Detail, z.ZodMiniType>;

/** What a consumer may rely on beyond what every event has, by the types of which it is true. */
const promised: { types: readonly DetailType[]; keys: readonly (keyof Detail)[] }[] = [
  {
    types: ["Share Accepted", "Share Verified", "Share Pending", "Share Mismatched"],
    keys: ["commandId", "wabaId", "businessId", "allocationConfigId", "creditLineId", "currency", "status"],
  },
  { types: ["Share In Doubt"], keys: ["commandId", "wabaId", "businessId", "creditLineId", "reason"] },
  { types: ["Share Refused"], keys: ["commandId", "wabaId", "currency", "reason"] },
  { types: ["Verify Refused"], keys: ["commandId", "wabaId", "reason"] },
  { types: ["Revoke Refused", "Command Blocked"], keys: ["commandId", "reason"] },
  { types: ["Command Rejected", "Drift Found", "Drift Closed"], keys: ["reason"] },
  {
    types: ["Revocation Started", "Revocation Incomplete", "Revocation Held"],
    keys: ["commandId", "businessId", "reason"],
  },
  { types: ["Revocations Stopped", "Revocations Resumed"], keys: ["reason"] },
  { types: ["Account Changed"], keys: ["commandId", "wabaId", "reason"] },
  { types: ["Credit Line Revoked"], keys: ["commandId", "businessId", "status", "reason"] },
];

/** An event as EventBridge delivers it, less what EventBridge itself adds. */
export const eventSchema = z
  .object({
    source: z.literal(eventSource),
    "detail-type": z.enum(detailTypes),
    detail: z.object(detailFields),
  })
  .check(
    z.meta({
      title: "Event",
      description: "What became of a command, or of a customer's credit line. EventBridge adds its own keys.",
      allOf: promised.map(({ types, keys }) => ({
        if: { properties: { "detail-type": { enum: types } } },
        // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema, never awaited
        then: { properties: { detail: requiring(keys) } },
      })),
    }),
  );

/** Strict validators want to see a required key described in the same place. */
function requiring(keys: readonly string[]) {
  return { type: "object", properties: Object.fromEntries(keys.map((key) => [key, {}])), required: keys };
}

export function toDetail(event: RecordedEvent, aggregateVersion: number | undefined): Detail {
  const { detailType: _stands, occurredAt, ...rest } = event;
  return {
    schemaVersion: "1",
    ...rest,
    occurredAt: new Date(occurredAt).toISOString(),
    ...(aggregateVersion === undefined ? {} : { aggregateVersion }),
  };
}
