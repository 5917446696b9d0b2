import { describe, expect, test } from "vitest";
import type { GraphErrorClass } from "../../../shared/graph/errors.ts";
import { classify, noEffectClasses, storedFailure, unanswered } from "../../../shared/graph/errors.ts";
import { now } from "../factories.ts";

const token = "EAAsystemtokensystemtoken";

function classOf(error: Record<string, unknown>, status = 400): GraphErrorClass {
  return classify(status, { error: { message: "(#1) Something", type: "OAuthException", ...error } }, [token], now)
    .class;
}

describe("an error of Meta's is classified by its code", () => {
  test.each<[GraphErrorClass, number[]]>([
    ["throttled", [4, 17, 32, 341, 613, 80_000, 80_007, 80_008, 80_014]],
    ["transient", [1, 2, 131_016, 131_042, 131_057]],
    ["token_dead", [102, 104, 190]],
    ["permission", [3, 10, 200, 250, 299]],
    ["policy", [368]],
    ["missing", [803]],
    ["rejected", [100, 4000]],
    // The default row: of a POST or DELETE the outcome is unknown.
    ["transient", [0, 5, 11, 99, 101, 199, 300, 612, 79_999, 80_015, 131_041, 987_654]],
  ])("as %s: %j", (expected, codes) => {
    expect(codes.map((code) => [code, classOf({ code })])).toEqual(codes.map((code) => [code, expected]));
  });

  test("whatever the HTTP status is", () => {
    const statuses = [200, 400, 401, 403, 500, 503];
    expect(statuses.map((status) => classOf({ code: 80_007 }, status))).toEqual(statuses.map(() => "throttled"));
    expect(statuses.map((status) => classOf({ code: 190 }, status))).toEqual(statuses.map(() => "token_dead"));
  });

  test.each<[string, Record<string, unknown>, GraphErrorClass]>([
    ["both businesses are the same", { code: 100, error_subcode: 1_752_244 }, "same_business"],
    ["both businesses are the same, under any code", { code: 10, error_subcode: 1_752_244 }, "same_business"],
    ["Meta's invoicing policy forbids it", { code: 1, error_subcode: 1_752_294 }, "rejected"],
    ["the object is missing", { code: 100, error_subcode: 33 }, "missing"],
    ["33 of another code says nothing of an object", { code: 10, error_subcode: 33 }, "permission"],
    ["a subcode nobody knows changes nothing", { code: 190, error_subcode: 463 }, "token_dead"],
  ])("and by a subcode that says more: %s", (_title, error, expected) => {
    expect(classOf(error)).toBe(expected);
  });

  test("as transient when Meta calls it so, since its effect is then unknown", () => {
    expect(classOf({ code: 100, is_transient: true })).toBe("transient");
    expect(classOf({ code: 10, is_transient: true })).toBe("transient");
    expect(classOf({ code: 10, is_transient: false })).toBe("permission");
  });

  test("as throttled although Meta calls it transient: to call again at once would prolong the block", () => {
    expect(classOf({ code: 4, is_transient: true })).toBe("throttled");
  });
});

describe("an answer without a readable envelope is transient", () => {
  test.each([
    ["no body", undefined],
    ["text", "<html>Sorry</html>"],
    ["an empty object", {}],
    ["a code that is text", { error: { code: "190" } }],
    ["an error without a code", { error: { message: "Something" } }],
    ["null", { error: null }],
  ])("when it is %s", (_title, body) => {
    expect(classify(502, body, [token], now)).toEqual({
      at: now,
      class: "transient",
      reason: "meta_unavailable",
      message: "HTTP 502 without an error envelope",
    });
  });
});

describe("only what Meta rejects before any effect closes an intent (S5, H11)", () => {
  test("which is neither a bad parameter nor an existing object nor anything unlisted", () => {
    expect([...noEffectClasses].toSorted()).toEqual(["permission", "policy", "throttled", "token_dead"]);
    const doubtful = [100, 4000, 803, 1, 2, 131_042, 5].map((code) => noEffectClasses.has(classOf({ code })));
    expect(doubtful).toEqual(doubtful.map(() => false));
  });
});

describe("a failure", () => {
  const envelope = { message: "Invalid", code: 100, error_subcode: 2_494_055, fbtrace_id: "AbC", error_data: "{}" };

  test("keeps what support needs, and why a command did not do what it asked", () => {
    const failure = classify(400, { error: envelope }, [token], now);
    expect(failure).toEqual({
      at: now,
      class: "rejected",
      reason: "refused_by_meta",
      code: 100,
      subcode: 2_494_055,
      fbtraceId: "AbC",
      message: "Invalid",
    });
    const { class: _class, ...stored } = failure;
    expect(storedFailure(failure)).toEqual(stored);
  });

  test.each<[number, string]>([
    [4, "meta_unavailable"],
    [2, "meta_unavailable"],
    [190, "token_dead"],
    [10, "permission_denied"],
    [368, "policy_block"],
    [803, "waba_not_visible"],
    [100, "refused_by_meta"],
  ])("of the code %d has the reason %s", (code, reason) => {
    expect(classify(400, { error: { code } }, [token], now).reason).toBe(reason);
  });

  test("I7: repeats no token, neither the one that was sent nor another", () => {
    const other = "EAAGm0PX4ZCpsBAotherOther";
    const odd = "a-token-of-another-kind";
    const message = `Malformed access token ${odd}, not ${other}`;
    const failure = classify(400, { error: { code: 190, message } }, [odd], now);
    expect(failure.message).toBe("Malformed access token [token], not [token]");
  });

  test("has a message of at most 500 bytes, whole characters", () => {
    const message = "m".repeat(2000);
    expect(classify(400, { error: { code: 100, message } }, [token], now).message).toHaveLength(500);
    expect(unanswered(message, now)).toMatchObject({ class: "transient", reason: "meta_unavailable", at: now });
    expect(unanswered(message, now).message).toHaveLength(500);
    const ofThreeBytes = classify(
      400,
      { error: { code: 100, message: "借".repeat(2000), fbtrace_id: message } },
      [],
      now,
    );
    expect(ofThreeBytes).toMatchObject({ message: "借".repeat(166), fbtraceId: "m".repeat(100) });
  });
});
