/**
 * A Docker engine of a test's own, to be killed, stopped and started again (reliability.md, R5): in a network namespace of its own, with
 * data, sockets and process ids in a folder of its own. As root on Linux. `ip netns exec` would hide the cgroup mounts: nsenter does not.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Of folders and namespaces; the process id of who made it follows. */
const PREFIX = "rpx-engine-";
/** Images, containers and logs of one engine. */
const DATA_MIB = 2_048;
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;
const POLL_MS = 100;
/** The first start after a kill may fail: its containerd is still ending (reliability.md, finding 12). */
const MAX_STARTS = 4;

export type PrivateEngine = {
  /** As DOCKER_HOST has it. */
  readonly host: string;
  /** Process id of dockerd, while it runs. */
  pid(): number;
  /** Starts it, again if need be; resolves when it answers. */
  start(): Promise<void>;
  /** `kill -9` of dockerd alone: containers and their shims go on. */
  kill(): Promise<void>;
  /** Ends dockerd as its own stop does. */
  stop(): Promise<void>;
  /** SIGSTOP: connections are accepted by the kernel and never answered. */
  hang(): void;
  resume(): void;
  /** Ends everything and leaves nothing behind: containers, mounts, namespace, folder. */
  close(): Promise<void>;
};

export type PrivateEngineOptions = {
  /** Its bridge's address, in a namespace where nobody else is. */
  readonly bip?: string;
  readonly args?: readonly string[];
  /** A file that it sees as /etc/resolv.conf. Absent: this machine's. */
  readonly resolvConf?: string;
};

/** With `live-restore`, so that containers outlive the engine. */
export async function createPrivateEngine(options: PrivateEngineOptions = {}): Promise<PrivateEngine> {
  await sweep();
  const folder = mkdtempSync(path.join(tmpdir(), `${PREFIX}${process.pid}-`));
  const namespace = path.basename(folder);
  const host = `unix://${folder}/docker.sock`;
  // In memory: to delete an image's 8,000 files from a disk takes some disks 18 s.
  run("mount", "-t", "tmpfs", "-o", `size=${DATA_MIB}m,mode=700`, "tmpfs", folder);
  run("ip", "netns", "add", namespace);
  run("nsenter", `--net=/run/netns/${namespace}`, "ip", "link", "set", "lo", "up");
  const ownMounts =
    options.resolvConf === undefined ? [] : [`--mount=${bindResolvConf(folder, options.resolvConf)}`];
  let daemon: ChildProcess | null = null;

  function launch(): ChildProcess {
    mkdirSync(`${folder}/exec`, { recursive: true });
    const log = openSync(`${folder}/dockerd.log`, "a");
    const args = [
      ...[`--net=/run/netns/${namespace}`, ...ownMounts, "dockerd", "--live-restore"],
      ...[`--data-root=${folder}/data`, `--exec-root=${folder}/exec`, `--pidfile=${folder}/docker.pid`],
      ...[`--host=${host}`, `--bip=${options.bip ?? "10.213.0.1/24"}`, ...(options.args ?? [])],
    ];
    const child = spawn("nsenter", args, { stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    return child;
  }

  async function start(): Promise<void> {
    for (let starts = 1; starts <= MAX_STARTS; starts += 1) {
      const child = launch();
      daemon = child;
      const deadlineMs = performance.now() + START_LIMIT_MS;
      while (child.exitCode === null && child.signalCode === null && performance.now() < deadlineMs) {
        if (answers(host)) return;
        await sleep(POLL_MS);
      }
      await end("SIGKILL");
    }
    throw new Error(`the private engine does not come up:\n${lastLines(`${folder}/dockerd.log`)}`);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const child = daemon;
    daemon = null;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    await exited;
    clearTimeout(killer);
  }

  async function close(): Promise<void> {
    if (daemon !== null) {
      daemon.kill("SIGCONT");
      removeContainers(host);
      // Its own stop would wait for a containerd that is ended below.
      await end("SIGKILL");
    }
    await clear(folder);
  }

  const pid = (): number => {
    if (daemon?.pid === undefined) throw new Error("the private engine does not run");
    // nsenter becomes dockerd.
    return daemon.pid;
  };
  const engine: PrivateEngine = {
    host,
    pid,
    start,
    kill: async () => {
      await end("SIGKILL");
      // Its containerd follows by itself. One that seems to be there, if only as a zombie, costs the next start 15 s.
      await until(() => processesOf(`${folder}/exec/containerd/containerd.toml`).length === 0);
      rmSync(`${folder}/exec/containerd/containerd.pid`, { force: true });
    },
    stop: () => end("SIGTERM"),
    hang: () => void process.kill(pid(), "SIGSTOP"),
    resume: () => void process.kill(pid(), "SIGCONT"),
    close,
  };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return engine;
}

/** Makes a mount namespace with another /etc/resolv.conf; one for all starts, because containers that live on are mounted in it. */
function bindResolvConf(folder: string, resolvConf: string): string {
  const file = `${folder}/mounts`;
  writeFileSync(file, "");
  // A namespace cannot be kept in a mount that others are told of.
  run("mount", "--make-private", folder);
  run("unshare", `--mount=${file}`, "mount", "--bind", resolvConf, "/etc/resolv.conf");
  return file;
}

/** What a private engine needs of this machine and lacks, in words; null when all is here. */
export function privateEngineMissing(): string | null {
  if (process.platform !== "linux") return "Linux";
  if (process.getuid?.() !== 0) return "root";
  const missing = ["dockerd", "docker", "nsenter", "unshare", "ip", "mount", "umount", "pgrep"].filter(
    (program) => !isOnPath(program),
  );
  return missing.length === 0 ? null : missing.join(", ");
}

/** Private engines of tests that were killed before they could close theirs. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const owner = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length).split("-")[0]) : Number.NaN;
    if (owner > 0 && !existsSync(`/proc/${owner}`)) await clear(path.join(tmpdir(), name));
  }
}

/** Ends what runs out of the folder, and removes it with its mounts and its namespace. */
async function clear(folder: string): Promise<void> {
  await endProcesses(folder);
  for (const mount of mountsBelow(folder)) quietly("umount", "--lazy", mount);
  quietly("ip", "netns", "delete", path.basename(folder));
  quietly("umount", "--lazy", folder);
  rmSync(folder, { recursive: true, force: true });
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? "")
    .split(path.delimiter)
    .some((folder) => existsSync(path.join(folder, program)));
}

function run(file: string, ...args: string[]): string {
  return execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 30_000 });
}

