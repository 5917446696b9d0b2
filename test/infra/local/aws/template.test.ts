/* oxlint-disable no-new -- a CDK construct attaches itself to its scope */
import { Aws, CfnCondition, CfnOutput, CfnResource, Duration, Fn, type Stack } from "aws-cdk-lib";
import { Rule, Schedule } from "aws-cdk-lib/aws-events";
import { SqsQueue } from "aws-cdk-lib/aws-events-targets";
import {
  EventSourceMapping,
  FilterCriteria,
  FilterRule,
  type Function as LambdaFunction,
} from "aws-cdk-lib/aws-lambda";
import { Topic } from "aws-cdk-lib/aws-sns";
import { Queue } from "aws-cdk-lib/aws-sqs";
import { describe, expect, test } from "vitest";
import { startLocalAws } from "../../../../infra/local/aws/local-aws.ts";
import { loadStack } from "../../../../infra/local/aws/stack.ts";
import { synthesizeSampleStack } from "./sample-stack.ts";

const endpoint = "http://127.0.0.1:4566";

function outputsOf(values: Record<string, string>, adjust: (stack: Stack) => void = () => {}): Record<string, string> {
  const directory = synthesizeSampleStack((stack) => {
    adjust(stack);
    for (const [name, value] of Object.entries(values)) new CfnOutput(stack, name, { value });
  });
  return loadStack(directory, endpoint).outputs();
}

describe("a template", () => {
  test("has its intrinsic functions resolved", () => {
    const outputs = outputsOf({
      Joined: Fn.join("-", [Aws.REGION, Aws.ACCOUNT_ID, Aws.STACK_NAME]),
      Substituted: Fn.sub("${Name}/${AWS::Partition}/${!literal}", { Name: Fn.select(1, Fn.split(",", "a,b,c")) }),
    });
    expect(outputs).toMatchObject({
      Joined: "us-east-1-000000000000-Sample",
      Substituted: "b/aws/${literal}",
      WebhookHost: "127.0.0.1:4566",
      WorkQueueUrl: `${endpoint}/000000000000/sample-work`,
    });
  });

  test("has its conditions evaluated, also those of resources", () => {
    const outputs = outputsOf({}, (stack) => {
      const here = new CfnCondition(stack, "Here", { expression: Fn.conditionEquals(Aws.REGION, "us-east-1") });
      const away = new CfnCondition(stack, "Away", { expression: Fn.conditionNot(here) });
      new CfnResource(stack, "Elsewhere", { type: "AWS::EC2::Instance" }).cfnOptions.condition = away;
      new CfnOutput(stack, "Chosen", { value: Fn.conditionIf("Here", "here", "away").toString() });
      new CfnOutput(stack, "Left", { value: "out", condition: away });
    });
    expect(outputs).toMatchObject({ Chosen: "here" });
    expect(outputs).not.toHaveProperty("Left");
  });

  test("may refer to what is skipped here", () => {
    const outputs = outputsOf({}, (stack) => {
      const topic = new Topic(stack, "Alarms");
      new CfnOutput(stack, "TopicArn", { value: topic.topicArn });
    });
    expect(outputs["TopicArn"]).toMatch(/^Alarms/);
  });
});

describe("the local AWS does not start", () => {
  async function refusal(adjust: (stack: Stack) => void): Promise<string> {
    const templateDirectory = synthesizeSampleStack(adjust);
    const started = startLocalAws({ templateDirectory, port: 0, secrets: {} });
    const outcome = await started.then(
      async (aws) => aws.close().then(() => "it started"),
      (error: unknown) => String(error),
    );
    return outcome;
  }

  test.each<[string, (stack: Stack) => void, string[]]>([
    [
      "with a resource type it does not know",
      (stack) => new CfnResource(stack, "Cluster", { type: "AWS::Redshift::Cluster" }),
      ["Cluster", "AWS::Redshift::Cluster"],
    ],
    [
      "with a property that would change what a resource does",
      (stack) => new Queue(stack, "Ordered", { fifo: true }),
      ["Ordered", "FifoQueue"],
    ],
    [
      "with an intrinsic function it does not know",
      (stack) => new CfnResource(stack, "Odd", { type: "AWS::SQS::Queue", properties: { QueueName: Fn.base64("x") } }),
      ["Fn::Base64"],
    ],
    [
      "with an event source filter",
      (stack) => {
        const target = stack.node.findChild("ToolFunction") as LambdaFunction;
        new EventSourceMapping(stack, "Filtered", {
          target,
          eventSourceArn: (stack.node.findChild("Work") as Queue).queueArn,
          filters: [FilterCriteria.filter({ body: FilterRule.exists() })],
        });
      },
      ["Filtered", "FilterCriteria"],
    ],
    [
      "with a rule that would have to deliver events",
      (stack) =>
        new Rule(stack, "Tick", {
          schedule: Schedule.rate(Duration.minutes(1)),
          targets: [new SqsQueue(stack.node.findChild("Work") as Queue)],
        }),
      ["Tick", "AWS::Scheduler::Schedule"],
    ],
  ])("%s, and says so", async (_title, adjust, words) => {
    const message = await refusal(adjust);
    for (const word of words) expect(message).toContain(word);
  });

  test("on a port that is taken, and says so", async () => {
    const templateDirectory = synthesizeSampleStack();
    const first = await startLocalAws({ templateDirectory, port: 0, secrets: {} });
    const port = Number(new URL(first.endpoint).port);
    await expect(startLocalAws({ templateDirectory, port, secrets: {} })).rejects.toThrow(`Port ${port}`);
    await first.close();
  });
});
