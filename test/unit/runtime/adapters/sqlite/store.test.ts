import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";
import { openDatabase } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import { type StoreUnderTest, storeSuite } from "../../../../conformance/store.ts";

async function makeStore(path: string, cleanUp: () => void): Promise<StoreUnderTest> {
  const store = createSqliteStore({
    db: openDatabase(path),
    clock: createSimulatedClock(0),
    fatal: (error) => {
      throw error;
    },
    makeRoom: () => false,
  });
  let closed = false;
  return {
    store,
    close: async () => {
      if (closed) return;
      closed = true;
      await store.close();
      cleanUp();
    },
  };
}

describe("SQLite in memory", () => {
  storeSuite(() => makeStore(":memory:", () => {}));
});

describe("SQLite on disk", () => {
  storeSuite(
    () => {
      const folder = mkdtempSync(join(tmpdir(), "rpx-store-"));
      return makeStore(join(folder, "rpx.db"), () => rmSync(folder, { recursive: true }));
    },
    { races: 1_600 },
  );
});
