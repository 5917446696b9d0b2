import { localStage } from "../../config.ts";
import type { WorldInput } from "../meta/meta-world.ts";

/** A token that opens nothing but the stand-in for Meta. */
export const sampleSystemToken = "EAASampleSystemTokenOfTheStandIn";

/** What signs the stand-in's webhooks, and what its handshake names. */
export const sampleAppSecret = "sample-app-secret-of-the-stand-in";
export const sampleVerifyToken = "sample-verify-token-of-the-stand-in";

const { creditLineId, partnerBusinessId } = localStage;

/** Businesses 01 to 30 with one WABA each; ids that tell what they are: 11…NN a business, 12…NN its WABA. */
export function businessId(customer: number): string {
  return `1100000000000${String(customer).padStart(2, "0")}`;
}

export function wabaId(customer: number, which = 0): string {
  return `1200000000${which}00${String(customer).padStart(2, "0")}`;
}

const currencies = ["USD", "EUR", "INR", "GBP", "AUD", "IDR"];

export function currencyOf(customer: number): string {
  // From 21 on: those that nobody has shared with, so that a first command needs no look into the world.
  return customer > 20 ? "USD" : (currencies[customer % currencies.length] ?? "USD");
}

const customers = Array.from({ length: 30 }, (_, index) => index + 1);

/** What the sample morning of `npm start`, and `npm run local` without `--world`, finds at Meta. */
export const sampleWorld: WorldInput = {
  partnerBusinessId,
  lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId, legalEntityName: "Sample Partner Ltd" }],
  tokens: [{ value: sampleSystemToken, kind: "system" }],
  businesses: [
    { id: partnerBusinessId, name: "Sample Partner" },
    ...customers.map((customer) => ({ id: businessId(customer), name: `Customer ${customer}` })),
  ],
  wabas: [
    ...customers.map((customer) => ({
      id: wabaId(customer),
      ownerBusinessId: businessId(customer),
      currency: currencyOf(customer),
      name: `Customer ${customer}`,
    })),
    // Customer 1 has a second number, customer 13 is paid for by another partner, customer 16 has left.
    { id: wabaId(1, 1), ownerBusinessId: businessId(1), currency: currencyOf(1), name: "Customer 1, second" },
    { id: wabaId(13), ownerBusinessId: businessId(13), currency: currencyOf(13), primaryFundingId: "990000000000013" },
    { id: wabaId(16), ownerBusinessId: businessId(16), currency: currencyOf(16), sharedWithPartner: false },
    { id: wabaId(99), ownerBusinessId: partnerBusinessId, currency: "USD", name: "Our own number" },
  ].filter((waba, index, all) => all.findLastIndex((other) => other.id === waba.id) === index),
  // The line was shared with customer 12 by hand, before this system came.
  allocations: [
    {
      id: "130000000000012",
      lineId: creditLineId,
      receivingBusinessId: businessId(12),
      receivingCredentialId: "140000000000012",
      wabaIds: [wabaId(12)],
    },
  ],
};

/** WABAs that nobody has shared with yet: what `npm run local` offers to try. */
export const sampleWabaIds = [21, 22, 23, 24, 25, 26, 27, 28, 29, 30].map((customer) => wabaId(customer));
