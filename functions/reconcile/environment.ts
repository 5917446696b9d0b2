import * as z from "zod/mini";
import { commonFields, graphFields, numeric, text, textList } from "../../shared/environment.ts";

export const reconcileEnvironment = z.object({
  ...commonFields,
  ...graphFields,
  DUE_INDEX_NAME: text,
  SETTLE_WINDOW_SECONDS: numeric,
  SHARE_QUEUE_URL: text,
  VERIFY_QUEUE_URL: text,
  REVOKE_QUEUE_URL: text,
  SHARES_STOP_AT: numeric,
  VERIFIES_STOP_AT: numeric,
  CREDIT_LINE_ID: text,
  /** The ids of the event sources of share, verify and revoke, in this order. */
  COMMAND_SOURCE_IDS: textList,
});

/** 1 when a run finds commands waiting because the system token is dead, else 0; under the stage's name. */
export const tokenDeadMetric = { namespace: "CreditLines", name: "SystemTokenDead" } as const;

export function metricServiceOf(stage: string): string {
  return `credit-lines-${stage}`;
}
