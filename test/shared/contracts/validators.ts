import type { AnySchema, ErrorObject, ValidateFunction } from "ajv/dist/2020.js";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { contractSchemas } from "../../../infra/contracts.ts";
import type { CommandType } from "../../../shared/contracts/commands.ts";

/** As strict as it gets: a keyword that ajv does not know, or that cannot apply, is an error. */
function strictAjv() {
  const ajv = new Ajv2020({ strict: true, strictTypes: true, strictTuples: true, allErrors: true });
  formats.default(ajv);
  return ajv;
}

/** The published schema of that name, compiled by somebody else's validator. */
export function validatorOf(name: `${CommandType}-command` | "event"): ValidateFunction {
  return strictAjv().compile(contractSchemas()[`${name}.schema.json`] as AnySchema);
}

/** The rule that was found broken, by its path in the schema. */
export function ruleOf({ keyword, schemaPath, params }: ErrorObject): string {
  return keyword === "required" ? `${schemaPath}/${params["missingProperty"]}` : schemaPath;
}
