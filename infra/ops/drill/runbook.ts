import { readFileSync } from "node:fs";
import path from "node:path";

const directory = path.join(import.meta.dirname, "../runbooks");

/** A person at 3 a.m. gets no more than this to do. */
const commandsMax = 3;

export type Runbook = { title: string; commands: string[] };

/**
 * Reads a runbook: its heading, and the commands of the `sh` block that it begins with.
 * @throws Error when it does not begin with one to three commands.
 */
export function readRunbook(name: string): Runbook {
  const file = path.join(directory, `${name}.md`);
  const text = readFileSync(file, "utf8");
  const [, title = "", block = ""] = /^# (.+)\n+```sh\n([\s\S]*?)\n```/.exec(text) ?? [];
  const commands = block.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  if (commands.length === 0 || commands.length > commandsMax) {
    throw new Error(`${file} must begin with a heading and an sh block of 1 to ${commandsMax} commands`);
  }
  return { title, commands };
}

/**
 * A command with the incident's own ids in place of the runbook's capitals.
 * @throws Error when something is left that the incident does not know.
 */
export function fillIn(command: string, values: Readonly<Record<string, string>>): string {
  const filled = command.replaceAll(/\b[A-Z]+(_[A-Z]+)+\b/g, (name) => values[name] ?? name);
  const [unknown] = /\b[A-Z]+(_[A-Z]+)+\b/.exec(filled) ?? [];
  if (unknown !== undefined) throw new Error(`The incident has no ${unknown} for: ${command}`);
  return filled;
}
