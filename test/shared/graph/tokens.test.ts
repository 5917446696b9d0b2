import { describe, expect, test } from "vitest";
import { createTokens, createTokenSource } from "../../../shared/graph/tokens.ts";

const minuteMs = 60_000;

/** A secret that can be changed, and a clock that stands still until a test moves it. */
function secretOf(...values: (string | Error)[]) {
  const secret = { reads: 0, now: 1_000_000, value: values[0] };
  const source = createTokenSource(
    async () => {
      const value = values[Math.min(secret.reads, values.length - 1)];
      secret.reads += 1;
      if (value instanceof Error) throw value;
      return value ?? "";
    },
    () => secret.now,
  );
  return { secret, source };
}

describe("a token source", () => {
  test("reads the secret once for readers that come at the same time", async () => {
    const { secret, source } = secretOf("one", "two");
    expect(await Promise.all([source.read(), source.read(), source.read()])).toEqual(["one", "one", "one"]);
    expect(secret.reads).toBe(1);
  });

  test("keeps the value for five minutes and not longer", async () => {
    const { secret, source } = secretOf("one", "two");
    await source.read();
    secret.now += 5 * minuteMs - 1;
    expect(await source.read()).toBe("one");
    secret.now += 1;
    expect(await source.read()).toBe("two");
    expect(secret.reads).toBe(2);
  });

  test("forgets a read that failed, for everyone who waited for it", async () => {
    const { secret, source } = secretOf(new Error("no access"), "two");
    const [first, second] = await Promise.allSettled([source.read(), source.read()]);
    expect([first?.status, second?.status]).toEqual(["rejected", "rejected"]);
    expect(await source.read()).toBe("two");
    expect(secret.reads).toBe(2);
  });

  test("reads the secret again once a dead token is reported", async () => {
    const { source } = secretOf("dead", "alive");
    source.forget(await source.read());
    expect(await source.read()).toBe("alive");
  });

  test("keeps a token that is newer than the dead one that is reported", async () => {
    const { secret, source } = secretOf("dead", "alive", "never asked for");
    const dead = await source.read();
    source.forget(dead);
    await source.read();
    source.forget(dead);
    expect(await source.read()).toBe("alive");
    expect(secret.reads).toBe(2);
  });
});

describe("the tokens", () => {
  test("keep the system token and each customer's token apart, by their secrets' names", async () => {
    const read: string[] = [];
    const tokens = createTokens(
      "system",
      async (name) => {
        read.push(name);
        return `token of ${name}`;
      },
      () => 0,
    );
    expect(await tokens.system.read()).toBe("token of system");
    expect(await tokens.business("acme").read()).toBe("token of acme");
    expect(await tokens.business("acme").read()).toBe("token of acme");
    expect(await tokens.business("other").read()).toBe("token of other");
    expect(read).toEqual(["system", "acme", "other"]);
  });

  test("drop the oldest customer's token when a warm function meets many", async () => {
    const read: string[] = [];
    const tokens = createTokens(
      "system",
      async (name) => {
        read.push(name);
        return name;
      },
      () => 0,
    );
    for (let customer = 0; customer <= 200; customer += 1) await tokens.business(`customer-${customer}`).read();
    await tokens.business("customer-200").read();
    expect(read).toHaveLength(201);
    await tokens.business("customer-0").read();
    expect(read).toHaveLength(202);
  });
});
