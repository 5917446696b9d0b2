import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { once } from "node:events";

/**
 * Children that never outlive this process, however it ends. Node cannot ask the kernel for that, and no handler runs
 * on SIGKILL; so a shell keeps the list of living children and kills them when the pipe to this process closes.
 */
export type ChildProcesses = {
  /** @throws Error after `close`. */
  start: (command: string, args: readonly string[], options: SpawnOptions) => ChildProcess;
  /** Kills every child with SIGKILL and resolves when all are gone and their last output is read. */
  close: () => Promise<void>;
};

const reaperScript = `
pids=" "
while read -r word pid; do
  case $word in
    started) pids="$pids$pid " ;;
    ended) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done
`;

export function createChildProcesses(): ChildProcesses {
  // Detached, or Ctrl-C in a terminal would reach the shell too and end it before it has done its work.
  const reaper = spawn("sh", ["-c", reaperScript], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  const reaped = once(reaper, "exit");
  const living = new Set<ChildProcess>();
  let closed = false;

  return {
    start: (command, args, options) => {
      if (closed) throw new Error("The local stack is stopping");
      // A group of its own, so that killing it takes its own children along.
      const child = spawn(command, args, { ...options, detached: true });
      child.on("error", () => {
        // Whoever waits for the child sees that it has no pid, or its end.
      });
      if (child.pid === undefined) return child;
      living.add(child);
      reaper.stdin?.write(`started ${child.pid}\n`);
      child.once("exit", () => {
        living.delete(child);
        if (reaper.stdin?.writable) reaper.stdin.write(`ended ${child.pid}\n`);
      });
      return child;
    },
    close: async () => {
      closed = true;
      await Promise.all(
        [...living].map((child) => {
          const ended = once(child, "close");
          killChild(child);
          return ended;
        }),
      );
      reaper.stdin?.end();
      await reaped;
    },
  };
}

/** SIGKILL to the child and to whatever it started. */
export function killChild({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself in this very moment.
  }
}
