import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { creditLines } from "../../../infra/ops/program.ts";
import { findingKinds } from "../../../shared/domain/findings.ts";
import { explanations } from "../../../shared/domain/reasons.ts";
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

/** What is wrong with a command line by what the program says of itself; values are not looked at. */
function faultOf(line: string): string | undefined {
  const words: string[] = line.match(/"[^"]*"|\S+/g) ?? [];
  let command: Command = creditLines();
  let given = 0;
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? "";
    const next = command.commands.find((one) => one.name() === word);
    if (next !== undefined) command = next;
    else if (word.startsWith("--")) {
      const option = [...command.options, ...creditLines().options].find(({ long }) => long === word);
      if (option === undefined) return `${command.name()} has no ${word}`;
      if (option.required || (option.optional && !/^(--|$)/.test(words[index + 1] ?? ""))) index += 1;
    } else given += 1;
  }
  if (command.commands.length > 0) return `${line} names no command`;
  const wanted = command.registeredArguments.filter(({ required }) => required).length;
  const missing = command.options.filter(({ long, mandatory }) => mandatory && !words.includes(long ?? ""));
  // In a sentence a command may stand for itself; in full it has what it needs.
  if (words.length === line.split(" ").length && given === 0 && wanted > 0) return undefined;
  if (given < wanted) return `${line} lacks an argument`;
  return missing.length === 0 ? undefined : `${line} lacks ${missing.map(({ long }) => long).join(" ")}`;
}

describe("runbooks", () => {
  test("every alarm names one that there is", () => {
    const alarms = Object.values(
      templateOf(deployedStage({ webhook: true, appSecretName: "app", verifyTokenSecretName: "verify" })).findResources(
        "AWS::CloudWatch::Alarm",
      ),
    );
    expect(alarms.length).toBeGreaterThan(15);
    for (const { Properties } of alarms) {
      const [, name] = /Runbook: infra\/ops\/runbooks\/([a-z-]+)\.md$/.exec(Properties?.["AlarmDescription"]) ?? [];
      expect(names, Properties?.["AlarmDescription"]).toContain(name);
    }
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
