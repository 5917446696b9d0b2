import { describe, expect, test } from "vitest";
import { agesOf, oldestUnshared, unseenForMs } from "../../../shared/domain/ages.ts";
import type { Business } from "../../../shared/domain/business.ts";
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

describe("who left and is still on our line", () => {
  const removed = { removedAt: 700, allocationId: "130000000000001" };

  function businessOf(wabas: object, more: object = {}): Business {
    return { ...newBusiness("110000000000001", 1), wabas, ...more } as Business;
  }

  test("is counted from when Meta told, or its removal was asked for, whichever WABA left first", () => {
    const [left, later] = [
      { ...removed, status: "verified" },
      { ...removed, status: "shared", removedAt: 800 },
    ];
    expect(oldestUnshared(businessOf({ a: left, b: later }))).toEqual({ siblings: "none", since: 700 });
    const held = { requests: [{ wabaId: "unknown", requestedAt: 600 }], reason: "cannot_tell", since: 0, due: {} };
    expect(oldestUnshared(businessOf({ a: left }, { held }))).toEqual({ siblings: "none", since: 600 });
  });

  test("is told apart by whether siblings stay", () => {
    const wabas = { a: { ...removed, status: "verified" }, b: { status: "verified" } };
    expect(oldestUnshared(businessOf(wabas))).toEqual({ siblings: "funded", since: 700 });
  });

  test("is still so while its revocation is open, and not any more when it is done, or nothing was shared", () => {
    expect(oldestUnshared(businessOf({ a: { ...removed, status: "revoking" } }))).toMatchObject({ since: 700 });
    expect(oldestUnshared(businessOf({ a: { ...removed, status: "revoked" } }))).toBeUndefined();
    expect(oldestUnshared(businessOf({ a: { status: "sharing", removedAt: 700 } }))).toBeUndefined();
    expect(oldestUnshared(businessOf({ a: { status: "verified" } }))).toBeUndefined();
  });
});

describe("the delay with which Meta shows a share", () => {
  const shared = { status: "shared", intendedAt: 1000 };

  function between(was: object | undefined, is: object): number | undefined {
    const business = newBusiness("110000000000001", 1);
    const before = { ...business, wabas: was === undefined ? {} : { a: was } } as Business;
    return unseenForMs(before, { ...business, wabas: { a: is } } as Business);
  }

  test("is at least as long as until the last look that missed it, when a later one shows it", () => {
    expect(between({ ...shared, evidence: { checkedAt: 151_000 } }, { status: "verified" })).toBe(150_000);
  });

  test("is told as none when the first look shows it", () => {
    expect(between(shared, { status: "verified" })).toBe(0);
  });

  test("is learned from probes, too, when an answer was lost", () => {
    const intent = { madeAt: 2000, absentAt: 32_000 };
    expect(between({ status: "sharing", intent }, { status: "shared" })).toBe(30_000);
    expect(between({ status: "sharing", intent }, { status: "sharing" })).toBeUndefined();
    expect(between({ status: "sharing", intent: { madeAt: 2000 } }, { status: "shared" })).toBeUndefined();
  });

  test("is not told by what is no first proof: a switch of partners takes until the next month", () => {
    expect(between({ ...shared, status: "pending" }, { status: "verified" })).toBeUndefined();
    expect(between({ ...shared, status: "verified" }, { status: "verified" })).toBeUndefined();
    expect(between(shared, { status: "mismatched" })).toBeUndefined();
    expect(between(undefined, { status: "shared" })).toBeUndefined();
  });
});
