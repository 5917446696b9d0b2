import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { metricDefinitions, metricNamespace } from "../../../shared/contracts/metrics.ts";
import { expectWritten } from "../../support/documents.ts";
import { formsOf, leaksIn } from "../../support/leaks.ts";
import type { Permission, Statement, TemplateJson, Use } from "../../support/permissions.ts";
import { allowedBy, compare, text } from "../../support/permissions.ts";
import { flatten } from "../stages.ts";
import { uses } from "../permission-uses.ts";
import { type Everything, runEverything, secrets } from "./everything.ts";

const metricSchema = z.object({
  Namespace: z.string().default(""),
  MetricName: z.string().default(""),
  Dimensions: z.array(z.object({ Name: z.string(), Value: z.unknown() })).default([]),
});
/** Over one metric, or over what is computed from several. */
const alarmSchema = metricSchema.extend({
  Metrics: z.array(z.object({ MetricStat: z.object({ Metric: metricSchema }).optional() })).default([]),
});

let run: Everything;
beforeAll(async () => {
  run = await runEverything();
}, 400_000);
afterAll(() => run?.close());

describe("the roles", () => {
  const clean = { outside: [], idle: [], stale: [] };
  const used = uses.filter((use): use is Use & { step: string } => "step" in use);

  /** The comparison for a template whose statements were changed. */
  function judged(change: (statement: Statement, role: string) => void) {
    const template: TemplateJson = structuredClone(run.template);
    for (const { Type, Properties } of Object.values(template.Resources)) {
      if (Type !== "AWS::IAM::Policy") continue;
      const role = flatten(Properties.Roles?.[0]).replace(/^<(.*)Role>$/, "$1");
      for (const statement of Properties.PolicyDocument?.Statement ?? []) change(statement, role);
    }
    return compare(allowedBy(template), run.seen, uses);
  }

  test("allow every call that is made, and nothing that has no use or reason", () => {
    expect(compare(allowedBy(run.template), run.seen, uses)).toEqual(clean);
  });

  test.each(used.map(({ permission }) => [text(permission), permission] as const))(
    "are found too narrow without %s",
    (_title, { role, action, resource }: Permission) => {
      const others = allowedBy(run.template).filter(
        (one) => one.role !== role || one.action !== action || one.resource !== resource,
      );
      const [found] = compare(others, run.seen, uses).outside;
      expect(found).toContain(`${role} ${action} `);
    },
  );

  test("are found too narrow when a statement loses an action", () => {
    const { outside } = judged((statement) => {
      if (Array.isArray(statement.Action)) {
        statement.Action = statement.Action.filter((action: string) => action !== "dynamodb:ConditionCheckItem");
      }
    });
    expect(outside).toEqual(["Share dynamodb:ConditionCheckItem <State.Arn>"]);
  });

  test("are found too wide when a statement gains an action, a resource or a wildcard", () => {
    const moreActions = judged((statement, role) => {
      if (role === "Share" && statement.Action === "events:PutEvents") {
        statement.Action = ["events:PutEvents", "events:PutRule"];
      }
    });
    expect(moreActions).toMatchObject({ outside: [], idle: ["Share events:PutRule <EventBus.Arn>"] });
    const moreResources = judged((statement, role) => {
      if (role === "Reconcile" && statement.Action === "dynamodb:Query") statement.Resource = "*";
    });
    expect(moreResources).toMatchObject({
      outside: [],
      idle: ["Reconcile dynamodb:Query *"],
      stale: ["Reconcile dynamodb:Query <State.Arn>/index/DueIndex"],
    });
  });

  test("are not excused by a reason that has lost its ground", () => {
    const [first] = used;
    const excused = uses.map((use) => (use === first ? { permission: use.permission, unused: "it is said" } : use));
    expect(compare(allowedBy(run.template), run.seen, excused).stale).toEqual([text(first!.permission)]);
    const elsewhere = uses.map((use) => (use === first ? { ...first, step: "start" } : use));
    expect(compare(allowedBy(run.template), run.seen, elsewhere).stale).toEqual([text(first!.permission)]);
  });

  test("stand in infra/permissions.md with what each permission is for", () => {
    const lines = [...uses]
      .toSorted((one, other) => text(one.permission).localeCompare(text(other.permission)))
      .map((use) => {
        const { role, action, resource } = use.permission;
        return `| ${role} | \`${action}\` | \`${shorter(resource)}\` | ${"step" in use ? use.step : `*${use.unused}*`} |`;
      });
    const head = ["| Role | Action | Resource | Used when |", "|---|---|---|---|"];
    expectWritten("infra/permissions.md", "permissions", [...head, ...lines].join("\n"));
  });

  function shorter(resource: string): string {
    return resource.replace("arn:<AWS::Partition>:", "").replace("<AWS::Region>:<AWS::AccountId>:", "");
  }
});

