import type { Command } from "commander";
import { createProgram } from "./command.ts";
import { addPause, addReconcile, addResume } from "./control.ts";
import { addDlq } from "./dlq/commands.ts";
import { addExplain } from "./explain.ts";
import { addFindings } from "./findings.ts";
import { addHeld, addRevocations } from "./held.ts";
import { addList } from "./list.ts";
import { addPreflight } from "./preflight.ts";
import { addReport } from "./report.ts";
import { addRevoke, addShare, addVerify } from "./send.ts";
import { addSettle } from "./settle.ts";
import { addTail } from "./tail.ts";

/** `credit-lines`, with all its commands. */
export function creditLines(): Command {
  const program = createProgram();
  const commands = [
    addExplain,
    addList,
    addShare,
    addVerify,
    addRevoke,
    addSettle,
    addDlq,
    addPreflight,
    addPause,
    addResume,
    addReconcile,
    addFindings,
    addHeld,
    addRevocations,
    addTail,
    addReport,
  ];
  for (const add of commands) add(program);
  return program;
}
