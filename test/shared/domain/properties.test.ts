import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type {
  Business,
  Change,
  Intent,
  Request,
  ShareRequest,
  VerifyRequest,
  Waba,
} from "../../../shared/domain/business.ts";
import {
  dueAt,
  dueEntries,
  isHeld,
  isSame,
  isSharing,
  isShared,
  newBusiness,
  resharedAt,
  swept,
  transitions,
} from "../../../shared/domain/business.ts";
import type { EstateReading, Funding, RecordReading } from "../../../shared/domain/readings.ts";
import { recordsToRead } from "../../../shared/domain/readings.ts";
import { reasonClasses, type RefuseReason } from "../../../shared/domain/reasons.ts";
import type { Presence, RemovalFacts } from "../../../shared/domain/removal.ts";
import { decideRemoval, recordRemoval } from "../../../shared/domain/removal.ts";
import {
  announceRevokedAgain,
  decideRevoke,
  joinRevocation,
  markRevocation,
  mayDelete,
  recordRecheck,
  recordRun,
} from "../../../shared/domain/revoke.ts";
import type { PostOutcome, ShareFacts } from "../../../shared/domain/share.ts";
import {
  intendSecondPost,
  intendSecondRecord,
  judgeProbe,
  judgeRecordProbe,
  recordLateAnswer,
  recordProbe,
  recordRecordProbe,
} from "../../../shared/domain/probe.ts";
import {
  adoptShare,
  answerRevoked,
  concludeShare,
  decideShare,
  intendRecord,
  intendShare,
  parkShare,
  refuse,
  settleRecord,
  settleShare,
} from "../../../shared/domain/share.ts";
import { decideVerify, judgeProof, postponeLook, recordProof } from "../../../shared/domain/verify.ts";
import { businessSchema } from "../../../shared/store/items.ts";
import {
  businessId,
  failure,
  lineId,
  minuteMs,
  now as start,
  otherBusinessId,
  otherLineId,
  policy as stagePolicy,
  revokeRequest,
  settleWindowMs,
  shareRequest,
  skewMs,
  verifyRequest,
} from "../factories.ts";

/** Fixed, so that a red run is the same everywhere; fast-check prints it with the path to the shrunk walk. */
const options = { seed: 20_260_610, numRuns: 1000 } as const;

/** A short grace, so that walks come to its end. */
const policy = { ...stagePolicy, verifyGraceMs: [30_000] };

const wabaIds = ["300000000000001", "300000000000002", "300000000000003"] as const;
const allocationIds = ["500000000000001", "500000000000002", "500000000000003"] as const;

const index = fc.nat({ max: 2 });

/** What Meta shows at a step: contradictory often enough, since reads lag and fail (A3). */
const anyMeta = fc.record({
  funding: fc.constantFrom("none", "unknown", "stranger", 0, 1, 2),
  complete: fc.constantFrom(true, true, true, false),
  listed: fc.subarray([0, 1, 2]),
  seen: fc.array(
    fc.constantFrom<RecordReading["seen"]>("live", "live", "deleted", "missing", "unreadable", "strange"),
    {
      minLength: 3,
      maxLength: 3,
    },
  ),
  foreign: fc.option(index, { nil: undefined, freq: 6 }),
  otherLine: fc.option(index, { nil: undefined, freq: 6 }),
  stillFunded: fc.constantFrom(false, false, true),
});

type Meta = typeof anyMeta extends fc.Arbitrary<infer Value> ? Value : never;

const quiet = { complete: true, foreign: undefined, otherLine: undefined, stillFunded: false };
const allLive: RecordReading["seen"][] = ["live", "live", "live"];

const metaArbitrary: fc.Arbitrary<Meta> = fc.oneof(
  anyMeta,
  fc.constant<Meta>({ ...quiet, funding: "none", listed: [], seen: ["deleted", "deleted", "deleted"] }),
  fc.constantFrom(0, 1).map((funding): Meta => ({ ...quiet, funding, listed: [funding], seen: allLive })),
  fc.constant<Meta>({ ...quiet, funding: "stranger", listed: [], seen: allLive }),
);

/** Clocks of producers differ, and redelivered commands are old. */
const ageMs = fc.constantFrom(0, minuteMs, 2 * skewMs, settleWindowMs, 4 * settleWindowMs);