function quietly(file: string, ...args: string[]): string {
  try {
    return run(file, ...args);
  } catch {
    return "";
  }
}

function answers(host: string): boolean {
  return quietly("docker", "--host", host, "version", "--format", "{{.Server.Version}}") !== "";
}

function removeContainers(host: string): void {
  const ids = quietly("docker", "--host", host, "ps", "--all", "--quiet").split("\n").filter(Boolean);
  if (ids.length > 0) quietly("docker", "--host", host, "rm", "--force", "--volumes", ...ids);
}

/** Ends what still runs out of the folder: containerd, shims, and with them what a container left. */
async function endProcesses(folder: string): Promise<void> {
  await until(() => {
    const pids = processesOf(folder);
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended in between.
      }
    }
    return pids.length === 0;
  });
}

/** Looks again until it holds, for {@link STOP_LIMIT_MS} at most. */
async function until(holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + STOP_LIMIT_MS;
  while (!holds() && performance.now() < deadlineMs) await sleep(POLL_MS);
}

/** Processes that name the folder among their arguments. */
function processesOf(folder: string): number[] {
  const pids = quietly("pgrep", "--full", "--", folder).split("\n").filter(Boolean).map(Number);
  return pids.filter((pid) => pid !== process.pid);
}

/** Innermost first. */
function mountsBelow(folder: string): string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return mounts
    .map((line) => line.split(" ")[1] ?? "")
    .filter((mount) => mount.startsWith(`${folder}/`))
    .sort((a, b) => b.length - a.length);
}

function lastLines(file: string): string {
  return readFileSync(file, "utf8").split("\n").slice(-20).join("\n");
}
