/** Runs in a process of its own: imports the handler that is named, and tells what that took (ms). */
const before = process.cpuUsage();
const startedAt = performance.now();
const module = await import(process.argv[2] ?? "");
const wallMs = performance.now() - startedAt;
const { user, system } = process.cpuUsage(before);
const handler: unknown = module.handler ?? module.default?.handler;
if (typeof handler !== "function") throw new Error("The module exports no handler");
process.stdout.write(JSON.stringify({ wallMs, cpuMs: (user + system) / 1000 }));
