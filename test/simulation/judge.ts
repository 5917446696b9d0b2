import type { Change as MetaChange, MetaModel } from "../../infra/local/meta/meta-model.ts";
import { attachmentsOf, isLive, shownFundingId } from "../../infra/local/meta/meta-model.ts";
import { type ParsedBody, parseBody } from "../../shared/contracts/commands.ts";
import type { Business, Intent, ShareRequest, Waba } from "../../shared/domain/business.ts";
import { dueEntries, isHeld, isShared, isSharing, transitions } from "../../shared/domain/business.ts";
import type { RecordedEvent } from "../../shared/domain/events.ts";
import type { Finding } from "../../shared/domain/findings.ts";
import type { CommandRecord } from "../../shared/store/items.ts";
import { businessSchema, commandSchema, eventSchema, keys, pointerSchema } from "../../shared/store/items.ts";
import { count, type Coverage } from "./coverage.ts";
import type { Engine, Invocation, MetaRead } from "./engine.ts";
import type { History, Send } from "./history.ts";
import { clockSkewMs, scansAfterMs, settleWindowMs } from "./history.ts";
import type { MemoryTable, TableChange } from "./memory-store.ts";
import { functionMs, type SentChange } from "./meta-transport.ts";
import type { Message } from "./queue-model.ts";

export type Violation = { invariant: string; message: string };

/** An intent as it was written, and the POST that went under it. */
type KnownIntent = {
  id: string;
  call: "E2" | "E4" | "E5";
  target: string;
  businessId: string;
  epoch: number;
  sendDeadline: number;
  request: ShareRequest;
  invocation: Invocation | undefined;
  sentAt?: number;
};

/** A POST or DELETE by its number in Meta's ledger. */
type KnownCall = {
  name: string;
  subject: string;
  intent?: KnownIntent;
  /** Of a DELETE: the revocation it is sent for. */
  deleteEpoch?: number;
  revokedAt?: number;
  businessId?: string;
};

/** What the judge looks at when it looks around. */
export type JudgedRoom = {
  table: MemoryTable;
  meta: MetaModel;
  messages: Message[];
  bus: RecordedEvent[];
  audit: ReadonlySet<string>;
  logged: unknown[];
  stream: TableChange[];
};

export type Judge = ReturnType<typeof createJudge>;

/**
 * Watches over the invariants of design.md §7: some at the moment they could break, the others when all is quiet, by Meta's
 * ledger and the events. The first violation ends the history.
 */
