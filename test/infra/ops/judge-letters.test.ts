import { expect, test } from "vitest";
import { type JudgeDeps, judgeLetter } from "../../../infra/ops/dlq/judge-letters.ts";
import { provenNotice } from "../../../shared/contracts/content-hash.ts";

const now = Date.UTC(2026, 5, 10, 12);
const deps: JudgeDeps = {
  store: {
    loadCommand: async () => undefined,
    loadPointer: async () => undefined,
    loadBusiness: async () => undefined,
  },
  policy: { clockSkewMs: 300_000 } as JudgeDeps["policy"],
  now: () => now,
  causes: {} as JudgeDeps["causes"],
};
const body = provenNotice(
  {
    version: "1",
    type: "account",
    commandId: "account:PARTNER_ADDED:120000000000021:1",
    requestedAt: new Date(now).toISOString(),
    event: "PARTNER_ADDED",
    wabaId: "120000000000021",
  },
  "whoever's secret",
);

test.each([
  [
    "that its function rejected is never Meta's",
    { reason: { DataType: "String", StringValue: "invalid_command" } },
    "never-valid",
  ],
  ["that died otherwise may be replayed", {}, "safe"],
])("a notice of an account among the dead letters %s", async (_what, attributes, verdict) => {
  const letter = { messageId: "1", body, attributes, sentAt: now };
  expect(await judgeLetter("revoke", letter, deps)).toMatchObject({ type: "account", class: verdict });
});
