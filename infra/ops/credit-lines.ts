#!/usr/bin/env node
import { createProgram, run } from "./command.ts";
import { addPause, addReconcile, addResume } from "./control.ts";
import { addDlq } from "./dlq/commands.ts";
import { addExplain } from "./explain.ts";
import { addHeld, addRevocations } from "./held.ts";
import { addList } from "./list.ts";
import { addPreflight } from "./preflight.ts";
import { addReport } from "./report.ts";
import { addRevoke, addShare, addVerify } from "./send.ts";
import { addSettle } from "./settle.ts";
import { addTail } from "./tail.ts";

/** `npx credit-lines`: npx puts the dev-dependency Node 24 first, which runs this file as it is. */
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
  addHeld,
  addRevocations,
  addTail,
  addReport,
];
for (const add of commands) add(program);
await run(program, process.argv.slice(2));
