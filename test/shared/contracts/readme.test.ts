import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as z from "zod";
import { parseBody } from "../../../shared/contracts/commands.ts";
import { eventSource } from "../../../shared/contracts/events.ts";
import { detailTypes } from "../../../shared/domain/events.ts";
import { reasonClasses } from "../../../shared/domain/reasons.ts";

const page = readFileSync("shared/contracts/README.md", "utf8");

test("the page for producers and consumers tells of every event and of every reason", () => {
  const words = [...detailTypes, ...Object.keys(reasonClasses)];
  expect(words.filter((word) => !page.includes(`\`${word}\``))).toEqual([]);
});

test("the page's examples are commands, and its rule names events", () => {
  const examples = [...page.matchAll(/```json\n([^]*?)```/g)].map(([, text = ""]): unknown => JSON.parse(text));
  const commands = z.array(z.looseObject({ type: z.enum(["share", "verify", "revoke"]) })).parse(examples.slice(0, 3));
  const parsed = commands.map((command) =>
    parseBody(command.type, JSON.stringify(command), { sentAt: Date.UTC(2026, 5), clockSkewMs: 0 }),
  );
  expect(parsed).toMatchObject(["share", "verify", "revoke"].map((type) => ({ kind: "command", request: { type } })));
  const rule = z.object({ source: z.array(z.string()), "detail-type": z.array(z.enum(detailTypes)) });
  expect(rule.parse(examples[3]).source).toEqual([eventSource]);
});

test("the page's list of reasons has each once, and none that does not exist", () => {
  const items = [...page.matchAll(/^- ((?:`[a-z_]+`(?:, )?)+):/gm)];
  const named = items.flatMap(([, words = ""]) => words.match(/\w+/g) ?? []);
  expect(named.toSorted()).toEqual(Object.keys(reasonClasses).toSorted());
});