type Told = Record<string, unknown> & {
  _aws: { CloudWatchMetrics: { Namespace: string; Dimensions: string[][]; Metrics: { Name: string }[] }[] };
};

function everythingTold(): Told[] {
  return [...run.places.logs.matchAll(/\{"_aws":.*\}$/gm)].map(([line]) => JSON.parse(line) as Told);
}

/** As CloudWatch tells one metric from another: "CreditLines Outcomes outcome=Share Refused,service=credit-lines-local". */
function series(namespace: string, name: string, dimensions: [name: string, value: unknown][]): string {
  const values = dimensions.map(([dimension, value]) => `${dimension}=${String(value)}`).toSorted();
  return `${namespace} ${name} ${values.join(",")}`;
}

test("every alarm over a metric of the functions' own hears one that was told in such a run, dimension by dimension", () => {
  const told = everythingTold().flatMap((line) =>
    line._aws.CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
      Dimensions.flatMap((names) =>
        Metrics.map(({ Name }) =>
          series(
            Namespace,
            Name,
            names.map((name) => [name, line[name]]),
          ),
        ),
      ),
    ),
  );
  const alarms = Object.values(run.template.Resources).filter(({ Type }) => Type === "AWS::CloudWatch::Alarm");
  const heard = alarms
    .map(({ Properties }) => alarmSchema.parse(Properties))
    .flatMap((alarm) => [alarm, ...alarm.Metrics.flatMap(({ MetricStat }) => MetricStat?.Metric ?? [])])
    .filter(({ Namespace }) => Namespace === metricNamespace)
    .map(({ Namespace, MetricName, Dimensions }) =>
      series(
        Namespace,
        MetricName,
        Dimensions.map(({ Name, Value }) => [Name, Value]),
      ),
    );
  expect(heard.length).toBeGreaterThan(15);
  expect(heard.filter((one) => !told.includes(one))).toEqual([]);
});

test("every metric is told in such a run, with the reasons and classes that occurred", () => {
  const told = everythingTold();
  const untold = Object.values(metricDefinitions).filter(({ name }) => !told.some((line) => name in line));
  expect(untold).toEqual([]);
  const otherVersion = { message: "Meta answers with another version than asked", asked: "v25.0", answered: "v26.0" };
  const [first = ""] = run.places.logs.split("\n").filter((line) => line.includes(otherVersion.message));
  expect(JSON.parse(first.slice(first.indexOf("{")))).toMatchObject({ level: "ERROR", ...otherVersion });
  const refused = { service: "credit-lines-local", outcome: "Revoke Refused", reason: "owner_mismatch", Outcomes: 1 };
  expect(told).toContainEqual(expect.objectContaining(refused));
  expect(new Set(told.map((line) => line["class"]))).toEqual(
    new Set([undefined, "ok", "token_dead", "missing", "no-answer", "transient"]),
  );
});

test("an item that cannot be read keeps the scan from nothing but itself, and nothing is concluded of it", () => {
  const events = JSON.parse(run.places.events) as { detailType: string; detail: { businessId?: string } }[];
  const found = events.filter(({ detailType }) => detailType === "Drift Found").map(({ detail }) => detail.businessId);
  expect(new Set(found)).toEqual(new Set(["5100000000016"]));
  expect(run.places.logs).toContain("An item cannot be read; the scan goes on without it");
});

describe("the secrets", () => {
  test("are nowhere but in Secrets Manager and in the Authorization header", () => {
    expect(leaksIn(run.places, secrets)).toEqual([]);
  });

  test("were looked for in places that hold something", () => {
    const empty = Object.entries(run.places).filter(([, content]) => content.length < 100);
    expect(empty).toEqual([]);
    expect(run.places.logs).toContain("[credit-lines-local-reconcile]");
    expect(run.places["the URLs and headers of calls to Meta"]).toContain("whatsapp_credit_attach");
  });

  const places = [
    "logs",
    "the State table",
    "the Audit table",
    "queues",
    "dead letters",
    "events",
    "the URLs and headers of calls to Meta",
    "the output of the command line",
    "errors",
    "the ledger of the stand-in",
  ] as const;

  test.each(places)("are found in %s, when somebody takes one for the id of a command", (place) => {
    expect(leaksIn(run.planted, secrets)).toContain(`${place}: the system token (base64url)`);
  });

  test.each(places)("would be found in %s, in whatever form", (place) => {
    const forms = Object.entries(formsOf(secrets["the system token"]));
    for (const [form, written] of forms) {
      const content = run.places[place];
      const middle = Math.floor(content.length / 2);
      const planted = { [place]: content.slice(0, middle) + written + content.slice(middle) };
      expect(leaksIn(planted, secrets)).toContain(`${place}: the system token (${form})`);
    }
  });
});
