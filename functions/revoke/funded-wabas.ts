import type { CommandDeps } from "../../shared/command-deps.ts";
import type { Turn } from "../../shared/queue-handler.ts";

/** Every WABA shared with the partner, by the id of what pays for it. */
type Funded = ReadonlyMap<string, readonly string[]>;

/** Undefined while it cannot be told: a page that fails, a field that Meta refuses, or a list too long for one turn. */
export type ReadFunded = (turn: Turn) => Promise<Funded | undefined>;

/**
 * A list is good for this long. Any read of Meta's may lag by more than that (A3), and when many customers leave at once, a
 * list for each of them would use up the hour's calls.
 */
const keptMs = 5 * 60_000;

type Walk = { startedAt: number; funded: Map<string, string[]>; cursors: Set<string>; after?: string; isOver: boolean };

/** E13, read to its end. What one turn does not finish, the next one in the same process goes on with. */
export function createFundedWabas({
  portfolio,
  policy,
  now,
}: Pick<CommandDeps, "portfolio" | "policy" | "now">): ReadFunded {
  let walk: Walk | undefined;

  async function readOn({ signal, endsAt }: Turn): Promise<Walk> {
    if (walk === undefined || now() >= walk.startedAt + keptMs) {
      walk = { startedAt: now(), funded: new Map(), cursors: new Set(), isOver: false };
    }
    const current = walk;
    while (!current.isOver && now() < endsAt) {
      const page = await portfolio.pageWabas(policy.partnerBusinessId, current.after, signal);
      if (!page.ok) return current;
      const { items, next, fieldsMissing } = page.value;
      if (fieldsMissing.includes("primary_funding_id")) return current;
      for (const { wabaId, fundingId } of items) {
        if (fundingId !== undefined) current.funded.set(fundingId, [...(current.funded.get(fundingId) ?? []), wabaId]);
      }
      current.isOver = next === undefined;
      if (next === undefined) return current;
      // A cursor that repeats leads nowhere: from the beginning, next time.
      if (current.cursors.has(next)) {
        walk = undefined;
        return current;
      }
      current.cursors.add(next);
      current.after = next;
    }
    return current;
  }

  return async (turn) => {
    const { isOver, funded } = await readOn(turn);
    return isOver ? funded : undefined;
  };
}