export function createJudge(history: History, engine: Engine, coverage: Coverage) {
  const intents = new Map<string, KnownIntent>();
  const calls = new Map<number, KnownCall>();
  const pending = new Map<SentChange, KnownCall>();
  const accepted: Send[] = [];
  /** By command id: the first body that was accepted under it, or that there were several. */
  const acceptedBodies = new Map<string | undefined, string | typeof several>();
  const parsedBodies = new Map<string, ParsedBody>();
  const done: { businessId: string; epoch: number; at: number }[] = [];
  const announced = new Map<string, RecordedEvent>();
  const refusals = new Map<string, string>();
  const served: Invocation[] = [];
  /** When a WABA came to be what the table says of it. */
  const becameAt = new Map<string, number>();
  /** Intents that were announced to be in doubt. */
  const doubted = new Set<string>();
  /** Businesses that were written while the first two of the last scans looked. */
  const stirred = new Set<string>();
  const lastWriter = new Map<string, Invocation | undefined>();
  /** One of the last scans could not tell of everything. */
  let isBlind = false;
  let lastBusinessChange: TableChange | undefined;
  let violation: Violation | undefined;
  let room: JudgedRoom | undefined;
  /** Times in the table and our own may be so far apart (A6). */
  const { clocksApartMs: apartMs = 0 } = history;

  /** Promised while A1 to A5 hold; a history that breaks one is not judged by it. */
  function breachable(invariant: string, message: string): void {
    if (history.breach === undefined) broken(invariant, message);
  }

  function broken(invariant: string, message: string): void {
    if (violation !== undefined) return;
    violation = { invariant, message };
    engine.say("JUDGE", `${invariant}: ${message}`);
  }

  function theRoom(): JudgedRoom {
    if (room === undefined) throw new Error("The judge has no room to judge");
    return room;
  }

  // --- what is written

  function onWrite(change: TableChange, invocation: Invocation | undefined): void {
    const { before, after } = change;
    if (after.command !== undefined) {
      judgeRefusal(change);
      judgeRefusedRevoke(after.command);
    }
    const { business, scan } = after;
    if (engine.now() > history.quietAt && (scan?.completed?.cannotTell.length ?? 0) > 0) isBlind = true;
    if (business === undefined) return;
    const old = before?.business;
    engine.say(invocation?.process ?? "table", () => `writes ${summaryOf(business)}`);
    lastBusinessChange = change;
    noteIntents(old, business, invocation);
    for (const [wabaId, waba] of Object.entries(business.wabas)) {
      const known = old?.wabas[wabaId];
      if (known === waba) continue;
      coverage.statuses[waba.status] = (coverage.statuses[waba.status] ?? 0) + 1;
      if (known?.status !== waba.status || known.allocationId !== waba.allocationId) becameAt.set(wabaId, engine.now());
      if (known?.status !== waba.status) {
        const step = `${known?.status ?? "none"} → ${waba.status}`;
        coverage.transitions[step] = (coverage.transitions[step] ?? 0) + 1;
        const allowed: readonly string[] = transitions[known?.status ?? "none"];
        if (!allowed.includes(waba.status))
          broken("chart", `${wabaId} went ${step}, which the state chart does not have`);
      }
      judgeVerified(wabaId, known, waba, old, invocation);
      judgeMismatched(wabaId, known, waba, invocation);
      judgeAdopted(wabaId, known, waba, old, invocation);
    }
    judgeDue(change);
    judgeDoubt(change);
    if (old?.revocation?.state === "open" && isOver(business)) judgeDone(old, business, invocation);
    lastWriter.set(business.businessId, invocation);
    // What changes just before a scan, or during it, is left to the next one (C2).
    const [firstScan = 0, secondScan = 0] = scansAfterMs.map((afterMs) => history.quietAt + afterMs);
    const isWatched = engine.now() > firstScan - settleWindowMs && engine.now() < secondScan + 300_000;
    if (isWatched && invocation?.key.startsWith("scan") !== true) stirred.add(business.businessId);
  }

  function isOver({ revocation }: Business): boolean {
    return revocation?.state === "done" || revocation?.state === "nothing";
  }

  function noteIntents(old: Business | undefined, business: Business, invocation: Invocation | undefined): void {
    const { businessId } = business;
    for (const [wabaId, waba] of Object.entries(business.wabas)) {
      const before = old?.wabas[wabaId]?.intent;
      if (waba.intent === undefined || waba.intent.id === before?.id) continue;
      const call = waba.status === "allocated" ? "E5" : "E2";
      note(waba.intent, waba.request, before, call, wabaId);
    }
    const { recordIntent } = business;
    if (recordIntent !== undefined && recordIntent.id !== old?.recordIntent?.id) {
      note(recordIntent, recordIntent.request, old?.recordIntent, "E4", businessId);
    }

    function note(
      { id, epoch, sendDeadline }: Intent,
      request: ShareRequest,
      before: Intent | undefined,
      call: KnownIntent["call"],
      target: string,
    ): void {
      intents.set(id, { id, call, target, businessId, epoch, sendDeadline, request, invocation });
      const { commandId, hash } = request;
      const row = theRoom().table.get(keys.command(commandId))?.command;
      if (row?.outcome !== undefined && row.hash === hash) {
        broken(
          "T2",
          `${call} of ${target} is begun for ${commandId}, which is concluded (${row.outcome} ${row.reason ?? ""})`,
        );
      }
      if (before === undefined || before.epoch !== epoch) return;
      if (!hasTwoAbsences(before, businessId, invocation)) {
        broken("I1a", `a further intent for ${call} of ${target}, though the earlier one was not found absent twice`);
      }
    }
  }

  /** Two looks at E8, the later begun after the window of the earlier intent, by whom now writes anew. */
  function hasTwoAbsences(before: Intent, businessId: string, invocation: Invocation | undefined): boolean {
    const windowEnd = before.sendDeadline + settleWindowMs;
    const later = invocation?.metaReads.find(
      ({ name, id, sentAt, isOk }) => name === "E8" && id === businessId && isOk && sentAt > windowEnd - apartMs,
    );
    if (later === undefined) return false;
    return theRoom().meta.calls.some(
      (call) =>
        call.name === "E8" &&
        call.query["receiving_business_id"] === businessId &&
        call.status === 200 &&
        call.time >= before.madeAt - apartMs &&
        call.time < later.sentAt,
    );
  }

  /** I9. A settle may be a minute late, since it does not see its siblings. */
  function judgeDue({ after }: TableChange): void {
    const { business, dueAt } = after;
    if (business === undefined) return;
    const { epoch, revocation, recordIntent } = business;
    const unsettled: (number | undefined)[] = [];
    for (const waba of Object.values(business.wabas)) {
      const isAllocating = recordIntent?.epoch === epoch && recordIntent.request.wabaId === waba.request.wabaId;
      if (isSharing(waba) && waba.intent !== undefined && !isAllocating) unsettled.push(waba.due?.nextAt);
    }
    for (const { due } of Object.values(business.waiting)) unsettled.push(due.nextAt);
    if (revocation?.state === "open") unsettled.push(revocation.due?.nextAt);
    if (business.held !== undefined) unsettled.push(business.held.due.nextAt);
    if (recordIntent !== undefined && recordIntent.epoch === epoch) unsettled.push(recordIntent.due?.nextAt);
    for (const nextAt of unsettled) {
      if (nextAt === undefined) return broken("I9", `an unsettled entry of ${business.businessId} has no due time`);
      if (dueAt === undefined || dueAt > Math.max(nextAt, engine.now()) + 60_000 + apartMs) {
        return broken("I9", `the item of ${business.businessId} is due at ${dueAt}, its entry at ${nextAt}`);
      }
    }
  }

  /** S6: a person is told of an attempt in doubt once. */
  function judgeDoubt({ after }: TableChange): void {
    const { business, transition } = after;
    for (const { detailType, wabaId = "" } of transition?.events ?? []) {
      if (detailType !== "Share In Doubt") continue;
      const { id } = business?.wabas[wabaId]?.intent ?? business?.recordIntent ?? {};
      if (id === undefined || doubted.has(id)) return broken("S6", `the doubt of ${wabaId} (${id}) is announced again`);
      doubted.add(id);
    }
  }

  function judgeVerified(
    wabaId: string,
    known: Waba | undefined,
    waba: Waba,
    old: Business | undefined,
    invocation: Invocation | undefined,
  ): void {
    if (waba.status !== "verified") return;
    if (known?.status === "verified" && known.evidence?.verifiedAt === waba.evidence?.verifiedAt) return;
    const loaded = old === undefined ? undefined : invocation?.loads.get(old.businessId);
    if (old === undefined || invocation === undefined || loaded?.version !== old.version) {
      return broken("I4", `${wabaId} became verified by a version that was not loaded`);
    }
    const reads = invocation.metaReads.filter(({ sentAt, isOk }) => isOk && sentAt >= loaded.at);
    const record = merged(reads.filter(({ name, id }) => name === "E6" && id === waba.allocationId));
    const funding = merged(reads.filter(({ name, id }) => (name === "E7" || name === "E3") && id === wabaId));
    const credential = idOf(record["receiving_credential"]);
    const isProven =
      record["request_status"] === undefined &&
      idOf(record["receiving_business"]) === old.businessId &&
      credential !== undefined &&
      credential !== "" &&
      credential === funding["primary_funding_id"];
    if (!isProven) broken("I4", `${wabaId} became verified without E6 and E7 that say so, read after the load`);
  }

  /** V2: only two complete readings are a mismatch. */
  function judgeMismatched(
    wabaId: string,
    known: Waba | undefined,
    waba: Waba,
    invocation: Invocation | undefined,
  ): void {
    if (waba.status !== "mismatched" || known?.status === "mismatched" || invocation === undefined) return;
    const reads = invocation.metaReads.filter(({ isOk }) => isOk);
    const isRead =
      reads.some(({ name, id }) => name === "E6" && id === waba.allocationId) &&
      reads.some(({ name, id }) => (name === "E7" || name === "E3") && id === wabaId);
    if (!isRead) broken("V2", `${wabaId} became mismatched by a read that failed`);
  }

  /** I10, where it costs money: a share believed without a POST of its own. */
  function judgeAdopted(
    wabaId: string,
    known: Waba | undefined,
    waba: Waba,
    old: Business | undefined,
    invocation: Invocation | undefined,
  ): void {
    if (waba.status !== "shared" || known?.status === "shared" || invocation === undefined) return;
    const isOwn = [...intents.values()].some(
      (intent) => intent.invocation === invocation && intent.target === wabaId && intent.sentAt !== undefined,
    );
    if (isOwn || old === undefined || lastWriter.get(old.businessId) === invocation) return;
    // A scan enters what it finds only where no command has ever been: no state is newer than what its list shows.
    const isEntered = waba.request.requestedBy === "estate-scan" && old.epoch === 0 && old.revocation === undefined;
    if (isEntered && invocation.metaReads.some(({ name, body, isOk }) => name === "E13" && isOk && shows(body, wabaId)))
      return;
    const funding = invocation.metaReads.filter(
      ({ name, id, isOk }) => (name === "E7" || name === "E3") && id === wabaId && isOk,
    );
    if (!funding.some(({ sentAt }) => sentAt >= old.changedAt - apartMs)) {
      broken("I10", `${wabaId} became shared by a reading older than the state it changes`);
    }
  }

  /** I11: only the refusal is in the write, nothing else that could change the WABA. */
  function judgeRefusal({ after }: TableChange): void {
    const { command } = after;
    const change = lastBusinessChange;
    if (command?.outcome !== "refused" || command.wabaId === undefined) return;
    // Written together with the item, it is the item that announces it.
    const told = change?.after.transition?.events.some(({ eventId }) => eventId === command.event?.eventId);
    if (change === undefined || told !== true) return;
    const before = change.before?.business?.wabas[command.wabaId];
    const now = change.after.business?.wabas[command.wabaId];
    if (before === undefined || (isSharing(before) && before.intent === undefined)) return;
    // The commands a new share displaces are refused in its own write.
    if (now?.intent !== undefined && now.intent.id !== before.intent?.id) return;
    // And what held or displaced commands are refused by the write of another one that goes on.
    const goesOn = new Set<string>(["Share Accepted", "Revocation Started"]);
    if (change.after.transition?.events.some(({ detailType }) => goesOn.has(detailType))) return;
    if (now?.request.commandId !== before.request.commandId && isSharing(now)) return;
    if (now?.status !== before.status || now.allocationId !== before.allocationId) {
      broken(
        "I11",
        `the refusal of ${command.commandId} changed ${command.wabaId} from ${before.status} to ${now?.status}`,
      );
    }
  }

  /** R1: a revoke is never refused for an owner that is unknown, only for a claim that is not the owner's. */
  function judgeRefusedRevoke({ type, reason, commandId, wabaId }: CommandRecord): void {
    if (type !== "revoke" || reason !== "owner_mismatch" || isReused(commandId)) return;
    const owner = theRoom().meta.wabas.get(wabaId ?? "")?.ownerBusinessId;
    const command = accepted.find(({ body }) => commandIdOf(body) === commandId);
    const claim = /"businessId":"([^"]+)"/.exec(command?.body ?? "")?.[1];
    if (claim === undefined || claim === owner)
      broken("R1", `the revoke ${commandId} was refused, though it names nobody else`);
  }

  /** I2a: R4 and R5 by what Meta was asked and answered. */
  function judgeDone(old: Business, business: Business, invocation: Invocation | undefined): void {
    const { businessId } = business;
    const epoch = old.revocation?.epoch ?? 0;
    done.push({ businessId, epoch, at: engine.now() });
    const reads = invocation?.metaReads.filter(({ isOk }) => isOk) ?? [];
    const listed = reads.filter(({ name, id }) => name === "E8" && id === businessId);
    const freshAt = startOfLastList(listed);
    if (freshAt === undefined) return broken("I2a", `the revocation of ${businessId} is done without a list`);
    const open = [old.recordIntent, ...Object.values(old.wabas).map(({ intent }) => intent)];
    for (const intent of open) {
      if (intent !== undefined && intent.epoch < epoch && freshAt <= intent.sendDeadline + settleWindowMs - apartMs) {
        return broken("I2a", `the revocation of ${businessId} is done, though a POST of ${intent.id} may still land`);
      }
    }
    for (const [recordId, record] of Object.entries(business.records)) {
      if (record.foreign === true) continue;
      const { calls: ledger, changes } = theRoom().meta;
      const begun = changes.findLast(
        ({ kind, allocationId, callNumber }) =>
          callNumber !== undefined && allocationId === recordId && isBeginning(kind),
      );
      const last = changes.findLast(
        ({ kind, allocationId }) => allocationId === recordId && (isBeginning(kind) || kind === "allocation_deleted"),
      );
      // Hands have ended that life: there is nothing to delete, and the list says so.
      if (last !== begun && last?.callNumber === undefined) continue;
      const sent = ledger.find(
        ({ n, time }) =>
          calls.get(n)?.name === "E9" && calls.get(n)?.subject === recordId && time >= (begun?.time ?? 0),
      );
      // One that was sent before that life began may have landed in it: nobody knew of that life, and the last list says that
      // it is over.
      if (sent === undefined && last !== begun && (last?.time ?? Infinity) < freshAt) continue;
      const deletedAt = sent?.time ?? (last === begun ? undefined : last?.time);
      // A life that no list shows (A4) is not known to anybody.
      if (deletedAt === undefined) return breachable("I2a", `done without a DELETE of ${recordId}`);
      const isConfirmed = ledger.some(
        (call) =>
          call.name === "E6" && call.path === `/${recordId}` && call.time >= deletedAt && call.status !== undefined,
      );
      // Nor is a life that began when no POST may land any more (A1, A2), and that a late DELETE ended.
      if (!isConfirmed) return breachable("I2a", `done without a look at ${recordId} after its DELETE`);
    }
    const freshReads = listed.filter(({ sentAt }) => sentAt >= freshAt);
    for (const id of freshReads.flatMap(({ body }) => liveIdsOf(body))) {
      const record = business.records[id];
      const isDead = [...calls.values()].some(
        (call) => call.name === "E9" && call.subject === id && call.deleteEpoch === epoch,
      );
      if (record?.foreign !== true && !isDead) {
        return broken("I2a", `the revocation of ${businessId} is done, though its last list shows ${id}`);
      }
    }
    const listedAfter = invocation?.deletedAt ?? 0;
    if (freshAt < listedAfter) broken("I2a", `the last list of ${businessId} is older than the last DELETE`);
  }

  // --- what is sent to Meta

  function onSent(sent: SentChange): void {
    const { name, subject, invocation } = sent;
    engine.say(invocation.process, `SENDS ${name} ${subject}`);
    coverage.sent[name] = (coverage.sent[name] ?? 0) + 1;
    const known: KnownCall = { name, subject };
    pending.set(sent, known);
    if (name === "E2" || name === "E4" || name === "E5") {
      const intent = [...intents.values()].find(
        (one) =>
          one.invocation === invocation && one.call === name && one.target === subject && one.sentAt === undefined,
      );
      if (intent === undefined)
        return broken("I1a", `${name} of ${subject} is sent without an intent of its sender's own`);
      intent.sentAt = engine.now();
      if (history.breach !== "A1" && engine.now() > intent.sendDeadline + functionMs) {
        return broken("I1a", `${name} of ${subject} leaves later than its deadline and the function's time-out`);
      }
      known.intent = intent;
      known.businessId = intent.businessId;
      return;
    }
    if (name !== "E9") return;
    invocation.deletedAt = engine.now();
    const named = invocation.metaReads.filter((read) => read.name === "E6" && read.id === subject && read.isOk);
    const businessId = idOf(merged(named)["receiving_business"]);
    const loaded = businessId === undefined ? undefined : invocation.loads.get(businessId);
    if (businessId === undefined || loaded === undefined) {
      return broken("I5", `a DELETE of ${subject} is sent, though its business was not read in the run or is another`);
    }
    known.businessId = businessId;
    known.deleteEpoch = loaded.epoch;
    if (loaded.revokedAt !== undefined) known.revokedAt = loaded.revokedAt;
  }

  function onReceived(sent: SentChange, callNumber: number): void {
    const known = pending.get(sent);
    if (known !== undefined) calls.set(callNumber, known);
  }

  // --- commands and messages

  /** As the product reads it; each body once. */
  function parse(work: Message["work"], body: string, sentAt: number): ParsedBody {
    const key = `${work} ${sentAt} ${body}`;
    const known = parsedBodies.get(key);
    if (known !== undefined) return known;
    const parsed = parseBody(work, body, { sentAt, clockSkewMs });
    parsedBodies.set(key, parsed);
    return parsed;
  }

  function onAcknowledged(message: Message): void {
    const commandId = commandIdOf(message.body);
    if (isReused(commandId)) return;
    if (commandId === undefined || message.body.includes('"continue"')) return;
    if (!isKept(message)) broken("I3", `${message.key} is deleted, and ${commandId} is nowhere`);
  }

  function isReused(commandId: string | undefined): boolean {
    return acceptedBodies.get(commandId) === several;
  }

  /** Where an accepted command is: a queue, the dead letters, an entry of an item, or the recorded outcomes. */
  function isKept(message: { body: string; work: Message["work"] }): boolean {
    if (outcomeOf(message) !== undefined) return true;
    const { messages, table } = theRoom();
    const { body } = message;
    if (isNoted(parse(message.work, body, Infinity))) return true;
    if (messages.some((one) => one.place !== "gone" && one.body === body)) return true;
    const commandId = commandIdOf(body) ?? "";
    for (const { business, pointer } of table.items.values()) {
      if (pointer?.pendingRevoke?.requests.some((request) => request.commandId === commandId) === true) return true;
      if (business === undefined) continue;
      if (dueEntries(business).some((entry) => entry.commandId === commandId)) return true;
      const { revocation, held } = business;
      const others = [...(revocation?.joined ?? []), ...(held?.requests ?? [])];
      if (others.some((request) => request.commandId === commandId)) return true;
    }
    return false;
  }

  /** What a notice tells of a WABA's owner, or of its return, stands on the WABA's item (R1, W2). */
  function isNoted(parsed: ParsedBody): boolean {
    if (parsed.kind !== "notice") return false;
    const { event, wabaId, at } = parsed.notice;
    const { pointer } = theRoom().table.get(keys.waba(wabaId)) ?? {};
    if (event === "PARTNER_ADDED") return (pointer?.addedAt ?? 0) >= at;
    return event === "PARTNER_REMOVED" && pointer?.businessId !== undefined;
  }

  /** The row that says what became of this very content. */
  function outcomeOf({ body, work }: { body: string; work: Message["work"] }) {
    const { table } = theRoom();
    const parsed = parse(work, body, Infinity);
    const about = parsed.kind === "command" ? parsed.request : parsed.kind === "notice" ? parsed.notice : undefined;
    const hash = about?.hash ?? (parsed.kind === "invalid" ? parsed.hash : "");
    const own = about === undefined ? undefined : table.get(keys.command(about.commandId))?.command;
    if (own?.outcome !== undefined && own.hash === hash) return own;
    const rejected = table.get(keys.command(`sha256:${hash}`))?.command;
    if (rejected?.outcome !== undefined) return rejected;
    // Which bodies are invalid also depends on when they were sent: then the row stands under the hash of the body.
    const asInvalid = parse(work, body, -Infinity);
    const row = asInvalid.kind === "invalid" ? table.get(keys.command(`sha256:${asInvalid.hash}`))?.command : undefined;
    return row?.outcome === undefined ? undefined : row;
  }

  /** I8: a body that can never be read goes to the dead letters at once, whatever its neighbours do. */
  function onServed(invocation: Invocation, batch: Message[], failed: string[]): void {
    served.push(invocation);
    if (invocation.faults > 0) return;
    for (const { key, work, body } of batch) {
      if (!failed.includes(key) || body.includes('"continue"')) continue;
      const parsed = parse(work, body, Infinity);
      if (parsed.kind === "invalid" && failed.includes(key)) broken("I8", `the unreadable ${key} was given back`);
    }
  }

  /** T2: a command that comes again gets the same answer under the same id. */
  function judgeRefusals({ detailType, commandId, eventId }: RecordedEvent): void {
    if (!detailType.endsWith(" Refused") || commandId === undefined || isReused(commandId)) return;
    const before = refusals.get(commandId) ?? eventId;
    refusals.set(commandId, before);
    if (before !== eventId) broken("T2", `${commandId} is refused under ${before} and again under ${eventId}`);
  }

  /** S7: every id that an answer named is on its item, however late the answer came. */
  function judgeAnswers({ key, process, metaReads }: Invocation): void {
    if (!process.isAlive) return;
    const own = engine.faults.filter((fault) => fault.key.startsWith(`${key}#`));
    if (own.some(({ boundary }) => storeBoundaries.has(boundary))) return;
    for (const { name, id, body, isOk } of metaReads) {
      const answered = recordOf(body)["allocation_config_id"];
      if (!isOk || (name !== "E2" && name !== "E4") || typeof answered !== "string") continue;
      const businessId =
        name === "E4"
          ? id
          : history.customers.find(({ wabas }) => wabas.some(({ wabaId }) => wabaId === id))?.businessId;
      const item = theRoom().table.get(keys.business(businessId ?? ""))?.business;
      if (item?.records[answered] === undefined) broken("S7", `${answered}, which ${name} answered, is on no item`);
    }
  }

  function onEvent(event: RecordedEvent): void {
    coverage.events[event.detailType] = (coverage.events[event.detailType] ?? 0) + 1;
    judgeRefusals(event);
    const known = announced.get(event.eventId);
    if (known !== undefined && canonical(known) !== canonical(event)) {
      broken("I3", `two different events are announced under ${event.eventId}`);
    }
    announced.set(event.eventId, event);
  }

  // --- when all is quiet

  /** @param isCut before all that was under way had come to its end. */
  function judgeEnd(isCut: boolean): void {
    for (const invocation of served) judgeAnswers(invocation);
    const { meta, table, stream, audit } = theRoom();
    judgeEffects(meta);
    judgeRevoked(meta);
    judgeLateAnswers(meta);
    // What depends on no order of things needs no look in every history.
    if (history.seed % 4 === 0) {
      for (const item of table.items.values()) judgeItem(item);
      judgeSecrets();
    }
    if (isCut) return;
    judgeBelief(meta);
    // A long history goes on for weeks after its last scan.
    if (history.endAt - history.quietAt < 5 * 3_600_000) judgeFindings(meta);
    for (const send of accepted) judgeAnswered(send);
    for (const { after } of stream) {
      const { transition } = after;
      // What was written last may still be on its way.
      if (transition === undefined || transition.changedAt > history.endAt - 900_000) continue;
      if (!audit.has(transition.id)) broken("I3", `the change ${transition.id} of ${after.pk} is not audited`);
      for (const { eventId, detailType } of transition.events) {
        if (!announced.has(eventId)) broken("I3", `${detailType} (${eventId}) was recorded and never announced`);
      }
    }
  }

  /** I1b: per target and epoch one POST takes effect. */
  function judgeEffects(meta: MetaModel): void {
    const effects = new Map<string, MetaChange[]>();
    const counted = new Set<number>();
    for (const change of meta.changes) {
      const { callNumber, kind } = change;
      const intent = callNumber === undefined ? undefined : calls.get(callNumber)?.intent;
      if (callNumber === undefined || intent === undefined || counted.has(callNumber)) continue;
      // A record that no WABA of its call came to be attached to is an effect only while no other WABA uses it.
      const isEffect = kind === "waba_attached" || intent.call === "E4";
      const isOrphan = isBeginning(kind) && !meta.attachments.some((one) => one.allocationId === change.allocationId);
      if (!isEffect && !isOrphan) continue;
      counted.add(callNumber);
      const key = `${intent.call === "E4" ? "business" : "WABA"} ${intent.target} in epoch ${intent.epoch}`;
      const earlier = effects.get(key) ?? [];
      const previous = earlier.at(-1);
      effects.set(key, [...earlier, change]);
      if (previous === undefined) continue;
      // What hands took away in between, we may give again (A7).
      const byHand = meta.changes.some(
        (other) =>
          other.callNumber === undefined &&
          other.time >= previous.time &&
          other.time <= change.time &&
          (other.businessId === intent.businessId || other.wabaId === intent.target),
      );
      if (!byHand)
        breachable("I1b", `two POSTs took effect for the ${key} (calls ${previous.callNumber} and ${callNumber})`);
    }
  }

  /** I2b and I2d, from the lives of the records. */
  function judgeRevoked(meta: MetaModel): void {
    for (const begun of meta.changes) {
      if (!isBeginning(begun.kind)) continue;
      const intent = begun.callNumber === undefined ? undefined : calls.get(begun.callNumber)?.intent;
      if (intent === undefined) continue;
      const ended = meta.changes.find(
        ({ kind, allocationId, n }) =>
          kind === "allocation_deleted" && allocationId === begun.allocationId && n > begun.n,
      );
      for (const { businessId, epoch, at } of done) {
        if (businessId !== intent.businessId || intent.epoch >= epoch) continue;
        if (ended === undefined || ended.time > at) {
          breachable(
            "I2b",
            `${begun.allocationId} of epoch ${intent.epoch} is live after ${businessId} was revoked in epoch ${epoch}`,
          );
        }
      }
      const killer = ended?.callNumber === undefined ? undefined : calls.get(ended.callNumber);
      const { revokedAt } = killer ?? {};
      const { requestedAt, reshareAfterRevocation } = intent.request;
      const deletedAt = ended?.time ?? 0;
      const isAccepted = [...announced.values()].some(
        ({ detailType, commandId, occurredAt }) =>
          detailType === "Share Accepted" && commandId === intent.request.commandId && occurredAt < deletedAt - apartMs,
      );
      const isNewer = reshareAfterRevocation && requestedAt > (revokedAt ?? Infinity) + clockSkewMs;
      if (isAccepted && isNewer) {
        breachable(
          "I2d",
          `a revocation of ${revokedAt} took ${begun.allocationId}, which was shared anew at ${requestedAt}`,
        );
      }
      if (killer?.deleteEpoch !== undefined && intent.epoch >= killer.deleteEpoch) {
        breachable(
          "I2d",
          `the DELETE of epoch ${killer.deleteEpoch} took ${begun.allocationId}, which was shared after it`,
        );
      }
    }
  }

  /** I2c, as far as a late answer shows it (S7): a live record of a revoked business is on its way to be deleted, or told of. */
  function judgeLateAnswers(meta: MetaModel): void {
    for (const intent of intents.values()) {
      const { invocation, businessId, call, target, epoch } = intent;
      if (invocation?.isOver !== true) continue;
      const answer = invocation.metaReads.find(({ name, id, isOk }) => isOk && name === call && id === target);
      const recordId = recordOf(answer?.body)["allocation_config_id"];
      const record = typeof recordId === "string" ? meta.allocations.get(recordId) : undefined;
      if (record === undefined || !isLive(record, "truth", engine.now())) continue;
      const begun = meta.changes.findLast(({ kind, allocationId }) => allocationId === record.id && isBeginning(kind));
      // Hands may have revived it (A7).
      if (begun?.callNumber === undefined || calls.get(begun.callNumber)?.intent !== intent) continue;
      const item = theRoom().table.get(keys.business(businessId))?.business;
      const isRevoked =
        item !== undefined && isOver(item) && epoch < item.epoch && !Object.values(item.wabas).some(isHeld);
      const isTold = [...announced.values()].some(
        ({ detailType, allocationConfigId }) => detailType === "Drift Found" && allocationConfigId === record.id,
      );
      // What the list hides (A4), no scan sees.
      if (isRevoked && !isTold)
        breachable("I2c", `${record.id} of the revoked ${businessId} is live, though its answer came`);
    }
  }

  /** I6, where nobody but us has had a hand in it: what is believed shared is funded by that record. */
  function judgeBelief(meta: MetaModel): void {
    for (const { business } of theRoom().table.items.values()) {
      if (business === undefined) continue;
      const touched = meta.changes.some(
        ({ callNumber, businessId, time }) =>
          callNumber === undefined && businessId === business.businessId && time > history.startAt,
      );
      if (touched) continue;
      for (const [wabaId, waba] of Object.entries(business.wabas)) {
        if (waba.status !== "shared" && waba.status !== "verified") continue;
        const isFunded = attachmentsOf(meta, wabaId).some(({ to }) => to === undefined);
        if (!isFunded) breachable("I6", `${wabaId} is ${waba.status} here, and not funded by us at Meta`);
      }
    }
  }

  /** I6 after the scans: what is open names a difference, and what nobody explains is open. */
  function judgeFindings(meta: MetaModel): void {
    const { table } = theRoom();
    const now = engine.now();
    const items = [...table.items.values()];
    const open = items.flatMap(({ finding }) => (finding?.state === "open" ? [finding] : []));
    const lastScanAt = items.find(({ scan }) => scan !== undefined)?.scan?.completed?.startedAt ?? now;
    for (const finding of open) {
      count(coverage.findings, finding.kind);
      if (isTrue(finding, meta, now)) continue;
      // An item that a look changed within the window of the last scan was not calm: the next one closes what is over (C2).
      const { changedAt = 0 } = table.get(keys.business(finding.businessId ?? ""))?.business ?? {};
      if (changedAt > lastScanAt - settleWindowMs) continue;
      breachable("I6", `the finding ${finding.kind} of ${finding.subject} is open, and there is no such difference`);
    }
    const { completed, unread, unshown } = table.get(keys.scan)?.scan ?? {};
    if (completed === undefined || unread?.length !== 0) return;
    // A list that has shrunk says nothing of what it lacks (C2), and that it has is told.
    if (!isBlind && unshown?.length === 0) judgeAgreement(meta, open);
    for (const allocation of meta.allocations.values()) {
      const { id, receivingBusinessId: businessId, spans } = allocation;
      // Two scans have seen it.
      const since = spans.at(-1)?.from.truth ?? now;
      if (!isLive(allocation, "truth", now) || since > history.quietAt) continue;
      const business = table.get(keys.business(businessId))?.business;
      if (business === undefined || business.changedAt > history.quietAt) continue;
      const explained = business.records[id] !== undefined || open.some(({ subject }) => subject === id);
      if (!explained) breachable("I6", `${id} of ${businessId} is live, no item explains it and no finding names it`);
    }
  }

  /** I6: what hands did is on the table, or one finding names it. */
  function judgeAgreement(meta: MetaModel, open: readonly Finding[]): void {
    const { variants } = meta;
    // Of funding that no list shows, no scan can tell.
    if (variants.fundingVisibleTo === "business" || variants.credentialPer === "waba-one-record") return;
    // Nor is anything proven of a record whose status nobody knows: a person must look.
    if (variants.requestStatusOnLive === "ACTIVE") return;
    for (const { businessId, wabas } of history.customers) {
      const business = theRoom().table.get(keys.business(businessId))?.business;
      const isOld = meta.changes.every(
        (change) => change.time <= history.quietAt || (change.businessId !== businessId && change.wabaId === undefined),
      );
      if (business === undefined || !isOld || stirred.has(businessId)) continue;
      for (const { wabaId } of wabas) {
        const waba = business.wabas[wabaId];
        const known = meta.wabas.get(wabaId);
        if (known?.sharedWithPartner !== true || (becameAt.get(wabaId) ?? 0) > history.quietAt) continue;
        // A partner switch pays from the 1st.
        const paying = attachmentsOf(meta, wabaId).find(({ to }) => to === undefined);
        if (paying !== undefined && paying.from.e7 > engine.now()) continue;
        const own = open.filter((finding) => finding.wabaId === wabaId || finding.subject === wabaId);
        // A finding of a sibling may name the record that both are paid by; one of the record itself stands for all of them.
        // Of one that was never attached, what becomes of its record is another difference.
        const records = [isShared(waba) ? waba.allocationId : undefined, paying?.allocationId];
        const named = open.filter((finding) => own.includes(finding) || records.includes(finding.subject));
        // Where several live records pay by one credential, nobody can tell which pays for this WABA: their findings are their own.
        const payers = [...meta.allocations.values()].filter(
          (one) => one.receivingCredentialId === paying?.credentialId && isLive(one, "truth", engine.now()),
        );
        const names = (payers.length > 1 ? own : named).filter(
          // That a business has two records is a difference of its own, whomever the second pays for (74011241).
          ({ kind }) => kind !== "record_duplicate",
        );
        // One that is not proven yet has its verification due.
        const isBelieved = waba?.status === "verified" || (waba?.status === "shared" && waba.due === undefined);
        const isRevoked = waba === undefined || waba.status === "revoked";
        // By what a record pays is known once E6 was read of it, or the list that a first scan adopted it from.
        const credentials = [
          ...Object.values(business.wabas).map(({ evidence }) => evidence?.receivingCredentialId),
          ...Object.values(business.records).map(({ credentialId }) => credentialId),
        ];
        const isKnown =
          paying !== undefined &&
          (credentials.includes(paying.credentialId) || business.records[paying.allocationId]?.state === "live");
        const isUnknown = isKnown && isRevoked && business.revocation?.state !== "open";
        const isLost = isBelieved && paying === undefined;
        const what = `${wabaId} is ${waba?.status ?? "unknown"} here and ${paying === undefined ? "not " : ""}funded at Meta`;
        if ((isLost || isUnknown) && named.length === 0) breachable("I6", `${what}, and no finding says so`);
        if (names.length > 1) breachable("I6", `${what}: ${names.map(({ kind }) => kind).join(", ")}`);
      }
    }
  }

  function isTrue(
    { kind, subject, wabaId = "", businessId = "", allocationId = "" }: Finding,
    meta: MetaModel,
    now: number,
  ) {
    const business = theRoom().table.get(keys.business(businessId))?.business;
    const allocation = meta.allocations.get(allocationId);
    const isThere = allocation !== undefined && isLive(allocation, "truth", now);
    const waba = meta.wabas.get(wabaId);
    const funding = waba === undefined ? undefined : shownFundingId(meta, waba, now);
    const own = business?.wabas[wabaId]?.evidence?.receivingCredentialId;
    // Also by one that is deleted: a WABA that was away then stays attached.
    const isPaid = funding !== undefined && funding === allocation?.receivingCredentialId;
    switch (kind) {
      case "allocation_unknown":
        return wabaId === "" ? isThere && business?.records[subject]?.state !== "live" : isPaid;
      case "revoked_but_live":
        return wabaId === "" ? isThere : isPaid;
      case "record_duplicate":
        return isThere;
      case "allocation_gone":
        return !isThere;
      case "funded_elsewhere":
        return funding !== undefined && funding !== own;
      case "unfunded":
        return funding === undefined;
      case "waba_left":
        return waba?.sharedWithPartner === false;
      case "allocated_unattached":
        return business?.wabas[wabaId]?.status === "allocated";
      case "line_access_revoked":
        return meta.lines.get(subject)?.accessRevoked === true;
      case "owner_changed":
      case "unsettled_without_due":
      default:
        return false;
    }
  }

  function judgeAnswered(send: Send): void {
    const { body, work } = send;
    if (isReused(commandIdOf(body))) return;
    const row = outcomeOf({ body, work });
    if (row === undefined) {
      if (isNoted(parse(work, body, Infinity))) return;
      if (!isKept({ body, work })) return broken("I3", `${send.id} is nowhere: ${body}`);
      if (!isLeftToPerson(commandIdOf(body))) {
        breachable("I3", `${send.id} has no outcome though all is quiet, and nobody was told: ${body}`);
      }
      return;
    }
    coverage.outcomes[`${row.outcome} ${row.reason ?? ""}`] =
      (coverage.outcomes[`${row.outcome} ${row.reason ?? ""}`] ?? 0) + 1;
    if (row.event === undefined || !announced.has(row.event.eventId)) {
      broken("I3", `the outcome ${row.outcome} of ${send.id} was never announced`);
    }
  }

  /** What a command waits for was announced, to it or about the business it waits for. */
  function isLeftToPerson(commandId: string | undefined): boolean {
    const events = [...announced.values()];
    if (events.some((event) => event.commandId === commandId && askForHelp.has(event.detailType))) return true;
    for (const { business, pointer } of theRoom().table.items.values()) {
      // A person's after a day (R1).
      if (pointer?.pendingRevoke?.requests.some((request) => request.commandId === commandId) === true) return true;
      if (business === undefined) continue;
      const { revocation, waiting, held } = business;
      const waits =
        held?.requests.some((request) => request.commandId === commandId) === true ||
        Object.values(waiting).some(({ request }) => request.commandId === commandId) ||
        revocation?.request.commandId === commandId ||
        revocation?.joined.some((request) => request.commandId === commandId) === true ||
        Object.values(business.wabas).some(({ due }) => due?.request.commandId === commandId);
      if (waits && isDueLater(business, commandId)) return true;
      if (
        waits &&
        events.some((event) => event.businessId === business.businessId && askForHelp.has(event.detailType))
      ) {
        return true;
      }
    }
    const { messages, table } = theRoom();
    const own = messages.filter(({ place, body }) => place !== "gone" && commandIdOf(body) === commandId);
    if (own.some(({ place }) => place === "dead letters")) return true;
    if (own.some(({ body }) => events.some((event) => isAbout(event, body, history)))) return true;
    // Behind a share of the same WABA that waits itself.
    return own.some(({ body }) =>
      [...table.items.values()].some(({ business }) =>
        Object.keys(business?.waiting ?? {}).some((wabaId) => body.includes(wabaId)),
      ),
    );
  }

  /** It, or the share before it, waits for a moment beyond the end: the first of a month, a window, a next look. */
  function isDueLater(business: Business, commandId: string | undefined): boolean {
    const own = dueEntries(business).filter((entry) => entry.commandId === commandId);
    return own.every(({ due }) => due.nextAt > history.endAt - 900_000);
  }

  /** What the table holds is what the product can read back, nothing more and nothing less. */
  function judgeItem({ pk, business, pointer, command }: { pk: string } & Partial<Record<string, unknown>>): void {
    for (const [schema, value] of [
      [businessSchema, business],
      [pointerSchema, pointer],
      [commandSchema, command],
    ] as const) {
      if (value === undefined) continue;
      const parsed = schema.safeParse(value);
      if (!parsed.success) return broken("schema", `${pk} cannot be read back: ${parsed.error.message.slice(0, 200)}`);
      if (canonical(parsed.data) !== canonical(value))
        broken("schema", `${pk} loses a part of itself when it is read back`);
    }
  }

  function judgeSecrets(): void {
    const { table, bus, messages, logged } = theRoom();
    const places = { table: [...table.items.values()], bus, messages, logged };
    for (const [place, value] of Object.entries(places)) {
      if (JSON.stringify(value).includes("EAAcanary")) broken("I7", `a token stands in the ${place}`);
    }
    for (const call of theRoom().meta.calls) {
      if (call.violation !== undefined) broken("I7", `${call.path}: ${call.violation}`);
    }
    for (const event of bus)
      if (!eventSchema.safeParse(event).success) broken("schema", `${event.detailType} is malformed`);
  }

  return {
    onWrite,
    onSent,
    onReceived,
    onAcknowledged,
    onServed,
    onEvent,
    judgeEnd,
    onAccepted(send: Send) {
      accepted.push(send);
      const commandId = commandIdOf(send.body);
      const before = acceptedBodies.get(commandId) ?? send.body;
      acceptedBodies.set(commandId, before === send.body ? before : several);
    },
    onLoad(invocation: Invocation, answer: unknown) {
      const business = answer as Business | undefined;
      if (business === undefined) return;
      const { businessId, version, epoch, revocation } = business;
      const revokedAt = revocation?.requestedAt;
      // The records of a batch load side by side: the first load of a version is what any of them may rest on.
      if (invocation.loads.get(businessId)?.version === version) return;
      invocation.loads.set(businessId, { version, epoch, at: engine.now(), revokedAt });
    },
    attach(next: JudgedRoom) {
      room = next;
    },
    violation: () => violation,
  };
}