const stepArbitrary = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("pass"),
      ms: fc.constantFrom(1000, minuteMs, settleWindowMs, 2 * settleWindowMs),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("share"),
      waba: index,
      ageMs,
      flag: fc.boolean(),
      partnerSwitch: fc.boolean(),
      twoCalls: fc.boolean(),
      currency: fc.constantFrom("EUR", "EUR", "USD", "CHF"),
      meta: metaArbitrary,
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("resume"), waba: index, meta: metaArbitrary }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("answer"),
      post: fc.nat({ max: 5 }),
      outcome: fc.constantFrom("accepted", "accepted", "no-effect", "unknown", "refused", "refused", "named"),
      allocation: index,
      seen: fc.constantFrom<RecordReading["seen"]>("live", "deleted", "unreadable"),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("verify"), waba: index, asked: fc.boolean(), meta: metaArbitrary }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("revoke"), ageMs, fulfilled: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("removal"),
      waba: index,
      ageMs,
      /** Of the three WABAs. */
      presence: fc.array(fc.constantFrom<Presence>("gone", "gone", "gone", "here", "unread"), {
        minLength: 3,
        maxLength: 3,
      }),
      strangers: fc.constantFrom("none", "none", "some", "unknown"),
      admitted: fc.boolean(),
      /** What is held is looked at again, without a new command. */
      isLook: fc.boolean(),
      onPartnerRemoved: fc.constantFrom(
        "revoke-unless-siblings",
        "revoke-unless-siblings",
        "revoke-unless-siblings",
        "revoke",
        "hold",
      ),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("run"), answered: fc.boolean(), meta: metaArbitrary }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sweep") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("answer-revoked"), waba: index }) },
);

type Step = typeof stepArbitrary extends fc.Arbitrary<infer Value> ? Value : never;

/** One change of a walk, with what it was decided on. */
type Moment = { step: string; before: Business; after: Business; facts?: ShareFacts; change?: Change };

