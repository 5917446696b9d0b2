import * as z from "zod";

const batchResponse = z
  .looseObject({
    batchItemFailures: z.array(z.looseObject({ itemIdentifier: z.string().min(1) })).nullish(),
  })
  .nullable();

/**
 * Which items of a batch a function reported as failed, by Lambda's rules: no list or an empty one means that all
 * succeeded; a wrong shape or an unknown identifier means that all failed.
 * @returns the identifiers, a subset of `identifiers`.
 */
export function failedItems(response: unknown, identifiers: readonly string[]): readonly string[] {
  const parsed = batchResponse.safeParse(response);
  if (!parsed.success) return identifiers;
  const reported = (parsed.data?.batchItemFailures ?? []).map(({ itemIdentifier }) => itemIdentifier);
  return reported.every((identifier) => identifiers.includes(identifier)) ? reported : identifiers;
}
