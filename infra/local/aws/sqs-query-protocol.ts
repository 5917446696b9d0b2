import { randomUUID } from "node:crypto";
import * as z from "zod";
import type { Answer } from "./protocol.ts";

/**
 * SQS's older query protocol, which Debian's awscli 2.9 still speaks: a form in, XML out. It is translated to the JSON
 * protocol and back, so that the queues know only one.
 */
export type JsonCall = { operation: string; input: Record<string, unknown> };

/** Lists whose members stand in the form as `<name>.<n>`, and the JSON name they have. */
const lists: Record<string, string> = {
  AttributeName: "AttributeNames",
  MessageAttributeName: "MessageAttributeNames",
  MessageSystemAttributeName: "MessageSystemAttributeNames",
  SendMessageBatchRequestEntry: "Entries",
  DeleteMessageBatchRequestEntry: "Entries",
  ChangeMessageVisibilityBatchRequestEntry: "Entries",
};
/** Maps whose entries stand in the form as `<name>.<n>.Name` and `<name>.<n>.Value`. */
const maps: Record<string, string> = { Attribute: "Attributes", MessageAttribute: "MessageAttributes" };
const integers = new Set(["DelaySeconds", "MaxNumberOfMessages", "MaxResults", "VisibilityTimeout", "WaitTimeSeconds"]);

/** The JSON names that are called otherwise in the XML. */
const xmlNames: Record<string, string> = {
  QueueUrls: "QueueUrl",
  Messages: "Message",
  Attributes: "Attribute",
  MessageAttributes: "MessageAttribute",
};

const namespace = "http://queue.amazonaws.com/doc/2012-11-05/";

export function parseQueryCall(form: string): JsonCall {
  const tree: Record<string, unknown> = {};
  for (const [key, value] of new URLSearchParams(form)) place(tree, key.split("."), value);
  const { Action, Version: _version, ...input } = tree;
  return { operation: String(Action), input: toJson(input) };
}

/** The JSON protocol's answer, in XML. */
export function queryAnswer(operation: string, { status, headers, body }: Answer): Answer {
  const value = z.record(z.string(), z.unknown()).parse(JSON.parse(body.toString() || "{}"));
  const requestId = `<RequestId>${randomUUID()}</RequestId>`;
  const xml =
    status === 200
      ? `<${operation}Response xmlns="${namespace}"><${operation}Result>${toXml(value, operation)}</${operation}Result>` +
        `<ResponseMetadata>${requestId}</ResponseMetadata></${operation}Response>`
      : `<ErrorResponse xmlns="${namespace}"><Error><Type>Sender</Type>${element("Code", errorCode(headers, value))}` +
        `${element("Message", String(value["message"]))}</Error>${requestId}</ErrorResponse>`;
  return { status, headers: { "content-type": "text/xml" }, body: Buffer.from(xml) };
}

function errorCode(headers: Readonly<Record<string, string>>, { __type }: Record<string, unknown>): string {
  return headers["x-amzn-query-error"]?.split(";")[0] ?? String(__type).split("#").at(-1) ?? "InternalFailure";
}

function place(tree: Record<string, unknown>, [head = "", ...rest]: readonly string[], value: string): void {
  if (rest.length === 0) {
    tree[head] = integers.has(head) ? Number(value) : value;
    return;
  }
  const branch = isRecord(tree[head]) ? tree[head] : {};
  tree[head] = branch;
  place(branch, rest, value);
}

function toJson(tree: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(tree).map(([name, value]): [string, unknown] => {
    const list = lists[name];
    const map = maps[name];
    const members = isRecord(value) ? Object.values(value) : [];
    if (list !== undefined) return [list, members.map((member) => (isRecord(member) ? toJson(member) : member))];
    if (map === undefined) return [name, value];
    return [map, Object.fromEntries(members.filter(isRecord).map(({ Name, Value }) => [String(Name), Value]))];
  });
  return Object.fromEntries(entries);
}

function toXml(value: Record<string, unknown>, operation: string): string {
  return Object.entries(value)
    .map(([name, item]) => {
      if (Array.isArray(item)) {
        return item.map((member) => element(listName(name, operation), content(member, operation))).join("");
      }
      if ((name !== "Attributes" && name !== "MessageAttributes") || !isRecord(item)) {
        return element(name, content(item, operation));
      }
      return Object.entries(item)
        .map(([key, attribute]) =>
          element(
            xmlNames[name] ?? name,
            element("Name", escapeXml(key)) + element("Value", content(attribute, operation)),
          ),
        )
        .join("");
    })
    .join("");
}

function listName(name: string, operation: string): string {
  if (name === "Successful") return `${operation}ResultEntry`;
  if (name === "Failed") return "BatchResultErrorEntry";
  return xmlNames[name] ?? name;
}

function content(value: unknown, operation: string): string {
  return isRecord(value) ? toXml(value, operation) : escapeXml(String(value));
}

/** The content is XML already. */
function element(name: string, xml: string): string {
  return `<${name}>${xml}</${name}>`;
}

function escapeXml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("\r", "&#13;");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
