import { describe, expect, test } from "vitest";
import { proofOf } from "../../shared/contracts/content-hash.ts";
import { createProofCheck } from "../../shared/secrets.ts";

const contentHash = "what was told";

/** A secret that a test can rotate, and how often it was read. */
function checkOf(first: string) {
  const secret = { text: first, reads: 0 };
  async function read(): Promise<string> {
    secret.reads += 1;
    return secret.text;
  }
  return { secret, isProven: createProofCheck(read, () => 0) };
}

describe("a proof", () => {
  test("is one by each app secret of a rotation, and by no other", async () => {
    const { isProven } = checkOf('["new","old"]');
    expect(await isProven(contentHash, proofOf(contentHash, "new"))).toBe(true);
    expect(await isProven(contentHash, proofOf(contentHash, "old"))).toBe(true);
    for (const proof of ["", proofOf(contentHash, "other"), proofOf("something else", "new")]) {
      expect(await isProven(contentHash, proof)).toBe(false);
    }
  });

  test("by a secret that is newer than what was kept is found by another look, and costs no look when it is known", async () => {
    const { secret, isProven } = checkOf("old");
    expect(await isProven(contentHash, proofOf(contentHash, "old"))).toBe(true);
    secret.text = '["new","old"]';
    expect(await isProven(contentHash, proofOf(contentHash, "old"))).toBe(true);
    expect(secret.reads).toBe(1);
    expect(await isProven(contentHash, proofOf(contentHash, "new"))).toBe(true);
    expect(secret.reads).toBe(2);
  });

  test("cannot be checked with a secret that holds none: that is an error, and no answer", async () => {
    await expect(checkOf("").isProven(contentHash, "")).rejects.toThrow("holds neither");
  });
});
