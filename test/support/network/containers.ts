/** Containers that tests look out of. All carry one label and are removed by it. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PYTHON_IMAGE } from "../engine/engine.ts";
import { tool } from "./outside.ts";

const LABEL = "rpx.test.network";
const POLL_MS = 50;
const POLLS = 200;
/** The engine's resolver answers in milliseconds, or waits for a server that never does. */
const RESOLVE_LIMIT_S = "5";
const SCRIPT = readFileSync(new URL("../../fixtures/e2e/reach.py", import.meta.url), "utf8");
/** What every container serves, as a neighbour. */
export const NEIGHBOUR_PORT = 8080;
const SERVE = `
import socket
server = socket.create_server(("", ${NEIGHBOUR_PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"reached\\n")
    connection.close()
`;

export type Place = readonly [name: string, address: string, port: number];

export type TestContainer = {
  readonly name: string;
  readonly v4: string;
  /** With its scope inside a container: `fe80::1%eth0`. */
  readonly linkLocalV6: string;
  readonly v6: string;
  /** The places that answered. */
  reach(places: readonly Place[]): Promise<readonly string[]>;
  resolve(hostname: string): Promise<string>;
  remove(): Promise<void>;
};

/** Containers of the engine at `host` (a DOCKER_HOST; absent: this machine's). */
export function createContainers(host?: string) {
  const env = host === undefined ? {} : { DOCKER_HOST: host };
  const docker = (...args: string[]) => tool(["docker", ...args], env);

  async function create(name: string, network: string, ...more: string[]): Promise<TestContainer> {
    // IPv6 as a container has it whose network does not: none but link-local addresses.
    const ipv6 = ["all", "default"].map((one) => `--sysctl=net.ipv6.conf.${one}.disable_ipv6=0`);
    const flags = ["--detach", "--name", name, "--network", network, "--label", LABEL, "--init", ...ipv6];
    await docker("run", ...flags, ...more, PYTHON_IMAGE, "python3", "-c", SERVE);
    const addresses = await settledAddresses(name);
    const reach = async (places: readonly Place[]): Promise<readonly string[]> =>
      JSON.parse(await docker("exec", name, "python3", "-c", SCRIPT, JSON.stringify(places)));
    await answering(reach);
    return {
      name,
      v4: (
        await docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
      ).trim(),
      v6: addresses.find((address) => !address.startsWith("fe80")) ?? "",
      linkLocalV6: `${addresses.find((address) => address.startsWith("fe80"))}%eth0`,
      reach,
      resolve: (hostname) =>
        docker(
          "exec",
          name,
          "timeout",
          RESOLVE_LIMIT_S,
          "python3",
          "-c",
          `import socket; print(socket.gethostbyname("${hostname}"))`,
        ),
      remove: async () => void (await docker("rm", "--force", "--volumes", name)),
    };
  }

  async function answering(reach: TestContainer["reach"]): Promise<void> {
    for (let polls = 0; polls < POLLS; polls += 1) {
      if ((await reach([["itself", "127.0.0.1", NEIGHBOUR_PORT]])).length > 0) return;
      await sleep(POLL_MS);
    }
    throw new Error("a container's own server does not come up");
  }

  /** IPv6 addresses that may be used: a new one is tried out for about 1 s. */
  async function settledAddresses(name: string): Promise<readonly string[]> {
    for (let polls = 0; polls < POLLS; polls += 1) {
      // address, interface index, bits, scope, flags (0x40: tentative), interface
      const rows = (await docker("exec", name, "cat", "/proc/net/if_inet6"))
        .split("\n")
        .map((row) => row.split(/\s+/));
      const own = rows.filter((row) => row[5] === "eth0");
      if (own.length > 0 && own.every((row) => (Number.parseInt(row[4] ?? "", 16) & 0x40) === 0))
        return own.map((row) => (row[0] ?? "").replace(/(.{4})(?=.)/g, "$1:"));
      await sleep(POLL_MS);
    }
    throw new Error(`${name} has no IPv6 address that works`);
  }

  async function removeAll(): Promise<void> {
    const ids = (await docker("ps", "--all", "--quiet", "--filter", `label=${LABEL}`))
      .split("\n")
      .filter(Boolean);
    if (ids.length > 0) await docker("rm", "--force", "--volumes", ...ids);
  }

  return { create, removeAll, docker };
}

/** The link-local address of an interface of this machine, once it works. `inside` as in outside.ts. */
export async function linkLocalOf(interfaceName: string, inside: readonly string[]): Promise<string> {
  for (let polls = 0; polls < POLLS; polls += 1) {
    const rows = await tool([
      ...inside,
      "ip",
      "-6",
      "-o",
      "address",
      "show",
      "dev",
      interfaceName,
      "scope",
      "link",
      "-tentative",
    ]);
    const address = /inet6 (fe80:[0-9a-f:]+)/.exec(rows)?.[1];
    if (address !== undefined) return address;
    await sleep(POLL_MS);
  }
  throw new Error(`${interfaceName} has no link-local address that works`);
}
