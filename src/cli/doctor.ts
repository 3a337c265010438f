import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { promisify } from "node:util";
import { createClient } from "../client/client.ts";
import { createHttpSend } from "../client/send-http.ts";
import { RpxError } from "../contract/error.ts";
import type { StatusBody } from "../contract/schemas/daemon.ts";
import { formatSize } from "../text/size.ts";
import { diskUses } from "./disk.ts";
import type { Check } from "./doctor-check.ts";
import { checkPools } from "./doctor-docker.ts";
import { readSettings, type SettingFlags, type Settings } from "./settings.ts";

/** A setting, its value (a key only by its beginning) and where it came from. */
export type SettingRow = { readonly name: string; readonly value: string; readonly from: string };

export type Diagnosis = { readonly checks: readonly Check[]; readonly settings: readonly SettingRow[] };

/** The first Node with a SQLite that does not corrupt its log, and that SQLite. */
const OLDEST_NODE = [24, 15] as const;
const OLDEST_SQLITE = [3, 51, 3] as const;
/** Longest wait in ms for any one answer. */
const PATIENCE_MS = 2_000;
/** Characters of a key that may be shown: its kind and a beginning that identifies it. */
const KEY_PREFIX_LENGTH = 9;

/** Looks at what rpx needs, without changing anything. Never throws for what it finds. */
export async function diagnose(
  flags: SettingFlags,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Diagnosis> {
  const [settings, problem] = trySettings(flags, env);
  const checks = [
    checkNode(),
    checkSqlite(),
    await checkPython(),
    ...(await checkPools(env)),
    ...(settings === null ? [] : [checkDataDir(settings), ...(await checkDaemon(settings))]),
    ...(problem === null ? [] : [problem]),
  ];
  return { checks, settings: settings === null ? [] : rows(settings) };
}

function trySettings(flags: SettingFlags, env: NodeJS.ProcessEnv): [Settings, null] | [null, Check] {
  try {
    return [readSettings(flags, env), null];
  } catch (error) {
    return [null, broken("settings", error)];
  }
}

function broken(name: string, error: unknown): Check {
  if (!(error instanceof RpxError)) throw error;
  const detail = error.why === undefined ? error.message : `${error.message}: ${error.why}`;
  return {
    name,
    state: "broken",
    detail,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}

function isAtLeast(version: string, oldest: readonly number[]): boolean {
  const parts = version.replace(/^v/, "").split(".").map(Number);
  const at = oldest.findIndex((number, index) => parts[index] !== number);
  return at < 0 || (parts[at] ?? 0) > (oldest[at] ?? 0);
}

function checkNode(): Check {
  const detail = `${process.version} (${process.execPath})`;
  if (isAtLeast(process.version, OLDEST_NODE)) return { name: "node", state: "ok", detail };
  return {
    name: "node",
    state: "broken",
    detail,
    code: "usage",
    hint: `install Node ${OLDEST_NODE.join(".")} or newer`,
  };
}

function checkSqlite(): Check {
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
  const database = new DatabaseSync(":memory:");
  const version = String(database.prepare("select sqlite_version() as version").get()?.version);
  database.close();
  if (isAtLeast(version, OLDEST_SQLITE)) return { name: "sqlite", state: "ok", detail: version };
  const hint = `use a Node with SQLite ${OLDEST_SQLITE.join(".")} or newer: older ones can lose data`;
  return { name: "sqlite", state: "broken", detail: version, code: "usage", hint };
}

async function checkPython(): Promise<Check> {
  try {
    const { stdout } = await promisify(execFile)("python3", ["--version"], { timeout: PATIENCE_MS });
    return { name: "python3", state: "ok", detail: stdout.trim() };
  } catch {
    const hint = "install python3, or name an interpreter with --python";
    return { name: "python3", state: "note", detail: "not found: Python handlers cannot run", hint };
  }
}

function checkDataDir({ dataDir }: Settings): Check {
  const name = "data directory";
  const entry = statSync(dataDir.value, { throwIfNoEntry: false });
  if (entry === undefined)
    return { name, state: "note", detail: `${dataDir.value} does not exist yet`, hint: "rpx serve" };
  const mode = (entry.mode & 0o777).toString(8).padStart(4, "0");
  const detail = `${dataDir.value} (mode ${mode})`;
  if ((entry.mode & 0o077) === 0) return { name, state: "ok", detail };
  return {
    name,
    state: "broken",
    detail,
    code: "forbidden",
    hint: `others can read it: chmod 700 ${dataDir.value}`,
  };
}

/** The daemon, and where its disk goes. */
async function checkDaemon({ url, key }: Settings): Promise<Check[]> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const client = createClient({ send: createHttpSend({ url: url.value, key: key.value }), signal });
  try {
    const { version, pid, health, disk } = await client.status();
    const detail = `${url.value}: version ${version}, pid ${pid}, ${health}`;
    return [{ name: "daemon", state: "ok", detail }, checkDisk(disk)];
  } catch (error) {
    if (signal.aborted) {
      const detail = `${url.value} does not answer`;
      return [{ name: "daemon", state: "broken", code: "unreachable", detail }];
    }
    const check = broken("daemon", error);
    const isNone = check.code === "unreachable" && url.from === "default";
    return [isNone ? { ...check, state: "note", detail: `none runs at ${url.value}` } : check];
  }
}

function checkDisk(disk: StatusBody["disk"]): Check {
  const { freeBytes, minFreeBytes } = disk;
  const parts = diskUses(disk).map(([what, size]) => `${what} ${size}`);
  const detail = [...parts, `free ${formatSize(freeBytes)}`].join(", ");
  if (freeBytes >= minFreeBytes) return { name: "disk", state: "ok", detail };
  return { name: "disk", state: "broken", detail, code: "unavailable", hint: "rpx image prune" };
}

function rows(settings: Settings): SettingRow[] {
  const key = settings.key.value;
  return [
    { name: "url", value: settings.url.value, from: settings.url.from },
    {
      name: "key",
      value: key === undefined ? "none" : `${key.slice(0, KEY_PREFIX_LENGTH)}…`,
      from: settings.key.from,
    },
    { name: "data directory", value: settings.dataDir.value, from: settings.dataDir.from },
    {
      name: "context",
      value: settings.context ?? "none",
      from: settings.context === null ? "default" : settings.url.from,
    },
    ...settings.notes.map((note) => ({ name: "note", value: note, from: "environment" })),
  ];
}
