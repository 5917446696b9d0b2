import { isCalm } from "../../shared/domain/estate.ts";
import type { Finding } from "../../shared/domain/findings.ts";
import { atScanEnd, closed, commandFor, opened } from "../../shared/domain/findings.ts";
import { ifReadable } from "../../shared/store/unreadable.ts";
import type { DriftCommand, ScanDeps, Slice } from "./scan-slice.ts";
import { askForRecheck, beforeCall, endSlice, enterPhase, moveOn, noteUnshared, viewOf } from "./scan-slice.ts";
import { trustIn } from "./scan-trust.ts";

/**
 * The end of a scan: what two scans in a row have seen, and a look of its own confirms, is a finding, announced and acted
 * upon; what this one has not seen again is over.
 */
export async function settleFindings(slice: Slice, deps: ScanDeps): Promise<void> {
  const { findings, now } = deps;
  for (const { kind, subject } of await findings.unclosedFindings()) {
    const place = `${kind}#${subject}`;
    if (slice.scan.cursor !== undefined && place <= slice.scan.cursor) continue;
    if (now() >= slice.endsAt) await endSlice(slice, "no time is left", deps);
    const finding = await findings.loadFinding(kind, subject);
    if (finding !== undefined && finding.state !== "closed") {
      await settle(finding, slice, deps);
      // At the first sight already: it costs nobody anything when it was nothing.
      const isLive = kind === "revoked_but_live" && finding.lastScanId === slice.scan.scanId;
      if (kind === "waba_left") await noteLeft(subject, slice, deps);
      if (isLive && finding.businessId !== undefined) await askForRecheck(finding.businessId, deps);
    }
    moveOn(slice, { cursor: place }, deps);
  }
  await enterPhase(slice, "upkeep", deps);
}

/** Nothing on the table tells that it left, until what the finding asks for is under way. */
async function noteLeft(wabaId: string, slice: Slice, { findings }: ScanDeps): Promise<void> {
  const finding = await findings.loadFinding("waba_left", wabaId);
  if (finding === undefined || finding.state === "closed") return;
  noteUnshared({ siblings: "none", since: finding.firstSeenAt }, slice);
}

async function settle(finding: Finding, slice: Slice, deps: ScanDeps): Promise<void> {
  const { findings, store, log, now, policy } = deps;
  const { kind, subject, businessId } = finding;
  const next = atScanEnd(finding, slice.scan.scanId, trustIn(finding, slice.scan, policy));
  if (next === "nothing") return;
  // Strongly read, and as it was when it was judged; else the next scan decides (C2).
  const business = businessId === undefined ? undefined : await ifReadable(store.loadBusiness(businessId));
  if (business === "unreadable") {
    log.error("An item cannot be read; the scan goes on without it", { item: businessId });
    return;
  }
  const isSeen = finding.lastScanId === slice.scan.scanId;
  const view = viewOf(slice, deps);
  const inFlux = business !== undefined && kind !== "unsettled_without_due" && !isCalm(business, view);
  if (inFlux && (next === "confirm" || !isSeen)) return;

  const verdict = next === "close" ? "gone" : await confirm(finding, slice, deps);
  if (verdict === "unknown" || (verdict === "there" && next === "look")) return;
  if (verdict === "there") {
    // Before it is recorded: a crash in between sends the very same command again.
    await act(finding, deps);
    const { finding: open, events } = opened(finding, now());
    if (await findings.saveFinding(finding, open, events, now()))
      log.error("Drift found", { kind, subject, businessId });
    return;
  }
  const { finding: over, events } = closed(finding, now());
  if (await findings.saveFinding(finding, over, events, now())) log.info("Drift closed", { kind, subject, businessId });
}

type Verdict = "there" | "gone" | "unknown";

/** One look at Meta right before it is said: a list may lag or lack what a read shows (H16). */
async function confirm(finding: Finding, slice: Slice, deps: ScanDeps): Promise<Verdict> {
  const { kind, wabaId, allocationId } = finding;
  switch (kind) {
    case "waba_left": {
      if (wabaId === undefined) return "unknown";
      await beforeCall(slice, deps);
      const reply = await deps.graph.readWaba(wabaId, undefined, slice.signal);
      // Without an owner the read says nothing: a field may be left out.
      if (reply.ok) return reply.value.ownerBusinessId === undefined ? "unknown" : "gone";
      return reply.failure.class === "missing" ? "there" : "unknown";
    }
    case "allocation_gone": {
      const seen = await readRecord(allocationId, slice, deps);
      return seen === "deleted" || seen === "missing" ? "there" : seen === "live" ? "gone" : "unknown";
    }
    case "allocation_unknown":
    case "revoked_but_live":
    case "record_duplicate": {
      if (wabaId !== undefined) return confirmFunding(finding, slice, deps);
      const seen = await readRecord(allocationId, slice, deps);
      return seen === "live" ? "there" : seen === "deleted" || seen === "missing" ? "gone" : "unknown";
    }
    case "unfunded":
    case "funded_elsewhere":
      return confirmFunding(finding, slice, deps);
    case "allocated_unattached":
    case "unsettled_without_due":
    case "owner_changed":
    case "line_access_revoked":
    default:
      return "there";
  }
}

async function readRecord(allocationId: string | undefined, slice: Slice, deps: ScanDeps) {
  if (allocationId === undefined) return "unreadable";
  await beforeCall(slice, deps);
  const reading = await deps.graph.readAllocation(allocationId, deps.policy.creditLineId, slice.signal);
  // A status that Meta does not document, on a record that a list names: it is there.
  return reading.seen === "strange" ? "live" : reading.seen;
}

/** E7, with the customer's token where this role may read it: one that may not see the funding shows none (unknown 10). */
async function confirmFunding(finding: Finding, slice: Slice, deps: ScanDeps): Promise<Verdict> {
  const { kind, wabaId, businessId, allocationId } = finding;
  if (wabaId === undefined || businessId === undefined) return "unknown";
  const business = await deps.store.loadBusiness(businessId);
  const waba = business?.wabas[wabaId];
  await beforeCall(slice, deps);
  const funding = await deps.graph.readFunding(wabaId, waba?.request.businessTokenSecret, slice.signal);
  if (!funding.known) return "unknown";
  if (kind === "unfunded") return funding.id === undefined ? "there" : "gone";
  if (funding.id === undefined) return "gone";
  if (allocationId === undefined) return "unknown";
  await beforeCall(slice, deps);
  const record = await deps.graph.readAllocation(allocationId, deps.policy.creditLineId, slice.signal);
  const { receivingCredentialId } = record;
  if (receivingCredentialId === undefined) return "unknown";
  const isOurs = receivingCredentialId === funding.id;
  return isOurs === (kind !== "funded_elsewhere") ? "there" : "gone";
}

/** What may be set right without a person. Never a share. */
async function act(finding: Finding, { command, policy }: ScanDeps): Promise<void> {
  const started = driftCommand(finding);
  if (started === undefined) return;
  const { mayStart } = policy;
  if (mayStart.includes(started.type === "verify" ? "verify" : "revoke-left")) await command(started);
}

/** The same finding asks by the same command: its id and its content repeat. */
function driftCommand(finding: Finding): DriftCommand | undefined {
  const { kind, subject, firstScanId, firstSeenAt: requestedAt } = finding;
  const suggested = commandFor(finding);
  const common = { commandId: `drift:${kind}:${subject}:${firstScanId}`, requestedAt };
  if (suggested?.type === "verify") return { ...common, ...suggested };
  return suggested?.type === "revoke" && "wabaId" in suggested ? { ...common, ...suggested } : undefined;
}
