import { transitions } from "../../shared/domain/business.ts";
import { detailTypes } from "../../shared/domain/events.ts";
import { readFaults, writeFaults } from "./engine.ts";
import { metaChangeFaults, metaReadFaults } from "./meta-transport.ts";

/** What the histories of a run have touched, by name and how often. */
export type Coverage = {
  histories: number;
  commands: number;
  businesses: number;
  faultCount: number;
  steps: number;
  statuses: Record<string, number>;
  transitions: Record<string, number>;
  faults: Record<string, number>;
  variants: Record<string, number>;
  events: Record<string, number>;
  outcomes: Record<string, number>;
  sent: Record<string, number>;
  hands: Record<string, number>;
  breaches: Record<string, number>;
  /** Findings that were open at the end, by kind. */
  findings: Record<string, number>;
};

export function emptyCoverage(): Coverage {
  return {
    histories: 0,
    commands: 0,
    businesses: 0,
    faultCount: 0,
    steps: 0,
    statuses: {},
    transitions: {},
    faults: {},
    variants: {},
    events: {},
    outcomes: {},
    sent: {},
    hands: {},
    breaches: {},
    findings: {},
  };
}

export function addCoverage(sum: Coverage, part: Coverage): void {
  for (const [name, value] of Object.entries(part)) {
    const key = name as keyof Coverage;
    const known = sum[key];
    if (typeof value === "number") Object.assign(sum, { [key]: Number(known) + value });
    else if (typeof known === "object")
      for (const [one, more] of Object.entries(value)) known[one] = (known[one] ?? 0) + more;
  }
}

export function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** What every larger run must have touched at least once; what is missing would have proven nothing. */
export function gapsOf(coverage: Coverage): string[] {
  return [
    ...Object.keys(transitions)
      .filter((status) => status !== "none" && !coverage.statuses[status])
      .map((status) => `status ${status}`),
    ...Object.entries(transitions).flatMap(([from, next]) =>
      next
        .filter((to) => to !== from && !coverage.transitions[`${from} → ${to}`])
        .map((to) => `transition ${from} → ${to}`),
    ),
    ...expectedFaults()
      .filter((pair) => !coverage.faults[pair])
      .map((pair) => `fault ${pair}`),
    ...expectedVariants.filter((name) => !coverage.variants[name]).map((name) => `variant ${name}`),
    ...detailTypes.filter((type) => !coverage.events[type]).map((type) => `event ${type}`),
    ...(["E2", "E4", "E5", "E9", "E10"] as const).filter((name) => !coverage.sent[name]).map((name) => `call ${name}`),
    ...tooFew(coverage),
  ];
}

function tooFew({ histories, commands, businesses, faultCount }: Coverage): string[] {
  const least = { commands: [commands, 25], businesses: [businesses, 3], faults: [faultCount, 5] } as const;
  return Object.entries(least)
    .filter(([, [sum, average]]) => sum / histories < average)
    .map(([name, [sum, average]]) => `${average} ${name} a history (only ${(sum / histories).toFixed(1)})`);
}

function expectedFaults(): string[] {
  return [
    ...tableReads.flatMap((boundary) => readFaults.map((kind) => `${boundary} × ${kind}`)),
    ...effects.flatMap((boundary) => writeFaults.map((kind) => `${boundary} × ${kind}`)),
    ...["E3", "E6", "E7", "E8"].flatMap((call) => metaReadFaults.map((kind) => `${call} × ${kind}`)),
    ...["E2", "E4", "E5", "E9"].flatMap((call) => metaChangeFaults.map((kind) => `${call} × ${kind}`)),
  ];
}

const scanReads = ["loadScan", "loadBusinesses", "loadPointers", "walk"];
const tableReads = ["loadBusiness", "loadPointer", "loadCommand", "loadLimits", "secret", ...scanReads];
const effects = [
  "commit",
  "settle",
  "conclude",
  "reject",
  "block",
  "claimOwner",
  "savePendingRevoke",
  "copy",
  "deadLetter",
  "wake",
  "send events",
  "audit",
  "saveScan",
];

const expectedVariants = [
  ...["same", "second", "error-4000", "error-100"].map((value) => `repeatedShare ${value}`),
  ...["list", "bare-object"].map((value) => `listShape ${value}`),
  ...["true", "false"].map((value) => `listShowsDeleted ${value}`),
  ...["absent", "ACTIVE"].map((value) => `requestStatusOnLive ${value}`),
  ...["business", "waba", "waba-one-record"].map((value) => `credentialPer ${value}`),
  ...["success", "error"].map((value) => `repeatedDelete ${value}`),
  ...["works-new-id", "works-same-id", "refused"].map((value) => `reshareAfterRevoke ${value}`),
  ...["both", "business", "system"].map((value) => `fundingVisibleTo ${value}`),
  ...["works", "permission-error"].map((value) => `combinedReads ${value}`),
  ...["1", "25", "1000"].map((value) => `listLimitMax ${value}`),
  ...["listFieldExpansions", "readsCarryId", "shortPages"].flatMap((name) => [`${name} true`, `${name} false`]),
  ...["currencyErrorCode", "fundedElsewhereErrorCode", "switchWindowErrorCode"].flatMap((name) =>
    ["1", "100", "368", "4000", "2388001"].map((code) => `${name} ${code}`),
  ),
  ...["null", "150"].map((value) => `appCallsPerHour ${value}`),
  ...["20", "60"].map((value) => `wabaCallsPerHour ${value}`),
  ...["e6", "e7", "e8"].flatMap((reader) => [
    `${reader}ShareLagMs 0`,
    `${reader}ShareLagMs some`,
    `${reader}DeleteLagMs some`,
  ]),
];

/** For a person at the end of a run. */
export function describeCoverage(coverage: Coverage, verbose: boolean): string {
  const { histories, commands, businesses, faultCount, steps } = coverage;
  function average(sum: number): string {
    return (sum / Math.max(histories, 1)).toFixed(1);
  }
  function list(counts: Record<string, number>): string {
    return Object.entries(counts)
      .toSorted(([, one], [, other]) => other - one)
      .map(([name, times]) => `${name} ${times}`)
      .join(", ");
  }
  return [
    `A history: ${average(commands)} commands, ${average(businesses)} businesses, ${average(faultCount)} faults, ${average(steps)} effects`,
    `Statuses: ${list(coverage.statuses)}`,
    `Transitions: ${list(coverage.transitions)}`,
    `Sent to Meta: ${list(coverage.sent)}`,
    `Events: ${list(coverage.events)}`,
    `Outcomes: ${list(coverage.outcomes)}`,
    `Findings: ${list(coverage.findings)}`,
    `Hands: ${list(coverage.hands)}; assumptions broken: ${list(coverage.breaches)}`,
    verbose
      ? `Faults: ${list(coverage.faults)}\nVariants: ${list(coverage.variants)}`
      : `Faults: ${Object.keys(coverage.faults).length} pairs of effect and kind; variants: ${Object.keys(coverage.variants).length} values`,
  ].join("\n");
}
