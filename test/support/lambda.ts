import type { Context, SQSBatchResponse, SQSEvent, SQSRecord } from "aws-lambda";

/** What a handler knows of its invocation. */
export function lambdaContext(remainingMs = 10_000): Context {
  return {
    awsRequestId: "request",
    callbackWaitsForEmptyEventLoop: true,
    functionName: "function",
    functionVersion: "$LATEST",
    invokedFunctionArn: "arn:aws:lambda:us-east-1:000000000000:function:function",
    logGroupName: "group",
    logStreamName: "stream",
    memoryLimitInMB: "256",
    getRemainingTimeInMillis: () => remainingMs,
    done: () => {},
    fail: () => {},
    succeed: () => {},
  };
}

/** The ids of the messages that a handler gives back to their queue. */
export async function failuresOf(
  handler: (event: SQSEvent, context: Context) => Promise<SQSBatchResponse>,
  ...records: SQSRecord[]
): Promise<string[]> {
  const { batchItemFailures } = await handler({ Records: records }, lambdaContext());
  return batchItemFailures.map(({ itemIdentifier }) => itemIdentifier);
}
