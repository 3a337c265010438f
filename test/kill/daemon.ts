/**
 * The daemon as built, with a hand on its transactions: the supervisor starts this file in place of dist/runtime/main.js.
 * What a transaction holds shows in the journal rows that it inserts.
 */
import { DatabaseSync, StatementSync } from "node:sqlite";
import { armed, COMMITS, disarm, KILL_DIR, type Side, SYNCHRONOUS } from "./points.ts";

const folder = process.env[KILL_DIR] ?? "";
const isNormal = process.env[SYNCHRONOUS] === "normal";
const journalInserts = new WeakSet<StatementSync>();
/** Kinds of the journal rows of the running transaction. */
const held = new Set<unknown>();
/** Commits of the armed kind so far. */
let seen = 0;

const { prepare, exec } = DatabaseSync.prototype;
const { run } = StatementSync.prototype;

DatabaseSync.prototype.prepare = function (sql, ...rest) {
  const statement = prepare.call(this, sql, ...rest);
  if (sql.startsWith("INSERT INTO journal")) journalInserts.add(statement);
  return statement;
};

StatementSync.prototype.run = function (this: StatementSync, ...values: unknown[]) {
  if (journalInserts.has(this)) held.add(values[1]);
  return run.apply(this, values as Parameters<typeof run>);
} as typeof run;

DatabaseSync.prototype.exec = function (sql) {
  if (sql === "BEGIN IMMEDIATE") begin(this);
  if (sql !== "COMMIT") return exec.call(this, sql);
  const side = due();
  if (side === "before") die();
  exec.call(this, side === "instead" ? "ROLLBACK" : "COMMIT");
  if (side === "after") die();
};

function begin(db: DatabaseSync): void {
  held.clear();
  // Behind the daemon's back: its own check of the setting has passed.
  if (isNormal) exec.call(db, "PRAGMA synchronous = normal");
}

function due(): Side | null {
  const point = armed(folder);
  if (point === null || !held.has(COMMITS[point.commit])) return null;
  seen += 1;
  return seen === point.occurrence ? point.side : null;
}

function die(): never {
  disarm(folder);
  process.kill(process.pid, "SIGKILL");
  throw new Error("a process outlived its SIGKILL");
}

// By address: dist/ is there after a build only.
await import(new URL("../../dist/runtime/main.js", import.meta.url).href);
