import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";
import { readMigrations } from "../../../../../src/runtime/adapters/sql-migrate.ts";
import { openDatabase, pragma } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import type { JobState } from "../../../../../src/runtime/core/model.ts";
import type { Store } from "../../../../../src/runtime/ports/store.ts";
import { checkCounts, checkJournal, everything } from "../../../../conformance/store-checks.ts";
import { addReady, E, enqueue, idOf, T0, take, W } from "../../../../conformance/store-records.ts";

const LOAD = join(import.meta.dirname, "load.ts");
const MIGRATIONS = readMigrations(
  join(import.meta.dirname, "../../../../../src/runtime/adapters/sqlite/migrations"),
);
const NEWEST = MIGRATIONS.at(-1)?.version ?? 0;

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rpx-database-"));
  path = join(folder, "rpx.db");
});
afterEach(() => rmSync(folder, { recursive: true }));

function openStore(db = openDatabase(path)): Store {
  return createSqliteStore({
    db,
    clock: createSimulatedClock(T0),
    fatal: (error) => {
      throw error;
    },
    makeRoom: () => false,
  });
}

/** Names and digests of all files of the folder. */
function digests(): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [
        name,
        createHash("sha256")
          .update(readFileSync(join(folder, name)))
          .digest("hex"),
      ]),
  );
}

/** Runs load.ts on the database and kills it with -9 once it has said so many lines; what it had said. */
async function loadAndKill(lines: number): Promise<string[]> {
  const child = spawn(process.execPath, [LOAD, path], { stdio: ["ignore", "pipe", "inherit"] });
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    if (said.length === lines) child.kill("SIGKILL");
  }
  return said;
}

describe("settings", () => {
  test("are what durability needs, read back", async () => {
    const db = openDatabase(path);
    expect(pragma(db, "journal_mode")).toBe("wal");
    expect(pragma(db, "synchronous")).toBe(2);
    expect(pragma(db, "locking_mode")).toBe("exclusive");
    expect(pragma(db, "trusted_schema")).toBe(0);
    expect(pragma(db, "journal_size_limit")).toBe(67_108_864);
    expect(pragma(db, "user_version")).toBe(NEWEST);
    db.close();
  });

  test("the index of the log lies in memory: no mapped file that a full disk could tear", () => {
    const db = openDatabase(path);
    db.exec("CREATE TABLE probe (a); INSERT INTO probe VALUES (1)");
    expect(existsSync(`${path}-wal`)).toBe(true);
    expect(existsSync(`${path}-shm`)).toBe(false);
    db.close();
  });
});

describe("opening again", () => {
  test("after a close everything is there, and the log is gone", async () => {
    const store = openStore();
    await addReady(store, W);
    await enqueue(store, ["a", "b"], { webhookUrl: "https://hook.test/" });
    await take(store);
    await store.jobs.cancel(idOf("b"), T0 + 1);
    const before = everything(store);
    await store.close();
    expect(readdirSync(folder)).toEqual(["rpx.db"]);
    const again = openStore();
    expect(everything(again)).toBe(before);
    await again.close();
  });

  test("INV-1 after kill -9 under load every acknowledged job is there, as it was acknowledged", async () => {
    for (const lines of [40, 700, 2_500]) {
      rmSync(path, { force: true });
      rmSync(`${path}-wal`, { force: true });
      const said = await loadAndKill(lines);
      expect(said.length).toBeGreaterThanOrEqual(lines);
      const store = openStore();
      const allowed: Record<string, readonly JobState[]> = {
        accepted: ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"],
        taken: ["IN_PROGRESS", "COMPLETED"],
        done: ["COMPLETED"],
      };
      for (const line of said) {
        const [what = "", name = ""] = line.split(" ");
        const view = store.jobs.view(idOf(name));
        expect([name, allowed[what]]).toEqual([name, expect.arrayContaining([view?.job.state])]);
        if (what === "done") expect(view?.payload.outputJson).toBe(`"${name}"`);
      }
      checkCounts(store);
      checkJournal(store);
      expect(store.outbox.due(T0, 1_000_000)).toHaveLength(store.jobs.counts(E, null).completed);
      await store.close();
    }
  });
});