/** A walk through a business's life: the flows of functions/, without I/O, crashes or races. Answers every state it was in. */
function walk(steps: readonly Step[]): Moment[] {
  const moments: Moment[] = [];
  let stored = newBusiness(businessId, start);
  let now = start;
  let made = 0;
  const concluded = new Set<string>();
  const posts: { intent: Intent; request: ShareRequest; target: "waba" | "business" }[] = [];

  function write(step: string, change: Change, facts?: ShareFacts): void {
    const before = stored;
    stored = change.business === before ? before : { ...change.business, version: before.version + 1, changedAt: now };
    moments.push({ step, before, after: stored, change, ...(facts === undefined ? {} : { facts }) });
    for (const { request } of change.conclusions) concluded.add(request.commandId);
  }

  function newIntent(attempt: number, request: ShareRequest, target: "waba" | "business" = "waba"): Intent {
    made += 1;
    const intent = { id: `intent-${made}`, epoch: stored.epoch, attempt, madeAt: now, sendDeadline: now + 8000 };
    posts.push({ intent, request, target });
    return intent;
  }

  function share(request: ShareRequest, meta: Meta): void {
    // What was concluded is announced again, and nothing else (T2).
    if (concluded.has(request.commandId)) return;
    let facts: ShareFacts = { now, request, business: stored };
    for (let round = 0; round < 6; round += 1) {
      const decision = decideShare(facts, policy);
      switch (decision.kind) {
        case "read-waba":
          facts = { ...facts, waba: { startedAt: now, ownerBusinessId: businessId, funding: fundingOf(meta) } };
          continue;
        case "read-estate":
          facts = { ...facts, estate: estateOf(stored, meta, now) };
          continue;
        case "probe":
          probe(request.wabaId, meta);
          facts = { now, request, business: stored, probed: true };
          continue;
        case "wait":
          return write("wait", parkShare(facts, decision.until), facts);
        case "refuse":
          return write("refuse", refuse(stored, request, decision.reason), facts);
        case "conclude":
          return write("conclude", concludeShare(facts), facts);
        case "adopt":
          return write("adopt", adoptShare(facts, decision.record, policy), facts);
        case "probe-record":
          probeRecord(meta);
          facts = { now, request, business: stored, probed: true };
          continue;
        case "attempt":
          return write("attempt", intendShare(facts, newIntent(1, request), policy), facts);
        case "allocate":
          return write("allocate", intendRecord(facts, newIntent(1, request, "business"), policy), facts);
        case "attach":
          return write("attach", intendShare(facts, newIntent(1, request), policy, decision.allocationId), facts);
        case "on-item":
        case "later":
        case "reused":
        case "block":
          return;
      }
    }
    throw new Error("A share came to no decision");
  }

  function probe(wabaId: string, meta: Meta): void {
    const waba = stored.wabas[wabaId];
    if (!isSharing(waba) || waba.intent === undefined) return;
    const look = { startedAt: now, funding: fundingOf(meta), estate: estateOf(stored, meta, now) };
    const finding = judgeProbe(stored, wabaId, look, policy);
    if (finding.kind === "second-post") {
      const again = newIntent(waba.intent.attempt + 1, waba.request);
      return write("second-post", intendSecondPost(stored, wabaId, look, again, now, policy));
    }
    write(`probe:${finding.kind}`, recordProbe(stored, wabaId, look, finding, now, policy));
  }

  function probeRecord(meta: Meta): void {
    const { recordIntent } = stored;
    if (recordIntent === undefined) return;
    const { request, attempt } = recordIntent;
    const look = { startedAt: now, funding: { known: false } as const, estate: estateOf(stored, meta, now) };
    const finding = judgeRecordProbe(stored, look, policy);
    if (finding.kind === "second-post") {
      const again = newIntent(attempt + 1, request, "business");
      return write("second-record", intendSecondRecord(stored, look, again, now, policy));
    }
    write(`probe-record:${finding.kind}`, recordRecordProbe(stored, look, finding, now, policy));
  }

  function settlementOf({ intent, request, target }: (typeof posts)[number], outcome: PostOutcome) {
    if (stored.epoch !== intent.epoch) return undefined;
    const waba = stored.wabas[request.wabaId];
    const { recordIntent } = stored;
    if (target === "business" && recordIntent?.id === intent.id)
      return settleRecord(stored, recordIntent, outcome, now, policy);
    if (target === "waba" && isSharing(waba) && waba.intent?.id === intent.id)
      return settleShare(stored, intent, request, outcome, now, policy);
    return undefined;
  }

  function answer(step: Step & { kind: "answer" }): void {
    const [post] = posts.splice(step.post % Math.max(posts.length, 1), 1);
    if (post === undefined) return;
    const { intent, request, target } = post;
    const allocationId = allocationIds[step.allocation] ?? "";
    const outcome = outcomeOf(step.outcome, allocationId);
    const settlement = settlementOf(post, outcome);
    if (settlement !== undefined) {
      const { record, change } = settlement;
      const records =
        record === undefined ? stored.records : { ...stored.records, [record.allocationId]: record.record };
      const name = target === "waba" ? "settle" : "settle-record";
      return write(`${name}:${outcome.kind}`, { ...change, business: { ...change.business, records } });
    }
    if (outcome.kind !== "accepted") return;
    const late = { allocationId, creditLineId: lineId, epoch: intent.epoch, seen: step.seen };
    write("late-answer", recordLateAnswer(stored, request, late, now));
  }

  function verify(wabaId: string, request: VerifyRequest | undefined, meta: Meta): void {
    const decision = decideVerify(stored, wabaId);
    if (decision.kind !== "look") return;
    const own = allocationIds.findIndex((id) => id === decision.waba.allocationId);
    const record = readingOf(own, meta, now);
    const proof = { record, funding: fundingOf(meta) };
    const verdict = judgeProof(businessId, proof);
    if (verdict.kind !== "unknown") {
      return write("proof", recordProof(stored, wabaId, proof, verdict, request, now, policy).change);
    }
    if (decision.waba.due !== undefined) write("postpone", postponeLook(stored, wabaId, verdict.failure, now, policy));
  }

  function removal(step: Step & { kind: "removal" }, commandId: string): void {
    const { held } = stored;
    const wabaId = wabaIds[step.waba] ?? "";
    const command = revokeRequest({
      commandId,
      hash: `hash-of-${commandId}`,
      wabaId,
      reason: "partner_removed",
      requestedAt: now - step.ageMs,
    });
    if (step.isLook && (held === undefined || stored.revocation?.state === "open")) return;
    if (!step.isLook) {
      const decision = decideRevoke(stored, command, false, policy);
      if (decision.kind === "join") return write("join", joinRevocation(stored, command));
      if (decision.kind === "announce-again") return write("announce-again", announceRevokedAgain(stored, command));
      if (decision.kind !== "removal") return;
    }
    const staged = { ...policy, onPartnerRemoved: step.onPartnerRemoved };
    let facts: RemovalFacts = { now, business: stored, addedAt: {}, ...(step.isLook ? {} : { request: command }) };
    for (let round = 0; round < 4; round += 1) {
      const decision = decideRemoval(facts, staged);
      if (decision.kind === "read-presence") {
        const asked = decision.wabaIds.map((id) => [
          id,
          step.presence[wabaIds.findIndex((one) => one === id)] ?? "gone",
        ]);
        facts = { ...facts, presence: Object.fromEntries(asked) };
      } else if (decision.kind === "read-strangers") facts = { ...facts, strangers: step.strangers };
      else if (decision.kind === "ask-breaker") facts = { ...facts, admitted: step.admitted };
      else {
        const isSparing = step.onPartnerRemoved === "revoke-unless-siblings";
        return write(
          decision.kind === "mark" && isSparing ? "removal:mark-sparing" : `removal:${decision.kind}`,
          recordRemoval(facts, decision, staged),
        );
      }
    }
    throw new Error("A removal came to no decision");
  }

  function runRevocation(answered: boolean, meta: Meta): void {
    const { revocation } = stored;
    // Whenever it comes: what it may do must not hang on the day.
    if (revocation?.state === "done" && revocation.due !== undefined)
      return write("recheck", recordRecheck(stored, estateOf(stored, meta, now), meta.stillFunded, now));
    if (revocation?.state !== "open") return;
    const estate = estateOf(stored, meta, now);
    const mine = estate.records.filter((reading) => mayDelete(stored, reading));
    const deleted = answered ? Object.fromEntries(mine.map((reading) => [reading.allocationId, now + 1])) : {};
    const confirmed = estate.records.map((reading): RecordReading => {
      const gone = answered && deleted[reading.allocationId] !== undefined;
      return gone ? { ...reading, seen: "deleted", readAt: now + 2 } : { ...reading, readAt: now + 2 };
    });
    const listed = answered ? {} : estate.listed;
    const fresh = { ...estate, startedAt: now + 3, listed, records: [] };
    write(
      "run",
      recordRun(stored, { estate, deleted, confirmed, fresh, stillFunded: meta.stillFunded }, now + 4, policy),
    );
  }

  for (const [count, step] of steps.entries()) {
    const commandId = `command-${count}`;
    now += 10;
    switch (step.kind) {
      case "pass":
        now += step.ms;
        break;
      case "share": {
        const { flag: reshareAfterRevocation, partnerSwitch, currency, twoCalls } = step;
        const wabaId = wabaIds[step.waba] ?? "";
        const requestedAt = now - step.ageMs;
        const inTwoCalls = { method: "share-then-attach", businessTokenSecret: "business-tokens/customer" } as const;
        const asked = { commandId, wabaId, requestedAt, currency, partnerSwitch, reshareAfterRevocation };
        share(shareRequest({ ...asked, ...(twoCalls ? inTwoCalls : {}) }), step.meta);
        break;
      }
      case "resume": {
        const wabaId = wabaIds[step.waba] ?? "";
        const waba = stored.wabas[wabaId];
        const request = stored.waiting[wabaId]?.request ?? (isSharing(waba) ? waba.request : undefined);
        if (request !== undefined) share(request, step.meta);
        break;
      }
      case "answer":
        answer(step);
        break;
      case "verify": {
        const wabaId = wabaIds[step.waba] ?? "";
        verify(wabaId, step.asked ? verifyRequest({ commandId, wabaId }) : undefined, step.meta);
        break;
      }
      case "revoke": {
        const request = revokeRequest({ commandId, requestedAt: now - step.ageMs });
        const decision = decideRevoke(stored, request, step.fulfilled, policy);
        if (decision.kind === "mark") write("mark", markRevocation(stored, request, now));
        if (decision.kind === "join") write("join", joinRevocation(stored, request));
        if (decision.kind === "announce-again") write("announce-again", announceRevokedAgain(stored, request));
        break;
      }
      case "removal":
        removal(step, commandId);
        break;
      case "run":
        runRevocation(step.answered, step.meta);
        break;
      case "sweep":
        write("sweep", { business: swept(stored, now, settleWindowMs), events: [], conclusions: [] });
        break;
      case "answer-revoked": {
        const change = answerRevoked(stored, wabaIds[step.waba] ?? "");
        if (change !== undefined) write("answer-revoked", change);
        break;
      }
    }
  }
  return moments;
}

