import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RpxError } from "../contract/error.ts";
import { configDir } from "./paths.ts";

/** A daemon by name. `key` may be missing: a daemon of this machine finds it elsewhere. */
export type Context = { readonly url: string; readonly key?: string };

/** Every context, and which one is used when nothing else is said. */
export type Contexts = {
  readonly current: string | null;
  readonly contexts: Readonly<Record<string, Context>>;
};

/** Names: as ours are, and `dev:NAME` for what `rpx dev` writes. */
export const CONTEXT_NAME = /^(?:dev:)?[a-z0-9][a-z0-9-]{0,62}$/;
const FILE_NAME = "config";
const EMPTY: Contexts = { current: null, contexts: {} };

/** Path of the file that holds the contexts. */
export function contextsPath(env: NodeJS.ProcessEnv = process.env): string {
  return join(configDir(env), `${FILE_NAME}.json`);
}

/** Reads the contexts. The file is plain JSON: reading it needs no settings library. A missing file is an empty one. */
export function readContexts(env: NodeJS.ProcessEnv = process.env): Contexts {
  const path = contextsPath(env);
  try {
    return toContexts(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return EMPTY;
    const why = error instanceof Error ? error.message : String(error);
    throw new RpxError("usage", `cannot read ${path}`, { why, hint: "repair the file, or remove it" });
  }
}

function toContexts(value: unknown): Contexts {
  if (typeof value !== "object" || value === null) return EMPTY;
  const { current, contexts } = value as { current?: unknown; contexts?: unknown };
  const known = Object.entries(typeof contexts === "object" && contexts !== null ? contexts : {}).filter(
    (entry): entry is [string, Context] => typeof (entry[1] as Partial<Context> | null)?.url === "string",
  );
  return { current: typeof current === "string" ? current : null, contexts: Object.fromEntries(known) };
}

/** Writes all contexts in one step, in a file that only this user can read. */
async function writeContexts(next: Contexts, env: NodeJS.ProcessEnv): Promise<void> {
  const { default: Conf } = await import("conf");
  mkdirSync(configDir(env), { recursive: true, mode: 0o700 });
  const store = new Conf({
    cwd: configDir(env),
    configName: FILE_NAME,
    configFileMode: 0o600,
    accessPropertiesByDotNotation: false,
  });
  store.set({ current: next.current, contexts: next.contexts });
}

/** Adds or replaces a context. The first one, or `use`, becomes the current one. */
export async function addContext(
  name: string,
  context: Context,
  options: { readonly use?: boolean; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  const env = options.env ?? process.env;
  const { current, contexts } = readContexts(env);
  await writeContexts(
    { current: options.use ? name : current, contexts: { ...contexts, [name]: context } },
    env,
  );
}

/** Makes a context the current one; null: none, the local daemon is used. */
export async function useContext(name: string | null, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const { contexts } = readContexts(env);
  if (name !== null && contexts[name] === undefined) throw unknownContext(name, contexts);
  await writeContexts({ current: name, contexts }, env);
}

/** Removes a context; when it was the current one, none is. Removing an unknown one throws `not_found`. */
export async function removeContext(name: string, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const { current, contexts } = readContexts(env);
  if (contexts[name] === undefined) throw unknownContext(name, contexts);
  const { [name]: _gone, ...rest } = contexts;
  await writeContexts({ current: current === name ? null : current, contexts: rest }, env);
}

/** The refusal of a name that no context has. */
export function unknownContext(name: string, contexts: Contexts["contexts"]): RpxError {
  const names = Object.keys(contexts);
  return new RpxError("not_found", `there is no context "${name}"`, {
    why: names.length === 0 ? "none was added yet" : `known are: ${names.join(", ")}`,
    hint: "rpx context list",
  });
}
