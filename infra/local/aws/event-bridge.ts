import { randomUUID } from "node:crypto";
import * as z from "zod";
import { errorAnswer, jsonAnswer, type Operation } from "./protocol.ts";
import type { Stack } from "./stack.ts";

/** An event that reached the bus; `n` counts from 1, `time` is ISO 8601. */
export type LocalEvent = { n: number; detailType: string; detail: unknown; time: string };

const entrySchema = z.looseObject({
  EventBusName: z.string().default("default"),
  Source: z.string().optional(),
  DetailType: z.string().optional(),
  Detail: z.string().optional(),
  Resources: z.array(z.string()).default([]),
  Time: z.number().optional(),
});
type Entry = z.output<typeof entrySchema>;

const putEventsInput = z.looseObject({ Entries: z.array(entrySchema) });

const busProperties = z.strictObject({ Name: z.string() });
const ignoredBusProperties = ["DeadLetterConfig", "Description", "KmsKeyIdentifier", "LogConfig", "Policy", "Tags"];

const ruleProperties = z.looseObject({ Targets: z.array(z.looseObject({ Arn: z.string() })).default([]) });

const entriesMax = 10;
const sizeMaxBytes = 256 * 1024;

/**
 * EventBridge's PutEvents with its limits. Events are kept in memory, for whoever asks.
 * @throws Error when a rule of the stack would have to deliver events to something that runs here.
 */
export function createEventBridge(stack: Stack) {
  const events: LocalEvent[] = [];
  const buses = new Map<string, string>([["default", "default"]]);
  for (const { resource } of stack.each("AWS::Events::EventBus", busProperties, ignoredBusProperties)) {
    buses.set(resource.name, resource.name);
    buses.set(resource.attributes["Arn"] ?? "", resource.name);
  }
  refuseLiveRules(stack);

  function put(entry: Entry): Record<string, string> {
    const { Source, DetailType, Detail } = entry;
    if (Source === undefined || DetailType === undefined || Detail === undefined) {
      return { ErrorCode: "InvalidArgument", ErrorMessage: "Parameters Source, DetailType and Detail are required." };
    }
    const detail = parseDetail(Detail);
    if (detail === undefined) return { ErrorCode: "MalformedDetail", ErrorMessage: "Detail is malformed." };
    const time = new Date(entry.Time === undefined ? Date.now() : entry.Time * 1000).toISOString();
    events.push({ n: events.length + 1, detailType: DetailType, detail, time });
    return { EventId: randomUUID() };
  }

  const operations: Record<string, Operation> = {
    PutEvents: (input) => {
      const { Entries } = putEventsInput.parse(input);
      if (Entries.length === 0 || Entries.length > entriesMax) {
        return errorAnswer("ValidationException", `Entries must have between 1 and ${entriesMax} members.`);
      }
      const sizeBytes = Entries.reduce((sum, entry) => sum + entrySizeBytes(entry), 0);
      if (sizeBytes > sizeMaxBytes) {
        return errorAnswer("ValidationException", `Total size of the entries in the request is over the limit.`);
      }
      const unknownBus = Entries.find(({ EventBusName }) => !buses.has(EventBusName))?.EventBusName;
      if (unknownBus !== undefined) {
        return errorAnswer("ResourceNotFoundException", `Event bus ${unknownBus} does not exist.`);
      }
      const answers = Entries.map(put);
      return jsonAnswer({
        FailedEntryCount: answers.filter((answer) => "ErrorCode" in answer).length,
        Entries: answers,
      });
    },
  };
  return { operations, after: (n: number): LocalEvent[] => events.slice(Math.max(0, n)) };
}

function refuseLiveRules(stack: Stack): void {
  const runHere = new Set(
    [...stack.resources.values()]
      .filter(({ type }) => ["AWS::Lambda::Function", "AWS::SQS::Queue", "AWS::Events::EventBus"].includes(type))
      .map(({ attributes }) => attributes["Arn"]),
  );
  for (const { resource, properties } of stack.each("AWS::Events::Rule", ruleProperties, [])) {
    if (!properties.Targets.some(({ Arn }) => runHere.has(Arn))) continue;
    throw new Error(
      `${resource.logicalId}: an AWS::Events::Rule with a target in this stack is not run locally; ` +
        "for a schedule use AWS::Scheduler::Schedule",
    );
  }
}

/** As EventBridge counts it: 14 bytes for a time, and the UTF-8 length of the texts. */
function entrySizeBytes({ Time, Source, DetailType, Detail, Resources }: Entry): number {
  const texts = [Source, DetailType, Detail, ...Resources];
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text ?? ""), Time === undefined ? 0 : 14);
}

function parseDetail(detail: string): object | undefined {
  try {
    const parsed: unknown = JSON.parse(detail);
    return typeof parsed === "object" && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}
