import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { RpxError } from "../../../contract/error.ts";
import { checkHandler } from "../../../folder/handler.ts";
import type { BuiltProcess, ReleaseSource, ReleaseSpec } from "../../core/model.ts";
import { isEmpty, parseRequirements } from "../../core/requirements.ts";
import type { BuildRequest, OnStep } from "../../ports/worker-pool.ts";
import { inheritedEnvironment } from "./inherited-env.ts";
import { findInterpreter, type Interpreter, missingRequirements } from "./interpreter.ts";
import { createVirtualEnvs, type VirtualEnv } from "./virtual-env.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export type ProcessBuilderDeps = {
  readonly dataDir: string;
  /** The folder with `python/` and `node/`, absolute. */
  readonly sdkDir: string;
  /** The daemon's own environment: PATH, VIRTUAL_ENV and what workers inherit are read from it. */
  readonly environment: Environment;
  /** Interpreter for Python handlers whose release asks for none; null to look for one. */
  readonly python?: string | null;
  /** Where a bundle was unpacked. */
  readonly pathOfBundle: (digest: string) => string;
};

/** The process pool's `ReleaseBuilder`. */
export type ProcessBuilder = {
  build(request: BuildRequest, onStep: OnStep, signal: AbortSignal): Promise<BuiltProcess>;
};

type Build = {
  readonly deps: ProcessBuilderDeps;
  readonly virtualEnvs: ReturnType<typeof createVirtualEnvs>;
  readonly folder: string;
  readonly handler: string;
  readonly spec: ReleaseSpec;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
};
/** A Python with all that the handler asked for. */
type Prepared = {
  readonly interpreter: Interpreter;
  readonly virtualEnv: VirtualEnv | null;
  readonly warnings: readonly string[];
};

/** A larger requirements.txt is none. */
const MAX_REQUIREMENTS_BYTES = 1024 * 1024;
/** Folders whose interpreter was told already; beyond this it is told again. */
const MAX_TOLD = 1_000;

/**
 * Makes releases for the process pool: finds the interpreter, installs requirements.txt where nobody else has, and says how a
 * worker starts. A handler runs where its source lies: in the user's folder, or in the unpacked bundle.
 */
