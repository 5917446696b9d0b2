import type { Variants } from "../../infra/local/meta/meta-variants.ts";
import type { AccountEvent } from "../../shared/domain/account.ts";
import type { Policy } from "../../shared/domain/business.ts";
import { provenNotice } from "../../shared/contracts/content-hash.ts";
import { randomOf, type Random } from "./random.ts";

export const partnerBusinessId = "100000000000001";
export const creditLineId = "200000000000001";
export const secretPrefix = "business-tokens/";
export const appSecret = "app-secret-of-the-histories";
export const settleWindowMs = 1_800_000;
export const clockSkewMs = 300_000;
/** The last scans, once nothing goes wrong any more. */
export const scansAfterMs = [3_600_000, 7_200_000, 12_300_000];
/** What A2 and A3 allow. */
export const landingMsMax = 300_000;
const lagMsMax = 600_000;
/** What A6 allows. */
const clocksApartMsMax = 1000;

export type Work = "share" | "verify" | "revoke";

/** One message that a producer sends. */
export type Send = { id: string; at: number; work: Work; body: string };

/** What happens to us or at Meta without a command: hands in its console, tokens, blocks, a person with the dead letters. */
export type Hand =
  | { id: string; at: number; kind: "unshare" | "share-back" | "hand-share" | "fund-elsewhere"; wabaId: string }
  | { id: string; at: number; kind: "hand-revoke"; businessId: string }
  | { id: string; at: number; kind: "rotate-token"; secret: string; graceMs: number }
  | { id: string; at: number; kind: "kill-token"; secret: string; forMs: number }
  | { id: string; at: number; kind: "throttle" | "revoke-access"; forMs: number }
  | { id: string; at: number; kind: "redrive" | "double-sweep" | "resume-revocations" | "settle" }
  /** The estate scan; two of them when the schedule's word comes twice. */
  | { id: string; at: number; kind: "scan" | "double-scan" }
  /** Only where A5 is broken: a deleted record lives again, though no POST named it. */
  | { id: string; at: number; kind: "revive"; businessId: string };

export type Customer = {
  businessId: string;
  secret: string;
  wabas: { wabaId: string; currency: string; foreignFundingId?: string; partnerSwitch?: boolean; visible: boolean }[];
};

/** An assumption of design.md §7 that the history breaks on purpose. */
export type Breach = "A1" | "A2" | "A3" | "A4" | "A5" | "A6";

export type History = {
  seed: number;
  startAt: number;
  breach: Breach | undefined;
  customers: Customer[];
  variants: Partial<Variants>;
  policy: Pick<Policy, "shareMethod" | "secondPost"> & { systemUserId?: string } & Partial<
      Pick<Policy, "onPartnerRemoved" | "breaker">
    >;
  /** How often an effect goes wrong; 1 is the usual. */
  faultRate: number;
  /** How far the clocks of two processes may be apart (A6); they go alike, when not given. */
  clocksApartMs?: number;
  /** What stops a process stops its timers, too: the clock that they go by may not run on in a freeze (H10). */
  timersFreeze?: true;
  /** How much later than the table the due index shows a change; at once, when not given. */
  indexLagMs?: number;
  sends: Send[];
  hands: Hand[];
  /** From here on nothing goes wrong any more. */
  quietAt: number;
  /** Everything that can settle has settled. */
  endAt: number;
};

const secondMs = 1000;
const minuteMs = 60_000;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

const breaches: readonly Breach[] = ["A1", "A2", "A3", "A4", "A5", "A6"];

/**
 * Every fifth history is narrow: two customers, whose WABAs are shared and revoked at a Meta that loses most answers, makes a
 * second record, and lists it late. That is what money doubled or left behind takes.
 */
export function isNarrow({ seed }: Pick<History, "seed">): boolean {
  return seed % 5 === 2;
}

