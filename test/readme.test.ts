import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { transitions } from "../shared/domain/business.ts";

test("the README's state chart is the domain's transition table", () => {
  const readme = readFileSync("README.md", "utf8");
  const drawn = [...readme.matchAll(/^ {2}(\S+) --> (\w+)$/gm)].map(([, from, to]) => `${from} ${to}`);
  const known = Object.entries(transitions).flatMap(([from, targets]) =>
    targets.filter((to) => to !== from).map((to) => `${from === "none" ? "[*]" : from} ${to}`),
  );
  expect(drawn.toSorted()).toEqual(known.toSorted());
});
