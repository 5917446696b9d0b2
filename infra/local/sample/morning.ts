import { businessId, currencyOf, wabaId } from "./world.ts";

/**
 * The sample morning of `npm start`: what upstream services send, what goes wrong at Meta meanwhile, and what must have
 * become of it in the end. An expectation that does not hold fails the run.
 */
export type Step = {
  /** What happens, for the progress line. */
  title: string;
  /** Faults on the way to Meta, set before the step's commands are sent (design.md §10). */
  faults?: readonly Record<string, unknown>[];
  /** Hands in Meta's console, or the customer's: laid over the world. */
  world?: Record<string, unknown>;
  /** Meta's webhooks about that are lost. */
  isUnheard?: boolean;
  /** Waits first. A re-share must be newer than the revocation by more than the clocks' skew (T1). */
  pauseMs?: number;
  commands: readonly SampleCommand[];
  /** What must become of WABAs that no command names, by WABA id: a status, or `held` for a removal that waits. */
  wabas?: Readonly<Record<string, string>>;
  /** Estate scans once the commands have ended. */
  scans?: number;
  /** The findings that are open when the step is over, by kind and subject. */
  findings?: readonly string[];
};

export type SampleCommand = {
  queue: "share" | "verify" | "revoke";
  /** What is sent: a command, or a body that is none. */
  body: Record<string, unknown> | string;
  /** Sent this often, as SQS may deliver it. */
  copies?: number;
  expected?: Expected;
};

export type Expected = {
  outcome: "done" | "refused" | "rejected";
  reason?: string;
  /** Of the command's WABA, when the step is over. Absent: the table does not hold the WABA. */
  status?: string;
};

type Fields = Record<string, unknown>;

export function share(customer: number, expected: Expected, fields: Fields = {}): SampleCommand {
  const body = {
    type: "share",
    commandId: `share-${customer}`,
    wabaId: wabaId(customer),
    currency: currencyOf(customer),
    ...fields,
  };
  return { queue: "share", body, expected };
}

export function revoke(customer: number, fields: Fields): SampleCommand {
  const body = { type: "revoke", commandId: `revoke-${customer}`, ...fields };
  return { queue: "revoke", body, expected: { outcome: "done", status: "revoked" } };
}

export const verified = { outcome: "done", status: "verified" } as const;

export const morning: readonly Step[] = [
  {
    title: "Ten new customers, one message delivered three times",
    commands: [
      { ...share(1, verified), copies: 3 },
      ...[2, 3, 4, 5, 6, 7, 8, 9, 10].map((customer) => share(customer, verified)),
    ],
  },
  {
    title: "A second WABA, an adoption, and commands that must be refused",
    commands: [
      share(1, verified, { commandId: "share-1-second", wabaId: wabaId(1, 1) }),
      share(12, verified),
      share(13, { outcome: "refused", reason: "funded_elsewhere" }),
      share(14, { outcome: "refused", reason: "currency_unsupported" }, { currency: "BRL" }),
      share(15, { outcome: "refused", reason: "owner_mismatch" }, { businessId: businessId(3) }),
      share(16, { outcome: "refused", reason: "waba_not_visible" }),
      share(17, { outcome: "refused", reason: "currency_conflict" }, { currency: "AUD" }),
      share(99, { outcome: "refused", reason: "same_business" }, { currency: "USD" }),
    ],
  },
  {
    title: "Bodies that are no commands, and a command id used twice",
    commands: [
      { queue: "share", body: "{ this is not JSON", expected: { outcome: "rejected", reason: "invalid_command" } },
      share(
        18,
        { outcome: "rejected", reason: "invalid_command" },
        { commandId: "share-18-unknown-key", creditLine: "mine" },
      ),
      share(
        18,
        { outcome: "rejected", reason: "invalid_command" },
        { commandId: "share-18-number", wabaId: 120_000_000_000_018 },
      ),
      share(18, { outcome: "rejected", reason: "command_id_reused" }, { commandId: "share-2" }),
    ],
  },
  {
    title: "Meta acts, and its answer is lost; and a POST that is lost on its way",
    faults: [
      { match: "E2", kind: "cut-after", wabaId: wabaId(18), times: 1 },
      { match: "E2", kind: "cut-before", wabaId: wabaId(19), times: 1 },
    ],
    commands: [share(18, verified), share(19, verified)],
  },
  {
    title:
      "Two customers leave, and only Meta's webhook tells: one is revoked, one held because its other number is funded",
    world: { wabas: [7, 1].map((customer) => ({ id: wabaId(customer), sharedWithPartner: false })) },
    commands: [],
    wabas: { [wabaId(7)]: "revoked", [wabaId(1)]: "held" },
  },
  {
    title: "Customers leave: by WABA, by business, one that unshared first, one whose answer is lost",
    world: { wabas: [{ id: wabaId(5), sharedWithPartner: false }] },
    faults: [{ match: "E9", kind: "cut-after", businessId: businessId(6), times: 1 }],
    commands: [
      revoke(3, { wabaId: wabaId(3), reason: "offboarded" }),
      revoke(4, { businessId: businessId(4), reason: "non_payment" }),
      revoke(5, { wabaId: wabaId(5), reason: "customer_unshared" }),
      revoke(6, { wabaId: wabaId(6), businessId: businessId(6), reason: "risk" }),
      // Both numbers of customer 1 lose the line: a revocation is the business's, and takes along what was held.
      revoke(1, { wabaId: wabaId(1), reason: "operator" }),
    ],
  },
  {
    title: "One comes back: first without saying so, then as a re-share; and a verification on demand",
    pauseMs: 3000,
    commands: [
      share(3, { outcome: "refused", reason: "business_revoked", status: "revoked" }, { commandId: "share-3-again" }),
      share(4, verified, { commandId: "share-4-again", reshareAfterRevocation: true }),
      {
        queue: "verify",
        body: { type: "verify", commandId: "verify-2", wabaId: wabaId(2) },
        expected: verified,
      },
      {
        queue: "verify",
        body: { type: "verify", commandId: "verify-3", wabaId: wabaId(3) },
        expected: { outcome: "refused", reason: "business_revoked", status: "revoked" },
      },
    ],
  },
];
