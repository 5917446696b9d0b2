import { expect, test } from "vitest";
import { eventSchema, eventSource, toDetail } from "../../../shared/contracts/events.ts";
import { detailTypes } from "../../../shared/domain/events.ts";
import { allocationId, businessId, lineId, now, wabaId } from "../factories.ts";

const event = {
  detailType: "Share Verified",
  eventId: "transition-0",
  occurredAt: now,
  commandId: "share-1",
  wabaId,
  businessId,
  allocationConfigId: allocationId,
  creditLineId: lineId,
  currency: "EUR",
  status: "verified",
  previousStatus: "shared",
} as const;

test("consumers read a versioned detail with its time in ISO 8601, UTC", () => {
  const { detailType: _type, ...rest } = event;
  expect(toDetail(event, 7)).toEqual({
    ...rest,
    schemaVersion: "1",
    occurredAt: "2026-06-10T12:00:00.000Z",
    aggregateVersion: 7,
  });
});

test("a detail of a command without a business carries no version of one", () => {
  const rejected = {
    detailType: "Command Rejected",
    eventId: "transition-0",
    occurredAt: now,
    reason: "invalid_command",
  } as const;
  expect(toDetail(rejected, undefined)).toEqual({
    schemaVersion: "1",
    eventId: "transition-0",
    occurredAt: "2026-06-10T12:00:00.000Z",
    reason: "invalid_command",
  });
});

test("an event keeps to the schema that consumers are given, whatever its type", () => {
  for (const detailType of detailTypes) {
    const sent = { source: eventSource, "detail-type": detailType, detail: toDetail({ ...event, detailType }, 7) };
    expect(eventSchema.parse(sent)).toEqual(sent);
  }
});

test.each([
  ["of another source", { source: "somebody" }],
  ["of a type nobody knows", { "detail-type": "Share Lost" }],
  ["of another version", { detail: { ...toDetail(event, 7), schemaVersion: "2" } }],
  ["without an id", { detail: { ...toDetail(event, 7), eventId: undefined } }],
  ["with a time in milliseconds", { detail: { ...toDetail(event, 7), occurredAt: now } }],
])("an event %s does not keep to the schema", (_title, change) => {
  const sent = { source: eventSource, "detail-type": "Share Verified", detail: toDetail(event, 7) };
  expect(eventSchema.safeParse({ ...sent, ...change }).success).toBe(false);
});

test("the source and the detail types are the contract that consumers' rules match", () => {
  expect(eventSource).toBe("credit-lines");
  expect(detailTypes.toSorted()).toEqual([
    "Account Changed",
    "Command Blocked",
    "Command Rejected",
    "Credit Line Revoked",
    "Drift Closed",
    "Drift Found",
    "Revocation Held",
    "Revocation Incomplete",
    "Revocation Started",
    "Revocations Resumed",
    "Revocations Stopped",
    "Revoke Refused",
    "Share Accepted",
    "Share In Doubt",
    "Share Mismatched",
    "Share Pending",
    "Share Refused",
    "Share Verified",
    "Verify Refused",
  ]);
});