function credentialOf(allocation: number): string {
  return `60000000000000${allocation}`;
}

function fundingOf({ funding }: Meta): Funding {
  if (funding === "unknown") return { known: false, failure: failure() };
  if (funding === "none") return { known: true };
  return { known: true, id: funding === "stranger" ? "699999999999999" : credentialOf(Number(funding)) };
}

function readingOf(allocation: number, { seen, foreign, otherLine }: Meta, readAt: number): RecordReading {
  const shown = seen[allocation] ?? "missing";
  const about = {
    allocationId: allocationIds[allocation] ?? "",
    creditLineId: otherLine === allocation ? otherLineId : lineId,
  };
  if (shown === "missing" || shown === "unreadable") return { ...about, readAt, seen: shown };
  return {
    ...about,
    readAt,
    seen: shown,
    receivingBusinessId: foreign === allocation ? otherBusinessId : businessId,
    receivingCredentialId: credentialOf(allocation),
  };
}

function estateOf(stored: Business, meta: Meta, startedAt: number): EstateReading {
  const listed = Object.fromEntries(
    meta.listed.map((allocation) => {
      const { allocationId, creditLineId, seen } = readingOf(allocation, meta, startedAt);
      return [allocationId, { creditLineId, deleted: seen === "deleted" }];
    }),
  );
  const records = recordsToRead(stored, listed).map((id) =>
    readingOf(
      allocationIds.findIndex((one) => one === id),
      meta,
      startedAt,
    ),
  );
  return { startedAt, complete: meta.complete, listed, records };
}

