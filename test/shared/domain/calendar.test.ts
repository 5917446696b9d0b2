import { expect, test } from "vitest";
import { startOfNextMonth } from "../../../shared/domain/calendar.ts";

function expected(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

test("the next month starts where the calendar says, for every day from 1970 to 2105", () => {
  const wrong: string[] = [];
  for (let now = 0; now < Date.UTC(2105, 0, 1); now += 86_400_000) {
    if (startOfNextMonth(now) !== expected(now)) wrong.push(new Date(now).toISOString());
  }
  expect(wrong).toEqual([]);
});

test.each([
  ["the last millisecond of a month", "2026-06-30T23:59:59.999Z", "2026-07-01T00:00:00.000Z"],
  ["the first instant of a month", "2026-07-01T00:00:00.000Z", "2026-08-01T00:00:00.000Z"],
  ["the end of a year", "2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z"],
  ["a leap day", "2028-02-29T12:00:00.000Z", "2028-03-01T00:00:00.000Z"],
  ["a February that is no leap one by the rule of centuries", "2100-02-28T23:59:59.999Z", "2100-03-01T00:00:00.000Z"],
])("the next month after %s is found", (_title, now, next) => {
  expect(new Date(startOfNextMonth(Date.parse(now))).toISOString()).toBe(next);
});