/** The history that a seed names. Every fourth one breaks an assumption. */
export function drawHistory(seed: number): History {
  const random = randomOf(`history ${seed}`);
  const breach = seed % 4 === 3 ? random.pick(breaches) : undefined;
  // Some begin at the end of a month, where partner switches are closed.
  const startAt = Date.UTC(2026, 5, random.chance(0.15) ? random.whole(25, 30) : random.whole(6, 20), 9);
  const customers = drawCustomers(random, isNarrow({ seed }));
  const policy = {
    shareMethod: random.chance(0.5) ? ("share-and-attach" as const) : ("share-then-attach" as const),
    secondPost: random.chance(0.75) ? ("auto" as const) : ("person" as const),
    ...(random.chance(0.4) ? { systemUserId: "300000000000009" } : {}),
    onPartnerRemoved: random.pick(["revoke-unless-siblings", "revoke-unless-siblings", "revoke", "hold"] as const),
    breaker: { removals: random.pick([1, 20]), windowMs: 6 * hourMs },
  };
  const drawn = drawSends(random, customers, startAt, breach);
  const sentAt = drawn.endAt;
  // What becomes of a partner switch shows only after the 1st of a month.
  const switches = customers.some(({ wabas }) => wabas.some(({ partnerSwitch }) => partnerSwitch === true));
  const isLong = random.chance(switches ? 0.25 : 0.03);
  const later = isLong ? drawMonth(random, customers, startAt) : { sends: [], hands: [] };
  const hands = [...drawHands(random, customers, startAt, sentAt, breach), ...later.hands];
  // Drawn apart, as the clocks are.
  const settling = randomOf(`settles ${seed}`);
  for (let number = 0; number < settling.pick([0, 0, 2]); number += 1) {
    hands.push({ id: `p${number}`, at: settling.whole(startAt, sentAt), kind: "settle" });
  }
  hands.push(...drawScans(seed, startAt, sentAt));
  const limits = randomOf(`limits ${seed}`);
  const sends = [
    ...drawn.sends,
    ...later.sends,
    ...drawRemovals(random, hands),
    ...drawNotices(seed, hands, customers, startAt, sentAt),
  ];
  const quietAt = sentAt + hourMs;
  // Drawn apart: the histories of before are still what they were.
  const clocks = randomOf(`clocks ${seed}`);
  return {
    seed,
    ...(clocks.chance(0.3) ? { clocksApartMs: clocksApartMsMax } : {}),
    ...(clocks.chance(0.3) ? { timersFreeze: true } : {}),
    ...(clocks.chance(0.3) ? { indexLagMs: clocks.pick([secondMs, minuteMs, 10 * minuteMs]) } : {}),
    startAt,
    breach,
    customers,
    variants: {
      ...drawVariants(random, breach),
      ...(isNarrow({ seed }) ? drawLateLists(random) : {}),
      // Beside the app's budget each WABA has a small one of its own, until it has a number.
      ...(limits.chance(0.1) ? { wabaCallsPerHour: limits.pick([20, 60]) } : {}),
    },
    policy,
    faultRate: random.pick([0.3, 1, 1, 2]),
    sends,
    hands,
    quietAt,
    endAt: quietAt + (isLong ? 40 * dayMs : 4 * hourMs),
  };
}

function drawCustomers(random: Random, narrow: boolean): Customer[] {
  return Array.from({ length: narrow ? 2 : random.whole(3, 4) }, (_, customer) => {
    const currency = random.pick(["EUR", "USD"]);
    return {
      businessId: `11000000000000${customer + 1}`,
      secret: `${secretPrefix}customer-${customer + 1}`,
      wabas: Array.from({ length: random.pick(narrow ? [2, 3] : [1, 2, 2, 3]) }, (__, waba) => {
        const wabaId = `12000000000${customer + 1}00${waba + 1}`;
        const isForeign = !narrow && random.chance(0.15);
        return {
          wabaId,
          currency,
          visible: random.chance(0.95),
          ...(isForeign
            ? { foreignFundingId: `77000000000${customer + 1}00${waba + 1}`, partnerSwitch: random.chance(0.7) }
            : {}),
        };
      }),
    };
  });
}

