import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import path from "node:path";
import type * as z from "zod";

/**
 * A file of JSON lines that outlives the process that writes it: every line is on the disk before `append` returns, so that
 * what is done next may rely on it.
 */
export type Journal = { append(...lines: object[]): void; close(): void };

/** Opens a journal for more lines; it is made when it is not there. Only its owner can read it. */
export function openJournal(file: string): Journal {
  mkdirSync(path.dirname(file), { recursive: true });
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  const descriptor = openSync(file, "a", 0o600);
  // A line that a crash cut in two is ended, so that the next one stands alone.
  if (text !== "" && !text.endsWith("\n")) writeSync(descriptor, "\n");
  return {
    append(...lines) {
      writeSync(descriptor, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
      fsyncSync(descriptor);
    },
    close: () => closeSync(descriptor),
  };
}

/**
 * The lines of a journal. One that a crash cut in two was never relied upon and is left out.
 * @throws Error when there is no such file, or a whole line is not what it should be.
 */
export function readJournal<S extends z.ZodType>(file: string, schema: S): z.output<S>[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line) => {
      const value = parseJson(line);
      return value === undefined ? [] : [schema.parse(value)];
    });
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
