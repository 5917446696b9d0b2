/** Baseline (c): what Node and the measuring itself cost. */
export async function handler(): Promise<{ batchItemFailures: [] }> {
  return { batchItemFailures: [] };
}
