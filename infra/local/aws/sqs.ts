import { buildApp } from "fauxqs";
import * as z from "zod";
import type { Answer } from "./protocol.ts";
import type { Stack } from "./stack.ts";
import { region } from "./template.ts";

/**
 * SQS, and the S3 buckets for what a stream cannot deliver, by fauxqs. It lives in this process and is reached by
 * injection: it has no port of its own.
 */
export type Sqs = {
  /** Passes a call of SQS's JSON protocol on. */
  answer: (operation: string, body: string) => Promise<Answer>;
  /** @throws Error when fauxqs refuses the call. */
  call: (operation: string, input: Readonly<Record<string, unknown>>) => Promise<unknown>;
  /** Passes an S3 REST call on. */
  s3: (request: { method: string; url: string; headers: Record<string, string>; body: Buffer }) => Promise<Answer>;
  putObject: (bucket: string, key: string, body: string) => Promise<void>;
  buckets: ReadonlySet<string>;
  close: () => Promise<void>;
};

const queueProperties = z.strictObject({
  QueueName: z.string().optional(),
  VisibilityTimeout: z.coerce.string().optional(),
  MessageRetentionPeriod: z.coerce.string().optional(),
  DelaySeconds: z.coerce.string().optional(),
  MaximumMessageSize: z.coerce.string().optional(),
  ReceiveMessageWaitTimeSeconds: z.coerce.string().optional(),
  RedrivePolicy: z.looseObject({ deadLetterTargetArn: z.string(), maxReceiveCount: z.coerce.number() }).optional(),
});

const ignoredQueueProperties = [
  "KmsMasterKeyId",
  "KmsDataKeyReusePeriodSeconds",
  "RedriveAllowPolicy",
  "SqsManagedSseEnabled",
  "Tags",
];

const ignoredBucketProperties = [
  "BucketEncryption",
  "LifecycleConfiguration",
  "LoggingConfiguration",
  "OwnershipControls",
  "PublicAccessBlockConfiguration",
  "Tags",
  "VersioningConfiguration",
];

const httpMethod = z.enum(["GET", "HEAD", "PUT", "POST", "DELETE"]);

export async function startSqs(stack: Stack, endpoint: string): Promise<Sqs> {
  const app = buildApp({ logger: false, defaultRegion: region });
  const { host, port } = new URL(endpoint);
  const buckets = new Set<string>();

  async function inject(method: string, url: string, headers: Record<string, string>, payload: string | Buffer) {
    const response = await app.inject({ method: httpMethod.parse(method), url, headers, payload });
    const answerHeaders: Record<string, string> = {};
    for (const [name, value] of Object.entries(response.headers)) {
      if (value !== undefined && !["content-length", "connection", "date"].includes(name))
        answerHeaders[name] = String(value);
    }
    return { status: response.statusCode, headers: answerHeaders, body: response.rawPayload };
  }

  async function answer(operation: string, body: string): Promise<Answer> {
    // Without the Authorization header, whose region would choose among queues of the same name.
    const headers = { host, "content-type": "application/x-amz-json-1.0", "x-amz-target": `AmazonSQS.${operation}` };
    const { status, headers: answerHeaders, body: answered } = await inject("POST", "/", headers, body);
    if (!["CreateQueue", "GetQueueUrl", "ListQueues"].includes(operation)) {
      return { status, headers: answerHeaders, body: answered };
    }
    // fauxqs names queues by a host that only resolves where "localhost" has subdomains.
    const urls = answered.toString().replaceAll(`http://sqs.${region}.localhost:${port}`, endpoint);
    return { status, headers: answerHeaders, body: Buffer.from(urls) };
  }

  async function call(operation: string, input: Readonly<Record<string, unknown>>): Promise<unknown> {
    const { status, body } = await answer(operation, JSON.stringify(input));
    if (status !== 200) throw new Error(`${operation} failed: ${body.toString()}`);
    return JSON.parse(body.toString());
  }

  async function putObject(bucket: string, key: string, body: string): Promise<void> {
    const { status } = await inject("PUT", `/${bucket}/${key}`, { host, "content-type": "application/json" }, body);
    if (status !== 200) throw new Error(`${bucket}/${key} could not be stored: HTTP ${status}`);
  }

  for (const { resource, properties } of stack.each("AWS::SQS::Queue", queueProperties, ignoredQueueProperties)) {
    const { QueueName: _name, RedrivePolicy, ...attributes } = properties;
    const redrive = RedrivePolicy === undefined ? {} : { RedrivePolicy: JSON.stringify(RedrivePolicy) };
    await call("CreateQueue", { QueueName: resource.name, Attributes: { ...attributes, ...redrive } });
  }
  const bucketProperties = z.strictObject({ BucketName: z.string().optional() });
  for (const { resource } of stack.each("AWS::S3::Bucket", bucketProperties, ignoredBucketProperties)) {
    await inject("PUT", `/${resource.ref}`, { host }, "");
    buckets.add(resource.ref);
  }

  return {
    answer,
    call,
    putObject,
    buckets,
    s3: ({ method, url, headers, body }) => inject(method, url, { ...headers, host }, body),
    close: () => app.close(),
  };
}
