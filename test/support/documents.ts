import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "vitest";

/**
 * A page, or the part of it between two comments that begin with `mark`, holds what the code says. With UPDATE_README=1 it
 * is written first.
 */
export function expectWritten(file: string, mark: string, content: string): void {
  const text = readFileSync(file, "utf8");
  const parts = new RegExp(`(<!-- ${mark}[^]*?-->\\n)[^]*?(\\n<!-- end of ${mark} -->)`);
  expect(text, `${file} has no place for ${mark}`).toMatch(parts);
  const wanted = text.replace(parts, (_all, start: string, end: string) => start + content + end);
  if (process.env["UPDATE_README"] === "1") writeFileSync(file, wanted);
  expect(readFileSync(file, "utf8"), `${file} is not up to date: run with UPDATE_README=1`).toBe(wanted);
}
