import { createHash } from "node:crypto";
import * as z from "zod";
import { accountId, createResolver, loadTemplate, region, stackIdOf } from "./template.ts";

/** A resource of the template under its local name. `ref` and `attributes` are what Ref and Fn::GetAtt answer. */
export type Resource = {
  logicalId: string;
  type: string;
  name: string;
  ref: string;
  attributes: Record<string, string>;
};

export type Stack = {
  name: string;
  id: string;
  resources: ReadonlyMap<string, Resource>;
  assetPath: (objectKey: string) => string;
  /**
   * The resources of one type with their resolved properties. Properties in `ignored` mean nothing on one machine.
   * @throws Error that names every property that is neither understood nor ignored.
   */
  each: <S extends z.ZodType>(
    type: string,
    schema: S,
    ignored: readonly string[],
  ) => { resource: Resource; properties: z.output<S> }[];
  outputs: () => Record<string, string>;
};

/** How a served type is called and addressed here. Attributes that only its service knows are added when it is made. */
type Naming = {
  nameProperty?: string;
  address: (name: string, endpoint: string) => Pick<Resource, "ref" | "attributes">;
};

const served: Record<string, Naming> = {
  "AWS::SQS::Queue": {
    nameProperty: "QueueName",
    address: (name, endpoint) => {
      const url = `${endpoint}/${accountId}/${name}`;
      return { ref: url, attributes: { Arn: arn("sqs", name), QueueName: name, QueueUrl: url } };
    },
  },
  "AWS::DynamoDB::Table": {
    nameProperty: "TableName",
    address: (name) => ({ ref: name, attributes: { Arn: arn("dynamodb", `table/${name}`) } }),
  },
  "AWS::Lambda::Function": {
    nameProperty: "FunctionName",
    address: (name) => ({ ref: name, attributes: { Arn: arn("lambda", `function:${name}`) } }),
  },
  "AWS::Lambda::EventSourceMapping": {
    address: (name) => ({ ref: mappingUuid(name), attributes: { Id: mappingUuid(name) } }),
  },
  "AWS::Lambda::Url": {
    address: (name, endpoint) => ({ ref: name, attributes: { FunctionUrl: `${endpoint}/_local/url/${name}/` } }),
  },
  "AWS::SecretsManager::Secret": {
    nameProperty: "Name",
    address: (name) => {
      // AWS ends a secret's ARN with a dash and six characters of its own.
      const secretArn = arn("secretsmanager", `secret:${name}-${digest(name).slice(0, 6)}`);
      return { ref: secretArn, attributes: { Id: secretArn } };
    },
  },
  "AWS::Events::EventBus": {
    nameProperty: "Name",
    address: (name) => ({ ref: name, attributes: { Arn: arn("events", `event-bus/${name}`), Name: name } }),
  },
  "AWS::Events::Rule": {
    nameProperty: "Name",
    address: (name) => ({ ref: name, attributes: { Arn: arn("events", `rule/${name}`) } }),
  },
  "AWS::Scheduler::Schedule": {
    nameProperty: "Name",
    address: (name) => ({ ref: name, attributes: { Arn: arn("scheduler", `schedule/default/${name}`) } }),
  },
  "AWS::S3::Bucket": {
    nameProperty: "BucketName",
    address: (name) => ({ ref: name.toLowerCase(), attributes: { Arn: `arn:aws:s3:::${name.toLowerCase()}` } }),
  },
};

