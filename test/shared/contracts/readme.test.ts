import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { detailTypes } from "../../../shared/domain/events.ts";
import { reasonClasses } from "../../../shared/domain/reasons.ts";

const page = readFileSync("shared/contracts/README.md", "utf8");

test("the page for producers and consumers tells of every event and of every reason", () => {
  const words = [...detailTypes, ...Object.keys(reasonClasses)];
  expect(words.filter((word) => !page.includes(`\`${word}\``))).toEqual([]);
});

test("the page's list of reasons has each once, and none that does not exist", () => {
  const items = [...page.matchAll(/^- ((?:`[a-z_]+`(?:, )?)+):/gm)];
  const named = items.flatMap(([, words = ""]) => words.match(/\w+/g) ?? []);
  expect(named.toSorted()).toEqual(Object.keys(reasonClasses).toSorted());
});