export function createProcessBuilder(deps: ProcessBuilderDeps): ProcessBuilder {
  const virtualEnvs = createVirtualEnvs(deps);
  const told = new Set<string>();

  /** The interpreter is told once per folder, not at each reload. */
  function tell(folder: string, built: BuiltProcess, onLine: (line: string) => void): void {
    const key = JSON.stringify([folder, built.runtime]);
    if (told.has(key)) return;
    if (told.size >= MAX_TOLD) told.clear();
    told.add(key);
    onLine(built.runtime);
  }

  async function build(
    { spec }: BuildRequest,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<BuiltProcess> {
    const folder = await sourceFolder(spec.source, deps.pathOfBundle);
    const handler = await handlerPath(folder, spec.handler);
    const extension = path.extname(handler);
    const task: Build = { deps, virtualEnvs, folder, handler, spec, onLine, signal };
    const made = extension === ".py" ? await buildPython(task) : await buildNode(task);
    const built = { ...made, warnings: [...made.warnings, ...limitWarnings(spec)] };
    tell(folder, built, onLine);
    return built;
  }

  return {
    async build(request, onStep, signal) {
      try {
        return await build(request, (line) => onStep(line), signal);
      } catch (error) {
        if (signal.aborted && !(error instanceof RpxError))
          throw new RpxError("interrupted", "the build was given up", { cause: error });
        throw error;
      }
    },
  };
}

async function sourceFolder(
  source: ReleaseSource,
  pathOfBundle: (digest: string) => string,
): Promise<string> {
  if (source.kind === "image")
    throw new RpxError("bad_request", `the image ${source.reference} cannot run in the process pool`, {
      why: "an image runs in a container",
      hint: "choose --pool docker, or give a handler",
    });
  const folder = source.kind === "folder" ? path.resolve(source.path) : pathOfBundle(source.digest);
  const found = await stat(folder).catch(() => null);
  if (found?.isDirectory()) return folder;
  throw new RpxError("bad_request", `there is no folder ${folder}`, {
    hint: source.kind === "folder" ? "name the folder that holds the handler" : "deploy it again",
  });
}

async function handlerPath(folder: string, handler: string | null): Promise<string> {
  if (handler === null)
    throw new RpxError("bad_request", "the folder names no handler", {
      why: "only its Dockerfile says what runs, and the process pool builds no images",
      hint: "choose --pool docker, or give a handler",
    });
  return checkHandler(folder, handler);
}

async function buildPython(task: Build): Promise<BuiltProcess> {
  const { deps, folder, handler } = task;
  const { interpreter, virtualEnv, warnings } = await preparePython(task);
  const executable = virtualEnv?.executable ?? interpreter.executable;
  const environmentFolder = virtualEnv?.folder ?? interpreter.virtualEnv;
  const sdk = (await usesStandIn(task, interpreter, virtualEnv)) ? ", rpx's stand-in for runpod" : "";
  return {
    kind: "process",
    file: executable,
    args: ["-u", handler],
    cwd: folder,
    env: {
      ...inside(inheritedEnvironment(deps.environment), environmentFolder),
      PYTHONPATH: path.join(deps.sdkDir, "python/site"),
    },
    runtime: `python ${interpreter.version} (${executable})${sdk}`,
    warnings,
  };
}

/** A process has this user's share of the machine: nothing holds it to less. */
function limitWarnings({ hardware }: ReleaseSpec): string[] {
  const limits = hardware.limits ?? {};
  const names = (["memory", "cpus", "pids", "shm", "disk"] as const).filter((n) => limits[n] !== undefined);
  return names.length === 0 ? [] : [`the process pool does not enforce limits: ${names.join(", ")}`];
}

/** What activating a virtual environment sets: programs that a handler starts find it too. */
function inside(env: Record<string, string>, virtualEnv: string | null): Record<string, string> {
  if (virtualEnv === null) return env;
  const bin = path.join(virtualEnv, "bin");
  return { ...env, VIRTUAL_ENV: virtualEnv, PATH: env.PATH === undefined ? bin : `${bin}:${env.PATH}` };
}

async function preparePython(task: Build): Promise<Prepared> {
  const { deps, folder, spec, signal } = task;
  const environment = deps.environment;
  const interpreter = await findInterpreter({
    asked: spec.python ?? deps.python ?? null,
    folder,
    environment,
    signal,
  });
  const file = path.join(folder, "requirements.txt");
  const text = await readRequirements(file);
  const requirements = parseRequirements(text);
  if (isEmpty(requirements)) return { interpreter, virtualEnv: null, warnings: [] };
  const missing = await missingRequirements({
    executable: interpreter.executable,
    requirements: requirements.plain,
    environment,
    signal,
  });
  const others = missing.filter(({ name }) => name !== "runpod").map(({ line }) => line);
  // A runpod of another version than the one asked for is there: pip gets the right one.
  const onlyStandIn = missing.length === 0 || !interpreter.hasRunpod;
  const nothingElse = others.length === 0 && requirements.other.length === 0 && onlyStandIn;
  if (interpreter.origin !== "path" || nothingElse)
    return { interpreter, virtualEnv: null, warnings: missingWarnings(interpreter, missing, others) };
  const request = { interpreter, file, text, requirements, onLine: task.onLine, signal };
  const virtualEnv = await task.virtualEnvs.ensure(request);
  return { interpreter, virtualEnv, warnings: virtualEnv.withoutRunpod ? [STAND_IN_WARNING] : [] };
}

const STAND_IN_WARNING =
  "requirements.txt names runpod, which is not installed: rpx's stand-in takes its place (install runpod to use the real one)";

function missingWarnings(
  interpreter: Interpreter,
  missing: readonly { readonly name: string }[],
  others: readonly string[],
): string[] {
  // Another version than the one asked for is no reason for the stand-in: a real runpod always wins.
  const standIn = missing.some(({ name }) => name === "runpod") && !interpreter.hasRunpod;
  const warnings = standIn ? [STAND_IN_WARNING] : [];
  if (others.length > 0)
    warnings.push(
      `${interpreter.executable} lacks ${others.join(", ")}: run ${interpreter.executable} -m pip install -r requirements.txt`,
    );
  return warnings;
}

async function readRequirements(file: string): Promise<string> {
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return "";
  if (found.size > MAX_REQUIREMENTS_BYTES)
    throw new RpxError("bad_request", "requirements.txt is too large", {
      why: `it has ${found.size} bytes, at most ${MAX_REQUIREMENTS_BYTES} are read`,
    });
  return readFile(file, "utf8");
}

/** Whether `import runpod` finds the stand-in: neither the interpreter nor the handler's own folder has a real one. */
async function usesStandIn(task: Build, interpreter: Interpreter, virtualEnv: VirtualEnv | null) {
  const beside = path.join(task.folder, path.dirname(task.handler), "runpod");
  if ((await stat(beside).catch(() => null)) !== null) return false;
  if (virtualEnv === null) return !interpreter.hasRunpod;
  const asked = parseRequirements(await readRequirements(path.join(task.folder, "requirements.txt")));
  return virtualEnv.withoutRunpod || !asked.plain.some(({ name }) => name === "runpod");
}

async function buildNode(task: Build): Promise<BuiltProcess> {
  const { deps, folder, handler } = task;
  const hook = pathToFileURL(path.join(deps.sdkDir, "node/hook.js")).href;
  return {
    kind: "process",
    file: process.execPath,
    args: ["--import", hook, handler],
    cwd: folder,
    env: inheritedEnvironment(deps.environment),
    runtime: `node ${process.versions.node} (${process.execPath})`,
    warnings: await nodeWarnings(folder),
  };
}

/** Says when a folder's dependencies were never installed: Node's own error names only the first of them. */
async function nodeWarnings(folder: string): Promise<string[]> {
  const text = await readFile(path.join(folder, "package.json"), "utf8").catch(() => null);
  if (text === null || (await stat(path.join(folder, "node_modules")).catch(() => null)) !== null) return [];
  return hasDependencies(text)
    ? ["package.json lists dependencies, but there is no node_modules folder"]
    : [];
}

function hasDependencies(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text);
    const dependencies = (parsed as { dependencies?: unknown } | null)?.dependencies;
    return typeof dependencies === "object" && dependencies !== null && Object.keys(dependencies).length > 0;
  } catch {
    return false;
  }
}
