/**
 * The supervisor: `node main.js '{"dataDir": ..., "daemonEntry": ..., "daemonConfig": ...}'`. It owns what must outlive
 * the daemon: listening sockets, worker processes and their output. Node's built-ins only.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { takeLock } from "./lock.ts";
import type { SupervisorOptions } from "./run.ts";

const EXIT_USAGE = 2;
const EXIT_NOT_ALLOWED = 4;
const EXIT_CONFLICT = 6;

/** What happened, why, and what next; then the exit code. */
type Refusal = { readonly code: number; readonly lines: readonly string[] };

function readOptions(text: string | undefined): SupervisorOptions | Refusal {
  try {
    const value = JSON.parse(text ?? "") as Partial<SupervisorOptions>;
    if (typeof value.dataDir === "string" && typeof value.daemonEntry === "string") {
      const { dataDir, daemonEntry, daemonConfig, stopWithParent = false } = value;
      return { dataDir, daemonEntry, daemonConfig, stopWithParent };
    }
  } catch {
    // Said below.
  }
  return {
    code: EXIT_USAGE,
    lines: [
      "Error: the supervisor was started without its settings",
      "why: it takes one argument, a JSON object with dataDir, daemonEntry and daemonConfig",
      "try: rpx serve",
    ],
  };
}

/** Makes the data directory and takes its lock, which is held until this process ends. */
function claimDataDir(dataDir: string): { release: () => void } | Refusal {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    if (statSync(dataDir).uid !== process.geteuid?.())
      return foreignDataDir(dataDir, "it belongs to another user");
    const lockPath = join(dataDir, "supervisor.lock");
    const lock = takeLock({ path: lockPath, pidPath: join(dataDir, "supervisor.pid") });
    return lock.taken ? lock : takenDataDir(dataDir, lockPath, lock.holderPid);
  } catch (error) {
    return foreignDataDir(dataDir, (error as Error).message);
  }
}

function takenDataDir(dataDir: string, lockPath: string, holderPid: number | null): Refusal {
  const holder = holderPid === null ? "another process" : `process ${holderPid}`;
  return {
    code: EXIT_CONFLICT,
    lines: [
      `Error: another rpx runs on the data directory ${dataDir}`,
      `why: ${holder} holds ${lockPath}`,
      `try: ${holderPid === null ? "stop it" : `kill ${holderPid}`}, or choose another directory with --data-dir`,
    ],
  };
}

function foreignDataDir(dataDir: string, why: string): Refusal {
  return {
    code: EXIT_NOT_ALLOWED,
    lines: [
      `Error: cannot use the data directory ${dataDir}`,
      `why: ${why}`,
      "try: choose a directory of your own with --data-dir",
    ],
  };
}

function refuse({ code, lines }: Refusal): never {
  process.stderr.write(`${lines.join("\n")}\n`);
  process.exit(code);
}

async function main(): Promise<void> {
  process.umask(0o077);
  // A closed terminal must not end what outlives everything else.
  process.stderr.on("error", () => {});
  const options = readOptions(process.argv[2]);
  if ("lines" in options) refuse(options);
  const claim = claimDataDir(options.dataDir);
  if ("lines" in claim) refuse(claim);
  // Loaded behind the lock: whoever is refused ends within milliseconds, however many start at once.
  const { runSupervisor } = await import("./run.ts");
  const code = await runSupervisor(options);
  claim.release();
  process.exit(code);
}

await main();
