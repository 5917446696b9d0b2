import type { Command } from "commander";
import { expect, test } from "vitest";
import { exitCodes } from "../../../infra/ops/errors.ts";
import { creditLines } from "../../../infra/ops/program.ts";
import { shapes } from "../../../infra/ops/shapes.ts";
import { faultOf } from "../../support/ops.ts";

/** Every command that does something, by its whole name. */
const commands = leavesOf(creditLines(), "");

function leavesOf(command: Command, before: string): [string, Command][] {
  return command.commands.flatMap((one) => {
    const name = `${before} ${one.name()}`.trim();
    return one.commands.length === 0 ? [[name, one] satisfies [string, Command]] : leavesOf(one, name);
  });
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

test.each(commands)("%s: its help has examples, each a command line that the program takes", (name, command) => {
  const examples = [...helpOf(command).matchAll(/^ {2}\$ credit-lines (.*?)(?: {2,}.*)?$/gm)].map(
    ([, line = ""]) => line,
  );
  expect(examples.length).toBeGreaterThan(0);
  for (const line of examples) {
    expect(line).toMatch(new RegExp(`^${name}( |$)`));
    expect(faultOf(line), line).toBeUndefined();
  }
});

test("every command's JSON has its shape in the README, and no other is there", () => {
  const named = Object.keys(shapes).flatMap((names) => names.split(", "));
  expect(named.toSorted()).toEqual(commands.map(([name]) => name).toSorted());
});

test("the program's help tells what its exit codes mean", () => {
  const help = helpOf(creditLines());
  for (const code of Object.values(exitCodes)) expect(help).toMatch(new RegExp(`^  ${code}  \\w{3}`, "m"));
});
