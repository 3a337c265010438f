import { constants } from "node:fs";
import { access, lstat } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { RpxError } from "../../../contract/error.ts";
import type { PlainRequirement } from "../../core/requirements.ts";
import { inheritedEnvironment } from "./inherited-env.ts";

/** Which rule found an interpreter: `--python`, the folder's `.venv`, an active environment, or the PATH. */
export type InterpreterOrigin = "asked" | "folder" | "active" | "path";

/** A Python that runs and is new enough. */
export type Interpreter = {
  /** Absolute path as Python itself gives it: behind any shim, inside its virtual environment. */
  readonly executable: string;
  /** "3.11.2" */
  readonly version: string;
  readonly origin: InterpreterOrigin;
  /** The virtual environment it belongs to, or null. */
  readonly virtualEnv: string | null;
  /** Whether it has a `runpod` package of its own: the stand-in is used where it has not. */
  readonly hasRunpod: boolean;
};

type Environment = Readonly<Record<string, string | undefined>>;
type Candidate = { readonly file: string; readonly origin: InterpreterOrigin; readonly because: string };

/** The oldest Python that the stand-in SDK runs on. */
const LEAST_MINOR = 9;
const LEAST_VERSION = `3.${LEAST_MINOR}`;
/** A Python that does not answer by then hangs: ordinary ones need 20 to 300 ms. */
const PROBE_TIMEOUT_MS = 20_000;
const HOW_TO_INSTALL = `install Python ${LEAST_VERSION} or newer (Debian and Ubuntu: apt install python3 python3-venv; macOS: brew install python), or name one with --python`;

/** Written so that Python 2 can run it too, and be told that it is too old. */
const PROBE = `
import json, sys
try:
    from importlib.util import find_spec
    runpod = find_spec("runpod") is not None
except Exception:
    runpod = False
base = getattr(sys, "base_prefix", sys.prefix)
print(json.dumps([sys.executable, list(sys.version_info[:3]), sys.prefix if sys.prefix != base else None, runpod]))
`;

/** Reads requirement lines as JSON from stdin; prints the positions of those that this Python does not have. */
const MISSING = `
import json, sys
from importlib import metadata
try:
    from packaging.requirements import Requirement
except Exception:
    from pip._vendor.packaging.requirements import Requirement
def has(line):
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url or requirement.extras:
        return False
    return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
missing = []
for position, line in enumerate(json.load(sys.stdin)):
    try:
        if not has(line):
            missing.append(position)
    except Exception:
        missing.append(position)
print(json.dumps(missing))
`;

/**
 * Finds the Python that runs a folder's handler: the one asked for, the folder's `.venv`, an active VIRTUAL_ENV or
 * CONDA_PREFIX, else `python3` on the PATH. The first that exists is taken: one that is broken or too old is an error
 * (`unavailable`) rather than a silent step to the next.
 */
export async function findInterpreter(options: {
  readonly asked: string | null;
  readonly folder: string;
  readonly environment: Environment;
  readonly signal: AbortSignal;
}): Promise<Interpreter> {
  const candidate = await firstCandidate(options);
  return probe(candidate, options);
}

/** Asks an interpreter which of these requirements it does not have, or has in another version. All of them when it cannot say. */
export async function missingRequirements(options: {
  readonly executable: string;
  readonly requirements: readonly PlainRequirement[];
  readonly environment: Environment;
  readonly signal: AbortSignal;
}): Promise<readonly PlainRequirement[]> {
  if (options.requirements.length === 0) return [];
  const result = await runScript(options.executable, MISSING, {
    ...options,
    input: JSON.stringify(options.requirements.map(({ line }) => line)),
  });
  const positions: unknown = result.exitCode === 0 ? JSON.parse(result.stdout) : null;
  if (!Array.isArray(positions)) return options.requirements;
  return options.requirements.filter((_, position) => positions.includes(position));
}

async function firstCandidate(options: {
  readonly asked: string | null;
  readonly folder: string;
  readonly environment: Environment;
}): Promise<Candidate> {
  const { asked, folder, environment } = options;
  if (asked !== null) {
    const file = asked.includes("/") ? path.resolve(folder, asked) : asked;
    return { file, origin: "asked", because: "--python names it" };
  }
  const own = path.join(folder, ".venv/bin/python");
  if (await isThere(own)) return { file: own, origin: "folder", because: "it is the folder's .venv" };
  for (const name of ["VIRTUAL_ENV", "CONDA_PREFIX"] as const) {
    const file = path.join(environment[name] ?? "", "bin/python");
    if (environment[name] && (await isThere(file)))
      return { file, origin: "active", because: `${name} is set` };
  }
  return { file: "python3", origin: "path", because: "it is the python3 of the PATH" };
}

async function probe(
  candidate: Candidate,
  options: { readonly environment: Environment; readonly signal: AbortSignal },
): Promise<Interpreter> {
  const result = await runScript(candidate.file, PROBE, options);
  options.signal.throwIfAborted();
  if (result.code === "ENOENT" && candidate.origin === "path")
    throw new RpxError("unavailable", "no Python to run the handler with", {
      why: "there is no python3 on the PATH",
      hint: HOW_TO_INSTALL,
    });
  if (result.exitCode !== 0) throw unusable(candidate, result.stderr || result.shortMessage || "it failed");
  return readProbe(candidate, result.stdout);
}

function readProbe(candidate: Candidate, stdout: string): Interpreter {
  const answer: unknown = JSON.parse(stdout.trim().split("\n").at(-1) ?? "null");
  if (!Array.isArray(answer)) throw unusable(candidate, "it did not say its version");
  const [executable, [major, minor, patch], virtualEnv, hasRunpod] = answer;
  const version = `${major}.${minor}.${patch}`;
  if (major !== 3 || minor < LEAST_MINOR)
    throw new RpxError("unavailable", `Python ${version} is too old`, {
      why: `${candidate.file} is used because ${candidate.because}; handlers need ${LEAST_VERSION} or newer`,
      hint: HOW_TO_INSTALL,
    });
  return { executable, version, origin: candidate.origin, virtualEnv, hasRunpod };
}

function unusable(candidate: Candidate, detail: string): RpxError {
  const lastLine = detail.trim().split("\n").at(-1) ?? "";
  const hint =
    candidate.origin === "folder"
      ? "make it again: rm -r .venv && python3 -m venv .venv"
      : "name another with --python";
  return new RpxError("unavailable", `cannot run Python: ${candidate.file}`, {
    why: `${candidate.because}, but: ${lastLine}`,
    hint,
  });
}

async function runScript(
  file: string,
  script: string,
  options: { readonly environment: Environment; readonly signal: AbortSignal; readonly input?: string },
) {
  return execa(file, ["-E", "-c", script], {
    input: options.input ?? "",
    // `-c` puts the working directory on sys.path: packages that happen to lie in the daemon's are not the interpreter's.
    cwd: "/",
    env: inheritedEnvironment(options.environment),
    extendEnv: false,
    reject: false,
    timeout: PROBE_TIMEOUT_MS,
    cancelSignal: options.signal,
  });
}

/** True for anything of that name that runs or is a link, broken ones included: those are to be told, not passed over. */
async function isThere(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () =>
      lstat(file).then(
        (found) => found.isSymbolicLink(),
        () => false,
      ),
  );
}
