import type { SQSRecord } from "aws-lambda";
import type { StateStore } from "../../shared/store/state-store.ts";
import type { MemoryTable } from "./memory-store.ts";
import type { AnyFunction, Swap } from "./swap.ts";

/**
 * A product that lacks one rule, made by exchanging functions, and the invariants that must give it away. `isSeldom`: 2,000
 * histories may pass without it; one that it breaks is kept in the corpus.
 */
export type Mutant = { name: string; breaks: string[]; swaps: Swap[]; isSeldom?: true };

const share = "shared/domain/share.ts";
const probe = "shared/domain/probe.ts";
const revoke = "shared/domain/revoke.ts";
const readings = "shared/domain/readings.ts";
const business = "shared/domain/business.ts";
const shareFlow = "functions/share/share-allocation.ts";
const revokeFlow = "functions/revoke/revoke-allocations.ts";

/** Most important first. */
export const mutants: readonly Mutant[] = [
  // Shares: never twice.
  store("no-intent", ["I1a"], (real) => ({
    commit: (loaded, change, now) =>
      hasNewIntent(loaded, change.business)
        ? { saved: true, business: { ...change.business, version: loaded.version + 1 } }
        : real.commit(loaded, change, now),
  })),
  store("intent-after-the-post", ["I1a"], (real) => {
    let written: Promise<unknown> | undefined;
    return {
      async commit(loaded, change, now) {
        if (!hasNewIntent(loaded, change.business)) return real.commit(loaded, change, now);
        written = undefined;
        function later() {
          return real.commit(loaded, change, now);
        }
        Object.assign(change.business, { later });
        return { saved: true, business: { ...change.business, version: loaded.version + 1, later } };
      },
      async settle(loaded, settlement, now) {
        written ??= loaded.later?.();
        await written;
        return real.settle(loaded, settlement, now);
      },
    };
  }),
  store("intent-owned-by-commandId", ["I1a"], (real) => ({
    async commit(loaded, change, now) {
      const written = await real.commit(loaded, change, now);
      if (written.saved || written.current === undefined || !hasNewIntent(loaded, change.business)) return written;
      const own = commandsUnderIntent(change.business);
      const taken = commandsUnderIntent(written.current).some((commandId) => own.includes(commandId));
      return taken ? { saved: true, business: written.current } : written;
    },
  })),
  swap("no-probe", ["I1a", "I1b"], share, "decideShare", (real) => (facts, policy) => {
    const { intent: _forgotten, ...waba } = facts.business.wabas[facts.request.wabaId] ?? {};
    const wabas = { ...facts.business.wabas, ...("status" in waba ? { [facts.request.wabaId]: waba } : {}) };
    return real({ ...facts, business: { ...facts.business, wabas } }, policy);
  }),
  swap(
    "second-post-after-one-absence",
    ["I1a", "I1b"],
    probe,
    "judgeAbsence",
    (real) =>
      (intent, absent, ...rest) =>
        absent && intent.attempt === 1 ? { kind: "second-post" } : real(intent, absent, ...rest),
  ),
  swap("no-settle-window", ["I1a", "I1b", "I2a", "I2b"], business, "windowEnd", () => (intent) => intent.sendDeadline),
  swap(
    "any-error-is-a-refusal",
    ["I1b", "I2a", "I2b"],
    share,
    "settleShare",
    (real) =>
      (item, intent, request, outcome, ...rest) =>
        real(item, intent, request, outcome.kind === "unknown" ? { ...outcome, kind: "no-effect" } : outcome, ...rest),
  ),
  {
    name: "error-on-a-second-attempt-closes-it",
    breaks: ["I1b", "I2a", "I2b"],
    swaps: ["settleShare", "settleRecord"].map((name) => ({
      module: share,
      function: name,
      by:
        (real) =>
        (item, intent, ...rest) => {
          const isSecond = intent.attempt > 1;
          const closing = rest.map((one) => (one?.kind === "unknown" ? { ...one, kind: "no-effect" } : one));
          return isSecond ? real(item, { ...intent, attempt: 1 }, ...closing) : real(item, intent, ...rest);
        },
    })),
  },
  swap("E4-noted-on-the-WABA-only", ["I1a", "I1b"], share, "decideShare", (real) => (facts, policy) => {
    const { recordIntent: _forgotten, ...rest } = facts.business;
    return real({ ...facts, business: rest }, policy);
  }),
  {
    name: "post-retried",
    breaks: ["I1a"],
    swaps: [
      transport((real) => async (request, options) => {
        const answer = await real(request, options);
        return request.method === "POST" && answer.kind === "no-answer" ? real(request, options) : answer;
      }),
    ],
  },
  {
    name: "abort-signal-as-the-only-fence",
    breaks: ["I1a", "I1b", "I2b"],
    swaps: [
      transport((real) => (request, options) => {
        const isFenced = options.sendDeadline !== undefined;
        const unaborted = new AbortController().signal;
        return real(request, isFenced ? { signal: unaborted, sendDeadline: Infinity } : options);
      }),
    ],
  },
  store("settle-without-epoch", ["chart"], (real, table) => ({
    settle: (loaded, settlement, now) => {
      const epoch = table.get(`BUSINESS#${loaded.businessId}`)?.business?.epoch;
      return real.settle(loaded, { ...settlement, epoch }, now);
    },
  })),
  store("commit-without-version", ["I1a", "I1b", "I10"], (real, table) => ({
    commit(loaded, change, now) {
      const current = table.get(`BUSINESS#${loaded.businessId}`)?.business;
      const version = current?.version ?? 0;
      const isUnchanged = change.business === loaded;
      const own = { ...loaded, version };
      return real.commit(own, isUnchanged ? { ...change, business: own } : change, now);
    },
  })),

  // Revocations: never left behind.
  swap(
    "done-without-waiting-for-older-posts",
    ["I2a", "I2b"],
    revoke,
    "whyOpen",
    (real) => (item, revocation, run, policy) => {
      const wabas = Object.fromEntries(
        Object.entries<object>(item.wabas).map(([id, waba]) => [id, { ...waba, intent: undefined }]),
      );
      return real({ ...item, wabas, recordIntent: undefined }, revocation, run, policy);
    },
  ),
  swap("done-without-the-fresh-list", ["I2a", "I2b"], "shared/graph/read-estate.ts", "listEstate", (real) => {
    const listed = new WeakSet<object>();
    return async (graph, item, line, now, signal) => {
      if (listed.has(item)) return { startedAt: now(), complete: true, listed: {}, records: [] };
      listed.add(item);
      return real(graph, item, line, now, signal);
    };
  }),
  swap(
    "marker-keeps-the-epoch",
    ["I2a", "I2b", "chart"],
    revoke,
    "markRevocation",
    (real) => (item, request, now) => real({ ...item, epoch: item.epoch - 1 }, request, now),
  ),
  swap(
    "marker-after-the-listing",
    ["I2a", "I2b"],
    revokeFlow,
    "revokeAllocations",
    (real) => async (request, businessId, turn, deps) => {
      const listed = await deps.graph.listAllocations(deps.policy.creditLineId, businessId, turn.signal);
      return real(request, businessId, turn, {
        ...deps,
        graph: { ...deps.graph, listAllocations: async () => listed },
      });
    },
  ),
  {
    name: "deleted-believed-from-an-earlier-life",
    breaks: ["I2a", "I2b"],
    swaps: [
      {
        module: revoke,
        function: "mayDelete",
        by: (real) => (item, reading) => reading.seen !== "deleted" && real(item, reading),
      },
      { module: readings, function: "isConfirmedDeleted", by: () => (record) => record.state === "deleted" },
    ],
  },
  swap(
    "done-unconfirmed",
    ["I2a", "I2b"],
    readings,
    "isConfirmedDeleted",
    () => (record) => record.deleteAnswered !== undefined,
  ),
  swap("older-revoke-kills-newer-share", ["I2d"], business, "resharedAt", () => () => undefined),
  swap("reshare-not-waiting", ["I2d", "I10", "chart"], share, "decideAgainstRevocation", (real) => (facts, policy) => {
    const { revocation } = facts.business;
    if (revocation === undefined) return real(facts, policy);
    const over = { ...revocation, state: revocation.state === "open" ? "done" : revocation.state, doneAt: 0 };
    return real({ ...facts, business: { ...facts.business, revocation: over } }, policy);
  }),
  swap(
    "share-worker-deletes",
    ["I5"],
    shareFlow,
    "keepLateAnswer",
    (real) => async (businessId, request, answer, turn, deps) => {
      await deps.graph.deleteAllocation(answer.allocationId, { sendDeadline: deps.now() + 8000, signal: turn.signal });
      return real(businessId, request, answer, turn, deps);
    },
  ),
  swap("late-answer-dropped", ["S7"], shareFlow, "keepLateAnswer", () => async () => {}),
  swap(
    "owner-not-checked",
    ["I5"],
    "shared/graph/read-estate.ts",
    "readRecords",
    (real) =>
      async (graph, item, ...rest) => {
        const records: object[] = await real(graph, item, ...rest);
        return records.map((record) => ({ ...record, receivingBusinessId: item.businessId }));
      },
  ),
  swap("unknown-owner-dropped", ["I3"], revokeFlow, "parkRevoke", () => async () => {}),
  swap(
    "unknown-owner-refused",
    ["R1"],
    revokeFlow,
    "parkRevoke",
    () => async (request, wabaId, _pointer, _turn, deps) => {
      const about = { commandId: request.commandId, wabaId, reason: "owner_mismatch" };
      const event = { detailType: "Revoke Refused", ...about };
      await deps.store.conclude({ request, outcome: "refused", reason: "owner_mismatch", event }, deps.now());
    },
  ),

  // Found by this simulation, and mended since.
  {
    name: "closed-intent-without-a-due-time",
    breaks: ["I3"],
    swaps: ["settleShare", "settleRecord"].map((name) => ({
      module: share,
      function: name,
      by:
        (real) =>
        (...args) => {
          const settlement = real(...args);
          const { due: _none, ...waba } = settlement.waba;
          if (settlement.doubt !== undefined || waba.lastFailure === undefined) return settlement;
          const { business: item } = settlement.change;
          const wabas = { ...item.wabas, [settlement.wabaId]: waba };
          return { ...settlement, waba, change: { ...settlement.change, business: { ...item, wabas } } };
        },
    })),
  },
  swap(
    "young-record-forgotten",
    ["I1b"],
    share,
    "decideRecord",
    (real) =>
      (facts, ...rest) =>
        real({ ...facts, business: { ...facts.business, records: {} } }, ...rest),
  ),
  swap("recheck-takes-a-reshare", ["I2d"], revoke, "recordRecheck", (real) => (item, ...rest) => {
    const { recordIntent: _forgotten, ...others } = item;
    const taken = Object.entries<object>(item.wabas).map(([id, waba]) => [id, { ...waba, status: "revoking" }]);
    const reopening = real({ ...others, wabas: Object.fromEntries(taken) }, ...rest);
    return reopening.events.length > 0 ? reopening : real(item, ...rest);
  }),
  {
    name: "refusal-leaves-the-item-as-it-was",
    breaks: ["T2"],
    isSeldom: true,
    swaps: [
      {
        module: share,
        function: "refuse",
        by:
          (real) =>
          (item, ...rest) => {
            const change = real(item, ...rest);
            const isSame = Object.entries(change.business).every(([key, value]) => item[key] === value);
            return isSame ? { ...change, business: item } : change;
          },
      },
      { module: shareFlow, function: "isAnswered", by: () => async () => false },
    ],
  },
  seldom(swap("answers-of-duplicates-unasked", ["T2"], shareFlow, "isAnswered", () => async () => false)),
  swap(
    "queues-set-only-while-the-breaker-is-open",
    ["I3"],
    "functions/reconcile/token-breaker.ts",
    "tendTokenBreaker",
    (real) => async (deps) => {
      const breaker = await deps.store.loadBreaker();
      return breaker === undefined || breaker.state === "closed" ? false : real(deps);
    },
  ),
  seldom(swap("post-settled-by-a-probe-is-forgotten", ["I2a", "I2b"], share, "unanswered", () => (item) => item)),

  seldom({
    name: "sibling-explains-what-it-found",
    breaks: ["I1b"],
    swaps: [
      { module: probe, function: "isUnseen", by: () => () => false },
      {
        module: probe,
        function: "isExplained",
        by:
          (real) =>
          (item, ...rest) =>
            real(item, ...rest) ||
            Object.values<{ allocationId?: string }>(item.wabas).some(({ allocationId }) => allocationId === rest[1]),
      },
    ],
  }),
  seldom({
    name: "proof-explains-what-a-sibling-made",
    breaks: ["I1b"],
    swaps: [
      { module: probe, function: "mayHaveMade", by: () => () => true },
      { module: business, function: "windowsEnd", by: () => (_item, intent, ms) => intent.sendDeadline + ms },
    ],
  }),
  seldom(swap("one-token-sees-enough", ["I1b"], probe, "isUnseen", () => () => false)),
  seldom(swap("refused-delete-believed", ["I2b"], revoke, "isDeleteAnswer", () => () => true)),
  seldom(
    swap("throttled-by-one-WABA-knocks-on", ["I3", "rest"], "shared/quota.ts", "createQuota", (real) => (deps) => {
      const quota = real(deps);
      return { ...quota, block: (until: number) => quota.block(until).then(() => true) };
    }),
  ),
  seldom(
    swap("first-refusal-leaves-no-item", ["T2"], share, "refuse", (real) => (item, ...rest) => {
      const change = real(item, ...rest);
      return item.version === 0 ? { ...change, business: item } : change;
    }),
  ),
  swap(
    "mismatched-is-not-said-at-once",
    ["I3", "rest"],
    "shared/domain/verify.ts",
    "recordProof",
    (real) =>
      (item, wabaId, proof, verdict, request, ...rest) => {
        const isKnown = item.wabas[wabaId].status === "mismatched" && verdict.kind === "unequal";
        if (!isKnown || request === undefined) return real(item, wabaId, proof, verdict, request, ...rest);
        return { kind: "write-then-later", change: { business: { ...item }, events: [], conclusions: [] } };
      },
  ),
  seldom(
    swap("waiting-verify-asks-often", ["rest"], "functions/verify/verify-funding.ts", "untilDue", () => () => 60_000),
  ),
  seldom(
    swap("waiting-share-asked-about-often", ["rest"], share, "decideShare", (real) => (...args) => {
      const decision = real(...args);
      return decision.kind === "later" ? { ...decision, until: 0 } : decision;
    }),
  ),
  seldom(
    swap("reopened-without-its-attempts", ["chart"], business, "reopened", (real) => (item, ...rest) => ({
      ...real(item, ...rest),
      wabas: item.wabas,
    })),
  ),
  seldom(
    swap(
      "waiting-shares-hide-findings",
      ["I6"],
      "shared/domain/estate.ts",
      "isCalm",
      (real) => (item, view) => Object.keys(item.waiting).length === 0 && real(item, view),
    ),
  ),
  seldom(
    swap("doubts-hide-findings", ["I6"], "shared/domain/estate.ts", "isCalm", (real) => (item, view) => {
      const intents = Object.values<{ intent?: object }>(item.wabas).map(({ intent }) => intent);
      return [item.recordIntent, ...intents].every((intent) => intent === undefined) && real(item, view);
    }),
  ),
  seldom(swap("a-deleted-record-is-no-news", ["I6"], "shared/domain/estate.ts", "isBelieved", () => () => false)),
  seldom(
    swap(
      "a-gone-record-is-asked-of-who-is-not-shared",
      ["I6"],
      "shared/domain/estate.ts",
      "isBelieved",
      (real) => (waba) => waba.status === "allocated" || real(waba),
    ),
  ),
  seldom(
    swap("a-credential-read-is-not-kept", ["I6"], readings, "withRecords", (real) => (item, estate, now) => {
      const bare = estate.records.map(({ receivingCredentialId: _unkept, ...rest }: Record<string, unknown>) => rest);
      return real(item, { ...estate, records: bare }, now);
    }),
  ),
  swap("a-doubt-is-written-over-what-looks-noted", ["S6"], share, "settleShare", (real) => (...args) => {
    const { doubt: _alone, ...settlement } = real(...args);
    return settlement;
  }),
  swap(
    "answers-told-again",
    ["T2"],
    "shared/store/transition.ts",
    "withoutAnswered",
    (real) => (transition, indexes) => ({ ...real(transition, indexes), events: transition.events }),
  ),
  swap("usage-not-asked-anew", ["I3"], "shared/quota.ts", "createQuota", (real) => (deps) => {
    let isHolding = false;
    async function check(signal: AbortSignal) {
      return isHolding ? "unknown" : deps.systemToken.check(signal);
    }
    const quota = real({ ...deps, systemToken: { ...deps.systemToken, check } });
    async function hold(signal: AbortSignal) {
      isHolding = true;
      try {
        return await quota.hold(signal);
      } finally {
        isHolding = false;
      }
    }
    return { ...quota, hold };
  }),

  // Belief: nothing without proof.
  swap(
    "dead-record-believed",
    ["I4", "I6", "I10"],
    readings,
    "fundingRecord",
    (real) => (businessId, funding, records) =>
      real(
        businessId,
        funding,
        records.map((record: { seen: string }) => ({
          ...record,
          seen: record.seen === "deleted" ? "live" : record.seen,
        })),
      ),
  ),
  swap(
    "first-record-taken",
    ["I4", "I6"],
    readings,
    "fundingRecord",
    () => (businessId, funding, records) =>
      funding.known
        ? records.find(
            (record: { seen: string; receivingBusinessId?: string }) =>
              record.seen === "live" && record.receivingBusinessId === businessId,
          )
        : undefined,
  ),
  swap("mismatch-on-a-failed-read", ["V2"], "shared/domain/verify.ts", "judgeProof", (real) => (businessId, proof) => {
    const verdict = real(businessId, proof);
    return verdict.kind === "unknown" ? { kind: "unequal" } : verdict;
  }),
  {
    name: "meta-read-before-the-load",
    breaks: ["I4", "I10"],
    swaps: [
      transport((real) => {
        const kept = new Map<string, unknown>();
        return async (request, options) => {
          if (request.method !== "GET") return real(request, options);
          const key = `${request.path} ${JSON.stringify(request.query)}`;
          const known = kept.get(key);
          if (known !== undefined) return known;
          const answer = await real(request, options);
          if (answer.kind === "answer" && answer.status === 200) kept.set(key, answer);
          return answer;
        };
      }),
    ],
  },

  // Commands: none lost, none acted on twice.
  swap("refusal-changes-the-WABA", ["I11"], share, "refuse", (real) => (item, request, ...rest) => {
    const change = real(item, request, ...rest);
    const waba = change.business.wabas[request.wabaId];
    if (waba?.status !== "shared" && waba?.status !== "verified") return change;
    const refused = { ...waba, status: "revoking" };
    return {
      ...change,
      business: { ...change.business, wabas: { ...change.business.wabas, [request.wabaId]: refused } },
    };
  }),
  store("forgets-concluded-commands", ["T2"], () => ({ loadCommand: async () => undefined })),
  {
    name: "idempotency-by-message-id",
    breaks: ["T2"],
    swaps: [
      { module: shareFlow, function: "isAnswered", by: () => async () => false },
      {
        module: "shared/queue-handler.ts",
        function: "queueHandler",
        by: (real) => {
          const served = new Set<string>();
          return (deps, flow) => {
            let isRepeated = false;
            const ownStore = {
              ...deps.store,
              loadCommand: async (id: string) => (isRepeated ? deps.store.loadCommand(id) : undefined),
            };
            const handler = real({ ...deps, store: ownStore }, flow);
            return (event: { Records: SQSRecord[] }, context: unknown) => {
              // The same message in another history is another one.
              const ids = event.Records.map(
                ({ messageId, body, attributes }) => `${messageId} ${attributes.SentTimestamp} ${body}`,
              );
              isRepeated = ids.some((id) => served.has(id));
              for (const id of ids) served.add(id);
              return handler(event, context);
            };
          };
        },
      },
    ],
  },
  swap("failures-acknowledged", ["I3"], "shared/queue-handler.ts", "queueHandler", (real) => (deps, flow) => {
    const handler = real(deps, flow);
    return async (...args: unknown[]) => {
      await handler(...args);
      return { batchItemFailures: [] };
    };
  }),
  swap("a-bad-record-fails-its-batch", ["I8"], "shared/queue-handler.ts", "queueHandler", (real) => (deps, flow) => {
    const handler = real(deps, flow);
    return async (event: { Records: { messageId: string }[] }, context: unknown) => {
      const { batchItemFailures } = await handler(event, context);
      const all = event.Records.map(({ messageId }) => ({ itemIdentifier: messageId }));
      return { batchItemFailures: batchItemFailures.length > 0 ? all : [] };
    };
  }),
  swap("entries-without-a-due-time", ["I9"], business, "dueAt", () => () => undefined),
  swap(
    "publish-gives-up",
    ["I3"],
    "functions/publish/publish-transitions.ts",
    "publishTransitions",
    (real) => async (event, deps) => {
      await real(event, deps);
      return { batchItemFailures: [] };
    },
  ),
  swap("tokens-in-failures", ["I7"], "shared/graph/errors.ts", "withoutSecrets", () => (message) => message),
];