const several = Symbol("several");

function isBeginning(kind: MetaChange["kind"]): boolean {
  return kind === "allocation_created" || kind === "allocation_revived";
}

/** Where a fault may keep an answer from being recorded. */
const storeBoundaries: ReadonlySet<string> = new Set(["settle", "commit", "loadBusiness"]);

const askForHelp: ReadonlySet<string> = new Set([
  "Share In Doubt",
  "Revocation Incomplete",
  "Revocation Held",
  "Command Blocked",
  "Drift Found",
]);

/** Of the business that the message is about: a doubt on one of its WABAs also holds what concerns all of them. */
function isAbout({ detailType, businessId }: RecordedEvent, body: string, { customers }: History): boolean {
  const customer = customers.find((one) => one.businessId === businessId);
  const ids = customer === undefined ? [] : [customer.businessId, ...customer.wabas.map(({ wabaId }) => wabaId)];
  return askForHelp.has(detailType) && ids.some((id) => body.includes(id));
}

/** Whether the list shows the WABA as funded. */
function shows(body: unknown, wabaId: string): boolean {
  const { data } = recordOf(body);
  return (Array.isArray(data) ? data.map(recordOf) : []).some(
    ({ id, primary_funding_id: fundingId }) => id === wabaId && fundingId !== undefined,
  );
}