function outcomeOf(kind: string, allocationId: string): PostOutcome {
  if (kind === "accepted") return { kind, allocationId };
  if (kind === "no-effect") return { kind, failure: failure("token_dead") };
  if (kind === "refused") return { kind: "unknown", failure: failure("refused_by_meta") };
  return { kind: "unknown", failure: failure(), ...(kind === "named" ? { allocationId } : {}) };
}

const walks = fc.array(stepArbitrary, { minLength: 10, maxLength: 90, size: "max" });

/** Checks every moment of many walks. */
function always(check: (moment: Moment) => void): void {
  throughout((moments) => moments.forEach(check));
}

/** Checks many walks, each as a whole. */
function throughout(check: (moments: Moment[]) => void): void {
  fc.assert(
    fc.property(walks, (steps) => check(walk(steps))),
    options,
  );
}

function allAlong<Value>(pick: (moment: Moment) => Value[]): Set<Value> {
  const seen = new Set<Value>();
  always((moment) => pick(moment).forEach((value) => seen.add(value)));
  return seen;
}

/** The commands that have only the item: nobody else would answer them. */
function heldCommands({ wabas, waiting, revocation, recordIntent, held }: Business): Request[] {
  const due = Object.values(wabas).flatMap((waba) => {
    // The share that a verification belongs to was answered when it was accepted.
    if (waba.due === undefined || (isShared(waba) && waba.due.request.type === "share")) return [];
    return [waba.due.request];
  });
  const parked = Object.values(waiting).map(({ request }) => request);
  const revokes = revocation?.state === "open" ? [revocation.request, ...revocation.joined] : [];
  const allocating = recordIntent?.due === undefined ? [] : [recordIntent.request];
  return [...due, ...parked, ...allocating, ...revokes, ...(held?.requests ?? [])];
}

function isMarker(step: string): boolean {
  return step === "mark" || step.startsWith("removal:mark");
}

/** The re-shares that have funded their WABA, or may yet. */
function resharesOf({ wabas, recordIntent }: Business): ShareRequest[] {
  const held = Object.values(wabas).filter((waba) => {
    const isGone = waba.status === "revoking" || waba.status === "revoked";
    const isClosed = isSharing(waba) && waba.intent === undefined && waba.allocationId === undefined;
    return !isGone && !isClosed;
  });
  const requests = [recordIntent, ...held].flatMap((one) => one?.request ?? []);
  return requests.filter(({ reshareAfterRevocation }) => reshareAfterRevocation);
}

function intentsOf(business: Business): [string, Intent][] {
  return Object.entries(business.wabas).flatMap(([wabaId, { intent }]): [string, Intent][] =>
    intent === undefined ? [] : [[wabaId, intent]],
  );
}

