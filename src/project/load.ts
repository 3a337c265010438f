import { readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { RpxError } from "../contract/error.ts";
import type { EndpointConfig } from "../contract/schemas/endpoint.ts";
import { parseSize } from "../text/size.ts";
import { readHub } from "./hub.ts";
import { PROJECT_FILE, readProjectFile } from "./project-file.ts";

/** What a folder says of its endpoint. */
export type Project = {
  /** As rpx.toml names it; null when it does not. */
  readonly name: string | null;
  /** Absolute, links resolved: what the daemon reads and what a second `rpx dev` is told apart by. */
  readonly folder: string;
  /** Relative to `folder`, with forward slashes. */
  readonly handler: string;
  /** Interpreter that rpx.toml asks for: absolute when it names a path, else a command name. */
  readonly python: string | null;
  readonly config: EndpointConfig;
  /** The text of test_input.json where it is a JSON object with an `input`. */
  readonly testInput: string | null;
  /** What was found and is not used, a sentence each. */
  readonly warnings: readonly string[];
};

/** Handlers that are looked for, and what a handler's name may end in. */
const HANDLER_NAMES = ["handler.py", "handler.ts", "handler.mjs", "handler.js"] as const;
const HANDLER_ENDINGS: readonly string[] = [".py", ".ts", ".mjs", ".js"];
const TEST_INPUT_FILE = "test_input.json";

/**
 * Reads the folder at `path`, or of the handler or rpx.toml at `path`. A handler given by path beats the one of rpx.toml, whose
 * settings beat those of .runpod/hub.json. Throws RpxError `usage` (nothing to run, or a file that cannot be used) and `not_found`.
 */
export async function loadProject(path: string): Promise<Project> {
  const { folder, givenHandler } = await locate(resolve(path));
  const file = (await readProjectFile(join(folder, PROJECT_FILE))) ?? {};
  const { name, handler: namedHandler, python, ...settings } = file;
  const handler = await findHandler(folder, givenHandler ?? namedHandler);
  const hub = await readHub(folder);
  const test = await readTestInput(folder);
  return {
    name: name ?? null,
    folder,
    handler,
    python: python === undefined ? null : interpreterPath(folder, python),
    config: hub === null ? settings : mergeConfig(hub.config, settings),
    testInput: test.text,
    warnings: [...(hub?.warnings ?? []), ...test.warnings],
  };
}

async function locate(path: string): Promise<{ folder: string; givenHandler?: string }> {
  const real = await realpath(path).catch(() => null);
  if (real === null) {
    throw new RpxError("not_found", `no file or folder ${path}`, {
      hint: "name a folder with a handler in it, or write one: rpx init <folder>",
    });
  }
  if ((await stat(real)).isDirectory()) return { folder: real };
  if (basename(path) === PROJECT_FILE) return { folder: dirname(real) };
  const folder = await realpath(dirname(path));
  return { folder, givenHandler: basename(path) };
}

async function findHandler(folder: string, named: string | undefined): Promise<string> {
  if (named !== undefined) return await checkHandler(folder, named);
  const found = (await Promise.all(HANDLER_NAMES.map((name) => isFile(join(folder, name))))).flatMap(
    (there, index) => (there ? [HANDLER_NAMES[index] ?? ""] : []),
  );
  const [only, ...others] = found;
  if (only === undefined) {
    throw new RpxError("usage", `no handler in ${folder}`, {
      why: `there is none of ${HANDLER_NAMES.join(", ")}, and no ${PROJECT_FILE} that names another file`,
      hint: `name it in ${PROJECT_FILE} (handler = "src/handler.py"), or write one: rpx init`,
    });
  }
  if (others.length > 0) {
    throw new RpxError("usage", `several handlers in ${folder}`, {
      why: `there are ${found.join(" and ")}, and no ${PROJECT_FILE} that says which`,
      hint: `name one in ${PROJECT_FILE} (handler = "${only}"), or on the command line`,
    });
  }
  return only;
}

/** A handler that was named: there, of a kind that runs, and inside the folder also after links. */
async function checkHandler(folder: string, named: string): Promise<string> {
  const path = resolve(folder, named);
  if (!HANDLER_ENDINGS.includes(extname(path))) {
    throw new RpxError("usage", `${named} is no handler`, {
      why: `a handler ends in ${HANDLER_ENDINGS.join(", ")}`,
      hint: "name the file that calls runpod.serverless.start or start of rpx/worker",
    });
  }
  if (!(await isFile(path))) {
    throw new RpxError("usage", `no handler ${named} in ${folder}`, {
      why: "there is no such file",
      hint: `correct "handler" in ${PROJECT_FILE}`,
    });
  }
  if (!isInside(folder, path) || !isInside(folder, await realpath(path))) {
    throw new RpxError("usage", `the handler ${named} is not in ${folder}`, {
      why: "only the folder itself is copied to where the handler runs",
      hint: "move the handler into the folder, or name the folder it is in",
    });
  }
  return relative(folder, path).split(sep).join("/");
}

function isInside(folder: string, path: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

function interpreterPath(folder: string, python: string): string {
  return python.includes("/") ? resolve(folder, python) : python;
}

/** Table by table: a table of rpx.toml replaces single keys of the hub's, lists and values whole. */
function mergeConfig(below: EndpointConfig, above: EndpointConfig): EndpointConfig {
  return {
    ...below,
    ...above,
    ...mergeTable("gpu", below.gpu, above.gpu),
    ...mergeTable("limits", below.limits, above.limits),
    ...mergeTable("env", below.env, above.env),
  };
}

function mergeTable<Name extends string, Table extends object>(
  name: Name,
  below: Table | undefined,
  above: Table | undefined,
): Partial<Record<Name, Table>> {
  if (below === undefined && above === undefined) return {};
  return { [name]: { ...below, ...above } } as Partial<Record<Name, Table>>;
}

async function readTestInput(folder: string): Promise<{ text: string | null; warnings: string[] }> {
  const text = await readFile(join(folder, TEST_INPUT_FILE), "utf8").catch(() => null);
  if (text === null) return { text: null, warnings: [] };
  const problem = testInputProblem(text);
  if (problem === null) return { text, warnings: [] };
  return { text: null, warnings: [`${TEST_INPUT_FILE} is not used: ${problem}`] };
}

function testInputProblem(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    const hasInput = typeof value === "object" && value !== null && Object.hasOwn(value, "input");
    return hasInput ? null : 'it has no "input"';
  } catch {
    return "it is not JSON";
  }
}

/**
 * The settings that a pool cannot hold a handler to, each under its rpx.toml name: said when an endpoint is made, so that a
 * limit is never believed where there is none.
 */
export function unenforcedBy(pool: "process", config: EndpointConfig): string[] {
  const { gpu, limits = {}, volumes = {} } = config;
  const asked: Record<typeof pool, readonly (readonly [string, boolean])[]> = {
    process: [
      ["type", config.type === "load-balancer"],
      ["gpu", (gpu?.count ?? 0) > 0],
      ["limits.memory", isSet(limits.memory)],
      ["limits.cpus", limits.cpus !== undefined],
      ["limits.pids", limits.pids !== undefined],
      ["limits.shm", isSet(limits.shm)],
      ["limits.disk", isSet(limits.disk)],
      ["volumes", Object.keys(volumes).length > 0],
    ],
  };
  return asked[pool].flatMap(([key, set]) => (set ? [key] : []));
}

function isSet(size: string | number | undefined): boolean {
  return size !== undefined && parseSize(size) !== 0;
}
