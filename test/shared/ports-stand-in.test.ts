import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { EventBridgeClient } from "@aws-sdk/client-eventbridge";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import * as z from "zod";
import { createEventBus } from "../../shared/event-bus.ts";
import { readSecret } from "../../shared/secrets.ts";
import { createAuditGaps, createAuditStore } from "../../shared/store/audit-store.ts";
import { startQuietStack } from "../support/quiet-stack.ts";
import { describePorts, type PortsUnderTest } from "./ports-contract.ts";

const detailSchema = z.object({ eventId: z.string() });

describePorts("of AWS's stand-ins", async (): Promise<PortsUnderTest> => {
  const stack = await startQuietStack({ secrets: { "business-tokens/one": "none-yet" } });
  const dynamo = new DynamoDBClient(stack.client);
  const secrets = new SecretsManagerClient(stack.client);
  return {
    bus: createEventBus(() => new EventBridgeClient(stack.client), stack.output("EventBusName")),
    announced: () => stack.events().map(({ detail }) => detailSchema.parse(detail).eventId),
    audit: createAuditStore(dynamo, stack.output("AuditTableName")),
    unaudited: createAuditGaps(dynamo, stack.output("AuditTableName")),
    readSecret: (name) => readSecret(secrets, name),
    async putSecret(SecretId, SecretString) {
      await secrets.send(new PutSecretValueCommand({ SecretId, SecretString }));
    },
    async close() {
      dynamo.destroy();
      secrets.destroy();
      await stack.close();
    },
  };
});
