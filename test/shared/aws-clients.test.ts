import { SQSClient } from "@aws-sdk/client-sqs";
import { expect, test } from "vitest";
import { awsClient } from "../../shared/aws-clients.ts";

test("a client of AWS does without what only a logger needs", () => {
  const usual = new SQSClient().middlewareStack.identify().join();
  // The SDK's name for it may change: then nothing would be removed, without a word.
  expect(usual).toContain("loggerMiddleware");
  expect(awsClient(SQSClient).middlewareStack.identify().join()).not.toContain("loggerMiddleware");
});
