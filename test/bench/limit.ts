import { isWabaCall } from "../../infra/local/meta/meta-graph.ts";
import type { MetaModel } from "../../infra/local/meta/meta-model.ts";
import { createEngine } from "../simulation/engine.ts";
import type { History } from "../simulation/history.ts";
import { createRoom } from "../simulation/room.ts";
import { modelCustomers, revokeOf, shareOf, silentJudge } from "./model.ts";
import { row, summarize } from "./rows.ts";
import type { Bench, Suite } from "./run-bench.ts";

const shares = 20_000;
const revocations = 50;
const callsPerHour = 5000;
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
/** When the revocations come: in the middle of the backlog, with the quota as used as it gets. */
const revokedAfterMs = 3 * hourMs;

/** The simulation's own room, with nothing that goes wrong in it but the quota, on a clock that jumps from event to event. */
export const limitSuite: Suite = {
  name: "limit",
  about: `${shares} shares queued at once against ${callsPerHour} calls an hour, on a model clock`,
  run: measureLimit,
};

/** Of the app's bucket, what a share needs until it is verified (E8, E2, E6), and a revocation (E8, E6, E9, E6, E8). */
const callsOfShare = 3;
const callsOfRevocation = 5;

async function measureLimit({ add, plot, progress }: Bench): Promise<void> {
  const startAt = Date.UTC(2026, 5, 10);
  const endAt = startAt + 3 * 24 * hourMs;
  // The first ones are customers already when the backlog comes, so that there is something to revoke.
  const first = modelCustomers(revocations, "1");
  const others = modelCustomers(shares, "2");
  const floodAt = startAt + 10 * minuteMs;
  const revokedAt = floodAt + revokedAfterMs;
  const history: History = {
    seed: 1,
    startAt,
    breach: undefined,
    customers: [...first, ...others],
    variants: { appCallsPerHour: callsPerHour },
    policy: { shareMethod: "share-and-attach", secondPost: "auto" },
    faultRate: 0,
    sends: [
      ...first.map((one) => shareOf(one, startAt)),
      ...others.map((one, index) => shareOf(one, floodAt + index)),
      ...first.map((one, index) => revokeOf(one, revokedAt + index * 100)),
    ],
    hands: [],
    quietAt: endAt,
    endAt,
  };
  const engine = createEngine(history, {});
  const doneAt = new Map<string, number>();
  let verified = 0;
  let receives = 0;
  const judge = silentJudge({
    onEvent({ detailType, businessId = "" }) {
      if (detailType === "Share Verified") verified += 1;
      if (detailType === "Credit Line Revoked") doneAt.set(businessId, engine.now());
    },
    onServed() {
      receives += 1;
    },
  });
  const room = createRoom(history, engine, judge);
  const used: [number, number][] = [];
  const done: [number, number][] = [];
  for (let at = floodAt; at < endAt; at += 5 * minuteMs) {
    engine.at(at, () => {
      used.push([(at - floodAt) / hourMs, usedPercent(room.meta, at)]);
      done.push([(at - floodAt) / hourMs, verified - revocations]);
      if ((at - floodAt) % hourMs === 0) {
        progress(`limit: hour ${(at - floodAt) / hourMs}, ${verified} verified, ${receives} messages served`);
      }
    });
  }
  await engine.run(endAt, () => verified >= shares + revocations && doneAt.size >= revocations);

  const hours = (engine.now() - floodAt) / hourMs;
  const calls = room.meta.calls.filter(({ name, time }) => !isWabaCall(name) && time >= floodAt);
  const answered = calls.filter(({ status }) => status === 200);
  // What goes beyond the need of the recorded results was of no use.
  const needed = (verified - revocations) * callsOfShare + doneAt.size * callsOfRevocation;
  const useful = Math.min(answered.length, needed);
  const waits = [...doneAt.values()].map((at, index) => (at - revokedAt - index * 100) / 1000);
  const dead = room.messages.filter(({ place }) => place === "dead letters").length;
  add(
    row("limit.hours", hours, "h"),
    row("limit.shares-verified", verified - revocations, "shares", { target: { atLeast: shares } }),
    row("limit.quota-used", (answered.length / (callsPerHour * hours)) * 100, "%", { target: { atLeast: 95 } }),
    row("limit.useful-calls", (useful / calls.length) * 100, "%", { target: { atLeast: 95 } }),
    row("limit.throttle-answers", room.meta.calls.filter(({ status }) => status !== 200).length, "calls", {
      target: { atMost: 0 },
    }),
    row("limit.dead-letters", dead, "messages", { target: { atMost: 0 } }),
    row("limit.revocations-done", doneAt.size, "revocations", { target: { atLeast: revocations } }),
    row("limit.slowest-revocation", Math.max(...waits), "s", { target: { atMost: 60 } }),
    row("limit.median-revocation", summarize(waits).median, "s"),
    row("limit.receives-per-share", receives / shares, "receives"),
  );
  plot({
    name: "limit-quota",
    title: `The quota's use while ${shares} shares wait (shares stop at 80 %)`,
    x: { label: "hours after the backlog came" },
    y: { label: "% of the hour's calls used" },
    series: [{ name: "used", points: used }],
  });
  plot({
    name: "limit-done",
    title: `${shares} shares against ${callsPerHour} calls an hour`,
    x: { label: "hours after the backlog came" },
    y: { label: "customers verified" },
    series: [{ name: "verified", points: done }],
  });
}

function usedPercent(meta: MetaModel, now: number): number {
  const { used, at } = meta.usage.get("app") ?? { used: 0, at: now };
  return Math.max(0, (used - ((now - at) / hourMs) * callsPerHour) / callsPerHour) * 100;
}
