import { BatchProcessor, EventType, processPartialResponse } from "@aws-lambda-powertools/batch";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { Logger } from "@aws-lambda-powertools/logger";
import { injectLambdaContext } from "@aws-lambda-powertools/logger/middleware";
import { parser } from "@aws-lambda-powertools/parser/middleware";
import { SqsSchema } from "@aws-lambda-powertools/parser/schemas/sqs";
import { DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import middy from "@middy/core";
import type { Context, SQSBatchResponse, SQSEvent, SQSRecord } from "aws-lambda";
import { z } from "zod";

/** How a baseline calls Meta. */
export type Meta = {
  get(id: string, fields: string[], token: string): Promise<Record<string, unknown>>;
  list(id: string, edge: string, query: Record<string, string>, token: string): Promise<unknown[]>;
  post(id: string, edge: string, query: Record<string, string>, token: string): Promise<Record<string, unknown>>;
};

const commandSchema = z.object({
  version: z.literal("1"),
  type: z.literal("share"),
  commandId: z.string().min(1).max(128),
  requestedAt: z.iso.datetime(),
  requestedBy: z.string(),
  wabaId: z.string().regex(/^\d{5,20}$/),
  currency: z.string().length(3),
});
const wabaSchema = z.object({
  owner_business_info: z.object({ id: z.string() }),
  primary_funding_id: z.string().optional(),
});
const sharedSchema = z.object({ allocation_config_id: z.string() });

/**
 * The share function as one would build it from the best-known parts: each by its documentation, none of this project. It
 * makes the calls to Meta that a share needs (owner and funding, list, POST), remembers the result, and asks for the
 * verification; it has no intents, no probes, no revocations and no limits.
 */
export function shareHandler(makeMeta: (baseUrl: string) => Meta) {
  const environment = process.env;
  const meta = makeMeta(`${environment["GRAPH_API_BASE_URL"]}/${environment["GRAPH_API_VERSION"]}`);
  const dynamo = new DynamoDBClient();
  const sqs = new SQSClient();
  const secrets = new SecretsManagerClient();
  const logger = new Logger({ serviceName: "share" });
  const TableName = environment["STATE_TABLE_NAME"] ?? "";
  const line = environment["CREDIT_LINE_ID"] ?? "";
  const persistenceStore = new DynamoDBPersistenceLayer({
    tableName: TableName,
    keyAttr: "pk",
    awsSdkV3Client: dynamo,
  });
  const config = new IdempotencyConfig({ eventKeyJmesPath: "commandId" });
  const processor = new BatchProcessor(EventType.SQS);
  let token: Promise<string> | undefined;

  async function readToken(): Promise<string> {
    const SecretId = environment["SYSTEM_TOKEN_SECRET_ARN"];
    const { SecretString = "" } = await secrets.send(new GetSecretValueCommand({ SecretId }));
    return SecretString.trim();
  }

  async function share(command: z.output<typeof commandSchema>): Promise<{ allocationId: string }> {
    const { wabaId, currency } = command;
    token ??= readToken();
    const bearer = await token;
    const waba = wabaSchema.parse(await meta.get(wabaId, ["owner_business_info", "primary_funding_id"], bearer));
    const businessId = waba.owner_business_info.id;
    const Key = marshall({ pk: `BUSINESS#${businessId}` });
    const { Item } = await dynamo.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }));
    const known = Item === undefined ? {} : unmarshall(Item);
    await meta.list(line, "owning_credit_allocation_configs", { receiving_business_id: businessId }, bearer);
    const query = { waba_currency: currency, waba_id: wabaId };
    const answer = sharedSchema.parse(await meta.post(line, "whatsapp_credit_sharing_and_attach", query, bearer));
    const allocationId = answer.allocation_config_id;
    const item = { ...known, ...unmarshall(Key), [wabaId]: { status: "shared", allocationId, currency } };
    await dynamo.send(new PutItemCommand({ TableName, Item: marshall(item) }));
    await sqs.send(
      new SendMessageCommand({
        QueueUrl: environment["VERIFY_QUEUE_URL"],
        MessageBody: JSON.stringify({ ...command, type: "verify" }),
        DelaySeconds: 30,
      }),
    );
    logger.info("Shared", { wabaId, allocationId });
    return { allocationId };
  }

  const shareOnce = makeIdempotent(share, { persistenceStore, config });

  async function onRecord(record: SQSRecord): Promise<void> {
    await shareOnce(commandSchema.parse(JSON.parse(record.body)));
  }

  return middy<SQSEvent, SQSBatchResponse>()
    .use(injectLambdaContext(logger))
    .use(parser({ schema: SqsSchema }))
    .handler((event: SQSEvent, context: Context) => {
      config.registerLambdaContext(context);
      return processPartialResponse(event, onRecord, processor, { context, throwOnFullBatchFailure: false });
    });
}
