import { describe, expect, test } from "vitest";
import { playDrill } from "../../../infra/ops/drill/drill.ts";
import { drills } from "../../../infra/ops/drill/drills.ts";
import { fillIn, readRunbook } from "../../../infra/ops/drill/runbook.ts";

/** All of them: `npm run drill -- --all`, some minutes. Here the runner itself is tried, on the drill that loses money. */
describe("a drill", () => {
  test.each(drills.map(({ name }) => name))(
    "%s runs the one to three commands that its runbook begins with",
    (name) => {
      const { title, commands } = readRunbook(name);
      expect(title).not.toBe("");
      for (const command of commands)
        expect(command).toMatch(/^(npx credit-lines|aws secretsmanager put-secret-value) /);
    },
  );

  test("knows every capital of a command, or says which one it does not know", () => {
    expect(fillIn("npx credit-lines share WABA_ID --currency EUR", { WABA_ID: "12" })).toBe(
      "npx credit-lines share 12 --currency EUR",
    );
    expect(() => fillIn("npx credit-lines share WABA_ID", {})).toThrow("WABA_ID");
  });

  test("ends its incident by the runbook's commands, and without the first of them it does not end", async () => {
    const drill = drills.find(({ name }) => name === "owner-unknown");
    if (drill === undefined) throw new Error("There is no such drill");
    expect(await playDrill(drill, 0, () => {})).toEqual([]);
    expect(await playDrill(drill, 1, () => {})).toContain("the line is still shared");
  }, 240_000);
});
