/**
 * AWS list prices, us-east-1, dollars, without free tiers or discounts: as their pages had them at `date`, restated from
 * memory, since a benchmark fetches nothing. Whoever wants another region or date changes this table.
 */
export const prices = {
  date: "2025-06",
  region: "us-east-1",
  lambda: {
    page: "aws.amazon.com/lambda/pricing (Arm, x86 costs a quarter more)",
    request: 0.2e-6,
    gbSecond: 0.0000133334,
  },
  sqs: { page: "aws.amazon.com/sqs/pricing (standard queues)", request: 0.4e-6 },
  dynamoDb: {
    page: "aws.amazon.com/dynamodb/pricing/on-demand",
    writeUnit: 0.625e-6,
    readUnit: 0.125e-6,
  },
  /** Reads of the stream by Lambda are free. */
  eventBridge: { page: "aws.amazon.com/eventbridge/pricing (custom events)", event: 1e-6 },
  cloudWatchLogs: { page: "aws.amazon.com/cloudwatch/pricing (ingestion)", gigabyte: 0.5 },
} as const;
