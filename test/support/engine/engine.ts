/**
 * The Docker engine that tests run against: the one at DOCKER_HOST, else at /var/run/docker.sock. `start.sh` beside this file starts one,
 * `images.sh` makes the base images. What tests create there carries the label of their run and is removed by it, nothing else is.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const ASK_LIMIT_MS = 15_000;
/** The first time, debootstrap fetches some 60 packages. */
const IMAGES_LIMIT_MS = 600_000;

export const PYTHON_IMAGE = "python:3.11-slim";
export const NODE_IMAGE = "node:24-slim";

export type EngineFound = { readonly version: string };
export type EngineMissing = { readonly missing: string };

/** Asks once, through the docker command, whether an engine answers. */
export function findEngine(): EngineFound | EngineMissing {
  const asked = docker("version", "--format", "{{.Server.Version}}");
  return "output" in asked ? { version: asked.output } : { missing: asked.failure };
}

/**
 * For `describe.skipIf`: true when no engine answers, after saying why on stderr. With `CI=true` it throws instead: there, .ci/run has
 * started one.
 */
export function skipAloud(found: EngineFound | EngineMissing): boolean {
  if (!("missing" in found)) return false;
  if (process.env.CI === "true") throw new Error(`CI has no Docker engine: ${found.missing}`);
  process.stderr.write(`skipped, Docker engine: ${found.missing}\n`);
  return true;
}

/** Makes sure that the engine has base images; at once when it has. `host` is another engine's DOCKER_HOST. */
export function ensureImages(images: readonly string[], host?: string): void {
  const { status, stderr, error } = spawnSync("bash", [join(import.meta.dirname, "images.sh"), ...images], {
    env: { ...process.env, ...(host === undefined ? {} : { DOCKER_HOST: host }) },
    encoding: "utf8",
    timeout: IMAGES_LIMIT_MS,
  });
  if (status !== 0) throw new Error(`no base images: ${error?.message ?? stderr.trim()}`);
}

/** Runs the docker command as somebody beside rpx would. Throws with what it said when it fails. */
export function dockerCommand(...args: string[]): string {
  const asked = docker(...args);
  if ("output" in asked) return asked.output;
  throw new Error(`docker ${args.join(" ")}: ${asked.failure}`);
}

function docker(...args: string[]): { readonly output: string } | { readonly failure: string } {
  const { status, stdout, stderr, error } = spawnSync("docker", args, {
    encoding: "utf8",
    timeout: ASK_LIMIT_MS,
  });
  if (status === 0) return { output: stdout.trim() };
  return { failure: error?.message ?? stderr.trim() };
}
