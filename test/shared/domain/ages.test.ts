import { expect, test } from "vitest";
import { agesOf } from "../../../shared/domain/ages.ts";
import { newBusiness } from "../../../shared/domain/business.ts";

const now = 1_000_000;

test("nothing unsettled has no age", () => {
  expect(agesOf(newBusiness("110000000000001", 1), now)).toEqual({});
});

test("the oldest attempt counts, on a WABA or for the business's record", () => {
  const business = newBusiness("110000000000001", 1);
  const intent = { id: "i", epoch: 0, attempt: 1, sendDeadline: 0 };
  const wabas = { a: { intent: { ...intent, madeAt: now - 5000 } }, b: { intent: { ...intent, madeAt: now - 7000 } } };
  expect(agesOf({ ...business, wabas } as never, now)).toEqual({ intentMs: 7000 });
  const recordIntent = { ...intent, madeAt: now - 9000 };
  expect(agesOf({ ...business, wabas, recordIntent } as never, now)).toEqual({ intentMs: 9000 });
});

test("a share that is not proved is as old as its attempt, or as its command where it was adopted by an older release", () => {
  const business = newBusiness("110000000000001", 1);
  const request = { requestedAt: now - 3000 };
  const wabas = { a: { status: "shared", intendedAt: now - 1000, request }, b: { status: "verified", request } };
  expect(agesOf({ ...business, wabas } as never, now)).toEqual({ unverifiedMs: 1000 });
  expect(agesOf({ ...business, wabas: { a: { status: "shared", request } } } as never, now)).toEqual({
    unverifiedMs: 3000,
  });
});

test("a revocation has an age while it is open", () => {
  const business = newBusiness("110000000000001", 1);
  const revocation = { state: "open", startedAt: now - 2000 };
  expect(agesOf({ ...business, revocation } as never, now)).toEqual({ revocationMs: 2000 });
  expect(agesOf({ ...business, revocation: { ...revocation, state: "done" } } as never, now)).toEqual({});
});
