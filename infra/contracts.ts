import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import { revokeCommandSchema, shareCommandSchema, verifyCommandSchema } from "../shared/contracts/commands.ts";
import { eventSchema } from "../shared/contracts/events.ts";

/** JSON Schemas (draft 2020-12) of what goes in and comes out, by file name: for producers and consumers in any language. */
export function contractSchemas(): Record<string, object> {
  return {
    "share-command.schema.json": toJsonSchema(shareCommandSchema),
    "verify-command.schema.json": toJsonSchema(verifyCommandSchema),
    // A rule between two keys is code to zod, and would be lost here without a word.
    "revoke-command.schema.json": {
      ...toJsonSchema(revokeCommandSchema),
      anyOf: [{ required: ["wabaId"] }, { required: ["businessId"] }],
    },
    "event.schema.json": toJsonSchema(eventSchema),
  };
}

function toJsonSchema(schema: z.ZodMiniType): object {
  return z.toJSONSchema(schema, { io: "input" });
}

if (import.meta.main) {
  const outdir = join(import.meta.dirname, "../dist/contracts");
  mkdirSync(outdir, { recursive: true });
  for (const [name, schema] of Object.entries(contractSchemas())) {
    writeFileSync(join(outdir, name), `${JSON.stringify(schema, null, 2)}\n`);
  }
  console.log(outdir);
}
