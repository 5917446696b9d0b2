import { expect, test } from "vitest";
import { monthlyReport } from "../../../infra/ops/report.ts";
import type { DetailType, RecordedEvent } from "../../../shared/domain/events.ts";

const [from, until] = [Date.UTC(2026, 5, 1), Date.UTC(2026, 6, 1)];
const businessId = "200000000000001";
const [wabaId, siblingId] = ["300000000000001", "300000000000002"];
let made = 0;

function event(detailType: DetailType, day: string, more: Partial<RecordedEvent> = {}): RecordedEvent {
  made += 1;
  const occurredAt = Date.parse(`${day}T12:00:00Z`);
  return { detailType, occurredAt, eventId: `event-${made}`, businessId, currency: "EUR", creditLineId: "4", ...more };
}

function report(...events: RecordedEvent[]) {
  return monthlyReport(events, "2026-06", from, until);
}

test("a share counts from its acceptance to the proof of its revocation, in whichever order events come", () => {
  const events = [
    event("Credit Line Revoked", "2026-06-21"),
    event("Share Verified", "2026-06-12", { wabaId }),
    event("Share Accepted", "2026-06-11", { wabaId, allocationConfigId: "5" }),
  ];
  expect(report(...events).shares).toEqual([
    {
      wabaId,
      businessId,
      currency: "EUR",
      creditLineId: "4",
      allocationConfigId: "5",
      from: "2026-06-11T12:00:00.000Z",
      until: "2026-06-21T12:00:00.000Z",
      provedAt: "2026-06-12T12:00:00.000Z",
      daysInMonth: 10,
    },
  ]);
});

test("only days of the month count, and what is not over has no end", () => {
  const [share] = report(event("Share Accepted", "2026-05-20", { wabaId })).shares;
  expect(share).toMatchObject({ from: "2026-05-20T12:00:00.000Z", daysInMonth: 30 });
  expect(share?.until).toBeUndefined();
  const over = [event("Share Accepted", "2026-05-10", { wabaId }), event("Credit Line Revoked", "2026-05-20")];
  expect(report(...over).shares).toEqual([]);
  expect(report(event("Share Accepted", "2026-07-01", { wabaId })).shares).toEqual([]);
});

test("a revocation ends every share of the business, also of WABAs that its event does not list", () => {
  const { shares } = report(
    event("Share Accepted", "2026-06-02", { wabaId }),
    event("Share Accepted", "2026-06-03", { wabaId: siblingId }),
    event("Share Accepted", "2026-06-03", { wabaId: "300000000000009", businessId: "200000000000009" }),
    event("Credit Line Revoked", "2026-06-10", { wabaIds: [wabaId] }),
    event("Share Accepted", "2026-06-20", { wabaId }),
  );
  expect(shares.map(({ wabaId: id, until: end }) => [id, end?.slice(0, 10)])).toEqual([
    [wabaId, "2026-06-10"],
    [siblingId, "2026-06-10"],
    ["300000000000009", undefined],
    [wabaId, undefined],
  ]);
});

test("what was in doubt, unshared but funded, or different at Meta is told with its times", () => {
  const told = report(
    event("Share In Doubt", "2026-06-04", { wabaId, commandId: "share-1", reason: "no_answer" }),
    event("Share Accepted", "2026-06-05", { wabaId }),
    event("Revocation Held", "2026-06-10", { wabaId, reason: "siblings" }),
    event("Revocation Started", "2026-06-12", { reason: "operator" }),
    event("Credit Line Revoked", "2026-06-13"),
    event("Drift Found", "2026-06-20", { wabaId, reason: "unfunded" }),
  );
  expect(told.inDoubt).toMatchObject([
    { wabaId, commandId: "share-1", since: "2026-06-04T12:00:00.000Z", until: "2026-06-05T12:00:00.000Z" },
  ]);
  expect(told.leaving).toMatchObject([
    { reason: "siblings", since: "2026-06-10T12:00:00.000Z", until: "2026-06-13T12:00:00.000Z" },
  ]);
  expect(told.drift).toMatchObject([{ kind: "unfunded", wabaId, since: "2026-06-20T12:00:00.000Z" }]);
});

test("a share that a person gave up is not in doubt any more", () => {
  const doubt = event("Share In Doubt", "2026-06-04", { wabaId });
  const [open] = report(doubt).inDoubt;
  expect(open?.until).toBeUndefined();
  const [over] = report(doubt, event("Share Refused", "2026-06-06", { wabaId, reason: "given_up" })).inDoubt;
  expect(over?.until).toBe("2026-06-06T12:00:00.000Z");
});
