/**
 * Why a command did not do what it asked (design.md §3). The class decides what becomes of the message:
 * `invalid` is sent to the dead letter queue by us, `command` is answered and deleted, `setup` is retried and then dead-lettered by SQS.
 */
export const reasonClasses = {
  invalid_command: "invalid",
  command_id_reused: "invalid",

  currency_unsupported: "command",
  owner_mismatch: "command",
  business_revoked: "command",
  superseded: "command",
  line_conflict: "command",
  currency_conflict: "command",
  funded_elsewhere: "command",
  same_business: "command",
  waba_not_visible: "command",
  secret_not_allowed: "command",
  refused_by_meta: "command",
  /** Not in design.md: a verification of a WABA that was never shared fits none of its reasons and must end in one. */
  not_shared: "command",
  /** Nor this: Meta told of a removal, and goes on showing the WABA as shared with us. */
  still_shared: "command",

  token_dead: "setup",
  permission_denied: "setup",
  policy_block: "setup",
  line_access_revoked: "setup",
  owner_unknown: "setup",
  meta_unavailable: "setup",
  business_full: "setup",
} as const;

export type Reason = keyof typeof reasonClasses;
type ReasonOf<Class> = { [R in Reason]: (typeof reasonClasses)[R] extends Class ? R : never }[Reason];

export type RejectReason = ReasonOf<"invalid">;
export type RefuseReason = ReasonOf<"command">;
export type BlockReason = ReasonOf<"setup">;

/** Why a revocation is still open. */
export type OpenReason = "share_in_flight" | "not_confirmed" | "unreadable" | "still_funded" | BlockReason;

/** What Meta (or the way to it) answered last, cut to what support needs. Never holds a token. */
export type Failure = {
  at: number;
  reason: Reason;
  code?: number;
  subcode?: number;
  fbtraceId?: string;
  /** At most 500 characters. */
  message?: string;
};
