import type { Swap } from "./swap.ts";

/** For `--with`: a product whose entries are never due, to show what a violation looks like. */
export const swaps: Swap[] = [{ module: "shared/domain/business.ts", function: "dueAt", by: () => () => undefined }];
