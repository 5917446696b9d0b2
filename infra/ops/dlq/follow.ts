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
  onProgress: (ended: number, of: number) => void;
  signal: AbortSignal;
};

const readsAtOnce = 50;
const pollMs = 1000;
const restFactor = 8;
const pauseMsMax = 30_000;

/**
 * Waits until every replayed command has ended, until its queues are empty (what is left then stands on its item, or is back
 * among the dead letters), or for `waitMs`; and tells what became of each.
 */
export async function followReplay(replay: Replay, deps: FollowDeps): Promise<Fate[]> {
  const { sqs, urls, waitMs, onProgress, signal } = deps;
  const until = Date.now() + waitMs;
  const fates = new Map<string, Fate>();
  for (;;) {
    const startedAt = performance.now();
    const idle = await areIdle(sqs, urls);
    const open = [...replay.sent].filter((id) => !hasEnded(fates.get(id)));
    for (const batch of chunks(open, readsAtOnce)) {
      const found = await Promise.all(batch.map((messageId) => fateOf(messageId, replay, deps)));
      for (const fate of found) fates.set(fate.messageId, fate);
    }
    const ended = [...fates.values()].filter(hasEnded).length;
    onProgress(ended, replay.sent.size);
    // Looked at after the queues were seen empty: whatever was in them has left its mark.
    if (ended === replay.sent.size || idle || Date.now() >= until || signal.aborted) return [...fates.values()];
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

/** What stands on its item may be at its POST this very moment: it is looked at again while its queue has messages. */
function hasEnded(fate: Fate | undefined): boolean {
  return fate !== undefined && ["done", "refused", "rejected"].includes(fate.fate);
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
