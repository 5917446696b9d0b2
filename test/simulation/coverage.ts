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
  };
}

export function addCoverage(sum: Coverage, part: Coverage): void {
  for (const [name, value] of Object.entries(part)) {
    const key = name as keyof Coverage;
    const known = sum[key];
    if (typeof value === "number") Object.assign(sum, { [key]: Number(known) + value });
    else if (typeof known === "object") for (const [one, count] of Object.entries(value)) known[one] = (known[one] ?? 0) + count;
  }
}

export function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}
