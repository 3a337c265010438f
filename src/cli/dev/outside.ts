import { accessSync, constants } from "node:fs";
import { delimiter, extname, join } from "node:path";
import { RpxError } from "../../contract/error.ts";
import type { Project } from "../../project/load.ts";
import { NODE_HOOK, PYTHON_SITE } from "../serve/entries.ts";
import { runCommand } from "./child.ts";

/**
 * Runs a handler's file itself, outside the queue, with the SDK on its path: what `python handler.py ...` does where the SDK is
 * installed. Resolves with its exit code.
 */
export async function runOutside(
  project: Project,
  handlerArguments: readonly string[],
  options: { readonly python: string | undefined; readonly signal: AbortSignal },
): Promise<number> {
  const handler = join(project.folder, handlerOf(project));
  const isPython = extname(handler) === ".py";
  const file = isPython ? findInterpreter(project, options.python, process.env) : process.execPath;
  const ahead = isPython ? [] : ["--import", NODE_HOOK];
  return await runCommand({
    file,
    arguments: [...ahead, handler, ...handlerArguments],
    cwd: project.folder,
    env: isPython ? withPythonSite(process.env) : process.env,
    signal: options.signal,
  });
}

function handlerOf({ handler, folder }: Project): string {
  if (handler !== null) return handler;
  throw new RpxError("usage", `no handler in ${folder} that could run outside the queue`, {
    why: "an image or a Dockerfile says what runs",
    hint: "name the handler's file: rpx dev handler.py -- ...",
  });
}

function withPythonSite(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const path = [PYTHON_SITE, ...(env.PYTHONPATH ? [env.PYTHONPATH] : [])].join(delimiter);
  return { ...env, PYTHONPATH: path };
}

/** The interpreter of a Python handler: flag, rpx.toml, the folder's .venv, the active environment, python3. */
export function findInterpreter(project: Project, flag: string | undefined, env: NodeJS.ProcessEnv): string {
  if (flag !== undefined) return flag;
  if (project.python !== null) return project.python;
  const homes = [join(project.folder, ".venv"), env.VIRTUAL_ENV, env.CONDA_PREFIX];
  const found = homes
    .map((home) => (home ? join(home, "bin", "python") : ""))
    .find((path) => isExecutable(path));
  return found ?? "python3";
}

function isExecutable(path: string): boolean {
  if (path === "") return false;
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
