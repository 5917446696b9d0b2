import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const page = readFileSync("infra/threats.md", "utf8");
const rows = page.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| It tries"));

/** "file: title" of every test that the page relies on. */
function testsOf(row: string): { file: string; title: string }[] {
  const [, , , shownBy = ""] = row.split("|");
  return [...shownBy.matchAll(/`(test\/[^`]+)`: (.*?)(?= · `test\/|\s*$)/g)].map(([, file = "", title = ""]) => ({
    file,
    title,
  }));
}

test("every threat on the page names a test that shows how it is stopped", () => {
  expect(rows.length).toBeGreaterThan(20);
  expect(rows.filter((row) => testsOf(row).length === 0)).toEqual([]);
});

/** What a test file says in its code: neither in a comment nor in a test that is not run. */
function codeOf(file: string): string {
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  return lines.filter((line) => !/^\s*(\/\/|\/?\*)|\b(test|describe)\.(skip|todo)\b/.test(line)).join("\n");
}

test("every test that the page of threats names exists", () => {
  expect(rows.flatMap(testsOf).filter(({ file, title }) => !codeOf(file).includes(title))).toEqual([]);
});