describe("a walk through a business's life", () => {
  test("comes through every status", () => {
    const seen = allAlong(({ after }) => Object.values(after.wabas).map(({ status }) => status));
    const statuses = Object.keys(transitions).filter((status) => status !== "none");
    expect([...seen].toSorted()).toEqual(statuses.toSorted());
  });

  test("comes through every kind of change", () => {
    expect([...allAlong(({ step }) => [step])].toSorted()).toEqual([
      "adopt",
      "allocate",
      "announce-again",
      "answer-revoked",
      "attach",
      "attempt",
      "conclude",
      "join",
      "late-answer",
      "mark",
      "postpone",
      "probe-record:absent",
      "probe-record:applied",
      "probe-record:cannot-tell",
      "probe-record:in-doubt",
      "probe-record:refused",
      "probe:absent",
      "probe:applied",
      "probe:cannot-tell",
      "probe:in-doubt",
      "probe:refused",
      "proof",
      "recheck",
      "refuse",
      "removal:answer",
      "removal:hold",
      "removal:mark",
      "removal:mark-sparing",
      "run",
      "second-post",
      "second-record",
      "settle-record:accepted",
      "settle-record:no-effect",
      "settle-record:unknown",
      "settle:accepted",
      "settle:no-effect",
      "settle:unknown",
      "sweep",
      "wait",
    ]);
  });

  test("leaves no unsettled entry without a due time (I9)", () => {
    always(({ before, after }) => {
      const due = dueEntries(after);
      function has(work: string, wabaId?: string): boolean {
        return due.some((one) => one.work === work && one.wabaId === wabaId);
      }
      for (const [wabaId, waba] of Object.entries(after.wabas)) {
        if (isSharing(waba) && waba.intent !== undefined) expect(has("share", wabaId), wabaId).toBe(true);
        if (waba.status === "shared" || waba.status === "pending") expect(has("verify", wabaId), wabaId).toBe(true);
        if (waba.status === "revoking") expect(after.revocation?.state, wabaId).toBe("open");
      }
      for (const wabaId of Object.keys(after.waiting)) expect(has("share", wabaId), wabaId).toBe(true);
      const { recordIntent } = after;
      if (recordIntent?.epoch === after.epoch) expect(has("share", recordIntent.request.wabaId)).toBe(true);
      if (recordIntent !== undefined && recordIntent.epoch < after.epoch) expect(after.revocation?.state).toBe("open");
      // A revocation that is over is looked at once more when a switch it overtook would have taken effect (R6).
      const { revocation } = after;
      const overtook = Object.values(after.wabas).some(
        (waba) => "pendingUntil" in waba || (waba.request.partnerSwitch && waba.evidence?.verifiedAt === undefined),
      );
      expect(has("revoke")).toBe(revocation?.due !== undefined || after.held !== undefined);
      if (revocation?.state === "open") expect(revocation.due).toBeDefined();
      // Once planned it stays, though a re-share takes the WABA over meanwhile.
      const isPlanned = before.revocation?.state !== "open" && before.revocation?.due !== undefined;
      if (revocation?.state !== "open" && !overtook && !isPlanned) expect(revocation?.due).toBeUndefined();
    });
  });

  test("is due when its earliest entry is (T5)", () => {
    always(({ after }) => {
      const times = dueEntries(after).map(({ due }) => due.nextAt);
      const earliest = times.toSorted((a, b) => a - b)[0];
      expect(dueAt(after)).toBe(earliest);
    });
  });

  test("never lowers the epoch, and raises it only by a new marker", () => {
    always(({ step, before, after }) => {
      expect(after.epoch).toBe(before.epoch + (isMarker(step) ? 1 : 0));
      expect(after.revocation?.epoch ?? 0).toBe(after.epoch);
    });
  });

  test("never forgets an allocation id", () => {
    always(({ before, after }) => {
      expect(Object.keys(after.records)).toEqual(expect.arrayContaining(Object.keys(before.records)));
    });
  });

  test("never forgets a re-share while its WABA is held, nor replaces it by an older one", () => {
    always(({ before, after }) => {
      expect(after.reshare?.requestedAt ?? 0).toBeGreaterThanOrEqual(before.reshare?.requestedAt ?? 0);
      for (const { requestedAt } of resharesOf(after)) {
        expect(resharedAt(after)).toBeGreaterThanOrEqual(requestedAt);
      }
    });
  });

  test("counts no re-share that shares nothing (H6b)", () => {
    always(({ after }) => {
      const { reshare: _concluded, ...others } = after;
      expect(resharedAt(others) === undefined).toBe(resharesOf(after).length === 0);
    });
  });

  test("changes every WABA along the state chart", () => {
    always(({ before, after }) => {
      for (const [wabaId, { status }] of Object.entries(after.wabas)) {
        const from = before.wabas[wabaId]?.status ?? "none";
        const allowed: readonly Waba["status"][] = [from === "none" ? status : from, ...transitions[from]];
        expect(allowed, `${from} to ${status}`).toContain(status);
      }
    });
  });

  test("writes nothing that the store cannot read again", () => {
    always(({ after }) => {
      expect(businessSchema.parse(JSON.parse(JSON.stringify(after)))).toEqual(after);
    });
  });
});

