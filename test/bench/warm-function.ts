import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import * as z from "zod";
import type { Deployed } from "./stage.ts";

const served = z.object({
  wallMs: z.number(),
  cpuMs: z.number(),
  answer: z.object({ batchItemFailures: z.array(z.unknown()) }),
});

/** A function that is warm: its process stays, and each event is served alone. */
export type WarmFunction = {
  /** @throws Error when a message was given back. */
  serve(event: unknown): Promise<{ wallMs: number; cpuMs: number }>;
  close(): void;
};

export async function warmUp({ file, environment }: Deployed): Promise<WarmFunction> {
  const child = fork(join(import.meta.dirname, "warm-process.ts"), [file], {
    env: environment,
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  // A process that has ended never answers: its end is the error.
  const ended = new AbortController();
  child.once("exit", (code) => ended.abort(new Error(`${file} ended with ${code}`)));
  await once(child, "message", { signal: ended.signal });
  return {
    async serve(event) {
      const answered = once(child, "message", { signal: ended.signal });
      child.send(event as object);
      const { wallMs, cpuMs, answer } = served.parse((await answered)[0]);
      if (answer.batchItemFailures.length > 0) throw new Error(`${file} gave its message back`);
      return { wallMs, cpuMs };
    },
    close: () => child.disconnect(),
  };
}