function drawVariants(random: Random, breach: Breach | undefined): Partial<Variants> {
  const max = breach === "A3" ? 3 * hourMs : lagMsMax;
  function lag(): number {
    return random.pick([0, 0, random.whole(1, 20) * 500, random.whole(1, max)]);
  }
  const code = random.pick([100, 100, 1, 368, 4000, 2_388_001]);
  return {
    repeatedShare: random.pick(["same", "second", "error-4000", "error-100"]),
    e6ShareLagMs: lag(),
    e7ShareLagMs: lag(),
    e8ShareLagMs: lag(),
    e6DeleteLagMs: lag(),
    e7DeleteLagMs: lag(),
    e8DeleteLagMs: lag(),
    listShape: random.pick(["list", "bare-object"]),
    listShowsDeleted: random.chance(0.3),
    requestStatusOnLive: random.chance(0.05) ? "ACTIVE" : "absent",
    credentialPer: random.pick(["business", "waba", "waba-one-record"]),
    repeatedDelete: random.pick(["success", "error"]),
    reshareAfterRevoke: random.pick(["works-new-id", "works-same-id", "works-same-id", "refused"]),
    currencyErrorCode: code,
    fundedElsewhereErrorCode: code,
    switchWindowErrorCode: code,
    listLimitMax: random.pick([1000, 1000, 25, 1]),
    listFieldExpansions: random.chance(0.8),
    fundingVisibleTo: random.pick(["both", "both", "business", "system"]),
    combinedReads: random.pick(["works", "works", "permission-error"]),
    readsCarryId: random.chance(0.7),
    shortPages: random.chance(0.2),
    appCallsPerHour: random.pick([null, null, null, null, null, null, null, 150]),
  };
}

function drawLateLists(random: Random): Partial<Variants> {
  return {
    repeatedShare: "second",
    credentialPer: random.pick(["business", "waba-one-record"]),
    e6ShareLagMs: random.pick([0, random.whole(1, lagMsMax)]),
    e7ShareLagMs: random.pick([0, 2 * secondMs]),
    e8ShareLagMs: random.whole(1, lagMsMax),
  };
}

function drawSends(
  random: Random,
  customers: Customer[],
  startAt: number,
  breach: Breach | undefined,
): { sends: Send[]; endAt: number } {
  const sends: Send[] = [];
  const count = random.whole(22, 30);
  let at = startAt;
  let focus = random.pick(customers);
  for (let number = 1; number <= count; number += 1) {
    // Bursts upon one business are what races are made of; the long pauses let windows pass.
    at += random.chance(0.55)
      ? random.span(20, 5 * secondMs)
      : random.pick([random.span(5 * secondMs, 5 * minuteMs), random.span(20 * minuteMs, 90 * minuteMs)]);
    if (random.chance(0.35)) focus = random.pick(customers);
    const commandId = `c${number}`;
    const { work, body } = drawCommand(random, focus, customers, commandId, at, breach);
    sends.push({ id: `m${number}`, at, work, body: JSON.stringify(body) });
    // Producers repeat themselves, at once or much later, and some with other content under the same id.
    if (random.chance(0.2)) {
      const later = at + random.pick([random.span(10, 2000), random.span(minuteMs, 3 * hourMs)]);
      sends.push({ id: `m${number}r`, at: later, work, body: JSON.stringify(body) });
    }
    if (random.chance(0.02)) {
      const other = { ...body, requestedBy: "somebody-else" };
      sends.push({ id: `m${number}x`, at: at + random.span(10, minuteMs), work, body: JSON.stringify(other) });
    }
    if (random.chance(0.05)) {
      const bad = random.pick([
        "{",
        JSON.stringify({ ...body, commandId: `b${number}`, extra: 1 }),
        '{"type":"share"}',
      ]);
      sends.push({ id: `m${number}b`, at: at + random.span(10, 500), work, body: bad });
    }
  }
  return { sends: sends.toSorted((one, other) => one.at - other.at), endAt: Math.max(...sends.map((send) => send.at)) };
}

