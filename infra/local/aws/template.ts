import { readFileSync } from "node:fs";
import path from "node:path";
import * as z from "zod";

export const accountId = "000000000000";
export const region = "us-east-1";

export function stackIdOf(stackName: string): string {
  return `arn:aws:cloudformation:${region}:${accountId}:stack/${stackName}/local`;
}

const resourceSchema = z.looseObject({
  Type: z.string(),
  Condition: z.string().optional(),
  Properties: z.record(z.string(), z.unknown()).default({}),
});

const templateSchema = z.strictObject({
  AWSTemplateFormatVersion: z.unknown().optional(),
  Description: z.unknown().optional(),
  Metadata: z.unknown().optional(),
  Rules: z.unknown().optional(),
  Parameters: z.record(z.string(), z.looseObject({ Default: z.unknown().optional() })).default({}),
  Conditions: z.record(z.string(), z.unknown()).default({}),
  Resources: z.record(z.string(), resourceSchema),
  Outputs: z.record(z.string(), z.looseObject({ Value: z.unknown(), Condition: z.string().optional() })).default({}),
});

const manifestSchema = z.looseObject({
  artifacts: z.record(
    z.string(),
    z.looseObject({ type: z.string(), properties: z.looseObject({ templateFile: z.string().optional() }).optional() }),
  ),
});

const assetsSchema = z.looseObject({
  files: z.record(
    z.string(),
    z.looseObject({
      source: z.looseObject({ path: z.string().optional() }),
      destinations: z.record(z.string(), z.looseObject({ objectKey: z.string() })),
    }),
  ),
});

export type Template = z.output<typeof templateSchema> & {
  stackName: string;
  /** The folder or file behind an asset's S3 key. @throws Error when the assets manifest does not know the key. */
  assetPath: (objectKey: string) => string;
};

/**
 * Reads the one stack of a synthesized CDK app.
 * @throws Error when there is not exactly one stack, or the template has a section that cannot be run here.
 */
export function loadTemplate(directory: string): Template {
  const manifest = manifestSchema.parse(readJson(path.join(directory, "manifest.json")));
  const stacks = Object.entries(manifest.artifacts).filter(([, { type }]) => type === "aws:cloudformation:stack");
  const [stackName, artifact] = stacks[0] ?? [];
  const templateFile = artifact?.properties?.templateFile;
  if (stacks.length !== 1 || stackName === undefined || templateFile === undefined) {
    throw new Error(`${directory} must hold exactly one stack, found: ${stacks.map(([name]) => name).join(", ")}`);
  }
  const parsed = templateSchema.safeParse(readJson(path.join(directory, templateFile)));
  if (!parsed.success) throw new Error(`${templateFile} cannot be run locally: ${z.prettifyError(parsed.error)}`);
  const assetsFile = templateFile.replace(/\.template\.json$/, ".assets.json");
  const assets = assetsSchema.parse(readJson(path.join(directory, assetsFile)));
  const paths = new Map(
    Object.values(assets.files).flatMap(({ source, destinations }) =>
      Object.values(destinations).map(({ objectKey }) => [objectKey, source.path]),
    ),
  );
  return {
    ...parsed.data,
    stackName,
    assetPath: (objectKey) => {
      const relativePath = paths.get(objectKey);
      if (relativePath === undefined) throw new Error(`${assetsFile} knows no asset ${objectKey}`);
      return path.resolve(directory, relativePath);
    },
  };
}

/** What Ref (no attribute) and Fn::GetAtt of a resource are. */
export type AttributeOf = (logicalId: string, attribute?: string) => string;

