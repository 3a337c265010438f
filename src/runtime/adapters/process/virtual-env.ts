import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { RpxError } from "../../../contract/error.ts";
import { sanitizeLine } from "../../../text/sanitize.ts";
import { includedFiles, parseRequirements, type Requirements } from "../../core/requirements.ts";
import { environmentsFolder } from "./environments.ts";
import { pipEnvironment } from "./inherited-env.ts";
import type { Interpreter } from "./interpreter.ts";

/** A virtual environment that holds a requirements.txt. */
export type VirtualEnv = {
  readonly folder: string;
  readonly executable: string;
  /** pip could not get `runpod` alone: the stand-in is used for it. */
  readonly withoutRunpod: boolean;
};

export type VirtualEnvRequest = {
  readonly interpreter: Interpreter;
  /** Absolute path of the requirements.txt. */
  readonly file: string;
  readonly text: string;
  readonly requirements: Requirements;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
};

type Environment = Readonly<Record<string, string | undefined>>;
type Run = { readonly exitCode: number | undefined; readonly lastLines: readonly string[] };

/** Changes when what is built from the same requirements changes. */
const FORMAT = 1;
/** Written last: a folder without it was never finished. */
const MARKER = ".rpx-complete.json";
const HASH_CHARACTERS = 32;
/** Large wheels over slow lines; a pip that takes longer hangs. */
const PIP_TIMEOUT_MS = 60 * 60_000;
const VENV_TIMEOUT_MS = 5 * 60_000;
/** Lines of pip's output that an error repeats. */
const LAST_LINES = 8;
const MAX_LINE_CHARACTERS = 500;
/** Requirement files that include each other are read this deep for the hash. */
const MAX_INCLUDE_DEPTH = 5;

/**
 * Virtual environments cached under `<dataDir>/venvs` by a hash of the requirements (included files too) and the interpreter.
 * They hold absolute paths, so each is built in place and counts only once its marker is written.
 */
export function createVirtualEnvs(deps: { readonly dataDir: string; readonly environment: Environment }) {
  const root = environmentsFolder(deps.dataDir);
  const building = new Map<string, Promise<unknown>>();

  /** The finished environment for a request, built now when there is none. Rejects with `unavailable` and pip's last lines. */
  async function ensure(request: VirtualEnvRequest): Promise<VirtualEnv> {
    const folder = path.join(root, await requirementsHash(request));
    // One after the other: the second finds what the first has built, and builds it if that was given up.
    const before = building.get(folder) ?? Promise.resolve();
    const mine = before.then(() => findOrBuild(folder, request, deps.environment));
    const settled = mine.catch(() => undefined);
    building.set(folder, settled);
    try {
      return await mine;
    } finally {
      if (building.get(folder) === settled) building.delete(folder);
    }
  }

  return { ensure };
}

