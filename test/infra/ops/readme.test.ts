import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as z from "zod";
import { shapes } from "../../../infra/ops/shapes.ts";

const file = "infra/ops/README.md";
const [start, end] = ["<!-- shapes: written by test/infra/ops/readme.test.ts -->", "<!-- end of shapes -->"];

test("the README tells the shape of every command's JSON", () => {
  const sections = Object.entries(shapes).map(([name, schema]) => {
    const shown = show(z.toJSONSchema(schema) as Schema, "");
    return `**${name}**\n\n\`\`\`ts\n${shown}\n\`\`\``;
  });
  const written = `${start}\n\n${sections.join("\n\n")}\n\n${end}`;
  const text = readFileSync(file, "utf8");
  const from = text.indexOf(start);
  const to = text.indexOf(end) + end.length;
  if (process.env["UPDATE_README"] === "1") writeFileSync(file, text.slice(0, from) + written + text.slice(to));
  expect(readFileSync(file, "utf8")).toContain(written);
});

type Schema = {
  type?: string;
  enum?: string[];
  const?: unknown;
  anyOf?: Schema[];
  format?: string;
  description?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  required?: string[];
};

/** A schema as TypeScript would write it, descriptions as comments. */
function show(schema: Schema, indent: string): string {
  const { type, properties, items, additionalProperties: others } = schema;
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf !== undefined) return schema.anyOf.map((one) => show(one, indent)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (type === "array" && items !== undefined) return `${show(items, indent)}[]`;
  if (type === "object" && properties !== undefined) {
    const lines = Object.entries(properties).map(([name, one]) => {
      const optional = schema.required?.includes(name) === true ? "" : "?";
      const comment = one.description === undefined ? "" : ` // ${one.description}`;
      return `${indent}  ${name}${optional}: ${show(one, `${indent}  `)};${comment}`;
    });
    return `{\n${lines.join("\n")}\n${indent}}`;
  }
  if (type === "object") return `Record<string, ${typeof others === "object" ? show(others, indent) : "unknown"}>`;
  if (schema.format === "date-time") return "Time";
  return type ?? "unknown";
}
