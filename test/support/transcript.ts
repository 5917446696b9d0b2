import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "vitest";

/**
 * Holds a transcript in a Markdown file, between `<!-- transcript <name> -->` and its end, against what a command really
 * printed; with UPDATE_README=1 it is written there. Ages and ids that Meta gives differ from run to run and count as equal.
 */
export function holdsTranscript(file: string, name: string, command: string, printed: string): void {
  const [start, end] = [`<!-- transcript ${name}: written by the tests -->`, `<!-- end of transcript ${name} -->`];
  const text = readFileSync(file, "utf8");
  const from = text.indexOf(start) + start.length;
  const to = text.indexOf(end);
  expect(to, `${file} must hold ${start} and ${end}`).toBeGreaterThan(from);
  const fresh = `\n\`\`\`\n$ npx ${command}\n${printed.trimEnd()}\n\`\`\`\n`;
  if (process.env["UPDATE_README"] === "1") {
    writeFileSync(file, text.slice(0, from) + fresh + text.slice(to));
    return;
  }
  expect(masked(text.slice(from, to))).toBe(masked(fresh));
}

function masked(text: string): string {
  return text
    .replaceAll(/\b\d+ (s|min|h|d)\b/g, "<age>")
    .replaceAll(/now due \(<age>\)|in <age>(?=:)/g, "<when>")
    .replaceAll(/\b91\d{17}\b/g, "<Meta's id>")
    .replaceAll(/[ ]+/g, " ");
}
