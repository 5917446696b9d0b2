#!/usr/bin/env node
import { createProgram, run } from "./command.ts";
import { addDlq } from "./dlq/commands.ts";
import { addList } from "./list.ts";

/** `npx credit-lines`: npx puts the dev-dependency Node 24 first, which runs this file as it is. */
const program = createProgram();
for (const add of [addDlq, addList]) add(program);
await run(program, process.argv.slice(2));
