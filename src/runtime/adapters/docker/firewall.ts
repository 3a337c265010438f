import { existsSync } from "node:fs";
import { execa } from "execa";
import { sanitizeLine } from "../../../text/sanitize.ts";
import {
  chainRules,
  type IpVersion,
  type Openings,
  planRemoval,
  planRules,
  ruleNames,
} from "./firewall-rules.ts";

/** Longest run of one tool: they answer in milliseconds, or wait for another one's lock. */
const TOOL_TIMEOUT_MS = 15_000;
/** How long a tool waits for the lock that all of them share. */
const LOCK_WAIT_SECONDS = "5";
/** A filter table beyond this is nothing that this daemon can look through at each start. */
const MAX_TABLE_BYTES = 16 * 1024 * 1024;
/** Where Debian and its kin keep the tools, out of the PATH of those who are not root. */
const SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin";

const TOOL: Readonly<Record<IpVersion, string>> = { 4: "iptables", 6: "ip6tables" };
/** There only where the kernel speaks IPv6. */
const IPV6_ADDRESSES = "/proc/net/if_inet6";

/** Null: all rules are in force. Else a sentence why not, with what to do. */
export type FirewallFault = string | null;

/** A daemon's rules on this host (T-11, ACC-17). Each call looks at what is there and changes only what is missing. */
export type Firewall = {
  /** Makes the rules what they should be. Never rejects: rules that cannot be had are a lesser isolation, not an end. */
  ensure(openings: Openings): Promise<FirewallFault>;
  /** Takes this daemon's rules away, and nobody else's. */
  remove(): Promise<FirewallFault>;
};

/** One ended run. `exitCode` is null where there was nothing to run, or it was ended. */
type Ran = { readonly exitCode: number | null; readonly stdout: string; readonly fault: string };

export function createFirewall({ daemonId }: { readonly daemonId: string }): Firewall {
  const names = ruleNames(daemonId);

  return {
    ensure: (openings) =>
      onEach((version) => {
        const rules = chainRules(names, version, version === 4 ? openings : null);
        return change(version, (saved) => planRules(saved, names, rules));
      }),
    remove: () => onEach((version) => change(version, (saved) => planRemoval(saved, names))),
  };
}

/** Both tables at once: they are apart, and most of the time is that of starting a tool. */
async function onEach(act: (version: IpVersion) => Promise<FirewallFault>): Promise<FirewallFault> {
  const versions: readonly IpVersion[] = existsSync(IPV6_ADDRESSES) ? [4, 6] : [4];
  const faults = await Promise.all(versions.map(act));
  return faults.find((fault) => fault !== null) ?? null;
}

async function change(version: IpVersion, plan: (saved: string) => string | null): Promise<FirewallFault> {
  const saved = await run(TOOL[version], ["-w", LOCK_WAIT_SECONDS, "-S"], "");
  if (saved.exitCode !== 0) return explained(TOOL[version], saved);
  const wanted = plan(saved.stdout);
  if (wanted === null) return null;
  const restored = await run(`${TOOL[version]}-restore`, ["-w", LOCK_WAIT_SECONDS, "--noflush"], wanted);
  return restored.exitCode === 0 ? null : explained(`${TOOL[version]}-restore`, restored);
}

async function run(file: string, args: readonly string[], input: string): Promise<Ran> {
  const result = await execa(file, args, {
    input,
    env: { PATH: `${process.env.PATH ?? ""}:${SYSTEM_PATH}`, LC_ALL: "C" },
    extendEnv: false,
    reject: false,
    timeout: TOOL_TIMEOUT_MS,
    maxBuffer: MAX_TABLE_BYTES,
  });
  const fault =
    result.code === "ENOENT"
      ? `there is no ${file} on this machine: apt install iptables, or what your system calls it`
      : lastLine(result.stderr || result.shortMessage || "it failed");
  const complete = result.exitCode !== undefined && !result.isMaxBuffer && !result.timedOut;
  return { exitCode: complete ? (result.exitCode ?? null) : null, stdout: result.stdout, fault };
}

function explained(tool: string, { exitCode, fault }: Ran): string {
  if (exitCode !== null && process.geteuid?.() !== 0)
    return `firewall rules on this machine need root: sudo rpx serve (${tool}: ${fault})`;
  return exitCode === null ? fault : `${tool} failed: ${fault}`;
}

function lastLine(text: string): string {
  return sanitizeLine(text.trim().split("\n").at(-1) ?? "");
}