describe("one opener at a time", () => {
  test("F-37 a second opener is refused, and the first goes on", async () => {
    const store = openStore();
    await enqueue(store, ["a"]);
    // In a process of its own: two connections of one process share their locks in part.
    const second = spawn(process.execPath, [LOAD, path], { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    second.stderr.on("data", (text: Buffer) => {
      stderr += text.toString();
    });
    const code = await new Promise((resolve) => second.on("exit", resolve));
    expect(code).not.toBe(0);
    expect(stderr).toContain("another process");
    expect(stderr).toContain(path);
    await enqueue(store, ["b"]);
    expect(store.jobs.counts(E, null).inQueue).toBe(2);
    await store.close();
  });
});

describe("files that are not ours to touch", () => {
  test("F-38 a newer schema is refused and every file keeps its digest", async () => {
    const store = openStore();
    await enqueue(store, ["a"]);
    await store.close();
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA user_version = ${NEWEST + 1}`);
    db.close();
    const before = digests();
    expect(() => openDatabase(path)).toThrow(
      expect.objectContaining({ code: "conflict", message: expect.stringContaining("newer") }),
    );
    expect(digests()).toEqual(before);
  });

  test("F-38 also when the newer rpx was killed and its log is still there", async () => {
    await loadAndKill(200);
    const db = openDatabase(path);
    db.exec(`PRAGMA user_version = ${NEWEST + 1}`);
    const saved = digests();
    const files = Object.keys(saved).map((name) => [name, readFileSync(join(folder, name))] as const);
    db.close();
    for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
    expect(Object.keys(digests())).toEqual(["rpx.db", "rpx.db-wal"]);
    expect(() => openDatabase(path)).toThrow(
      expect.objectContaining({ code: "conflict", message: expect.stringContaining("newer") }),
    );
    expect(digests()).toEqual(saved);
  });

  test("F-12 a file that is no database is refused by name and kept", () => {
    writeFileSync(path, "this is not a database, but somebody's text\n".repeat(100));
    const before = digests();
    expect(() => openDatabase(path)).toThrow(
      expect.objectContaining({ code: "conflict", message: expect.stringContaining(path) }),
    );
    expect(digests()).toEqual(before);
  });

  test("F-12 a damaged page is refused by name", async () => {
    const store = openStore();
    await enqueue(
      store,
      Array.from({ length: 200 }, (_, index) => `job-${index}`),
    );
    await store.close();
    const bytes = readFileSync(path);
    bytes.fill(0xff, 3 * 4_096, 12 * 4_096);
    writeFileSync(path, bytes);
    expect(() => openDatabase(path)).toThrow(
      expect.objectContaining({ code: "conflict", message: expect.stringContaining(path) }),
    );
  });
});

describe("migrations", () => {
  const extra = (version: number, sql: string) => ({ version, sql });
  const GOOD = extra(NEWEST + 1, "CREATE TABLE extra (a INTEGER) STRICT; INSERT INTO extra VALUES (7);");
  const BAD = extra(NEWEST + 2, "CREATE TABLE more (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1);");

  test("F-39 one that breaks off leaves the version before it, and can be repeated", async () => {
    const store = openStore();
    await enqueue(store, ["a"]);
    await store.close();
    for (let round = 0; round < 2; round += 1) {
      expect(() => openDatabase(path, { migrations: [...MIGRATIONS, GOOD, BAD] })).toThrow("nowhere");
      const db = new DatabaseSync(path);
      expect(pragma(db, "user_version")).toBe(GOOD.version);
      expect(db.prepare("SELECT a FROM extra").all()).toHaveLength(1);
      expect(() => db.prepare("SELECT a FROM more")).toThrow("more");
      db.close();
    }
    const fixed = extra(BAD.version, "CREATE TABLE more (a INTEGER) STRICT;");
    const migrated = openStore(openDatabase(path, { migrations: [...MIGRATIONS, GOOD, fixed] }));
    expect(migrated.jobs.find(idOf("a"))?.state).toBe("IN_QUEUE");
    await migrated.close();
  });

  test("F-39 a copy is made before data is changed, and an old or half copy is in nobody's way", async () => {
    const store = openStore();
    await enqueue(store, ["a"]);
    await store.close();
    expect(existsSync(`${path}.before-migration`)).toBe(false);
    for (const name of [".before-migration", ".before-migration.part"])
      writeFileSync(`${path}${name}`, "half a copy");
    openDatabase(path, { migrations: [...MIGRATIONS, GOOD] }).close();
    const copy = new DatabaseSync(`${path}.before-migration`);
    expect(pragma(copy, "user_version")).toBe(NEWEST);
    expect(copy.prepare("SELECT id FROM jobs").all()).toEqual([{ id: "a" }]);
    copy.close();
    expect(existsSync(`${path}.before-migration.part`)).toBe(false);
  });

  test("numbers may be left out, not given twice", () => {
    const numbered = join(folder, "numbers");
    mkdirSync(numbered);
    writeFileSync(join(numbered, "0001_a.sql"), "CREATE TABLE a (a INTEGER) STRICT;");
    writeFileSync(join(numbered, "0004_d.sql"), "CREATE TABLE d (d INTEGER) STRICT;");
    writeFileSync(join(numbered, "readme.txt"), "not one");
    const migrations = readMigrations(numbered);
    expect(migrations.map(({ version }) => version)).toEqual([1, 4]);
    for (let round = 0; round < 2; round += 1) {
      const db = openDatabase(path, { migrations });
      expect([pragma(db, "user_version"), db.prepare("SELECT d FROM d").all()]).toEqual([4, []]);
      db.close();
    }
    expect(() => openDatabase(path, { migrations: migrations.slice(0, 1) })).toThrow("newer rpx");
    writeFileSync(join(numbered, "0004_e.sql"), "");
    expect(() => readMigrations(numbered)).toThrow("0004_e.sql has a number that another has");
  });
});