function drawCommand(
  random: Random,
  { businessId, secret, wabas }: Customer,
  customers: Customer[],
  commandId: string,
  at: number,
  breach: Breach | undefined,
): { work: Work; body: Record<string, unknown> } {
  const waba = random.pick(wabas);
  // A command may be older than the message, and a producer's clock may be fast within the skew.
  const offsetMs = random.pick([0, 0, 0, random.whole(-240, 240) * secondMs, -random.span(minuteMs, 4 * hourMs)]);
  const skewMs = breach === "A6" && random.chance(0.3) ? random.span(5 * minuteMs, hourMs) : 0;
  const requestedAt = new Date(at + offsetMs + skewMs).toISOString();
  const common = { version: "1", commandId, requestedAt, requestedBy: "producer" };
  const chance = random.next();
  if (chance < 0.58) {
    const withToken = random.chance(0.75);
    return {
      work: "share",
      body: {
        ...common,
        type: "share",
        wabaId: waba.wabaId,
        currency: random.chance(0.96) ? waba.currency : random.pick(["GBP", "SEK"]),
        ...(random.chance(0.4) ? { method: random.pick(["share-and-attach", "share-then-attach"]) } : {}),
        ...(withToken ? { businessTokenSecret: random.chance(0.02) ? "elsewhere/token" : secret } : {}),
        ...(random.chance(0.15)
          ? { businessId: random.chance(0.9) ? businessId : random.pick(customers).businessId }
          : {}),
        ...(random.chance(0.45) ? { reshareAfterRevocation: true } : {}),
        ...(waba.foreignFundingId !== undefined && random.chance(0.7) ? { partnerSwitch: true } : {}),
      },
    };
  }
  if (chance < 0.72) {
    return {
      work: "verify",
      body: {
        ...common,
        type: "verify",
        wabaId: waba.wabaId,
        ...(random.chance(0.6) ? { businessTokenSecret: secret } : {}),
      },
    };
  }
  const claimed = random.chance(0.95) ? businessId : random.pick(customers).businessId;
  const target = random.pick([{ wabaId: waba.wabaId }, { wabaId: waba.wabaId, businessId: claimed }, { businessId }]);
  const reason = random.pick(["operator", "offboarded", "non_payment", "risk", "customer_unshared", "partner_removed"]);
  return { work: "revoke", body: { ...common, type: "revoke", ...target, reason } };
}

/** Meta's word of a WABA that left, as the webhook passes it on: soon, late, or never, and now and then twice. */
function drawRemovals(random: Random, hands: readonly Hand[]): Send[] {
  return hands.flatMap((hand) => {
    if (hand.kind !== "unshare" || random.chance(0.2)) return [];
    const requestedAt = new Date(Math.floor(hand.at / secondMs) * secondMs).toISOString();
    const { wabaId } = hand;
    const about = { version: "1", commandId: `gone-${hand.id}`, requestedAt, requestedBy: "webhook" };
    const body = JSON.stringify({ ...about, type: "revoke", wabaId, reason: "partner_removed" });
    return Array.from({ length: random.pick([1, 1, 2]) }, (_, number): Send => {
      const at = hand.at + random.pick([random.span(500, 5 * secondMs), random.span(minuteMs, hourMs)]);
      return { id: `${hand.id}w${number}`, at, work: "revoke", body };
    });
  });
}

/** What else the webhook tells: who owns a WABA that left, that it came back, and what becomes of the account. Now and then untrue. */
function drawNotices(
  seed: number,
  hands: readonly Hand[],
  customers: readonly Customer[],
  startAt: number,
  sentAt: number,
): Send[] {
  const random = randomOf(`notices ${seed}`);
  if (random.chance(0.5)) return [];
  const owners = new Map(
    customers.flatMap(({ businessId, wabas }) => wabas.map(({ wabaId }) => [wabaId, businessId] as const)),
  );
  function notice(id: string, at: number, event: AccountEvent, wabaId: string): Send {
    const seconds = Math.floor(at / secondMs);
    const about = { version: "1", type: "account", requestedAt: new Date(seconds * secondMs).toISOString() } as const;
    const content = { ...about, wabaId, commandId: `account:${event}:${wabaId}:${seconds}`, event };
    // A producer may send to the same queue, and say the same without knowing the secret.
    const body = provenNotice(
      { ...content, businessId: owners.get(wabaId) },
      random.chance(0.9) ? appSecret : "a guess",
    );
    return { id, at: at + random.span(500, 5 * minuteMs), work: "revoke", body };
  }
  const told = hands.flatMap((hand): Send[] => {
    if (hand.kind === "unshare") return [notice(`n${hand.id}`, hand.at, "PARTNER_REMOVED", hand.wabaId)];
    return hand.kind === "share-back" ? [notice(`n${hand.id}`, hand.at, "PARTNER_ADDED", hand.wabaId)] : [];
  });
  const others = Array.from({ length: random.pick([0, 1, 2]) }, (_, number) => {
    const event = random.pick(["PARTNER_ADDED", "ACCOUNT_DELETED", "DISABLED_UPDATE"] as const);
    return notice(`n${number}`, random.whole(startAt, sentAt), event, random.pick([...owners.keys()]));
  });
  return [...told, ...others];
}