function startOfLastList(listed: MetaRead[]): number | undefined {
  let index = listed.length - 1;
  while (index > 0 && hasNext(listed[index - 1]?.body)) index -= 1;
  return listed[index]?.sentAt;
}

function hasNext(body: unknown): boolean {
  const { paging } = recordOf(body);
  return recordOf(paging)["next"] !== undefined;
}

function liveIdsOf(body: unknown): string[] {
  const { data } = recordOf(body);
  const items = Array.isArray(data) ? data.map(recordOf) : [recordOf(body)];
  return items.filter((item) => item["request_status"] !== "DELETED").flatMap((item) => idOf(item) ?? []);
}

function merged(reads: MetaRead[]): Record<string, unknown> {
  return Object.assign({}, ...reads.map(({ body }) => recordOf(body)));
}

function idOf(value: unknown): string | undefined {
  const { id } = recordOf(value);
  return typeof id === "string" ? id : undefined;
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function commandIdOf(body: string): string | undefined {
  return /"commandId":"([^"]+)"/.exec(body)?.[1];
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) =>
    typeof one === "object" && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : one,
  );
}

function summaryOf(business: Business): string {
  const { businessId, version, epoch, revocation, recordIntent } = business;
  const wabas = Object.entries(business.wabas).map(
    ([wabaId, { status, intent, due }]) =>
      `${wabaId} ${status}${intent === undefined ? "" : ` (intent ${intent.id}, attempt ${intent.attempt})`}${due === undefined ? "" : ` due ${due.request.commandId}/${due.looks}`}`,
  );
  const records = Object.entries(business.records).map(([id, { state, epoch: of }]) => `${id} ${state}/${of}`);
  return [
    `${businessId} v${version} epoch ${epoch}`,
    ...(revocation === undefined ? [] : [`revocation ${revocation.state} ${revocation.openReason ?? ""}`]),
    ...(recordIntent === undefined ? [] : [`E4 intent ${recordIntent.id}`]),
    ...wabas,
    ...records,
    ...Object.entries(business.waiting).map(([wabaId, { request }]) => `${wabaId} waits: ${request.commandId}`),
  ].join("; ");
}
