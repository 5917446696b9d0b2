import { parseArgs } from "node:util";
import { startLocalStack } from "./local-stack.ts";

const help = `npm run local -- [options]

Runs the stack on this machine until Ctrl-C: queues, tables, functions, bus, schedule and a stand-in for Meta.
When ready it prints one line of JSON on standard output; everything else goes to standard error.

  --port N               address of all AWS services: http://127.0.0.1:N (4566; 0 = any free port)
  --stage-config FILE    JSON, laid over the stage "local" (see infra/config.ts)
  --secrets FILE         JSON, secret name → value (default: the world's system token)
  --world FILE           JSON, what Meta knows (default: the sample world, infra/local/sample/world.ts)
  --graph-url URL        another Graph server instead of the stand-in; on this machine only,
  --allow-remote-graph   unless this is given: the server is sent the system token
  --data DIR             keep tables and the functions' logs there
  --verbose              print the functions' logs
  --help

CLOCK_OFFSET_MS=N in the environment lets the functions and the stand-in run N milliseconds ahead.`;

function readOptions() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "4566" },
      "stage-config": { type: "string" },
      secrets: { type: "string" },
      world: { type: "string" },
      "graph-url": { type: "string" },
      "allow-remote-graph": { type: "boolean", default: false },
      data: { type: "string" },
      verbose: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (!/^\d{1,5}$/.test(values.port)) throw new Error("--port must be a number from 0 to 65535");
  return values;
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options.help) {
    console.log(help);
    return;
  }
  const stack = await startLocalStack({
    port: Number(options.port),
    allowRemoteGraph: options["allow-remote-graph"],
    onLog: (line) => {
      if (options.verbose) console.error(line);
    },
    ...(options["stage-config"] === undefined ? {} : { stageConfigFile: options["stage-config"] }),
    ...(options.secrets === undefined ? {} : { secretsFile: options.secrets }),
    ...(options.world === undefined ? {} : { worldFile: options.world }),
    ...(options["graph-url"] === undefined ? {} : { graphUrl: options["graph-url"] }),
    ...(options.data === undefined ? {} : { dataDirectory: options.data }),
  });
  const { about } = stack;
  console.log(JSON.stringify(about));
  console.error(hints(about));

  async function stop(): Promise<void> {
    console.error("\nStopping.");
    await stack.close();
    process.exit(0);
  }
  process.once("SIGINT", () => void stop());
  process.once("SIGTERM", () => void stop());
}

function hints({
  endpoint,
  graphUrl,
  queues,
  tables,
  sampleWabaIds,
}: Awaited<ReturnType<typeof startLocalStack>>["about"]): string {
  const [wabaId = "WABA_ID"] = sampleWabaIds;
  const command = {
    version: "1",
    type: "share",
    commandId: "try-1",
    requestedAt: new Date().toISOString(),
    requestedBy: "me",
    wabaId,
    currency: "USD",
  };
  const aws = `AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1 aws --endpoint-url ${endpoint}`;
  return `
The stack runs. Some things to try in another terminal:

  share a line        npx credit-lines --endpoint ${endpoint} share ${wabaId} --currency USD --wait
  the same, as a producer does
                      ${aws} sqs send-message --queue-url ${queues.share} --message-body '${JSON.stringify(command)}'
  ask as on call      npx credit-lines --endpoint ${endpoint} explain ${wabaId}
  read the events     curl '${endpoint}/_local/events?after=0'
  read the table      ${aws} dynamodb scan --table-name ${tables.state}
  sweep and scan now  curl -X POST ${endpoint}/_local/invoke/reconcile
  what Meta was asked curl ${graphUrl}/_ledger

Ctrl-C stops it.`;
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error("\nnpm run local -- --help tells the options.");
  process.exitCode = 1;
}
