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