/** Nothing to do for these on one machine: permissions, keys, logs, and what only watches. */
const skipped = new Set([
  "AWS::CDK::Metadata",
  "AWS::CloudWatch::Alarm",
  "AWS::CloudWatch::CompositeAlarm",
  "AWS::CloudWatch::Dashboard",
  "AWS::EventSchemas::Discoverer",
  "AWS::Events::Archive",
  "AWS::Events::EventBusPolicy",
  "AWS::IAM::ManagedPolicy",
  "AWS::IAM::Policy",
  "AWS::IAM::Role",
  "AWS::KMS::Alias",
  "AWS::KMS::Key",
  "AWS::Lambda::EventInvokeConfig",
  "AWS::Lambda::Permission",
  "AWS::Logs::LogGroup",
  "AWS::Logs::MetricFilter",
  "AWS::Logs::QueryDefinition",
  "AWS::Logs::ResourcePolicy",
  "AWS::S3::BucketPolicy",
  "AWS::SNS::Subscription",
  "AWS::SNS::Topic",
  "AWS::SNS::TopicPolicy",
  "AWS::SQS::QueuePolicy",
  "AWS::Scheduler::ScheduleGroup",
  "AWS::SecretsManager::ResourcePolicy",
]);

/**
 * Reads the synthesized stack and gives every resource its local name and address.
 * @throws Error that names the resources whose type is neither run here nor known to need nothing.
 */
export function loadStack(templateDirectory: string, endpoint: string): Stack {
  const template = loadTemplate(templateDirectory);
  const resources = new Map<string, Resource>();
  const { resolve, holds } = createResolver(template, attributeOf);

  const definitions = Object.entries(template.Resources).filter(
    ([, { Condition }]) => Condition === undefined || holds(Condition),
  );
  const unknown = definitions.filter(([, { Type }]) => served[Type] === undefined && !skipped.has(Type));
  if (unknown.length > 0) {
    const names = unknown.map(([logicalId, { Type }]) => `${logicalId} (${Type})`);
    throw new Error(`The local stack does not know these resources: ${names.join(", ")}`);
  }
  for (const [logicalId] of definitions) resourceOf(logicalId);

  /** On demand, since a name may be built from another resource's. */
  function resourceOf(logicalId: string): Resource {
    const made = resources.get(logicalId);
    if (made !== undefined) return made;
    const definition = template.Resources[logicalId];
    if (definition === undefined) throw new Error(`The template has no resource ${logicalId}`);
    const naming = served[definition.Type];
    const given = naming?.nameProperty === undefined ? undefined : resolve(definition.Properties[naming.nameProperty]);
    const name = typeof given === "string" ? given : logicalId;
    const address = naming?.address(name, endpoint) ?? {
      ref: logicalId,
      attributes: { Arn: arn("skipped", logicalId) },
    };
    const resource = { logicalId, type: definition.Type, name, ...address };
    resources.set(logicalId, resource);
    return resource;
  }

  function attributeOf(logicalId: string, attribute?: string): string {
    const { type, ref, attributes } = resourceOf(logicalId);
    if (attribute === undefined) return ref;
    const value = attributes[attribute];
    if (value !== undefined) return value;
    if (skipped.has(type)) return `${logicalId}.${attribute}`;
    throw new Error(`${logicalId} (${type}) has no attribute ${attribute} locally`);
  }

  return {
    name: template.stackName,
    id: stackIdOf(template.stackName),
    resources,
    assetPath: template.assetPath,
    each: (type, schema, ignored) =>
      definitions
        .filter(([, { Type }]) => Type === type)
        .map(([logicalId, { Properties }]) => {
          const relevant = Object.entries(Properties).filter(([property]) => !ignored.includes(property));
          const parsed = schema.safeParse(resolve(Object.fromEntries(relevant)));
          if (parsed.success) return { resource: resourceOf(logicalId), properties: parsed.data };
          throw new Error(`${logicalId} (${type}) cannot be run locally: ${z.prettifyError(parsed.error)}`);
        }),
    outputs: () => {
      const wanted = Object.entries(template.Outputs).filter(
        ([, { Condition }]) => Condition === undefined || holds(Condition),
      );
      return Object.fromEntries(wanted.map(([name, { Value }]) => [name, String(resolve(Value))]));
    },
  };
}

function arn(service: string, rest: string): string {
  return `arn:aws:${service}:${region}:${accountId}:${rest}`;
}

function mappingUuid(name: string): string {
  return digest(name).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
