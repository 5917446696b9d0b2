import type { HoldReason } from "./business.ts";

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
  /** Not in design.md either: a person, not Meta, ended the attempt (`credit-lines settle`). */
  given_up: "command",
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
  /** Of Meta: at most 500 bytes. */
  message?: string;
};

/** What a reason means, for the person who must do something about it. `{wabaId}` and the like stand for the ids at hand. */
export type Explanation = {
  words: string;
  /** What to do; undefined when nothing is to be done. */
  remedy?: string;
  /** The first command of the remedy, without the program's name. */
  command?: string;
};

const replay = "dlq replay --command {commandId} --yes";

export const explanations: Record<Reason | OpenReason | HoldReason, Explanation> = {
  invalid_command: {
    words: "The body is no command.",
    remedy: "Its producer mends it and sends it again; the dead letter is of no use any more.",
    command: "dlq show --command {commandId}",
  },
  command_id_reused: {
    words: "The id was used before, for other content.",
    remedy: "Its producer sends the new content under a new id.",
    command: "dlq show --command {commandId}",
  },

  currency_unsupported: {
    words: "The stage does not allow this currency.",
    remedy: "Allow it (currencies in the stage's configuration), or share in another; then a new command.",
  },
  owner_mismatch: {
    words: "The business that the command names does not own the WABA.",
    remedy: "Find out which is wrong: the command, our record, or the WABA has changed hands. Nothing was done.",
    command: "explain {wabaId} --live",
  },
  business_revoked: {
    words: "The line was taken back from this business.",
    remedy: "If it shall be shared again: a new command that says so.",
    command: "share {wabaId} --currency CODE --reshare-after-revocation",
  },
  superseded: { words: "A newer command was acted on." },
  line_conflict: {
    words: "Another line of ours is attached, which Meta cannot change.",
    remedy: "The customer needs a new WABA, or stays on the other line.",
    command: "explain {wabaId} --live",
  },
  currency_conflict: {
    words: "The WABA has another currency, which Meta cannot change.",
    remedy: "A new command with the WABA's own currency.",
    command: "explain {wabaId} --live",
  },
  funded_elsewhere: {
    words: "Somebody else pays for the WABA.",
    remedy:
      "If the customer comes from another partner: a new command that says so. Else the customer takes its payment method off.",
    command: "share {wabaId} --currency CODE --partner-switch",
  },
  same_business: { words: "The WABA is the partner's own: there is nothing to share." },
  waba_not_visible: {
    words: "Meta does not show us the WABA: the customer has not shared it with the partner, or has taken it back.",
    remedy: "The customer shares it with the partner; then a new command.",
    command: "explain {wabaId} --live",
  },
  secret_not_allowed: {
    words: "The command names a secret outside the stage's prefix.",
    remedy: "Its producer names one under the prefix (stack output BusinessTokenSecretPrefix), in a new command.",
  },
  refused_by_meta: {
    words: "Meta named a fault, and nothing came of the request.",
    remedy: "Read Meta's message; mend what it names; then a new command.",
  },
  given_up: {
    words: "A person closed the attempt after Meta showed that nothing came of it.",
    remedy: "If the customer shall be funded: a new command.",
    command: "share {wabaId} --currency CODE",
  },
  still_shared: {
    words: "Meta told of a removal, and goes on showing the WABA as shared with us: nothing was taken back.",
    remedy: "If the line shall be taken back all the same: revoke.",
    command: "revoke {businessId} --reason operator",
  },
  not_shared: {
    words: "Nothing of ours is shared with the WABA.",
    remedy: "Share it first.",
    command: "share {wabaId} --currency CODE",
  },

  token_dead: {
    words: "Meta refuses the token.",
    remedy:
      "Put a working token into its secret: the stage's system token, or, when only this customer is blocked, its business token. Then replay what died of it.",
    command: "preflight",
  },
  permission_denied: {
    words: "The token may not do this: the system user lost its role, or the command needs a business token.",
    remedy: "Give the system user its role on the portfolio and its permissions; then replay what died of it.",
    command: "preflight",
  },
  policy_block: {
    words: "Meta blocks the app for a policy.",
    remedy: "Meta's Business Support Home names the policy; after the block is lifted, replay what died of it.",
    command: "preflight",
  },
  line_access_revoked: {
    words: "Meta has taken the partner's access to the credit line.",
    remedy: "Only Meta can give it back: open a case with the line's id; then replay what died of it.",
    command: "preflight",
  },
  owner_unknown: {
    words: "Nobody knows the business that owns the WABA.",
    remedy: "Meta's e-mail to the portfolio's admins names it; send the revoke again with it.",
    command: "revoke {wabaId} --business BUSINESS_ID --reason customer_unshared",
  },
  meta_unavailable: {
    words: "Meta did not answer, or could not serve us.",
    remedy: "When Meta works again, replay what died of it.",
    command: replay,
  },
  business_full: {
    words: "The business's item is as large as it may get.",
    remedy: "Its records must be thinned out by the developers; revocations still work.",
  },

  siblings: {
    words: "Another WABA of the business is still funded, and a revocation would take the line from it too.",
    remedy:
      "See who has left. If the whole business has: release it. Else leave it: it goes on by itself when the last WABA leaves.",
    command: "explain {businessId} --live",
  },
  by_policy: {
    words: "The stage leaves every removal to a person (onPartnerRemoved: hold).",
    remedy: "See whether the customer has left; if so, release it.",
    command: "explain {businessId} --live",
  },
  unknown_siblings: {
    words: "Another WABA of this business, which no command shared, is funded by a record of ours.",
    remedy: "Find out at Meta who shared it; then release the revocation, or share that WABA by a command.",
    command: "explain {businessId} --live",
  },
  still_visible: {
    words: "Meta told of a removal, and still shows the WABA as shared with us.",
    remedy: "See whether the customer has left; if so, release it.",
    command: "explain {businessId} --live",
  },
  cannot_tell: {
    words: "Meta could not be asked whether the customer has left.",
    remedy: "It is asked again by itself. If you know that the customer has left: release it.",
    command: "explain {businessId} --live",
  },
  breaker: {
    words: "Too many customers left within minutes: automatic revocations have stopped.",
    remedy: "Find out whether they really left. If so, let them all go on; or release single ones.",
    command: "revocations resume",
  },

  share_in_flight: { words: "A share's POST may still land: the end waits until its window is over." },
  not_confirmed: {
    words: "A record is not confirmed deleted yet.",
    remedy: "If it stays so for an hour: compare with Meta.",
    command: "explain {businessId} --live",
  },
  unreadable: {
    words: "Meta does not let us read a list or a record of the business.",
    remedy: "Find out which, and why.",
    command: "explain {businessId} --live",
  },
  still_funded: {
    words: "A WABA is still paid for by a record of ours.",
    remedy: "Delete the allocation by hand in Meta Business Suite; the next look ends the revocation.",
    command: "explain {businessId} --live",
  },
};
