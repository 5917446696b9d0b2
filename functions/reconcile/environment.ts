import * as z from "zod/mini";
import { commonFields, graphFields, numeric, text, textList } from "../../shared/environment.ts";

/**
 * What reconcile may set going without a person: another look at a revoked business of which a record is live, the
 * verification of what looks unfunded, the revocation of a WABA that left. Never a share.
 */
export const mayStartNames = ["probe", "verify", "revoke-left"] as const;

export type MayStart = (typeof mayStartNames)[number];

export const reconcileEnvironment = z.object({
  ...commonFields,
  ...graphFields,
  DUE_INDEX_NAME: text,
  AUDIT_TABLE_NAME: text,
  EVENT_BUS_NAME: text,
  SETTLE_WINDOW_SECONDS: numeric,
  CLOCK_SKEW_SECONDS: numeric,
  SHARE_QUEUE_URL: text,
  VERIFY_QUEUE_URL: text,
  REVOKE_QUEUE_URL: text,
  SHARES_STOP_AT: numeric,
  VERIFIES_STOP_AT: numeric,
  PARTNER_BUSINESS_ID: text,
  CREDIT_LINE_ID: text,
  /** The ids of the event sources of share, verify and revoke, in this order. */
  COMMAND_SOURCE_IDS: textList,
  /** The estate scan's share of the hour's calls to Meta. */
  SCAN_CALLS_PER_HOUR: numeric,
  ESTATE_SCAN_HOURS: numeric,
  SHRINK_LIMIT: numeric,
  VERIFICATION_AGE_DAYS: numeric,
  VERIFICATION_SPREAD_SECONDS: numeric,
  RECONCILE_MAY_START: z.pipe(
    z.pipe(
      z.string(),
      z.transform((value: string) => value.split(",").filter((name) => name !== "")),
    ),
    z.array(z.enum(mayStartNames)),
  ),
});

/** What the schedules pass. `estate-scan` begins a scan, or goes on with one; `continue-scan` only goes on. */
export const reconcileTasks = ["due-sweep", "estate-scan", "continue-scan"] as const;
