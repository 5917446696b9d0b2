import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { findingKinds } from "../../../shared/domain/findings.ts";
import { explanations } from "../../../shared/domain/reasons.ts";
import { faultOf } from "../../support/ops.ts";
import { deployedStage, templateOf } from "../stages.ts";

const folder = "infra/ops/runbooks";
const names = readdirSync(folder).map((file) => file.replace(/\.md$/, ""));

function textOf(name: string): string {
  return readFileSync(path.join(folder, `${name}.md`), "utf8");
}

/** Each command line that a text would have somebody type, without the program's name. */
function commandLines(text: string): string[] {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, block = ""]) => block.trim().split("\n"));
  const inline = [...text.matchAll(/`(credit-lines [^`]+)`/g)].map(([, line = ""]) => line.replaceAll("\n", " "));
  return [...blocks, ...inline].flatMap((line) => /(?:^|\s)credit-lines (.+)$/.exec(line)?.[1] ?? []);
}

const template = templateOf(deployedStage({ webhook: true, appSecretName: "app", verifyTokenSecretName: "verify" }));
const alarms = Object.values(template.findResources("AWS::CloudWatch::Alarm"));
const named = alarms.map(({ Properties }): string => {
  const description = String(Properties?.["AlarmDescription"]);
  return /Runbook: infra\/ops\/runbooks\/([a-z-]+)\.md$/.exec(description)?.[1] ?? description;
});

describe("runbooks", () => {
  test("every alarm names one that there is", () => {
    expect(alarms.length).toBeGreaterThan(15);
    expect(named.filter((name) => !names.includes(name))).toEqual([]);
  });

  test("an alarm tells no customer's id: where its runbook wants one, it says which command or query has it", () => {
    const wanting = [...new Set(named)].filter((name) => /WABA_ID|BUSINESS_ID|COMMAND_ID/.test(textOf(name)));
    expect(wanting.length).toBeGreaterThan(5);
    const listing = /credit-lines (findings list|held list|dlq list|list)\b|saved query/;
    expect(wanting.filter((name) => !listing.test(textOf(name)))).toEqual([]);
  });

  test("name saved queries that there are, and no log group: CloudFormation makes up their names", () => {
    const saved = Object.values(template.findResources("AWS::Logs::QueryDefinition")).map(({ Properties }) =>
      String(Properties?.["Name"]).replace("credit-lines-prod/", ""),
    );
    const texts = names.map(textOf);
    const queries = texts.flatMap((text) => [...text.matchAll(/saved\s+query\s+_(.+?)_/g)].map(([, query]) => query));
    expect(queries.length).toBeGreaterThan(3);
    expect(queries.filter((query) => !saved.includes(String(query)))).toEqual([]);
    expect(names.filter((name) => /log\s+group/.test(textOf(name)))).toEqual([]);
  });

  test.each(findingKinds)("the finding %s has one", (kind) => {
    expect(names).toContain(`finding-${kind.replaceAll("_", "-")}`);
  });

  test.each(names)("%s begins with one to three commands, and says when and what one sees", (name) => {
    const [, block = ""] = /^# .+\n\n```sh\n([\s\S]*?)```\n\n\*\*When\.\*\* /.exec(textOf(name)) ?? [];
    const lines = block.trim().split("\n");
    expect(lines.length).toBeLessThanOrEqual(3);
    for (const line of lines) expect(line).toMatch(/^(npx credit-lines|aws) /);
    expect(textOf(name)).toContain("**What you see.**");
  });

  test.each(names)("%s has nobody type what the program does not know, nor follow a dead link", (name) => {
    expect(commandLines(textOf(name)).map(faultOf).filter(Boolean)).toEqual([]);
    const links = [...textOf(name).matchAll(/\]\((\S+?)\.md\)/g)].map(([, link]) => link);
    expect(names).toEqual(expect.arrayContaining(links));
  });
});

test("every remedy's command is one that the program knows", () => {
  const commands = Object.values(explanations).flatMap(({ command }) => command ?? []);
  expect(commands.length).toBeGreaterThan(10);
  expect(commands.map(faultOf).filter(Boolean)).toEqual([]);
});

test("a command line that the program does not know is found out", () => {
  expect(faultOf("explain WABA_ID --live")).toBeUndefined();
  expect(faultOf("explain WABA_ID --alive")).toBeDefined();
  expect(faultOf("explicate WABA_ID")).toBeDefined();
  expect(faultOf("dlq WABA_ID")).toBeDefined();
  expect(faultOf("share WABA_ID --wait")).toBeDefined();
});
