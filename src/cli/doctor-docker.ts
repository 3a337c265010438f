import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Check } from "./doctor-check.ts";

const DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock";
/** Longest wait in ms for any one answer. */
const PATIENCE_MS = 2_000;
/** An engine's answer about itself has some kB; more is none of an engine. */
const MAX_ANSWER_BYTES = 1_000_000;
/** Where Debian and its kin keep the firewall's tools, out of the PATH of those who are not root. */
const SYSTEM_FOLDERS = ["/usr/sbin", "/sbin", "/usr/local/sbin"] as const;
/** There only where the kernel speaks IPv6. */
const IPV6_ADDRESSES = "/proc/net/if_inet6";
/** Storage drivers that hold a container to a size by themselves. */
const SIZED_DRIVERS: readonly string[] = ["btrfs", "zfs", "devicemapper"];

const FAILURES: Readonly<Record<string, readonly [detail: string, hint: string]>> = {
  ENOENT: ["there is no engine", "workers run as processes of this user, not isolated"],
  ECONNREFUSED: ["the engine does not run", "start it: systemctl start docker"],
  EACCES: ["no permission on its socket", "add this user to the group docker, then log in again"],
};

/** What this machine is, as far as isolation depends on it. */
export type Machine = {
  readonly isLinux: boolean;
  readonly isRoot: boolean;
  /** Tools of the firewall that are missing. */
  readonly missingTools: readonly string[];
  /** /proc/self/mounts, or empty. */
  readonly mounts: string;
};

/** The pools of a daemon that this user would start: the engine, what it can hold workers to, and what processes are. */
export async function checkPools(env: NodeJS.ProcessEnv): Promise<Check[]> {
  const processes: Check = {
    name: "process pool",
    state: "note",
    detail: "always there; its workers are processes of this user, not isolated and without limits",
  };
  return [...(await checkDocker(env)), processes];
}

async function checkDocker(env: NodeJS.ProcessEnv): Promise<Check[]> {
  const host = env.DOCKER_HOST || DEFAULT_DOCKER_HOST;
  if (!host.startsWith("unix://"))
    return [{ name: "docker", state: "note", detail: `${host}: only a local socket is looked at` }];
  const socketPath = host.slice("unix://".length);
  const ping = await ask(socketPath, "/_ping");
  if ("failure" in ping) {
    const [detail, hint] = FAILURES[ping.failure] ?? [ping.failure, "docker info says more"];
    return [{ name: "docker", state: "note", detail: `${socketPath}: ${detail}`, hint }];
  }
  const [version, info] = await Promise.all([ask(socketPath, "/version"), ask(socketPath, "/info")]);
  return engineChecks(socketPath, { version: toJson(version), info: toJson(info) }, thisMachine(env));
}

type Answer = { readonly text: string } | { readonly failure: string };

/** One GET of the engine: its text, or an error code or sentence. */
function ask(socketPath: string, path: string): Promise<Answer> {
  const { request } = process.getBuiltinModule("node:http");
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const fail = (error: NodeJS.ErrnoException): void =>
      resolve({ failure: signal.aborted ? "it does not answer" : (error.code ?? error.message) });
    const call = request({ socketPath, path, signal }, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on("data", (part: Buffer) => {
        bytes += part.length;
        if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error("its answer is too large"));
        parts.push(part);
      });
      response.on("error", fail);
      response.on("end", () =>
        resolve(
          response.statusCode === 200
            ? { text: Buffer.concat(parts).toString("utf8") }
            : { failure: `it answers ${response.statusCode}` },
        ),
      );
    });
    call.on("error", fail);
    call.end();
  });
}

