import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import { revokeCommandSchema, shareCommandSchema, verifyCommandSchema } from "../shared/contracts/commands.ts";
import { eventSchema } from "../shared/contracts/events.ts";

/**
 * JSON Schemas (draft 2020-12) of what goes in and comes out, by file name: for producers and consumers in any language.
 * What no schema can say is in `shared/contracts/README.md`.
 */
export function contractSchemas(): Record<string, object> {
  const schemas = {
    "share-command.schema.json": shareCommandSchema,
    "verify-command.schema.json": verifyCommandSchema,
    "revoke-command.schema.json": revokeCommandSchema,
    "event.schema.json": eventSchema,
  };
  return Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, toJsonSchema(schema)]));
}

/** What may be sent, not what parsing makes of it: a key with a default may be left out. */
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
