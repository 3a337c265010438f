import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    disableConsoleIntercept: true,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    // Two cores here and in CI: more workers only make the real processes of the tests wait.
    maxWorkers: 2,
  },
});
