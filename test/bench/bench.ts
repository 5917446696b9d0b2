import { join } from "node:path";
import { limitSuite } from "./limit.ts";
import { runBench } from "./run-bench.ts";
import { commandSuite } from "./command.ts";
import { startSuite } from "./start.ts";

process.exitCode = await runBench(process.argv.slice(2), [startSuite, commandSuite, limitSuite], {
  root: join(import.meta.dirname, "../.."),
  out: (text) => process.stdout.write(text),
  note: (text) => process.stderr.write(text),
});
