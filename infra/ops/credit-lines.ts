#!/usr/bin/env node
import { run } from "./command.ts";
import { creditLines } from "./program.ts";

/** `npx credit-lines`: npx puts the dev-dependency Node 24 first, which runs this file as it is. */
await run(creditLines(), process.argv.slice(2));
