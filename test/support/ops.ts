import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

export type Ran = { code: number | null; stdout: string; stderr: string };

/** Everything that any command line of this file has printed: no secret may be in it. */
const printed: string[] = [];
export function everythingPrinted(): string {
  return printed.join("\n");
}

/** `credit-lines` as the person on call runs it: a process of its own, which knows nothing but where AWS is. */
export function commandLine(endpoint: string, environment: Record<string, string> = {}) {
  return async (...args: string[]): Promise<Ran> => {
    const child = spawn(process.execPath, [path.resolve("infra/ops/credit-lines.ts"), ...args], {
      env: { PATH: process.env["PATH"], AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: "alice", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const said = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk) => (said.stdout += String(chunk)));
    child.stderr.on("data", (chunk) => (said.stderr += String(chunk)));
    const [code] = (await once(child, "close")) as [number | null];
    printed.push(said.stdout, said.stderr);
    return { code, ...said };
  };
}
