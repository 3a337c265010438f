import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { RpxError } from "../contract/error.ts";
import { type Contexts, readContexts, unknownContext } from "./contexts.ts";
import { dataDir } from "./paths.ts";

/** What a command line said. Keys are never among it. */
export type SettingFlags = {
  readonly url?: string | undefined;
  readonly context?: string | undefined;
  readonly "data-dir"?: string | undefined;
};

/** A value and where it came from, for `rpx doctor`. */
export type Sourced<Value> = { readonly value: Value; readonly from: string };

/** Which daemon, with which key. `notes` are sentences about what was left aside. */
export type Settings = {
  readonly url: Sourced<string>;
  readonly key: Sourced<string | undefined>;
  readonly dataDir: Sourced<string>;
  readonly context: string | null;
  readonly notes: readonly string[];
};

/** What a running daemon leaves in its data directory (`daemon.json`). */
export type DaemonFile = {
  readonly pid: number;
  readonly url: string;
  readonly workerUrl: string;
  readonly version: string;
  readonly startedAt: string;
};

export const DEFAULT_URL = "http://127.0.0.1:7790";
const GROUP_AND_OTHERS = 0o077;
const DEV_CONTEXT = "dev:";

type Env = NodeJS.ProcessEnv;
type Place = { readonly url: Sourced<string>; readonly context: string | null };

/**
 * Settings in their order: flag, environment (`RPX_*`, then RunPod's), context, daemon of this user. A key is sent only to the daemon that it
 * belongs to: a context's key to its address, the local admin key to the address in daemon.json, RUNPOD_API_KEY only where
 * RUNPOD_ENDPOINT_BASE_URL or nothing better names the daemon. Throws RpxError `forbidden` for a key file that others can read.
 */
export function readSettings(flags: SettingFlags = {}, env: Env = process.env): Settings {
  const folder = dataDir(env, flags["data-dir"]);
  const contexts = readContexts(env);
  const daemon = readDaemonFile(folder.path);
  const place = findPlace(flags, env, contexts, daemon, flags["data-dir"] !== undefined);
  const key = findKey(place, env, contexts, { folder: folder.path, daemon });
  const notes = [];
  if (env.RUNPOD_API_KEY && key.from !== "RUNPOD_API_KEY")
    notes.push("RUNPOD_API_KEY is not used for this daemon");
  return { ...place, key, dataDir: { value: folder.path, from: folder.from }, notes };
}

function findPlace(
  flags: SettingFlags,
  env: Env,
  contexts: Contexts,
  daemon: DaemonFile | null,
  isFolderNamed: boolean,
): Place {
  if (flags.url !== undefined) return place(flags.url, "--url");
  if (flags.context !== undefined) return contextPlace(flags.context, contexts, "--context");
  if (isFolderNamed && daemon !== null) return place(daemon.url, "daemon.json");
  if (env.RPX_URL) return place(env.RPX_URL, "RPX_URL");
  const runpod = env.RUNPOD_ENDPOINT_BASE_URL;
  if (runpod) return place(runpod.replace(/\/v2\/?$/, ""), "RUNPOD_ENDPOINT_BASE_URL");
  if (env.RPX_CONTEXT) return contextPlace(env.RPX_CONTEXT, contexts, "RPX_CONTEXT");
  if (contexts.current !== null) return contextPlace(contexts.current, contexts, "context");
  if (daemon !== null) return place(daemon.url, "daemon.json");
  const dev = Object.keys(contexts.contexts).filter((name) => name.startsWith(DEV_CONTEXT));
  const [only] = dev;
  if (only !== undefined && dev.length === 1) return contextPlace(only, contexts, "the only rpx dev");
  return place(DEFAULT_URL, "default");
}

function place(text: string, from: string): Place {
  return { url: { value: checkUrl(text, from), from }, context: null };
}

function contextPlace(name: string, { contexts }: Contexts, from: string): Place {
  const context = contexts[name];
  if (context === undefined) throw unknownContext(name, contexts);
  return { url: { value: checkUrl(context.url, from), from: `${from} ${name}` }, context: name };
}

/** An address as a base to which paths are added. Throws RpxError `usage` for one that is none. */
export function checkUrl(text: string, from: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "" || url.search !== "") {
    throw new RpxError("usage", `"${text}" (${from}) is not the address of a daemon`, {
      why: "it has to look like http://127.0.0.1:7790",
    });
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
}

type LocalDaemon = { readonly folder: string; readonly daemon: DaemonFile | null };

function findKey(
  place: Place,
  env: Env,
  contexts: Contexts,
  local: LocalDaemon,
): Sourced<string | undefined> {
  if (env.RPX_API_KEY) return { value: env.RPX_API_KEY, from: "RPX_API_KEY" };
  const fromRunpod = { value: env.RUNPOD_API_KEY || undefined, from: "RUNPOD_API_KEY" };
  if (place.url.from === "RUNPOD_ENDPOINT_BASE_URL" && fromRunpod.value !== undefined) return fromRunpod;
  const named = place.context === null ? undefined : contexts.contexts[place.context];
  if (named?.key !== undefined) return { value: named.key, from: `context ${place.context}` };
  if (isLocal(place, local.daemon)) {
    const path = join(local.folder, "admin-key");
    const value = readKeyFile(path);
    if (value !== undefined) return { value, from: path };
  }
  const same = Object.entries(contexts.contexts).find(
    ([, context]) => context.key !== undefined && context.url.replace(/\/+$/, "") === place.url.value,
  );
  if (same !== undefined) return { value: same[1].key, from: `context ${same[0]}` };
  return fromRunpod.value === undefined || place.url.from === "default"
    ? { value: undefined, from: "none" }
    : fromRunpod;
}

/** The admin key of the data directory goes to the daemon of that directory alone. */
function isLocal(place: Place, daemon: DaemonFile | null): boolean {
  return (
    place.url.from === "default" || (daemon !== null && place.url.value === daemon.url.replace(/\/+$/, ""))
  );
}

/** A key from a file of mode 0600; undefined when there is none. */
export function readKeyFile(path: string): string | undefined {
  const mode = readMode(path);
  if (mode === undefined) return undefined;
  if ((mode & GROUP_AND_OTHERS) !== 0) {
    throw new RpxError("forbidden", `the key in ${path} is not used`, {
      why: `others can read the file (its mode is ${(mode & 0o777).toString(8).padStart(4, "0")})`,
      hint: `chmod 600 ${path}`,
    });
  }
  return readFileSync(path, "utf8").trim() || undefined;
}

function readMode(path: string): number | undefined {
  try {
    return statSync(path).mode;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new RpxError("forbidden", `cannot read ${path}`, {
      why: String(code),
      hint: "set RPX_API_KEY instead",
    });
  }
}

/** What the daemon of a data directory says of itself; null when none wrote it, or it cannot be read. */
export function readDaemonFile(folder: string): DaemonFile | null {
  try {
    const value: Partial<DaemonFile> = JSON.parse(readFileSync(join(folder, "daemon.json"), "utf8"));
    return typeof value.url === "string" && URL.canParse(value.url) ? (value as DaemonFile) : null;
  } catch {
    return null;
  }
}
