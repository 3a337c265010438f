import { lookup } from "node:dns/promises";
import { existsSync, readFileSync } from "node:fs";
import { RpxError } from "../../../contract/error.ts";
import type { Isolation, WorkerAddress } from "../../ports/worker-pool.ts";
import { type Bridge, ensureBridge, type NetworkEngine, removeBridge } from "./bridge.ts";
import type { Engine } from "./engine.ts";
import { createFirewall } from "./firewall.ts";
import { type Openings, ruleNames, spelledNetwork } from "./firewall-rules.ts";
import { readNameServers } from "./name-servers.ts";
import { HOST_ALIAS, type WorkerNetwork } from "./network-port.ts";

/** One entry for each interface of this network namespace. */
const INTERFACES = "/proc/sys/net/ipv4/conf";
/** "1": what passes between two ports of a bridge is shown to the packet filter, which `enable_icc=false` rests on. */
const BRIDGE_FILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables";

export type DockerNetworkOptions = {
  readonly engine: NetworkEngine & Pick<Engine, "isSocket" | "facts">;
  /** The data directory's id. */
  readonly daemonId: string;
  /** Port of the worker listener on this host. Asked at each look, because port 0 is known late. */
  readonly workerPort: () => number;
  /** What containers are told instead of an address found here (`--worker-url`), or null. */
  readonly workerUrl: URL | null;
  /** Private networks beyond this host that workers may reach, as `address/bits` (IPv4). */
  readonly openNetworks: readonly string[];
};

/** The network of a daemon's containers, as its pool and its end need it. */
export type DockerNetwork = WorkerNetwork & {
  /**
   * Takes network and rules away. Not at a daemon's end, because its containers outlive it: when the data directory is given up.
   * Rejects while containers are on the network.
   */
  remove(): Promise<void>;
};

type Seen = { readonly address: WorkerAddress; readonly isolation: Isolation };

const NOT_YET: Isolation = { level: "none", reason: "the network of its workers is not there yet" };

/**
 * One bridge for all of a daemon's containers (D5): thirty bridges use up an engine's address ranges. Throws with `usage` where an opened
 * network is none.
 */
export function createDockerNetwork(options: DockerNetworkOptions): DockerNetwork {
  const { engine, daemonId } = options;
  const network = `rpx-${daemonId}`;
  const bridge: Bridge = { network, interface: ruleNames(daemonId).bridge, daemonId };
  const firewall = createFirewall({ daemonId });
  const openNetworks = options.openNetworks.map(checkedNetwork);
  const listeners = new Set<() => void>();
  let subnet: string | null = null;
  let seen: Seen | null = null;
  let looking: Promise<void> | null = null;

  async function look(): Promise<void> {
    const found = await ensureBridge(engine, bridge, subnet);
    subnet = found.subnet;
    note(isHere(options, bridge) ? await guarded(found.gateway) : elsewhere(options));
  }

  async function guarded(gateway: string): Promise<Seen> {
    const { workerUrl, workerPort } = options;
    const openings: Openings = {
      listener: workerUrl === null ? { address: gateway, port: workerPort() } : await listenerOf(workerUrl),
      resolvers: await readNameServers(),
      networks: openNetworks,
    };
    const isolation = judge(await firewall.ensure(openings), openNetworks);
    const address = workerUrl === null ? { listenHost: gateway, urlHost: gateway } : overridden(workerUrl);
    return { address, isolation };
  }

  function note(now: Seen): void {
    const changed = JSON.stringify(now) !== JSON.stringify(seen);
    seen = now;
    if (changed) for (const listener of listeners) listener();
  }

  return {
    name: network,
    // One look for all who ask while it lasts.
    ensure: () => {
      looking ??= look().finally(() => {
        looking = null;
      });
      return looking;
    },
    address: () => seen?.address ?? null,
    isolation: () => seen?.isolation ?? NOT_YET,
    // No rule names a container's address: all are about the bridge.
    onContainerStarted: async () => {},
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    remove: async () => {
      await removeBridge(engine, bridge);
      const fault = await firewall.remove();
      if (fault !== null)
        throw new RpxError("unavailable", "the firewall rules of workers are still there", { why: fault });
    },
  };
}

function checkedNetwork(text: string): string {
  const network = spelledNetwork(text);
  if (network !== null) return network;
  throw new RpxError("usage", `not a network that workers can be let into: ${text}`, {
    hint: "write an IPv4 network like 192.168.7.0/24",
  });
}

/**
 * Whether the bridge is an interface of this machine, where rules bite and a listener can stand. A virtual machine's (Docker Desktop)
 * and a rootless engine's are not, though their socket is here; an engine over TCP may happen to use the same addresses.
 */
function isHere({ engine }: DockerNetworkOptions, bridge: Bridge): boolean {
  return process.platform === "linux" && engine.isSocket && existsSync(`${INTERFACES}/${bridge.interface}`);
}

function elsewhere({ engine, workerUrl }: DockerNetworkOptions): Seen {
  const facts = engine.facts();
  const where = facts?.isRootless
    ? "without root"
    : `elsewhere (${facts?.operatingSystem || "unknown system"})`;
  const reason = `workers cannot reach each other, but nothing keeps them from the machine that they are on: the engine runs ${where}`;
  const address = workerUrl === null ? { listenHost: null, urlHost: HOST_ALIAS } : overridden(workerUrl);
  return { address, isolation: { level: "partial", reason } };
}

function overridden({ hostname }: URL): WorkerAddress {
  return { listenHost: null, urlHost: hostname };
}

/** Rejects with `usage` where this host cannot tell the address of the URL: no rule could open it. */
async function listenerOf(workerUrl: URL): Promise<Openings["listener"]> {
  const address = await ipv4Of(workerUrl.hostname);
  if (address !== null)
    return { address, port: Number(workerUrl.port || (workerUrl.protocol === "https:" ? 443 : 80)) };
  throw new RpxError("usage", `workers cannot find ${workerUrl.host}`, {
    why: "--worker-url names a host without an IPv4 address",
    hint: "name it by an address of this machine that containers reach",
  });
}

async function ipv4Of(hostname: string): Promise<string | null> {
  // An IPv6 address, which `lookup` would hand back whatever it was asked for.
  if (hostname.startsWith("[")) return null;
  return lookup(hostname, { family: 4 }).then(
    ({ address }) => address,
    () => null,
  );
}

function judge(fault: string | null, openNetworks: readonly string[]): Isolation {
  const partial = (reason: string): Isolation => ({ level: "partial", reason });
  if (!bridgeIsFiltered())
    return partial(
      "workers can reach each other: sysctl -w net.bridge.bridge-nf-call-iptables=1 lets the packet filter see their bridge",
    );
  if (fault !== null)
    return partial(
      `workers cannot reach each other, but other ports of this machine and its networks: ${fault}`,
    );
  const opened = openNetworks.length === 0 ? "" : `, ${openNetworks.join(", ")}`;
  return {
    level: "full",
    reason: `workers reach the internet${opened} and the worker port; nothing else of this machine, its networks or each other`,
  };
}

function bridgeIsFiltered(): boolean {
  try {
    return readFileSync(BRIDGE_FILTER, "utf8").trim() === "1";
  } catch {
    return false;
  }
}
