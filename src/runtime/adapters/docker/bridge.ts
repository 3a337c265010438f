import { isIPv4 } from "node:net";
import type Dockerode from "dockerode";
import { RpxError } from "../../../contract/error.ts";
import type { Engine } from "./engine.ts";
import { EngineRefusal, refusalOf } from "./engine-errors.ts";
import { ipv4Text, networkStart } from "./ipv4.ts";

/** The part of an engine's connection that makes networks. */
export type NetworkEngine = Pick<Engine, "ask" | "docker">;

const BRIDGE_NAME = "com.docker.network.bridge.name";
const BETWEEN_CONTAINERS = "com.docker.network.bridge.enable_icc";
const DAEMON_LABEL = "rpx.daemon";

export type Bridge = {
  /** Of the engine's network. */
  readonly network: string;
  /** Of the interface where the engine runs. */
  readonly interface: string;
  readonly daemonId: string;
};

/** Where a bridge ended up. Both are IPv4; the subnet is `address/bits`. */
export type BridgeAddress = { readonly gateway: string; readonly subnet: string };

/**
 * Finds a daemon's network, or makes it: the engine may have lost it, or somebody removed it. Made again, it gets its old subnet where
 * that is still free, so that the listener's address stays.
 *
 * Rejects with an RpxError: `conflict` where another network has its name, `unavailable` where the engine cannot make one.
 */
export async function ensureBridge(
  engine: NetworkEngine,
  bridge: Bridge,
  formerSubnet: string | null,
): Promise<BridgeAddress> {
  const found = await findNetwork(engine, bridge.network);
  if (found !== null) return checkedAddress(found, bridge);
  await makeAgain(engine, bridge, formerSubnet);
  const made = await findNetwork(engine, bridge.network);
  if (made === null) throw unavailable("it was removed while it was made");
  return checkedAddress(made, bridge);
}

/** Removes a daemon's network, if it is there. Rejects while containers are on it. */
export async function removeBridge(engine: NetworkEngine, { network, daemonId }: Bridge): Promise<void> {
  const found = await findNetwork(engine, network);
  if (found?.Labels?.[DAEMON_LABEL] !== daemonId) return;
  await engine.ask(() => engine.docker.getNetwork(found.Id).remove());
}

/**
 * The gateway of the first IPv4 subnet. Engine 20.10 leaves it out of networks that it read back from its store, and may print it with
 * the subnet's bits: it is the subnet's first address then. Null where there is no IPv4 subnet.
 */
export function addressOf(ipam: Dockerode.NetworkInspectInfo["IPAM"]): BridgeAddress | null {
  for (const { Subnet: subnet, Gateway: gateway } of ipam?.Config ?? []) {
    const [network = "", bits = ""] = (subnet ?? "").split("/");
    if (subnet === undefined || !isIPv4(network) || !/^\d+$/.test(bits)) continue;
    const named = gateway?.split("/")[0] ?? "";
    return { subnet, gateway: isIPv4(named) ? named : ipv4Text(networkStart(network, Number(bits)) + 1) };
  }
  return null;
}

async function findNetwork(
  engine: NetworkEngine,
  name: string,
): Promise<Dockerode.NetworkInspectInfo | null> {
  try {
    return await engine.ask(() => engine.docker.getNetwork(name).inspect(), { repeat: true });
  } catch (error) {
    if (refusalOf(error) === 404) return null;
    throw explained(error);
  }
}

async function makeAgain(engine: NetworkEngine, bridge: Bridge, formerSubnet: string | null): Promise<void> {
  if (formerSubnet !== null && (await make(engine, bridge, formerSubnet)) === null) return;
  const fault = await make(engine, bridge, null);
  if (fault !== null) throw explained(fault);
}

/** Resolves with what the engine said against it. */
async function make(engine: NetworkEngine, bridge: Bridge, subnet: string | null): Promise<unknown> {
  const request: Dockerode.NetworkCreateOptions = {
    Name: bridge.network,
    CheckDuplicate: true,
    Driver: "bridge",
    // Two ways out are two to guard: the internet is reached by IPv4.
    EnableIPv6: false,
    Options: wantedOptions(bridge),
    Labels: { [DAEMON_LABEL]: bridge.daemonId },
    ...(subnet === null ? {} : { IPAM: { Driver: "default", Config: [{ Subnet: subnet }] } }),
  };
  try {
    await engine.ask(() => engine.docker.createNetwork(request));
    return null;
  } catch (error) {
    return error;
  }
}

function wantedOptions(bridge: Bridge): Record<string, string> {
  return { [BRIDGE_NAME]: bridge.interface, [BETWEEN_CONTAINERS]: "false" };
}

/** A network of the right name that holds nobody apart is worse than none. */
function checkedAddress(found: Dockerode.NetworkInspectInfo, bridge: Bridge): BridgeAddress {
  const wanted = Object.entries(wantedOptions(bridge));
  const ours =
    found.Labels?.[DAEMON_LABEL] === bridge.daemonId &&
    found.Driver === "bridge" &&
    !found.Internal &&
    !found.EnableIPv6 &&
    wanted.every(([name, value]) => found.Options?.[name] === value);
  if (!ours)
    throw new RpxError("conflict", `the container network ${bridge.network} is not as this daemon makes it`, {
      why: "a network of that name was made by hand, or changed",
      hint: `docker network rm ${bridge.network}`,
    });
  const address = addressOf(found.IPAM);
  if (address === null) throw unavailable(`${bridge.network} has no IPv4 subnet`);
  return address;
}

/** A refusal with what may be done about it. Silence comes explained already. */
function explained(error: unknown): unknown {
  return error instanceof EngineRefusal ? unavailable(error.message, error) : error;
}

function unavailable(why: string, cause?: unknown): RpxError {
  return new RpxError("unavailable", "there is no network for containers", {
    why,
    hint: "look at: docker network ls; unused ones use up the engine's address ranges: docker network prune",
    cause,
  });
}
