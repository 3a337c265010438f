import { accessSync, constants, readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { resolve } from "node:path";
import { createSecureContext } from "node:tls";
import { RpxError } from "../../contract/error.ts";
import { parseDuration } from "../../text/duration.ts";
import { parseSize } from "../../text/size.ts";
import { checkUrl } from "../settings.ts";

/** What a command line of `rpx serve` said; durations and sizes still as text. */
export type ServeFlags = {
  readonly host: string;
  readonly port: number;
  readonly workerPort: number;
  readonly pool: string;
  readonly python?: string | undefined;
  readonly grace: string;
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  readonly insecureHttp: boolean;
  readonly trustedCode: boolean;
  readonly publicUrl?: string | undefined;
  readonly minFreeDisk: string;
  readonly rateLimits?: boolean | undefined;
  readonly logLevel: string;
  readonly stopWorkers: boolean;
  readonly budgetCpus?: string | undefined;
  readonly budgetMemory?: string | undefined;
  readonly budgetDisk?: string | undefined;
  readonly workerUrl?: string | undefined;
};

/** The daemon's settings as it reads them: ms, bytes, absolute paths. */
export type DaemonSettings = {
  readonly dataDir: string;
  readonly host: string;
  readonly port: number;
  readonly workerPort: number;
  readonly pool: string;
  readonly graceMs: number;
  readonly minFreeBytes: number;
  readonly logLevel: string;
  readonly python?: string;
  readonly tls?: { readonly certPath: string; readonly keyPath: string };
  readonly publicUrl?: string;
  readonly rateLimits?: boolean;
  readonly stopWorkers: boolean;
  readonly budget?: Budget;
  readonly workerUrl?: string;
};

/** What workers may claim of this machine; what is not set is the daemon's to choose. */
type Budget = { readonly cpus?: number; readonly memoryBytes?: number; readonly diskBytes?: number };

const POOLS: readonly string[] = ["auto", "process", "docker"];

/**
 * Flags as the daemon's settings. Nothing is touched before all of them are accepted; throws RpxError `usage` naming the flag
 * (T-01: no listener beyond this machine without TLS, no code of others without isolation, unless somebody says so).
 */
export function daemonSettings(flags: ServeFlags, dataDir: string): DaemonSettings {
  checkPool(flags.pool);
  checkPorts(flags);
  const tls = readTls(flags);
  if (!isLoopback(flags.host)) checkExposure(flags, tls !== undefined);
  const graceMs = flagValue("--grace", flags.grace, parseDuration, '"10s"');
  const minFreeBytes = flagValue("--min-free-disk", flags.minFreeDisk, parseSize, '"1GB"');
  const budget = budgetOf(flags);
  const { host, port, workerPort, pool, logLevel, rateLimits, stopWorkers } = flags;
  return {
    ...{ dataDir, host, port, workerPort, pool, graceMs, minFreeBytes, logLevel, stopWorkers },
    ...(Object.keys(budget).length === 0 ? {} : { budget }),
    ...(flags.workerUrl === undefined ? {} : { workerUrl: checkUrl(flags.workerUrl, "--worker-url") }),
    ...(flags.python === undefined ? {} : { python: checkInterpreter(flags.python) }),
    ...(tls === undefined ? {} : { tls }),
    ...(flags.publicUrl === undefined ? {} : { publicUrl: checkUrl(flags.publicUrl, "--public-url") }),
    ...(rateLimits === undefined ? {} : { rateLimits }),
  };
}

/** Throws RpxError `usage` for a pool that this rpx does not have. */
export function checkPool(pool: string): void {
  if (POOLS.includes(pool)) return;
  throw new RpxError("usage", `--pool ${pool} is not possible`, {
    why: "workers run as processes or in containers of a Docker engine",
    hint: "--pool process or --pool docker, or leave --pool out",
  });
}

function budgetOf({ budgetCpus, budgetMemory, budgetDisk }: ServeFlags): Budget {
  return {
    ...part("cpus", "--budget-cpus", budgetCpus, parseCount, "3.5"),
    ...part("memoryBytes", "--budget-memory", budgetMemory, parseSize, '"48GiB"'),
    ...part("diskBytes", "--budget-disk", budgetDisk, parseSize, '"200GB"'),
  };
}

/** One part of the budget; nothing of it would keep every worker that has a limit waiting for ever. */
function part(
  name: keyof Budget,
  flag: string,
  text: string | undefined,
  parse: (text: string) => number | null,
  example: string,
): Budget {
  if (text === undefined) return {};
  const value = flagValue(flag, text, parse, example);
  if (value > 0) return { [name]: value };
  throw new RpxError("usage", `${flag} ${text} leaves nothing to workers`, { hint: `${flag} ${example}` });
}

function parseCount(text: string): number | null {
  return /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : null;
}

/** Whether a host to bind to is this machine alone. */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  if (isIPv4(address)) return address.startsWith("127.");
  if (isIPv6(address)) return new URL(`http://[${address}]`).hostname === "[::1]";
  return address === "localhost";
}

