import { defineConfig } from "vitest/config";

// Under Stryker (`npm run mutate`) only the domain is changed, and its own tests have to notice: those that name a case, since
// the properties would take most of the time.
const isMutating = process.env["STRYKER_MUTATOR_WORKER"] !== undefined;

export default defineConfig({
  test: {
    include: [isMutating ? "test/shared/domain/!(properties).test.ts" : "test/**/*.test.ts"],
    // Most of the time is spent waiting for the local stack's windows: more files at once than there are cores.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
