import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { localStage } from "../../../infra/config.ts";
import { startLocalStack, type LocalStack } from "../../../infra/local/local-stack.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { observe } from "../../../infra/local/observe.ts";
import { runSteps } from "../../../infra/local/run-steps.ts";
import type { Step } from "../../../infra/local/sample/morning.ts";

const wabaId = "520000000000001";
const world: WorldInput = {
  partnerBusinessId: localStage.partnerBusinessId,
  lines: [{ id: localStage.creditLineId, ownerBusinessId: localStage.partnerBusinessId }],
  tokens: [{ value: "EAAPartnerSwitchSystemToken", kind: "system" }],
  wabas: [
    {
      id: wabaId,
      ownerBusinessId: "510000000000001",
      currency: "USD",
      primaryFundingId: "990000000000001",
      partnerSwitch: true,
    },
  ],
};

let stack: LocalStack | undefined;
afterEach(async () => {
  vi.unstubAllEnvs();
  await stack?.close();
});

/** The whole stack, with its clocks at the next such day of a month, at noon. */
async function startOn(day: number): Promise<LocalStack> {
  const today = new Date();
  const month = today.getUTCMonth() + (today.getUTCDate() <= day ? 0 : 1);
  const there = Date.UTC(today.getUTCFullYear(), month, day, 12);
  vi.stubEnv("CLOCK_OFFSET_MS", String(there - Date.now()));
  const worldFile = path.join(mkdtempSync(path.join(tmpdir(), "partner-switch-")), "world.json");
  writeFileSync(worldFile, JSON.stringify(world));
  stack = await startLocalStack({ port: 0, worldFile });
  return stack;
}

function share(expected?: { status: string }): Step {
  const body = { type: "share", commandId: "switch-1", wabaId, currency: "USD", partnerSwitch: true };
  const outcome = expected === undefined ? {} : { expected: { outcome: "done" as const, ...expected } };
  return { title: "a switch", commands: [{ queue: "share", body, ...outcome }] };
}

test("a customer of another partner is shared in the middle of a month, and pending until the 1st of the next", async () => {
  const running = await startOn(15);
  const { faults, observation } = await runSteps([share({ status: "pending" })], running, {
    say: () => {},
    patienceMs: 30_000,
  });
  // The ledger's line pays from the 1st: until then the stand-in calls the WABA attached, and the other partner pays.
  expect(faults).toEqual([]);
  const [business] = observation.businesses;
  const waba = business?.wabas[wabaId];
  expect(waba?.evidence?.primaryFundingId).toBe("990000000000001");
  expect(new Date(waba?.due?.nextAt ?? 0).toISOString()).toMatch(/-01T00:00:00\.000Z$/);
  await expect
    .poll(() => running.aws.events().map(({ detailType }) => detailType), { timeout: 10_000 })
    .toEqual(["Share Accepted", "Share Pending"]);
});

test("at the end of a month it waits on the item for the window to open, and nothing is sent", async () => {
  const running = await startOn(28);
  await runSteps([share()], running, { say: () => {}, patienceMs: 3000 });
  const { businesses } = await observe(running);
  const nextAt = businesses[0]?.waiting[wabaId]?.due.nextAt ?? 0;
  expect(new Date(nextAt).toISOString()).toMatch(/-06T00:00:00\.000Z$/);
  expect(running.meta?.model.calls.filter(({ method }) => method !== "GET")).toEqual([]);
});
