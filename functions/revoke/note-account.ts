import type { CommandDeps } from "../../shared/command-deps.ts";
import { wakeSoon } from "../../shared/command-deps.ts";
import type { AccountNotice } from "../../shared/domain/account.ts";
import { accountChanged } from "../../shared/domain/account.ts";
import { dueEntries, lookingAgain } from "../../shared/domain/business.ts";
import type { Turn } from "../../shared/queue-handler.ts";

const roundsMax = 8;

/**
 * What Meta told of an account is written by the function that owns what it bears on. A removal stores an owner that is new
 * to us (R1): after it, nobody else can tell. When it was added is stored whether or not anything waits for it (W2).
 */
export async function noteAccount(notice: AccountNotice, turn: Turn, deps: CommandDeps): Promise<void> {
  const { store, now } = deps;
  const { event, wabaId, businessId } = notice;
  turn.log.appendKeys({ wabaId });
  switch (event) {
    case "PARTNER_REMOVED":
      if (businessId === undefined) return;
      await store.claimOwner(wabaId, businessId, { overPendingRevoke: true });
      return;
    case "PARTNER_ADDED":
      await store.saveAdded(wabaId, notice.at, businessId);
      await lookAgain(wabaId, turn, deps);
      return;
    case "ACCOUNT_DELETED":
    case "DISABLED_UPDATE":
      await store.conclude(accountChanged(notice), now());
  }
}

/** A WABA that came back may lift what is held because it left. */
async function lookAgain(wabaId: string, turn: Turn, deps: CommandDeps): Promise<void> {
  const { store, now } = deps;
  const pointer = await store.loadPointer(wabaId);
  if (pointer?.businessId === undefined) return;
  for (let round = 0; round < roundsMax; round += 1) {
    const business = await store.loadBusiness(pointer.businessId);
    if (business === undefined) return;
    const next = lookingAgain(business, wabaId, now());
    if (next === business) return;
    const written = await store.commit(business, { business: next, events: [], conclusions: [] }, now());
    if (!written.saved) continue;
    const first = written.business.held?.requests[0];
    const entry = dueEntries(written.business).find(({ commandId }) => commandId === first?.commandId);
    return wakeSoon(deps, turn.log, entry, business.businessId);
  }
  throw new Error("The item changed too often to look at what is held");
}