describe("along every walk", () => {
  test("I11: a refusal changes no WABA, whatever its reason", () => {
    const reasons = Object.keys(reasonClasses) as RefuseReason[];
    always(({ after }) => {
      const requests = wabaIds.map((wabaId) => shareRequest({ wabaId }));
      const changed = requests.filter((request) =>
        reasons.some((reason) => refuse(after, request, reason).business.wabas !== after.wabas),
      );
      expect(changed).toEqual([]);
    });
  });

  test("an attempt is made only where none is unsettled, nothing is shared and no revocation is open or fresh (S3)", () => {
    let attempts = 0;
    always(({ step, before, facts }) => {
      if (!["attempt", "allocate", "attach"].includes(step) || facts === undefined) return;
      attempts += 1;
      expect(before.recordIntent).toBeUndefined();
      const waba = before.wabas[facts.request.wabaId];
      expect(waba?.intent).toBeUndefined();
      expect(isShared(waba)).toBe(false);
      const { revocation } = before;
      expect(revocation?.state).not.toBe("open");
      if (revocation === undefined) return;
      expect(facts.request.requestedAt).toBeGreaterThan(revocation.requestedAt + skewMs);
      // Also after a revocation of nothing: a slow worker of it may still DELETE what it lists (H7b).
      expect(facts.now).toBeGreaterThanOrEqual((revocation.doneAt ?? Infinity) + settleWindowMs);
    });
    expect(attempts).toBeGreaterThan(100);
  });

  test("H9, I1a: a second intent of one attempt exists only after an absence and after the first one's window, once", () => {
    always(({ step, before, after }) => {
      if (step !== "second-post") return;
      const renewed = intentsOf(after).find(([wabaId, { id }]) => before.wabas[wabaId]?.intent?.id !== id);
      const earlier = before.wabas[renewed?.[0] ?? ""]?.intent;
      expect(renewed?.[1].attempt).toBe(2);
      expect(earlier).toMatchObject({ attempt: 1, absentAt: expect.any(Number) });
      expect(after.changedAt).toBeGreaterThan((earlier?.sendDeadline ?? Infinity) + settleWindowMs);
    });
  });

  test("H12: a line is shared with a business a second time only where no record of it is live", () => {
    always(({ step, before, after, facts }) => {
      if (step === "second-record") {
        const { recordIntent: earlier } = before;
        expect(after.recordIntent?.attempt).toBe(2);
        expect(earlier).toMatchObject({ attempt: 1, absentAt: expect.any(Number) });
        expect(after.changedAt).toBeGreaterThan((earlier?.sendDeadline ?? Infinity) + settleWindowMs);
      }
      if (step !== "allocate") return;
      const own = facts?.estate?.records.filter(({ receivingBusinessId }) => receivingBusinessId === businessId);
      expect(facts?.estate?.complete).toBe(true);
      expect(own?.filter(({ seen, creditLineId }) => seen === "live" && creditLineId === lineId)).toEqual([]);
    });
  });

  test("H1: marking a revocation keeps every intent", () => {
    always(({ after }) => {
      const { business: next } = markRevocation(after, revokeRequest(), after.changedAt);
      expect(intentsOf(next)).toEqual(intentsOf(after));
      expect(next.recordIntent?.id).toBe(after.recordIntent?.id);
      expect(Object.values(next.wabas).every(({ status }) => status === "revoking" || status === "revoked")).toBe(true);
    });
  });

  test("I2a: a revocation is over only with every record of ours confirmed deleted in it or before, and no POST unanswered", () => {
    let over = 0;
    always(({ step, before, after }) => {
      if (step !== "run" || after.revocation?.state === "open") return;
      over += 1;
      for (const record of Object.values(after.records)) {
        if (record.foreign === true) continue;
        expect(record).toMatchObject({ state: "deleted", deleteAnswered: { at: expect.any(Number) } });
      }
      expect([after.recordIntent, ...intentsOf(after)]).toEqual([undefined]);
      expect(Object.values(after.wabas).every(({ status }) => status === "revoked")).toBe(true);
      const unanswered = [before.recordIntent, ...intentsOf(before).map(([, one]) => one)];
      for (const { epoch, sendDeadline } of unanswered.filter((one) => one !== undefined)) {
        if (epoch < after.epoch) expect(after.changedAt).toBeGreaterThan(sendDeadline + settleWindowMs);
      }
    });
    expect(over).toBeGreaterThan(50);
  });

  test("I3: a command that only the item holds stays on it until it is answered", () => {
    let answers = 0;
    always(({ step, before, after, change }) => {
      const answered = change?.conclusions.map(({ request }) => request) ?? [];
      const known = [...heldCommands(after), ...answered];
      const lost = heldCommands(before).filter((held) => !known.some((one) => isSame(one, held)));
      // A POST that certainly had no effect is tried again by its own message.
      if (!step.startsWith("settle") || !step.endsWith(":no-effect")) expect(lost).toEqual([]);
      answers += answered.length;
    });
    expect(answers).toBeGreaterThan(1000);
  });

  test("a command that is answered leaves the item: nothing acts for it any more", () => {
    always(({ after, change }) => {
      for (const { request } of change?.conclusions ?? []) {
        expect(heldCommands(after).filter((held) => isSame(held, request))).toEqual([]);
      }
    });
  });

  test("a command is never answered done and refused", () => {
    throughout((moments) => {
      const outcomes = new Map<string, string>();
      for (const { request, outcome } of moments.flatMap(({ change }) => change?.conclusions ?? [])) {
        expect(outcomes.get(request.commandId) ?? outcome).toBe(outcome);
        outcomes.set(request.commandId, outcome);
      }
    });
  });

  test("H7c, I2d: a revocation that is over opens again only while nothing was shared after it", () => {
    let reopened = 0;
    always(({ step, before, after }) => {
      const wasOver = before.revocation?.state === "done" || before.revocation?.state === "nothing";
      if (isMarker(step) || !wasOver || after.revocation?.state !== "open") return;
      reopened += 1;
      const since = Object.values(before.wabas).filter((waba) => isShared(waba) || isSharing(waba));
      expect(since.filter((waba) => waba.allocationId !== undefined || waba.intent !== undefined)).toEqual([]);
    });
    expect(reopened).toBeGreaterThan(0);
  });

  test("W1: a revocation that nobody asked for takes no line from a WABA that was not removed", () => {
    let marked = 0;
    always(({ step, before, after }) => {
      if (step !== "removal:mark-sparing") return;
      marked += 1;
      const asked = [after.revocation?.request, ...(after.revocation?.joined ?? [])].flatMap(
        (one) => one?.wabaId ?? [],
      );
      const noted = Object.entries(before.wabas).flatMap(([id, { removedAt }]) =>
        removedAt === undefined ? [] : [id],
      );
      const taken = Object.entries(before.wabas).flatMap(([id, waba]) => (isHeld(waba) ? [id] : []));
      expect([...asked, ...noted]).toEqual(expect.arrayContaining(taken));
    });
    expect(marked).toBeGreaterThan(20);
  });

  test("what is held is never empty, has at most twenty commands, and changes no WABA's status", () => {
    let held = 0;
    always(({ step, before, after }) => {
      const count = after.held?.requests.length ?? 1;
      expect(count).toBeGreaterThan(0);
      expect(count).toBeLessThanOrEqual(20);
      if (step !== "removal:hold") return;
      held += 1;
      const statuses = Object.values(after.wabas).map(({ status }) => status);
      expect(statuses).toEqual(Object.values(before.wabas).map(({ status }) => status));
    });
    expect(held).toBeGreaterThan(100);
  });

  test("every command that is concluded is concluded with an event that names it", () => {
    always(({ change }) => {
      for (const { request, event, outcome, reason } of change?.conclusions ?? []) {
        expect(event.commandId).toBe(request.commandId);
        expect([outcome, event.reason]).toEqual(outcome === "refused" ? ["refused", reason] : ["done", event.reason]);
      }
    });
  });
});