function seldom(mutant: Mutant): Mutant {
  return { ...mutant, isSeldom: true };
}

function swap(name: string, breaks: string[], module: string, of: string, by: Swap["by"]): Mutant {
  return { name, breaks, swaps: [{ module, function: of, by }] };
}

/** A store some of whose methods are others. */
function store(
  name: string,
  breaks: string[],
  change: (real: StateStore, table: MemoryTable) => Record<string, AnyFunction>,
): Mutant {
  return swap(name, breaks, "test/simulation/memory-store.ts", "createMemoryStore", (create) => (table, ...rest) => {
    const real = create(table, ...rest);
    return { ...real, ...change(real, table) };
  });
}

function transport(change: (real: AnyFunction) => AnyFunction): Swap {
  return {
    module: "test/simulation/meta-transport.ts",
    function: "createMetaTransport",
    by:
      (create) =>
      (...args) =>
        change(create(...args)),
  };
}

type Item = {
  wabas: Record<string, { intent?: { id: string }; request: { commandId: string } }>;
  recordIntent?: { id: string };
};

function hasNewIntent(loaded: Item, item: Item): boolean {
  if (item.recordIntent !== undefined && item.recordIntent.id !== loaded.recordIntent?.id) return true;
  return Object.entries(item.wabas).some(
    ([wabaId, { intent }]) => intent !== undefined && intent.id !== loaded.wabas[wabaId]?.intent?.id,
  );
}

function commandsUnderIntent(item: Item): string[] {
  return Object.values(item.wabas).flatMap(({ intent, request }) => (intent === undefined ? [] : [request.commandId]));
}
