import type { Conclusion } from "./business.ts";

/** What Meta tells of an account by webhook, beyond the revocation that a removal asks for. */
export const accountEvents = ["PARTNER_ADDED", "PARTNER_REMOVED", "ACCOUNT_DELETED", "DISABLED_UPDATE"] as const;

export type AccountEvent = (typeof accountEvents)[number];

export type AccountNotice = {
  type: "account";
  /** Deterministic: the same delivery, repeated, has the same. */
  commandId: string;
  hash: string;
  event: AccountEvent;
  wabaId: string;
  /** The owner, as the signed webhook names it. */
  businessId?: string;
  at: number;
};

export type AccountConclusion = Omit<Conclusion, "request"> & { request: AccountNotice };

/** A change of the account that only has to be recorded and announced, once. */
export function accountChanged(notice: AccountNotice): AccountConclusion {
  const { commandId, wabaId, businessId, event } = notice;
  return {
    request: notice,
    outcome: "done",
    event: {
      detailType: "Account Changed",
      commandId,
      wabaId,
      ...(businessId === undefined ? {} : { businessId }),
      reason: event.toLowerCase(),
    },
  };
}
