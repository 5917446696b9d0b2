import { localStage } from "../../config.ts";
import type { Step } from "./morning.ts";
import { revoke, share, verified } from "./morning.ts";
import { businessId, currencyOf, wabaId } from "./world.ts";

const { creditLineId: lineId, partnerBusinessId } = localStage;

/** As the stand-in for Meta numbers what it makes: the sample's customers are shared with one after the other. */
function wabasOf(customer: number) {
  return { id: wabaId(customer), ownerBusinessId: businessId(customer), currency: currencyOf(customer) };
}

/** Shared by hand, in Meta's console. */
function byHand(customer: number) {
  return {
    id: `1300000000000${customer}`,
    lineId,
    receivingBusinessId: businessId(customer),
    receivingCredentialId: `1400000000000${customer}`,
    wabaIds: [wabaId(customer)],
  };
}

/**
 * The first day of a partner who has shared its line before: nothing is on the table, and all is at Meta. After the first
 * scan a customer who unshares, and whose owner nobody could ask for any more, is revoked.
 */
export const firstDay: readonly Step[] = [
  {
    title: "Ten customers were shared with long ago; the first estate scan adopts them, and they are verified",
    world: { allocations: Array.from({ length: 9 }, (_, index) => byHand(index + 21)) },
    commands: [],
    scans: 1,
    findings: [],
  },
  {
    title: "Two of them unshare, and are revoked",
    isUnheard: true,
    world: { wabas: [21, 22].map((customer) => ({ ...wabasOf(customer), sharedWithPartner: false })) },
    commands: [21, 22].map((customer) => revoke(customer, { wabaId: wabaId(customer), reason: "customer_unshared" })),
    scans: 2,
    findings: [],
  },
];

const shared = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/** What hands do at Meta, how two scans in a row find it, and what heals by itself, by a command, or by other hands. */
export const drift: readonly Step[] = [
  {
    title: "Ten customers, and a first scan that finds nothing",
    commands: shared.map((customer) => share(customer, verified)),
    scans: 1,
    findings: [],
  },
  {
    title:
      "Hands at Meta: a share nobody asked for, another payer, an owner that changed; and a webhook that never came",
    isUnheard: true,
    world: {
      allocations: [byHand(21)],
      wabas: [
        { ...wabasOf(2), primaryFundingId: "990000000000002" },
        { ...wabasOf(3), sharedWithPartner: false },
        { ...wabasOf(4), ownerBusinessId: businessId(5) },
      ],
      lines: [{ id: lineId, ownerBusinessId: partnerBusinessId, accessRevoked: true }],
    },
    commands: [],
    scans: 2,
    findings: [
      `allocation_unknown ${byHand(21).id}`,
      `funded_elsewhere ${wabaId(2)}`,
      `line_access_revoked ${lineId}`,
      `owner_changed ${wabaId(4)}`,
      `waba_left ${wabaId(3)}`,
    ],
  },
  {
    title:
      "The one who left was revoked, the other payer is known now; the rest is set right by hands and by a command",
    world: {
      wabas: [wabasOf(4)],
      lines: [{ id: lineId, ownerBusinessId: partnerBusinessId, accessRevoked: false }],
    },
    commands: [revoke(21, { businessId: businessId(21), reason: "operator" })],
    scans: 1,
    findings: [],
  },
];