/** Replaces CloudFormation's intrinsic functions by their values. An unsupported one is an error that names it. */
export function createResolver(template: Template, attributeOf: AttributeOf) {
  const pseudoParameters: Record<string, string> = {
    "AWS::AccountId": accountId,
    "AWS::Region": region,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": template.stackName,
    "AWS::StackId": stackIdOf(template.stackName),
  };

  function resolve(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(resolve).filter((item) => item !== undefined);
    if (typeof value === "string" && value.includes("{{resolve:")) {
      throw new Error("Dynamic references ({{resolve:…}}) are not supported locally");
    }
    if (!isRecord(value)) return value;
    const [key, ...others] = Object.keys(value);
    if (key !== undefined && others.length === 0 && (key === "Ref" || key.startsWith("Fn::"))) {
      return intrinsic(key, value[key]);
    }
    const entries = Object.entries(value).map(([name, item]) => [name, resolve(item)] as const);
    return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
  }

  function intrinsic(name: string, argument: unknown): unknown {
    switch (name) {
      case "Ref":
        return ref(z.string().parse(argument));
      case "Fn::GetAtt": {
        const [logicalId, ...attribute] = typeof argument === "string" ? argument.split(".") : texts(argument);
        return attributeOf(logicalId ?? "", attribute.join("."));
      }
      case "Fn::Join": {
        const [delimiter, items] = z.tuple([z.string(), z.unknown()]).parse(argument);
        return texts(items).join(delimiter);
      }
      case "Fn::Split": {
        const [delimiter, source] = z.tuple([z.string(), z.unknown()]).parse(argument);
        return text(resolve(source)).split(delimiter);
      }
      case "Fn::Select": {
        const [index, items] = z.tuple([z.coerce.number(), z.unknown()]).parse(argument);
        return z.array(z.unknown()).parse(resolve(items))[index];
      }
      case "Fn::Sub":
        return substitute(argument);
      case "Fn::If": {
        const [condition, yes, no] = z.tuple([z.string(), z.unknown(), z.unknown()]).parse(argument);
        return resolve(holds(condition) ? yes : no);
      }
      default:
        throw new Error(`The intrinsic function ${name} is not supported locally`);
    }
  }

  function ref(name: string): unknown {
    if (name === "AWS::NoValue") return undefined;
    const pseudo = pseudoParameters[name];
    if (pseudo !== undefined) return pseudo;
    const parameter = template.Parameters[name];
    if (parameter === undefined) return attributeOf(name);
    if (parameter.Default === undefined) throw new Error(`The parameter ${name} has no default`);
    return parameter.Default;
  }

  function substitute(argument: unknown): string {
    const [pattern, variables] =
      typeof argument === "string"
        ? [argument, {}]
        : z.tuple([z.string(), z.record(z.string(), z.unknown())]).parse(argument);
    return pattern.replaceAll(/\$\{(!?)([^}]+)\}/g, (_match, literal: string, name: string) => {
      if (literal !== "") return `\${${name}}`;
      if (name in variables) return text(resolve(variables[name]));
      return text(name.includes(".") ? intrinsic("Fn::GetAtt", name) : ref(name));
    });
  }

  function holds(name: string): boolean {
    const condition = template.Conditions[name];
    if (condition === undefined) throw new Error(`The template has no condition ${name}`);
    return evaluate(condition);
  }

  function evaluate(condition: unknown): boolean {
    const [name, argument] = Object.entries(z.record(z.string(), z.unknown()).parse(condition))[0] ?? ["nothing"];
    const operands = Array.isArray(argument) ? argument : [];
    switch (name) {
      case "Condition":
        return holds(z.string().parse(argument));
      case "Fn::Equals":
        return text(resolve(operands[0])) === text(resolve(operands[1]));
      case "Fn::Not":
        return !evaluate(operands[0]);
      case "Fn::And":
        return operands.every(evaluate);
      case "Fn::Or":
        return operands.some(evaluate);
      default:
        throw new Error(`The condition function ${name} is not supported locally`);
    }
  }

  function texts(value: unknown): string[] {
    return z.array(z.unknown()).parse(resolve(value)).map(text);
  }

  return { resolve, holds };
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  throw new Error(`A text was expected in the template, found ${JSON.stringify(value)}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`Cannot read ${file}: synthesize the stack first`, { cause: error });
  }
}
