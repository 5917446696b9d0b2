import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cdkArguments } from "../../infra/deploy.ts";
import { temporaryFolder } from "./stages.ts";

const folder = temporaryFolder();
const config = { partnerBusinessId: "100000000000001", creditLineId: "200000000000001" };

function configFile(name: string, content: object): string {
  const file = join(folder, name);
  writeFileSync(file, JSON.stringify(content));
  return file;
}

/** AWS as far as a deployment asks it: who one is, and whether CDK is set up. */
let isBootstrapped = false;
const aws = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const action = new URLSearchParams(Buffer.concat(chunks).toString()).get("Action");
    const missing = action === "DescribeStacks" && !isBootstrapped;
    const result =
      action === "GetCallerIdentity"
        ? "<Account>222222222222</Account><Arn>arn:aws:sts::222222222222:assumed-role/deployer/me</Arn>"
        : "<Stacks><member><StackName>CDKToolkit</StackName><StackStatus>CREATE_COMPLETE</StackStatus></member></Stacks>";
    const error =
      "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack with id CDKToolkit does not exist</Message></Error></ErrorResponse>";
    const body = `<${action}Response><${action}Result>${result}</${action}Result></${action}Response>`;
    response.writeHead(missing ? 400 : 200, { "content-type": "text/xml" }).end(missing ? error : body);
  });
});
let endpoint = "";
beforeAll(async () => {
  aws.listen(0, "127.0.0.1");
  await once(aws, "listening");
  endpoint = `http://127.0.0.1:${(aws.address() as AddressInfo).port}`;
});
afterAll(() => aws.close());

async function deploy(args: string[], environment: Record<string, string> = {}) {
  const { AWS_ACCESS_KEY_ID: _id, AWS_SECRET_ACCESS_KEY: _key, AWS_PROFILE: _profile, ...rest } = process.env;
  const env = { ...rest, HOME: folder, AWS_EC2_METADATA_DISABLED: "true", AWS_REGION: "eu-west-1", ...environment };
  return new Promise<{ code: number; stderr: string }>((resolve) => {
    execFile(process.execPath, ["infra/deploy.ts", ...args, "--check"], { env }, (error, _stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stderr }),
    );
  });
}

describe("npm run deploy", () => {
  test.each([
    ["no_stage", []],
    ["stage_is_local", ["--stage", "local"]],
    ["no_config", ["--stage", "dev", "--config", join(folder, "missing.json")]],
    ["config_not_valid", ["--stage", "dev", "--config", configFile("wrong.json", { ...config, creditLineId: "x" })]],
    ["config_of_other_stage", ["--stage", "dev", "--config", configFile("prod.json", { ...config, stage: "prod" })]],
    ["no_alarm_topics", ["--stage", "prod", "--config", configFile("prod.json", { ...config, stage: "prod" })]],
    [
      "no_on_call_principals",
      ["--stage", "prod", "--config", configFile("open.json", { ...config, alarmTopicArns: ["arn:aws:sns:x:1:y"] })],
    ],
  ])("stops with %s before it asks anything of AWS", async (reason, args) => {
    const { code, stderr } = await deploy(args);
    expect(stderr).toMatch(new RegExp(`^${reason}: `));
    expect(code).toBe(2);
  });

  test("says that it has no credentials, and that CDK is not set up, with what to do", async () => {
    const args = ["--stage", "dev", "--config", configFile("dev.json", config)];
    expect((await deploy(args)).stderr).toMatch(/^no_credentials: .*AWS_PROFILE/);
    const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b", AWS_ENDPOINT_URL: endpoint };
    expect((await deploy(args, keys)).stderr).toMatch(
      /^not_bootstrapped: .*cdk bootstrap aws:\/\/222222222222\/eu-west-1/,
    );
    isBootstrapped = true;
    expect(await deploy(args, keys)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("assumed-role/deployer"),
    });
  });

  test("asks before permissions grow, unless it is told not to", () => {
    const options = { stage: "dev", configFile: "dev.json", yes: false };
    const common = [
      "cdk",
      "deploy",
      "credit-lines-dev",
      "-c",
      "stage=dev",
      "-c",
      "config=dev.json",
      "--require-approval",
    ];
    expect(cdkArguments(options)).toEqual([...common, "broadening"]);
    expect(cdkArguments({ ...options, yes: true })).toEqual([...common, "never"]);
  });
});
