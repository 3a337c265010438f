/**
 * Where the real RunPod Python SDK is on this machine, and how to run it.
 *
 * Its source is never part of this repository: a test takes its path from `RPX_RUNPOD_SDK`. Debian's packages (packages.txt)
 * and the shims beside this file carry its imports, so what the shims stand for (aiohttp_retry above all) is not the SDK's
 * own behaviour.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

/** Debian's interpreter: the one that sees Debian's packages. */
const PYTHON = "/usr/bin/python3";
const IMPORT_LIMIT_MS = 60_000;
const SHIMS = join(import.meta.dirname, "shims");

export interface StockSdk {
  readonly python: string;
  /** Over the environment of the test: the SDK and its shims on the path, no checks of this machine, no user's key. */
  readonly env: Record<string, string>;
  /** As the SDK itself says it, such as "1.12.0". */
  readonly version: string;
  /** The folder that holds `runpod/`. */
  readonly path: string;
}

export interface StockSdkMissing {
  readonly missing: string;
}

/**
 * Finds the SDK named by the environment variable `variable` (a checkout, or a folder that pip installed into) and imports it once.
 * For an older release of the version matrix name another variable, such as `RPX_RUNPOD_SDK_1_7_13`.
 */
export function findStockSdk(variable = "RPX_RUNPOD_SDK"): StockSdk | StockSdkMissing {
  const path = process.env[variable];
  if (path === undefined || path === "") {
    return { missing: `${variable} does not name a checkout of the RunPod Python SDK` };
  }
  if (!existsSync(join(path, "runpod", "__init__.py"))) {
    return { missing: `${variable} names ${path}, which holds no runpod/ package` };
  }
  const env = environmentFor(path);
  const probe = spawnSync(PYTHON, ["-c", "import runpod; print(runpod.__version__)"], {
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: IMPORT_LIMIT_MS,
  });
  if (probe.error !== undefined) {
    return { missing: `${PYTHON} does not run: ${probe.error.message}` };
  }
  if (probe.status !== 0) {
    const lastLine = probe.stderr.trim().split("\n").at(-1) ?? "";
    return {
      missing: `the SDK does not import (${lastLine}): install what test/support/stock-sdk/packages.txt lists`,
    };
  }
  return { python: PYTHON, env, version: probe.stdout.trim(), path };
}

/**
 * For `describe.skipIf`: true when the SDK is missing, after saying why on stderr. With `CI=true` and the SDK's path given, something
 * that CI installs is missing: that is a failure. With no path in CI the replayed recordings stand in for it.
 */
export function skipAloud(
  found: StockSdk | StockSdkMissing,
  variable = "RPX_RUNPOD_SDK",
): found is StockSdkMissing {
  if (!("missing" in found)) {
    return false;
  }
  if (process.env.CI === "true" && (process.env[variable] ?? "") !== "") {
    throw new Error(`the RunPod SDK was asked for but cannot be used: ${found.missing}`);
  }
  process.stderr.write(`skipped, real RunPod SDK: ${found.missing}\n`);
  return true;
}

function environmentFor(path: string): Record<string, string> {
  const scratch = join(tmpdir(), `rpx-stock-sdk-${process.getuid?.() ?? 0}`);
  const home = join(scratch, "home");
  mkdirSync(home, { recursive: true });
  const version = checkoutVersion(path);
  const metadata = version === undefined ? [] : [versionMetadata(scratch, version)];
  return {
    PYTHONPATH: [SHIMS, ...metadata, path].join(delimiter),
    // Bytecode goes to a folder of ours: a user's checkout is left as it is.
    PYTHONPYCACHEPREFIX: join(scratch, "pycache"),
    PYTHONUNBUFFERED: "1",
    // A key in ~/.runpod/config.toml would win over the one in the environment.
    HOME: home,
    // The SDK refuses a machine with under 4 GB of memory or without a route to 8.8.8.8.
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS: "true",
    RUNPOD_SKIP_GPU_CHECK: "true",
  };
}

/** The version of a checkout, from the first heading of its change log; undefined where pip left its own metadata. */
function checkoutVersion(path: string): string | undefined {
  const changeLog = join(path, "CHANGELOG.md");
  if (!existsSync(changeLog)) {
    return undefined;
  }
  return /^## (?:Release )?\[?(\d+\.\d+\.\d+)/m.exec(readFileSync(changeLog, "utf8"))?.[1];
}

/** The SDK asks the package metadata for its version, and a checkout has none: this folder says it. */
function versionMetadata(scratch: string, version: string): string {
  const folder = join(scratch, `metadata-${version}`);
  const distInfo = join(folder, `runpod-${version}.dist-info`);
  mkdirSync(distInfo, { recursive: true });
  writeFileSync(join(distInfo, "METADATA"), `Metadata-Version: 2.1\nName: runpod\nVersion: ${version}\n`);
  return folder;
}
