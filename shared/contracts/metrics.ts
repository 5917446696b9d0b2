/** What the functions tell CloudWatch: alarms, dashboard and saved queries ask for these names. */
export type MetricDefinition = {
  name: string;
  /** A count is summed up over an invocation; of the others its highest value is told. */
  unit: "Count" | "Percent" | "Seconds" | "None";
  /** Told for the stage, and again for each value of these dimensions. */
  by: readonly string[];
};

export const metricNamespace = "CreditLines";

export const metricDefinitions = {
  /** Announced events, by detail type and reason: what became of the commands, and of what was shared. */
  outcomes: { name: "Outcomes", unit: "Count", by: ["outcome", "reason"] },
  /** Calls that reached for Meta, by what the answer meant (shared/graph/errors.ts), `ok` and `not-sent` beside. */
  graphCalls: { name: "GraphCalls", unit: "Count", by: ["class"] },
  /** Processes that Meta answered with another version than they asked for. */
  otherVersion: { name: "AnsweredByOtherVersion", unit: "Count", by: [] },
  /** Of the hour's calls, as Meta's last answers said. */
  quotaUsed: { name: "QuotaUsed", unit: "Percent", by: [] },
  /** Of what the due sweep found unsettled. */
  oldestIntent: { name: "OldestIntent", unit: "Seconds", by: [] },
  oldestUnverified: { name: "OldestUnverified", unit: "Seconds", by: [] },
  oldestRevocation: { name: "OldestRevocation", unit: "Seconds", by: [] },
  /** What it could not serve, because an item cannot be read or its write fails each time. */
  unserved: { name: "ItemsUnserved", unit: "Count", by: [] },
  /** Customers who left and are still on our line: the longest, as the last whole scan saw it; by whether their siblings stay. */
  oldestUnshared: { name: "OldestUnsharedButFunded", unit: "Seconds", by: ["siblings"] },
  /** How long after a POST a look still missed what a later one showed: what the settle window must cover (A2, A3). */
  effectUnseen: { name: "EffectUnseen", unit: "Seconds", by: [] },
  /** 1 when a run finds commands waiting because the system token is dead, else 0. */
  systemTokenDead: { name: "SystemTokenDead", unit: "None", by: [] },
  /** Told each time the scan is looked after. Hours since the last scan that came to its end began. */
  estateScanAge: { name: "EstateScanAge", unit: "None", by: [] },
  /** Hours since the WABA was verified that has waited longest, as that scan saw it. */
  oldestVerificationAge: { name: "OldestVerificationAge", unit: "None", by: [] },
  /** 1 when that scan had a list it could not rely on, else 0. */
  estateScanCannotTell: { name: "EstateScanCannotTell", unit: "None", by: [] },
  /** Changes that only that scan announced. */
  announcedLate: { name: "AnnouncedLate", unit: "None", by: [] },
  /** What Meta's webhook told of: `queued`, `ignored` or `unreadable`. */
  webhookUpdates: { name: "WebhookUpdates", unit: "Count", by: ["fate"] },
} as const satisfies Record<string, MetricDefinition>;

/** The dimension under which all of a stage's metrics stand. */
export function metricServiceOf(stage: string): string {
  return `credit-lines-${stage}`;
}
