import type { CommandType } from "../../shared/contracts/commands.ts";
import type { CommandRecord } from "../../shared/store/items.ts";
import type { Random } from "../simulation/random.ts";
import type { Customer } from "./partner.ts";

const duplicates = 0.01;
const faulty = 0.02;

/** One command, what must be said when it has ended, and what goes wrong with it. */
type Step = {
  type: CommandType;
  about: Record<string, unknown>;
  copies: number;
  outcome: string;
  ends: string;
  fault?: Fault;
};
/** What one customer goes through, a command when the one before has ended, and how Meta and table must stand then. */
export type Plan = { customer: Customer; steps: Step[]; status?: string; isLive: boolean; commandIds: string[] };

/**
 * Faults that leave the outcome as it is: 5xx and cut connections at Meta, before and after the effect, and answers of the
 * table that are lost after a write. An error that Meta makes up would change it, and is the simulation's to judge.
 */
type Fault = { at: "Meta"; call: string; kind: string } | { at: "table" };

/**
 * As many commands as there are customers. Each customer who has some is alone with them, so that the kind says what comes
 * of them.
 */
export function drawPlans(random: Random, customers: readonly Customer[]): Plan[] {
  const plans: Plan[] = [];
  const total = customers.length;
  let commands = 0;
  for (const customer of customers) {
    if (commands === total) break;
    const [wabaId = ""] = customer.wabaIds;
    const about = { wabaId, currency: "EUR" };
    const share = stepOf("share", about, "done", "Share Verified", ["E2"]);
    const kind = random.next();
    if (kind < 0.55 || commands === total - 1) addPlan({ steps: [share], status: "verified", isLive: true });
    else if (kind < 0.65) {
      const unknown = { ...about, currency: "SEK" };
      addPlan({
        steps: [stepOf("share", unknown, "refused currency_unsupported", "Share Refused", [])],
        isLive: false,
      });
    } else if (kind < 0.7) {
      const claimed = { ...about, businessId: "1100000000" };
      addPlan({ steps: [stepOf("share", claimed, "refused owner_mismatch", "Share Refused", [])], isLive: false });
    } else if (kind < 0.85) {
      const verify = stepOf("verify", { wabaId }, "done", "Share Verified", ["E6", "E7"]);
      addPlan({ steps: [share, verify], status: "verified", isLive: true });
    } else {
      const reason = { businessId: customer.businessId, reason: "non_payment" };
      const revoke = stepOf("revoke", reason, "done", "Credit Line Revoked", ["E9"]);
      addPlan({ steps: [share, revoke], status: "revoked", isLive: false });
    }

    function addPlan(plan: Omit<Plan, "customer" | "commandIds">): void {
      plans.push({ ...plan, customer, commandIds: [] });
      commands += plan.steps.length;
    }
  }
  return plans;

  /** @param calls those of the command's calls to Meta that may go wrong. */
  function stepOf(
    type: CommandType,
    about: Record<string, unknown>,
    outcome: string,
    ends: string,
    calls: readonly string[],
  ): Step {
    const copies = random.chance(duplicates) ? 2 : 1;
    const step = { type, about, copies, outcome, ends };
    if (calls.length === 0 || !random.chance(faulty / withCalls)) return step;
    const atTable = type === "share" && random.chance(0.3);
    const call = random.pick(calls);
    // A read is told again at once after 5xx; one that is cut would wait for the message's next receive.
    const kinds = type === "verify" ? ["5xx-before"] : ["5xx-before", "5xx-after", "cut-before", "cut-after"];
    return { ...step, fault: atTable ? { at: "table" } : { at: "Meta", call, kind: random.pick(kinds) } };
  }
}

/** The part of the commands with a call that may go wrong: they carry the faults of all. */
const withCalls = 0.88;

/** How a plan stands in the table, on the bus and in Meta's ledger when all is over. */
type Stand = {
  status: string | undefined;
  /** How many records of the business Meta has ever made, and how many are live. */
  made: number;
  live: number;
  /** Of each step's command. */
  records: readonly (Pick<CommandRecord, "outcome" | "reason" | "event"> | undefined)[];
  /** The ids of all events that were heard. */
  announced: ReadonlySet<string>;
};

/** A line for each command that did not end as the seed told: all of a customer's when WABA or ledger are not as they should be. */
export function judgePlan({ customer, steps, status, isLive, commandIds }: Plan, stand: Stand): string[] {
  const shares = steps.some(({ ends }) => ends === "Share Verified") ? 1 : 0;
  const isSound = stand.status === status && stand.live === (isLive ? 1 : 0) && stand.made === shares;
  return steps.flatMap(({ outcome }, index) => {
    const record = stand.records[index];
    const told = record === undefined ? "none" : [record.outcome, record.reason].filter(Boolean).join(" ");
    const isAnnounced = stand.announced.has(record?.event?.eventId ?? "");
    if (isSound && told === outcome && isAnnounced) return [];
    const said = isAnnounced ? "announced" : "not announced";
    const { made, live } = stand;
    return [
      `${commandIds[index]} is ${told}, expected ${outcome}, ${said}; ${customer.wabaIds[0]} is ${stand.status}, expected ` +
        `${status}; ${made} made, ${live} live at Meta`,
    ];
  });
}
