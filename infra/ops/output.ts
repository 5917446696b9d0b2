import Table from "cli-table3";
import yoctoSpinner from "yocto-spinner";
import type * as z from "zod";

/**
 * Where a command's words go. The result is on standard output, alone, so that it can be piped; progress and remarks are on
 * standard error.
 */
export type Output = {
  /** With `--json`: the value, as its schema documents it. Else what `render` says for people. */
  result<S extends z.ZodType>(schema: S, value: z.input<S>, render: (value: z.output<S>) => string): void;
  note(line: string): void;
  /** One line that changes while something goes on. */
  progress(text: string): Progress;
};

export type Progress = { say(text: string): void; done(text?: string): void };

export function createOutput({ json }: { json: boolean }): Output {
  return {
    result(schema, value, render) {
      console.log(json ? inert(JSON.stringify(schema.parse(value))) : render(schema.parse(inertWithin(value))));
    },
    note(line) {
      console.error(inertLines(line));
    },
    progress(text) {
      // In a log or a pipe only its end is worth a line.
      if (!process.stderr.isTTY) {
        return {
          say() {},
          done(last) {
            if (last !== undefined) console.error(last);
          },
        };
      }
      const spinner = yoctoSpinner({ text, stream: process.stderr }).start();
      return {
        say(next) {
          spinner.text = next;
        },
        done(last) {
          spinner.stop(last);
        },
      };
    },
  };
}

/**
 * Who may say who they are (`requestedBy`, a business's name, what Meta answers) could else say it to the terminal: move
 * its cursor, write a line that looks like ours, or turn the direction of an id.
 */
const active = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

function inert(text: string): string {
  return text.replaceAll(active, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Of words that are ours, in lines of ours. */
export function inertLines(text: string): string {
  return text.split("\n").map(inert).join("\n");
}

/** A value whose texts are; each stays on its line. */
function inertWithin(value: unknown): unknown {
  if (typeof value === "string") return inert(value);
  if (Array.isArray(value)) return value.map(inertWithin);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inertWithin(part)]));
}

/** Rows under their headings, without lines: as easy to read as to cut apart. */
export function table(rows: readonly Record<string, string | number | undefined>[]): string {
  const [first] = rows;
  if (first === undefined) return "(none)";
  const grid = new Table({
    head: Object.keys(first),
    chars: Object.fromEntries(borders.map((name) => [name, ""])),
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2, compact: true },
  });
  for (const row of rows) grid.push(Object.values(row).map((cell) => String(cell ?? "-")));
  return grid
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

const borders = [
  "top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right",
  "left left-mid mid mid-mid right right-mid middle",
].flatMap((names) => names.split(" "));

/** `1 WABA`, `2 WABAs`. */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** A length of time in the unit that says most: `45 s`, `3 min`, `2 d`. */
export function span(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function ago(at: number, now: number): string {
  return at > now ? `in ${span(at - now)}` : `${span(now - at)} ago`;
}

export function instant(at: number): string {
  return new Date(at).toISOString().replace(".000Z", "Z");
}
