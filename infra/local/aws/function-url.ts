import { randomUUID } from "node:crypto";
import * as z from "zod";
import type { LambdaFunction } from "./lambda.ts";
import { type Answer, jsonAnswer } from "./protocol.ts";
import type { Stack } from "./stack.ts";
import { accountId } from "./template.ts";

export type HttpRequest = {
  method: string;
  /** Within the function's URL, with the query. */
  target: string;
  headers: Readonly<Record<string, string>>;
  body: Buffer;
};
export type FunctionUrl = { name: string; serve: (request: HttpRequest) => Promise<Answer> };

const urlProperties = z.strictObject({
  TargetFunctionArn: z.string(),
  AuthType: z.literal("NONE"),
  InvokeMode: z.literal("BUFFERED").optional(),
});

const structuredResponse = z.looseObject({
  statusCode: z.number(),
  headers: z.record(z.string(), z.coerce.string()).default({}),
  cookies: z.array(z.string()).default([]),
  body: z.string().default(""),
  isBase64Encoded: z.boolean().default(false),
});

/** Lambda function URLs: a request becomes an event of payload version 2.0, the result becomes the answer. */
export function createFunctionUrls(stack: Stack, functions: readonly LambdaFunction[]): FunctionUrl[] {
  return stack.each("AWS::Lambda::Url", urlProperties, ["Cors"]).map(({ resource, properties }) => {
    const target = functions.find(({ name, arn }) => [name, arn].includes(properties.TargetFunctionArn));
    if (target === undefined) {
      throw new Error(`${resource.logicalId}: ${properties.TargetFunctionArn} is no function here`);
    }
    return { name: resource.name, serve: (request) => serve(target, request) };
  });
}

async function serve(target: LambdaFunction, request: HttpRequest): Promise<Answer> {
  const result = await target.invoke(toEvent(request));
  if (!result.ok) return jsonAnswer({ message: "Internal Server Error" }, 502);
  const response = structuredResponse.safeParse(result.payload);
  if (!response.success) {
    const body = typeof result.payload === "string" ? result.payload : JSON.stringify(result.payload);
    return { status: 200, headers: { "content-type": "application/json" }, body: Buffer.from(body) };
  }
  const { statusCode, headers, cookies, body, isBase64Encoded } = response.data;
  return {
    status: statusCode,
    headers: {
      "content-type": "application/json",
      ...lowerCased(headers),
      ...(cookies.length > 0 ? { "set-cookie": cookies.join(", ") } : {}),
    },
    body: Buffer.from(body, isBase64Encoded ? "base64" : "utf8"),
  };
}

function toEvent({ method, target, headers, body }: HttpRequest) {
  const [rawPath = "/", ...query] = target.split("?");
  const rawQueryString = query.join("?");
  const parameters = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(rawQueryString)) {
    const earlier = parameters.get(name);
    parameters.set(name, earlier === undefined ? value : `${earlier},${value}`);
  }
  const isText = /^(text\/|application\/(.*json|.*xml|javascript|x-www-form-urlencoded))/.test(
    headers["content-type"] ?? "text/plain",
  );
  const now = new Date();
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath,
    rawQueryString,
    headers,
    ...(parameters.size > 0 ? { queryStringParameters: Object.fromEntries(parameters) } : {}),
    requestContext: {
      accountId: "anonymous",
      apiId: accountId,
      domainName: headers["host"] ?? "localhost",
      domainPrefix: accountId,
      http: {
        method,
        path: rawPath,
        protocol: "HTTP/1.1",
        sourceIp: "127.0.0.1",
        userAgent: headers["user-agent"] ?? "",
      },
      requestId: randomUUID(),
      routeKey: "$default",
      stage: "$default",
      time: now.toUTCString(),
      timeEpoch: now.getTime(),
    },
    ...(body.length > 0 ? { body: body.toString(isText ? "utf8" : "base64") } : {}),
    isBase64Encoded: body.length > 0 && !isText,
  };
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