function toJson(answer: Answer): Fields {
  try {
    return "text" in answer ? fields(JSON.parse(answer.text)) : {};
  } catch {
    return {};
  }
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** What an engine's answers to /version and /info come to on a machine. */
export function engineChecks(
  socketPath: string,
  { version, info }: { readonly version: Fields; readonly info: Fields },
  machine: Machine,
): Check[] {
  return [
    {
      name: "docker",
      state: "ok",
      detail: [
        `${text(version.Version) || "unknown version"} at ${socketPath}${partsText(version)}`,
        storageText(info),
        `cgroup v${text(info.CgroupVersion) || "1"}`,
      ].join(", "),
    },
    isolationCheck(info, machine),
    diskCheck(info, machine),
  ];
}

/** containerd and runc, where the engine tells. */
function partsText(version: Fields): string {
  const parts = list(version.Components)
    .map(fields)
    .filter(({ Name }) => Name === "containerd" || Name === "runc")
    .map(({ Name, Version }) => `${text(Name)} ${text(Version)}`);
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

function storageText(info: Fields): string {
  const driver = text(info.Driver) || "unknown storage";
  const below = backingFileSystem(info);
  return below === "" ? driver : `${driver} on ${below}`;
}

function backingFileSystem(info: Fields): string {
  const row = list(info.DriverStatus)
    .map(list)
    .find(([name]) => name === "Backing Filesystem");
  return text(row?.[1]);
}

/** How far workers of a daemon that this user starts would be kept from this machine and from each other. */
function isolationCheck(info: Fields, machine: Machine): Check {
  const obstacle = isolationObstacle(info, machine);
  if (obstacle === null) {
    const detail = "full: containers reach the internet and the worker port, nothing else of this machine";
    return { name: "isolation", state: "ok", detail };
  }
  const [why, hint] = obstacle;
  return { name: "isolation", state: "note", detail: `partial: ${why}`, hint };
}

function isolationObstacle(info: Fields, machine: Machine): readonly [why: string, hint: string] | null {
  const isRootless = list(info.SecurityOptions).some((option) => text(option).includes("rootless"));
  if (!machine.isLinux || isRootless)
    return [
      `the engine runs ${isRootless ? "without root" : "in a machine of its own"}, where no firewall rule of ours reaches`,
      "an engine with root on Linux gives full isolation",
    ];
  if (info.BridgeNfIptables === false)
    return [
      "the packet filter does not see what passes between containers",
      "sysctl -w net.bridge.bridge-nf-call-iptables=1",
    ];
  if (!machine.isRoot)
    return [
      "firewall rules need root; containers reach other ports of this machine",
      "run rpx serve as root",
    ];
  const [missing] = machine.missingTools;
  if (missing === undefined) return null;
  return [`there is no ${missing}; containers reach other ports of this machine`, "apt install iptables"];
}

/** Whether the engine holds a container to its disk limit, or the daemon measures it from time to time. */
function diskCheck(info: Fields, { mounts }: Machine): Check {
  const driver = text(info.Driver);
  const isSized = SIZED_DRIVERS.includes(driver) || (driver === "overlay2" && hasQuotas(info, mounts));
  if (isSized)
    return { name: "disk limits", state: "ok", detail: `held by the engine (${storageText(info)})` };
  return {
    name: "disk limits",
    state: "note",
    detail: `watched: ${storageText(info)} cannot hold containers to a size; one over its limit is ended`,
    hint: "overlay2 on xfs mounted with pquota has limits",
  };
}

/** overlay2 limits sizes on xfs with project quotas alone, which the engine does not say: the mount does. */
function hasQuotas(info: Fields, mounts: string): boolean {
  if (backingFileSystem(info).toLowerCase() !== "xfs") return false;
  const root = text(info.DockerRootDir);
  const found = mounts
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, at = ""]) => at === root || root.startsWith(at.endsWith("/") ? at : `${at}/`))
    .sort((a, b) => (b[1]?.length ?? 0) - (a[1]?.length ?? 0));
  return /(?:^|,)(?:prjquota|pquota)(?:,|$)/.test(found[0]?.[3] ?? "");
}

function thisMachine(env: NodeJS.ProcessEnv): Machine {
  const tools = ["iptables", ...(existsSync(IPV6_ADDRESSES) ? ["ip6tables"] : [])];
  const folders = [...(env.PATH ?? "").split(delimiter), ...SYSTEM_FOLDERS];
  return {
    isLinux: process.platform === "linux",
    isRoot: process.getuid?.() === 0,
    missingTools: tools.filter((tool) => !folders.some((folder) => isExecutable(join(folder, tool)))),
    mounts: existsSync("/proc/self/mounts") ? readFileSync("/proc/self/mounts", "utf8") : "",
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
