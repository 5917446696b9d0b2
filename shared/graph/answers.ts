import * as z from "zod/mini";

/** Shapes that many of Meta's answers share. `id` and `name` are never required where they were not asked for. */

/** Ids are strings that may be printed as numbers; big ones arrive as strings already (parseLossless). */
export const metaId = z.pipe(
  z.union([z.string().check(z.regex(/^\d{1,32}$/)), z.int().check(z.nonnegative())]),
  z.transform((id: string | number) => String(id)),
);

export const reference = z.object({ id: metaId });

/** E9, E10 and E16; anything but `true` says nothing of the effect. */
export const successSchema = z.object({ success: z.literal(true) });

const pagingSchema = z.object({
  next: z.optional(z.string()),
  cursors: z.optional(z.object({ after: z.optional(z.string()) })),
});

/** A list, or the bare object that Meta also documents for a list of one. */
export function listOf<S extends z.ZodMiniType>(item: S) {
  return z.union([
    z.object({ data: z.array(item), paging: z.optional(pagingSchema) }),
    z.pipe(
      item,
      z.transform((one: z.output<S>) => ({ data: [one], paging: undefined })),
    ),
  ]);
}
