import type { SQSClient } from "@aws-sdk/client-sqs";
import { setTimeout } from "node:timers/promises";
import * as z from "zod";
import type { Business } from "../../../shared/domain/business.ts";
import { dueEntries } from "../../../shared/domain/business.ts";
import type { StateStore } from "../../../shared/store/state-store.ts";
import { chunks, depthOf } from "./dead-letter-queue.ts";
import type { Replay } from "./replay.ts";

/** What became of one replayed command. */
export const fateSchema = z.object({
  messageId: z.string(),
  commandId: z.string().optional(),
  wabaId: z.string().optional(),
  /**
   * `done`, `refused`, `rejected`: its outcome is recorded. `on-item`: the item holds it, and its due time brings it on.
   * `blocked`: it failed again since, and is tried again or is back among the dead letters. `unknown`: nothing is to be seen of it yet.
   */
  fate: z.enum(["done", "refused", "rejected", "on-item", "blocked", "unknown"]),
  reason: z.string().optional(),
});

export type Fate = z.output<typeof fateSchema>;

export type FollowDeps = {
  store: Pick<StateStore, "loadCommand" | "loadPointer" | "loadBusiness">;
  sqs: SQSClient;
  /** Of the command queues that were replayed into. */
  urls: readonly string[];
  waitMs: number;
  onProgress: (settled: number, of: number) => void;
  signal: AbortSignal;
};

const readsAtOnce = 50;
const pollMs = 1000;
const restFactor = 8;
const pauseMsMax = 30_000;

/**
 * Waits until every replayed command has ended or stands on its item, until its queues are empty, or for `waitMs`; and tells
 * what became of each.
 */
export async function followReplay(replay: Replay, deps: FollowDeps): Promise<Fate[]> {
  const { sqs, urls, waitMs, onProgress, signal } = deps;
  const until = Date.now() + waitMs;
  const fates = new Map<string, Fate>();
  for (;;) {
    const startedAt = performance.now();
    const idle = await areIdle(sqs, urls);
    const open = [...replay.sent].filter((id) => !isSettled(fates.get(id)));
    for (const batch of chunks(open, readsAtOnce)) {
      const found = await Promise.all(batch.map((messageId) => fateOf(messageId, replay, deps)));
      for (const fate of found) fates.set(fate.messageId, fate);
    }
    const settled = [...fates.values()].filter(isSettled).length;
    onProgress(settled, replay.sent.size);
    // Looked at after the queues were seen empty: whatever was in them has left its mark.
    if (settled === replay.sent.size || idle || Date.now() >= until || signal.aborted) return [...fates.values()];
    // A look at thousands must not take the table from the functions that work on them.
    const pauseMs = Math.min(Math.max(pollMs, restFactor * (performance.now() - startedAt)), pauseMsMax);
    await setTimeout(pauseMs, undefined, { signal }).catch(() => {
      // Interrupted: one last look, and the report.
    });
  }
}

async function areIdle(sqs: SQSClient, urls: readonly string[]): Promise<boolean> {
  const depths = await Promise.all(urls.map((url) => depthOf(sqs, url)));
  return depths.every((depth) => depth === 0);
}

function isSettled(fate: Fate | undefined): boolean {
  return fate !== undefined && fate.fate !== "unknown" && fate.fate !== "blocked";
}

async function fateOf(messageId: string, replay: Replay, { store }: FollowDeps): Promise<Fate> {
  const { commandId, wabaId, businessId } = replay.planned.get(messageId) ?? {};
  const about = { messageId, commandId, wabaId };
  if (commandId === undefined) return { ...about, fate: "unknown" };
  const record = await store.loadCommand(commandId);
  if (record?.outcome !== undefined) return { ...about, fate: record.outcome, reason: record.reason };
  // The replay itself may have found the owner.
  const pointer = wabaId === undefined ? undefined : await store.loadPointer(wabaId);
  const owner = pointer?.businessId ?? record?.businessId ?? businessId;
  const business = owner === undefined ? undefined : await store.loadBusiness(owner);
  if (business !== undefined && isOnItem(business, commandId)) return { ...about, fate: "on-item" };
  // Between the two reads it may have left the item with its outcome.
  const latest = await store.loadCommand(commandId);
  if (latest?.outcome !== undefined) return { ...about, fate: latest.outcome, reason: latest.reason };
  if (latest === undefined || latest.changedAt < replay.startedAt) return { ...about, fate: "unknown" };
  return { ...about, fate: "blocked", reason: latest.reason };
}

function isOnItem(business: Business, commandId: string): boolean {
  const joined = business.revocation?.state === "open" ? business.revocation.joined : [];
  return [...dueEntries(business), ...joined].some((entry) => entry.commandId === commandId);
}
