import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { localStage, parseStageConfig, readStageConfig, stageConfigFromContext } from "../../infra/config.ts";
import { deployedStage, temporaryFolder } from "./stages.ts";

const folder = temporaryFolder();

function configFile(name: string, content: unknown): string {
  const file = join(folder, name);
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

test("the page about deployment tells every key of a stage, and its default", () => {
  const page = readFileSync("infra/deploy.md", "utf8");
  const stage = { stage: "dev", partnerBusinessId: "100000000000001", creditLineId: "200000000000001" };
  const defaults: Record<string, unknown> = parseStageConfig(stage, "the test");
  const rows = [...page.matchAll(/^\| ((?:`\w+`(?:, )?)+) \| (.*?) \| /gm)].flatMap(([, keys = "", told = ""]) =>
    [...keys.matchAll(/\w+/g)].map(([key]) => ({ key, told })),
  );
  for (const { key, told } of rows) {
    if (told === "needed" || told.includes("none") || told.includes("<stage>")) continue;
    // Of what depends on the stage, the row tells in words.
    const shown = key === "retention" ? { logDays: 90 } : defaults[key];
    expect(told, key).toBe(`\`${JSON.stringify(shown)}\``);
  }
  const optional = ["systemUserId", "appSecretName", "verifyTokenSecretName"];
  expect(rows.map(({ key }) => key).toSorted()).toEqual([...Object.keys(defaults), ...optional].toSorted());
});

describe("a stage", () => {
  test("needs only its name, the partner's business and the credit line", () => {
    expect(deployedStage()).toMatchObject({
      settleWindowSeconds: 1800,
      businessTokenSecretPrefix: "credit-lines/prod/business-token/",
      quota: { callsPerHour: 5000, sharesStopAt: 0.8, verifiesStopAt: 0.9, reconcileShare: 0.2 },
    });
  });

  test("has every one of its faults listed at once, with where it came from", () => {
    const fault = { stage: "prod", partnerBusinessId: 100000000000001, creditLineId: "12", colour: "green" };
    expect(() => parseStageConfig(fault, "prod.json")).toThrow(
      /prod\.json is not valid:\n {2}partnerBusinessId: .*\n {2}creditLineId: must be a string of 5 to 20 digits\n {2}\(top level\): .*colour/,
    );
  });

  test.each([
    ["a settle window that can declare a late share absent", { settleWindowSeconds: 659 }, "settleWindowSeconds"],
    [
      "another host than Meta's in prod",
      { graphApiBaseUrl: "https://example.com" },
      "must be https://graph.facebook.com",
    ],
    [
      "plain http, which would show the token",
      { stage: "test", graphApiBaseUrl: "http://example.com" },
      "must be https",
    ],
    ["an address that is none", { stage: "test", graphApiBaseUrl: "ftp://example.com" }, "http or https URL"],
    ["a secret's ARN", { appSecretName: "arn:aws:secretsmanager:eu-west-1:1:secret:x" }, "not an ARN"],
    [
      "a webhook without the app secret",
      { webhook: true, verifyTokenSecretName: "verify" },
      "appSecretName: is needed",
    ],
    ["a webhook without its verify token", { webhook: true, appSecretName: "app" }, "verifyTokenSecretName: is needed"],
    ["a prefix that names half a folder", { businessTokenSecretPrefix: "customers" }, "must end with /"],
    ["a prefix that covers the system token", { businessTokenSecretPrefix: "credit-lines/prod/" }, "system token"],
    [
      "a prefix that covers the app secret",
      { businessTokenSecretPrefix: "meta/", appSecretName: "meta/app-secret" },
      "must not cover the app secret",
    ],
    [
      "a prefix that covers the webhook's verify token",
      { businessTokenSecretPrefix: "meta/", verifyTokenSecretName: "meta/verify-token" },
      "must not cover the webhook's verify token",
    ],
    [
      "a prefix that covers another stage's tokens",
      { stage: "dev", businessTokenSecretPrefix: "credit-lines/prod/business-token/" },
      "another stage",
    ],
    [
      "a prefix that covers a stage whose name begins alike",
      { businessTokenSecretPrefix: "credit-lines/prod2/" },
      "another stage",
    ],
    ["a prefix that covers every stage", { businessTokenSecretPrefix: "credit-lines/" }, "another stage"],
    ["a stage name that no resource could bear", { stage: "Prod_1" }, "stage: must be"],
    ["a currency that is none", { currencies: ["EURO"] }, "currencies.0"],
    ["a concurrency below what SQS accepts", { concurrency: { share: 1 } }, "concurrency.share"],
  ])("is refused with %s", (_fault, overrides, message) => {
    expect(() => deployedStage(overrides)).toThrow(message);
  });

  test("called local alone may have windows of seconds and a Graph server of its own", () => {
    const local = { ...localStage, graphApiBaseUrl: "http://127.0.0.1:4567", settleWindowSeconds: 1 };
    expect(parseStageConfig(local, "the test").settleWindowSeconds).toBe(1);
  });
});

describe("a configuration file", () => {
  test("lays its keys over the base", () => {
    const file = configFile("over.json", { settleWindowSeconds: 9 });
    expect(readStageConfig(file, localStage)).toMatchObject({
      stage: "local",
      settleWindowSeconds: 9,
      clockSkewSeconds: 2,
    });
  });

  test.each([
    ["is missing", join(folder, "absent.json")],
    ["is not JSON", configFile("broken.json", "{")],
    ["holds no object", configFile("null.json", "null")],
    ["holds a list", configFile("list.json", "[]")],
  ])("that %s is named in the error", (_fault, file) => {
    expect(() => readStageConfig(file, localStage)).toThrow(`Cannot read the stage configuration ${file}`);
  });
});

describe("the CDK context", () => {
  const prod = { partnerBusinessId: "100000000000001", creditLineId: "200000000000001" };

  test("that says nothing means the stage local", () => {
    expect(stageConfigFromContext({ stage: undefined, config: undefined }).stage).toBe("local");
  });

  test("names a stage and its file", () => {
    const config = configFile("prod.json", prod);
    expect(stageConfigFromContext({ stage: "prod", config })).toMatchObject({ stage: "prod", ...prod });
  });

  test("must name a file for any stage but local: whose credit line it shares has no default", () => {
    expect(() => stageConfigFromContext({ stage: "prod", config: undefined })).toThrow("-c stage=prod -c config=FILE");
  });

  test("cannot take one stage's file for another", () => {
    const config = configFile("test.json", { ...prod, stage: "test" });
    expect(() => stageConfigFromContext({ stage: "prod", config })).toThrow("is of the stage test");
  });
});