/** What comes of a share over the end of a month, when a partner switch takes effect: verifications, and a hand in between. */
function drawMonth(random: Random, customers: Customer[], startAt: number): { sends: Send[]; hands: Hand[] } {
  const wabas = customers.flatMap(({ wabas: own, secret }) => own.map(({ wabaId }) => ({ wabaId, secret })));
  const sends = wabas.flatMap(({ wabaId, secret }, waba) =>
    [2, 20, 20.1, 31, 31.1, 36].map((days, number): Send => {
      const at = startAt + days * dayMs + random.span(1000, dayMs / 24);
      const about = { version: "1", commandId: `late${waba}-${number}`, requestedAt: new Date(at).toISOString() };
      const body = { ...about, requestedBy: "producer", type: "verify", wabaId, businessTokenSecret: secret };
      return { id: `l${waba}-${number}`, at, work: "verify", body: JSON.stringify(body) };
    }),
  );
  const moved = wabas.filter(() => random.chance(0.4));
  const hands = moved.map(({ wabaId }, number): Hand => {
    const at = startAt + random.pick([8, 19, 30]) * dayMs;
    return { id: `lh${number}`, at, kind: "fund-elsewhere", wabaId };
  });
  return { sends, hands };
}

/** Scans among the commands, in every other history: what they read, find and set going races with all else (H16). */
function drawScans(seed: number, startAt: number, sentAt: number): Hand[] {
  const random = randomOf(`scans ${seed}`);
  if (random.chance(0.5)) return [];
  return Array.from({ length: random.whole(2, 5) }, (_, number): Hand => {
    const at = random.whole(startAt, sentAt);
    return { id: `e${number}`, at, kind: random.chance(0.25) ? "double-scan" : "scan" };
  });
}

function drawHands(
  random: Random,
  customers: Customer[],
  startAt: number,
  sentAt: number,
  breach: Breach | undefined,
): Hand[] {
  const hands: Hand[] = [];
  const wabaIds = customers.flatMap(({ wabas }) => wabas.map(({ wabaId }) => wabaId));
  const secrets = ["system", ...customers.map(({ secret }) => secret)];
  function when(): number {
    return random.whole(startAt, sentAt);
  }
  function add(count: number, draw: (id: string, at: number) => Hand): void {
    for (let number = 0; number < count; number += 1) hands.push(draw(`h${hands.length + 1}`, when()));
  }
  function many(probability: number): number {
    return random.chance(probability) ? random.pick([1, 1, 2]) : 0;
  }
  add(many(0.3), (id, at) => ({ id, at, kind: "unshare", wabaId: random.pick(wabaIds) }));
  add(many(0.2), (id, at) => ({ id, at, kind: "share-back", wabaId: random.pick(wabaIds) }));
  add(many(0.2), (id, at) => ({ id, at, kind: "hand-share", wabaId: random.pick(wabaIds) }));
  add(many(0.1), (id, at) => ({ id, at, kind: "fund-elsewhere", wabaId: random.pick(wabaIds) }));
  add(many(0.2), (id, at) => ({ id, at, kind: "hand-revoke", businessId: random.pick(customers).businessId }));
  add(many(0.4), (id, at) => ({
    id,
    at,
    kind: "rotate-token",
    secret: random.pick(secrets),
    graceMs: random.pick([0, minuteMs, 10 * minuteMs]),
  }));
  add(many(0.2), (id, at) => ({
    id,
    at,
    kind: "kill-token",
    secret: random.pick(secrets),
    forMs: random.span(minuteMs, 2 * hourMs),
  }));
  add(many(0.3), (id, at) => ({ id, at, kind: "throttle", forMs: random.span(minuteMs, 40 * minuteMs) }));
  add(many(0.1), (id, at) => ({ id, at, kind: "revoke-access", forMs: random.span(minuteMs, hourMs) }));
  add(many(0.5), (id, at) => ({ id, at, kind: "redrive" }));
  add(many(0.3), (id, at) => ({ id, at, kind: "double-sweep" }));
  add(many(0.2), (id, at) => ({ id, at, kind: "resume-revocations" }));
  if (breach === "A5") add(2, (id, at) => ({ id, at, kind: "revive", businessId: random.pick(customers).businessId }));
  return hands.toSorted((one, other) => one.at - other.at);
}
