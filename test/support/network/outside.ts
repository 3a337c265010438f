/**
 * A world around this machine for tests of what containers reach: a network namespace that plays everything beyond it, behind a pair of
 * virtual cables. As root on Linux. All tests of one machine share the names and addresses, so one at a time has them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

const FIXTURES = fileURLToPath(new URL("../../fixtures/e2e", import.meta.url));
const LOCK = "\0rpx-test-network";
const LOCK_LIMIT_MS = 540_000;
const POLL_MS = 100;
const TOOL_LIMIT_MS = 30_000;
/** Interfaces' names: 15 characters at most. */
const HERE = "rpxt-here";
const THERE = "rpxt-there";

/** Addresses of documentation ranges, and some that must be refused, where nobody else has them. */
export const ADDRESSES = {
  /** The near end of the cable: this machine's own. */
  here: { v4: "198.51.100.1", v6: "2001:db8:7e57::1" },
  /** The internet. */
  internet: "198.51.100.2",
  /** A machine of a private network two hops away. */
  privateNetwork: "10.77.77.9",
  linkLocalThere: "169.254.77.9",
  alibabaMetadata: "100.100.100.200",
  /** Link-local addresses of this machine itself, as a metadata proxy has them. */
  linkLocalHere: "169.254.77.7",
  awsMetadataV6: "fd00:ec2::254",
} as const;

export type Outside = {
  /** Starts a program beyond this machine, or on it; resolves when it says that it listens. It is ended with the world. */
  serve(where: "here" | "there", file: string, args: readonly string[]): Promise<void>;
  close(): Promise<void>;
};

/**
 * Builds the world in this machine's network, or in another network namespace.
 *
 * @param inside a command to put before others so that they run there: `nsenter --net=...`
 */
export async function createOutside(options: {
  readonly namespace: string;
  readonly inside: readonly string[];
  readonly metadata: readonly string[];
}): Promise<Outside> {
  const { namespace, inside, metadata } = options;
  const children: ChildProcess[] = [];
  const here = (...args: string[]) => tool([...inside, ...args]);
  const there = (...args: string[]) => tool(["nsenter", `--net=/run/netns/${namespace}`, ...args]);
  const remove = async (): Promise<void> => {
    await tool(["ip", "netns", "delete", namespace]).catch(() => {});
    await here("ip", "link", "delete", HERE).catch(() => {});
  };
  await remove();
  await tool(["ip", "netns", "add", namespace]);
  await here("ip", "link", "add", HERE, "type", "veth", "peer", "name", THERE);
  await here("ip", "link", "set", THERE, "netns", `/run/netns/${namespace}`);
  for (const address of [`${ADDRESSES.here.v4}/30`, ...metadata])
    await here("ip", "address", "add", address, "dev", HERE);
  for (const address of [`${ADDRESSES.here.v6}/64`, `${ADDRESSES.awsMetadataV6}/128`])
    await here("ip", "address", "add", address, "dev", HERE, "nodad");
  await here("ip", "link", "set", HERE, "up");
  await there("ip", "link", "set", "lo", "up");
  await there("ip", "link", "set", THERE, "up");
  await there("ip", "address", "add", `${ADDRESSES.internet}/30`, "dev", THERE);
  for (const address of [ADDRESSES.privateNetwork, ADDRESSES.linkLocalThere, ADDRESSES.alibabaMetadata]) {
    await there("ip", "address", "add", `${address}/32`, "dev", "lo");
    await here("ip", "route", "add", `${address}/32`, "via", ADDRESSES.internet);
  }

  return {
    serve: async (where, file, args) => {
      const enter = where === "here" ? inside : ["nsenter", `--net=/run/netns/${namespace}`];
      const program = file.endsWith(".py") ? "python3" : process.execPath;
      const [command = "", ...rest] = [...enter, program, path.join(FIXTURES, file), ...args];
      const child = spawn(command, rest, { stdio: ["ignore", "pipe", "inherit"] });
      children.push(child);
      await listening(child, `${file} ${args.join(" ")}`);
    },
    close: async () => {
      for (const child of children) child.kill("SIGKILL");
      await remove();
    },
  };
}

/** Waits until no other test has the world; it is free again when this process ends. */
export async function holdTheWorld(): Promise<{ close(): void }> {
  const deadlineMs = performance.now() + LOCK_LIMIT_MS;
  for (;;) {
    const server = net.createServer();
    const held = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(LOCK, () => resolve(true));
    });
    if (held) return server;
    if (performance.now() > deadlineMs) throw new Error("another test has held the network for too long");
    await sleep(POLL_MS);
  }
}

/** What this machine lacks for such tests, in words; null when all is here. */
export function outsideMissing(): string | null {
  if (process.platform !== "linux") return "Linux";
  if (process.getuid?.() !== 0) return "root";
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const missing = ["docker", "ip", "iptables", "ip6tables", "nsenter", "python3"].filter(
    (program) => !folders.some((folder) => existsSync(path.join(folder, program))),
  );
  return missing.length === 0 ? null : missing.join(", ");
}

export async function tool(command: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const [file = "", ...args] = command;
  return (await execa(file, args, { timeout: TOOL_LIMIT_MS, env })).stdout;
}

/** Each of the fixtures says "listening" once for each address that it serves. */
async function listening(child: ChildProcess, what: string): Promise<void> {
  const wanted = what.startsWith("banner") ? 2 * (what.split(" ").length - 1) : 1;
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on("data", (chunk) => {
      said += String(chunk);
      if (said.split("listening").length > wanted) resolve();
    });
    child.once("exit", () => reject(new Error(`${what} ended: ${said}`)));
  });
}