async function findOrBuild(
  folder: string,
  request: VirtualEnvRequest,
  environment: Environment,
): Promise<VirtualEnv> {
  const found = await readMarker(folder);
  if (found !== null) return found;
  request.signal.throwIfAborted();
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  try {
    await makeVirtualEnv(folder, request, environment);
    const withoutRunpod = await installRequirements(folder, request, environment);
    await writeFile(path.join(folder, MARKER), JSON.stringify({ withoutRunpod }), { mode: 0o600 });
    return { folder, executable: executableOf(folder), withoutRunpod };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

async function makeVirtualEnv(folder: string, request: VirtualEnvRequest, environment: Environment) {
  const { interpreter, signal } = request;
  request.onLine("making a virtual environment for requirements.txt (kept for the next time)");
  const run = await runPython(interpreter.executable, ["-m", "venv", folder], {
    environment,
    signal,
    timeoutMs: VENV_TIMEOUT_MS,
    onLine: () => {},
  });
  if (run.exitCode === 0) return;
  const minor = interpreter.version.split(".").slice(0, 2).join(".");
  throw new RpxError("unavailable", `${interpreter.executable} cannot make a virtual environment`, {
    why: run.lastLines.join("\n") || "python -m venv failed",
    hint: `install its venv module (Debian and Ubuntu: apt install python${minor}-venv), or make a .venv in the folder and install requirements.txt there`,
  });
}

/** Installs everything; where pip fails over `runpod`, everything else. Returns whether `runpod` was left out. */
async function installRequirements(
  folder: string,
  request: VirtualEnvRequest,
  environment: Environment,
): Promise<boolean> {
  const whole = await runPip(folder, request.file, request, environment);
  if (whole.exitCode === 0) return false;
  if (!failedOverRunpod(whole, request.requirements)) throw pipError(whole, request);
  request.onLine("pip cannot get runpod: installing the rest, rpx's stand-in takes its place");
  const rest = path.join(folder, "requirements-without-runpod.txt");
  const lines = request.requirements.plain.filter(({ name }) => name !== "runpod").map(({ line }) => line);
  await writeFile(rest, `${lines.join("\n")}\n`, { mode: 0o600 });
  const second = await runPip(folder, rest, request, environment);
  if (second.exitCode !== 0) throw pipError(second, request);
  return true;
}

/** Whether leaving `runpod` out may help. Files with options or includes are left to pip: their lines depend on each other. */
function failedOverRunpod(run: Run, { plain, other }: Requirements): boolean {
  if (other.length > 0 || !plain.some(({ name }) => name === "runpod")) return false;
  return run.lastLines.some((line) => /^ERROR: .*\brunpod\b/i.test(line));
}

function runPip(folder: string, file: string, request: VirtualEnvRequest, environment: Environment) {
  const quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"];
  return runPython(executableOf(folder), ["-m", "pip", "install", ...quiet, "-r", file], {
    environment,
    cwd: path.dirname(request.file),
    signal: request.signal,
    timeoutMs: PIP_TIMEOUT_MS,
    onLine: request.onLine,
  });
}

function pipError(run: Run, request: VirtualEnvRequest): RpxError {
  return new RpxError("unavailable", "pip could not install requirements.txt", {
    why: run.lastLines.join("\n") || "pip ended without a word",
    hint: `correct ${request.file}, or install it yourself into a .venv in the folder: rpx uses that one`,
  });
}

async function runPython(
  executable: string,
  args: readonly string[],
  options: {
    readonly environment: Environment;
    readonly cwd?: string;
    readonly signal: AbortSignal;
    readonly timeoutMs: number;
    readonly onLine: (line: string) => void;
  },
): Promise<Run> {
  const lastLines: string[] = [];
  const child = execa(executable, args, {
    env: pipEnvironment(options.environment),
    extendEnv: false,
    stdin: "ignore",
    all: true,
    buffer: false,
    reject: false,
    timeout: options.timeoutMs,
    cancelSignal: options.signal,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  for await (const line of child.iterable({ from: "all" })) {
    const shown = sanitizeLine(String(line)).slice(0, MAX_LINE_CHARACTERS).trimEnd();
    if (shown === "") continue;
    options.onLine(shown);
    lastLines.push(shown);
    if (lastLines.length > LAST_LINES) lastLines.shift();
  }
  const result = await child;
  options.signal.throwIfAborted();
  if (result.timedOut) lastLines.push(`stopped after ${options.timeoutMs / 60_000} minutes`);
  return { exitCode: result.exitCode, lastLines };
}

async function readMarker(folder: string): Promise<VirtualEnv | null> {
  try {
    const marker: unknown = JSON.parse(await readFile(path.join(folder, MARKER), "utf8"));
    const withoutRunpod = (marker as { withoutRunpod?: unknown } | null)?.withoutRunpod === true;
    return { folder, executable: executableOf(folder), withoutRunpod };
  } catch {
    return null;
  }
}

function executableOf(folder: string): string {
  return path.join(folder, "bin/python");
}

async function requirementsHash(request: VirtualEnvRequest): Promise<string> {
  const { interpreter, requirements } = request;
  const included = await includedTexts(requirements, path.dirname(request.file), MAX_INCLUDE_DEPTH);
  // Paths in the file mean another package in another folder.
  const place = requirements.other.length === 0 ? "" : path.dirname(request.file);
  const parts = [FORMAT, interpreter.executable, interpreter.version, request.text, included, place];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, HASH_CHARACTERS);
}

/** Texts of the files that a requirements.txt includes. One that cannot be read is left to pip to complain about. */
async function includedTexts(requirements: Requirements, folder: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const texts: string[] = [];
  for (const name of includedFiles(requirements)) {
    const file = path.resolve(folder, name);
    const text = await readFile(file, "utf8").catch(() => "");
    texts.push(text, ...(await includedTexts(parseRequirements(text), path.dirname(file), depth - 1)));
  }
  return texts;
}
