import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Command } from "commander";
import { creditLines } from "../../infra/ops/program.ts";

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

/** What is wrong with a command line by what the program says of itself; values are not looked at. */
export function faultOf(line: string): string | undefined {
  const words: string[] = line.match(/"[^"]*"|\S+/g) ?? [];
  let command: Command = creditLines();
  let given = 0;
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? "";
    const next = command.commands.find((one) => one.name() === word);
    if (next !== undefined) command = next;
    else if (word.startsWith("--")) {
      const option = [...command.options, ...creditLines().options].find(({ long }) => long === word);
      if (option === undefined) return `${command.name()} has no ${word}`;
      if (option.required || (option.optional && !/^(--|$)/.test(words[index + 1] ?? ""))) index += 1;
    } else given += 1;
  }
  if (command.commands.length > 0) return `${line} names no command`;
  const wanted = command.registeredArguments.filter(({ required }) => required).length;
  const missing = command.options.filter(({ long, mandatory }) => mandatory && !words.includes(long ?? ""));
  // In a sentence a command may stand for itself; in full it has what it needs.
  if (words.length === line.split(" ").length && given === 0 && wanted > 0) return undefined;
  if (given < wanted) return `${line} lacks an argument`;
  return missing.length === 0 ? undefined : `${line} lacks ${missing.map(({ long }) => long).join(" ")}`;
}
