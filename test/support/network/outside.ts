/**
 * A world around this machine for tests of what containers reach: a network namespace that plays everything beyond it, behind a pair of
 * virtual cables. As root on Linux. The near end has one name and one set of addresses: a test that takes this machine's own network holds
 * it alone (`holdTheWorld`). All of it ends with this process, however that ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

const FIXTURES = fileURLToPath(new URL("../../fixtures/e2e", import.meta.url));
const LOCK = "\0rpx-test-network";
const LOCK_LIMIT_MS = 540_000;
const POLL_MS = 100;
const POLLS = 100;
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
 * @param inside a command to put before others so that they run there: `nsenter --net=...`; empty for this machine's
 * @param more addresses that the near end has beside those of {@link ADDRESSES}, as `address/bits`
 */
export async function createOutside(inside: readonly string[], more: readonly string[]): Promise<Outside> {
  const children: ChildProcess[] = [];
  const start = (command: readonly string[]): ChildProcess => {
    const [file = "", ...args] = command;
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
    children.push(child);
    return child;
  };
  // Ends with its stdin, and the namespace, and with that the cable, with whatever is the last in it.
  const holder = start(["unshare", "--net", "cat"]);
  await hasOwnNetwork(holder);
  const enter = ["nsenter", `--target=${holder.pid}`, "--net"];
  const here = (...args: string[]) => tool([...inside, "ip", ...args]);
  const there = (...args: string[]) => tool([...enter, "ip", ...args]);
  await here("link", "add", HERE, "type", "veth", "peer", "name", THERE);
  await here("link", "set", THERE, "netns", String(holder.pid));
  for (const address of [`${ADDRESSES.here.v4}/30`, ...more])
    await here("address", "add", address, "dev", HERE);
  for (const address of [`${ADDRESSES.here.v6}/64`, `${ADDRESSES.awsMetadataV6}/128`])
    await here("address", "add", address, "dev", HERE, "nodad");
  await here("link", "set", HERE, "up");
  await there("link", "set", "lo", "up");
  await there("link", "set", THERE, "up");
  await there("address", "add", `${ADDRESSES.internet}/30`, "dev", THERE);
  for (const address of [ADDRESSES.privateNetwork, ADDRESSES.linkLocalThere, ADDRESSES.alibabaMetadata]) {
    await there("address", "add", `${address}/32`, "dev", "lo");
    await here("route", "add", `${address}/32`, "via", ADDRESSES.internet);
  }

  return {
    serve: async (where, file, args) => {
      const program = file.endsWith(".py") ? "python3" : process.execPath;
      const command = [...(where === "here" ? inside : enter), program, path.join(FIXTURES, file), ...args];
      await listening(start(command), `${file} ${args.join(" ")}`);
    },
    close: async () => {
      await here("link", "delete", HERE).catch(() => {});
      for (const child of children) child.kill("SIGKILL");
    },
  };
}

/** Waits until a process has left this one's network namespace. */
async function hasOwnNetwork(child: ChildProcess): Promise<void> {
  for (let polls = 0; polls < POLLS; polls += 1) {
    if (readlinkSync(`/proc/${child.pid}/ns/net`) !== readlinkSync("/proc/self/ns/net")) return;
    await sleep(POLL_MS);
  }
  throw new Error("no network namespace could be made");
}

/** Waits until no other test has this machine's network; it is free again when this process ends. */
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
  const missing = ["docker", "ip", "iptables", "ip6tables", "nsenter", "python3", "unshare"].filter(
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
