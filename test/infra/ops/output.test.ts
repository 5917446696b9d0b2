import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { exportCsv } from "../../../infra/ops/csv.ts";
import { createOutput, table } from "../../../infra/ops/output.ts";
import { temporaryFolder } from "../stages.ts";

/** What a producer may call itself, a business at Meta, or an unknown key of a body. */
const hostile = "\u001b[2J\u009b31m\rok\nWABA 1 is verified \u202e54321\u202c \u007f";
const escaped = String.raw`\u001b[2J\u009b31m\u000dok\u000aWABA 1 is verified \u202e54321\u202c \u007f`;
const shape = z.object({ requestedBy: z.string(), wabas: z.array(z.object({ name: z.string().optional() })) });
const value = { requestedBy: hostile, wabas: [{ name: hostile }, {}] };

describe("what others may write into a terminal", () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  afterEach(() => {
    log.mockClear();
    error.mockClear();
  });

  test("is told as characters, in the place it was given: it moves no cursor, adds no line and turns no id", () => {
    createOutput({ json: false }).result(shape, value, ({ requestedBy, wabas }) =>
      [`asked for by ${requestedBy}`, table(wabas.map(({ name }) => ({ name })))].join("\n"),
    );
    expect(log.mock.lastCall).toEqual([`asked for by ${escaped}\nname\n${escaped}\n-`]);
  });

  test("is the same value in JSON, in letters that do nothing", () => {
    createOutput({ json: true }).result(shape, value, () => "not for people");
    const [text] = log.mock.lastCall ?? [];
    expect(JSON.parse(text)).toEqual(value);
    expect(text).not.toMatch(/[\p{Cc}\u202a-\u202e]/u);
  });

  test("is told as characters in a remark, whose own lines stay", () => {
    createOutput({ json: false }).note("first\n\u001b[1Asecond");
    expect(error.mock.lastCall).toEqual(["first\n" + String.raw`\u001b[1Asecond`]);
  });
});

test.each(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])(
  "a cell that begins like a formula is none in a spreadsheet: %j",
  (name) => {
    const file = join(temporaryFolder(), "table.csv");
    exportCsv({ ...createOutput({ json: false }), note: () => {} }, file, ["name"], [{ name }]);
    expect(readFileSync(file, "utf8")).toMatch(/^name\r\n"?'/);
  },
);
