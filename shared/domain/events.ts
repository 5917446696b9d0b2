/** Detail types on the partner's own bus (design.md §4). The strings are the contract. */
export const detailTypes = [
  "Share Accepted",
  "Share Verified",
  "Share Pending",
  "Share Mismatched",
  "Share Refused",
  "Verify Refused",
  "Revoke Refused",
  "Command Rejected",
  "Command Blocked",
  "Share In Doubt",
  "Revocation Started",
  "Credit Line Revoked",
  "Revocation Incomplete",
  "Revocation Held",
  "Revocations Stopped",
  "Revocations Resumed",
  "Drift Found",
  "Drift Closed",
  "Account Changed",
] as const;

export type DetailType = (typeof detailTypes)[number];

/** An event as a decision states it. Its id, time and version come from the write that records it. */
export type EventDraft = {
  detailType: DetailType;
  commandId?: string;
  wabaId?: string;
  /** Only `Credit Line Revoked`: every WABA of the business, at most 100. */
  wabaIds?: string[];
  businessId?: string;
  allocationConfigId?: string;
  creditLineId?: string;
  currency?: string;
  status?: string;
  previousStatus?: string;
  reason?: string;
  /** Only of what a person did: who, and why in their words. */
  by?: string;
  note?: string;
};

/** A draft with the identity its write gave it: `eventId` is `transitionId` + index, so repeats are harmless (P1). */
export type RecordedEvent = EventDraft & { eventId: string; occurredAt: number };
