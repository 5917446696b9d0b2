import { join } from "node:path";
import { costSuite } from "./cost.ts";
import { growthSuite } from "./growth.ts";
import { limitSuite } from "./limit.ts";
import { loadSuite } from "./load.ts";
import { runBench } from "./run-bench.ts";
import { commandSuite } from "./command.ts";
import { startSuite } from "./start.ts";
import { webhookSuite } from "./webhook.ts";

// The short ones first: whoever waits sees soon what is wrong with the machine.
const exitCode = await runBench(
  process.argv.slice(2),
  [startSuite, costSuite, commandSuite, webhookSuite, growthSuite, limitSuite, loadSuite],
  {
    root: join(import.meta.dirname, "../.."),
    out: (text) => process.stdout.write(text),
    note: (text) => process.stderr.write(text),
  },
);
// Not left to what a suite that was given up still holds.
process.exit(exitCode);