function checkExposure(flags: ServeFlags, hasTls: boolean): void {
  if (!hasTls && !flags.insecureHttp) {
    throw new RpxError("usage", `--host ${flags.host} is open to other machines, without TLS`, {
      why: "keys, inputs and outputs would cross the network readable by everybody on it",
      hint: "give --tls-cert and --tls-key, or --insecure-http if something in front speaks TLS",
    });
  }
  if (!flags.trustedCode) {
    throw new RpxError(
      "usage",
      `--host ${flags.host} is open to other machines, and workers are not isolated`,
      {
        why: "whoever has a key that deploys runs code as your user on this machine",
        hint: "--trusted-code if you trust everybody who gets a key",
      },
    );
  }
}

function checkPorts({ port, workerPort }: ServeFlags): void {
  if (port === 0 || port !== workerPort) return;
  throw new RpxError("usage", `--port and --worker-port are both ${port}`, {
    why: "clients and workers have a listener each",
    hint: "choose another --worker-port; 0 takes a free one",
  });
}

function readTls({ tlsCert, tlsKey }: ServeFlags): DaemonSettings["tls"] {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    const [given, missing] = tlsKey === undefined ? ["--tls-cert", "--tls-key"] : ["--tls-key", "--tls-cert"];
    throw new RpxError("usage", `${given} needs ${missing}`, { why: "TLS takes a certificate and its key" });
  }
  const cert = readPem("--tls-cert", tlsCert);
  const key = readPem("--tls-key", tlsKey);
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw new RpxError("usage", `--tls-cert ${tlsCert} and --tls-key ${tlsKey} do not work`, {
      why: cause instanceof Error ? cause.message : String(cause),
      hint: "both are PEM files, the key without a passphrase",
      cause,
    });
  }
  return { certPath: resolve(tlsCert), keyPath: resolve(tlsKey) };
}

function readPem(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RpxError("usage", `cannot read ${flag} ${path}`, { why, cause });
  }
}

/** An interpreter given as a path, checked; a command's name is left for the PATH of the workers. */
export function checkInterpreter(python: string): string {
  if (!python.includes("/")) return python;
  const path = resolve(python);
  try {
    accessSync(path, constants.X_OK);
    return path;
  } catch (cause) {
    throw new RpxError("usage", `--python ${python} cannot be run`, {
      why:
        cause instanceof Error && "code" in cause && cause.code === "ENOENT"
          ? "there is no such file"
          : "it is not executable",
      hint: "name an interpreter: --python .venv/bin/python, --python python3.12",
      cause,
    });
  }
}

function flagValue(
  flag: string,
  text: string,
  parse: (text: string) => number | null,
  example: string,
): number {
  const value = parse(text);
  if (value !== null) return value;
  throw new RpxError("usage", `${flag} ${JSON.stringify(text)} cannot be read`, {
    hint: `${flag} ${example}`,
  });
}
