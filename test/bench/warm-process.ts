/**
 * Runs in a process of its own, in place of Lambda's runtime: loads the handler that is named, serves the events it is sent,
 * and tells after each what it cost in time on the clock and of the CPU (ms).
 */
const module = await import(process.argv[2] ?? "");
const handler = module.handler ?? module.default?.handler;

process.on("message", async (event: unknown) => {
  const before = process.cpuUsage();
  const startedAt = performance.now();
  const deadline = Date.now() + 30_000;
  const context = {
    awsRequestId: "bench",
    functionName: "bench",
    memoryLimitInMB: "256",
    invokedFunctionArn: "arn:aws:lambda:us-east-1:000000000000:function:bench",
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  const answer: unknown = await handler(event, context);
  const wallMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(before);
  process.send?.({ wallMs, cpuMs: (user + system) / 1000, answer });
});
process.on("disconnect", () => process.exit());
process.send?.("ready");
