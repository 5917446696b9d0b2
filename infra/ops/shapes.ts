import type * as z from "zod";
import { ranShape, reconcileShape, sourceShape } from "./control.ts";
import { deadLettersShape, discardShape, replayShape, shownShape } from "./dlq/commands.ts";
import { eventShape } from "./event.ts";
import { explainShape } from "./explain.ts";
import { findingShape, findingsShape } from "./findings.ts";
import { heldShape, resumedShape } from "./held.ts";
import { listShape } from "./list.ts";
import { preflightShape } from "./preflight.ts";
import { reportShape } from "./report.ts";
import { sentShape } from "./send.ts";
import { settleShape } from "./settle.ts";

/** What every command prints with `--json`: the README is written from these. */
export const shapes: Readonly<Record<string, z.ZodType>> = {
  explain: explainShape,
  list: listShape,
  "share, verify, revoke, held release": sentShape,
  settle: settleShape,
  "dlq list": deadLettersShape,
  "dlq show": shownShape,
  "dlq replay": replayShape,
  "dlq discard": discardShape,
  preflight: preflightShape,
  "pause, resume": sourceShape,
  "reconcile run": ranShape,
  "reconcile status": reconcileShape,
  "findings list": findingsShape,
  "findings close": findingShape,
  "held list": heldShape,
  "revocations resume": resumedShape,
  tail: eventShape,
  report: reportShape,
};
