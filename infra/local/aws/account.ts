import { randomUUID } from "node:crypto";
import type { Answer } from "./protocol.ts";
import type { Stack } from "./stack.ts";
import { accountId } from "./template.ts";

/** A call in AWS's query protocol: a form in, XML out. */
export type QueryOperation = (form: URLSearchParams, caller: string) => Answer;

/**
 * CloudFormation's and STS's few calls that whoever operates the stack needs: its outputs, its resources, and who one is.
 * @returns by the name of the call.
 */
export function createAccount(stack: Stack): Readonly<Record<string, QueryOperation>> {
  function ofStack(form: URLSearchParams, operation: string, content: () => string): Answer {
    const name = form.get("StackName");
    return name === stack.name || name === stack.id
      ? answer(operation, content())
      : failure("ValidationError", `Stack with id ${name} does not exist`);
  }
  return {
    DescribeStacks: (form) =>
      ofStack(form, "DescribeStacks", () => {
        const outputs = Object.entries(stack.outputs()).map(([key, value]) =>
          element("member", element("OutputKey", escapeXml(key)) + element("OutputValue", escapeXml(value))),
        );
        const about =
          element("StackName", stack.name) +
          element("StackId", stack.id) +
          element("StackStatus", "CREATE_COMPLETE") +
          element("CreationTime", new Date().toISOString());
        return element("Stacks", element("member", about + element("Outputs", outputs.join(""))));
      }),
    ListStackResources: (form) =>
      ofStack(form, "ListStackResources", () => {
        const resources = [...stack.resources.values()].map(({ logicalId, type, ref }) =>
          element(
            "member",
            element("LogicalResourceId", logicalId) +
              element("PhysicalResourceId", escapeXml(ref)) +
              element("ResourceType", type) +
              element("ResourceStatus", "CREATE_COMPLETE") +
              element("LastUpdatedTimestamp", new Date().toISOString()),
          ),
        );
        return element("StackResourceSummaries", resources.join(""));
      }),
    GetCallerIdentity: (_form, caller) =>
      answer(
        "GetCallerIdentity",
        element("Arn", `arn:aws:iam::${accountId}:user/${escapeXml(caller)}`) +
          element("UserId", escapeXml(caller)) +
          element("Account", accountId),
      ),
  };
}

function answer(operation: string, result: string): Answer {
  const metadata = element("ResponseMetadata", element("RequestId", randomUUID()));
  return xml(200, element(`${operation}Response`, element(`${operation}Result`, result) + metadata));
}

function failure(code: string, message: string): Answer {
  const error = element("Type", "Sender") + element("Code", code) + element("Message", escapeXml(message));
  return xml(400, element("ErrorResponse", element("Error", error) + element("RequestId", randomUUID())));
}

function xml(status: number, text: string): Answer {
  return { status, headers: { "content-type": "text/xml" }, body: Buffer.from(text) };
}

/** The content is XML already. */
function element(name: string, content: string): string {
  return `<${name}>${content}</${name}>`;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
