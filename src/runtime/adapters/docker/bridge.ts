import { isIPv4 } from "node:net";
import type Dockerode from "dockerode";
import { RpxError } from "../../../contract/error.ts";
import { sanitizeLine } from "../../../text/sanitize.ts";

/** Longest wait for one answer of the engine: networks are made in a tenth of a second. */
const ENGINE_TIMEOUT_MS = 30_000;

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
  engine: Dockerode,
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
export async function removeBridge(engine: Dockerode, { network, daemonId }: Bridge): Promise<void> {
  const found = await findNetwork(engine, network);
  if (found?.Labels?.[DAEMON_LABEL] !== daemonId) return;
  await limited(engine.getNetwork(found.Id).remove());
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
    return { subnet, gateway: isIPv4(named) ? named : firstAddress(network, Number(bits)) };
  }
  return null;
}

function firstAddress(network: string, bits: number): string {
  const number = network.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - bits);
  const first = number - (number % size) + 1;
  return [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join(".");
}

/** An engine knows no network under a name that it answers 404 for. */
async function findNetwork(engine: Dockerode, name: string): Promise<Dockerode.NetworkInspectInfo | null> {
  try {
    return await limited(engine.getNetwork(name).inspect());
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw unavailable(messageOf(error), error);
  }
}

async function makeAgain(engine: Dockerode, bridge: Bridge, formerSubnet: string | null): Promise<void> {
  if (formerSubnet !== null && (await make(engine, bridge, formerSubnet)) === null) return;
  const fault = await make(engine, bridge, null);
  if (fault !== null) throw unavailable(messageOf(fault), fault);
}

/** Resolves with what the engine said against it. */
async function make(engine: Dockerode, bridge: Bridge, subnet: string | null): Promise<unknown> {
  try {
    const request = {
      Name: bridge.network,
      CheckDuplicate: true,
      Driver: "bridge",
      // Two ways out are two to guard: the internet is reached by IPv4.
      EnableIPv6: false,
      Options: wantedOptions(bridge),
      Labels: { [DAEMON_LABEL]: bridge.daemonId },
      ...(subnet === null ? {} : { IPAM: { Driver: "default", Config: [{ Subnet: subnet }] } }),
    };
    await limited(engine.createNetwork(request));
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

function unavailable(why: string, cause?: unknown): RpxError {
  return new RpxError("unavailable", "there is no network for containers", {
    why,
    hint: "look at: docker network ls; unused ones use up the engine's address ranges: docker network prune",
    cause,
  });
}

/** An engine that hangs is one that does not answer. */
async function limited<T>(answer: Promise<T>): Promise<T> {
  const overdue = AbortSignal.timeout(ENGINE_TIMEOUT_MS);
  const late = Promise.withResolvers<never>();
  const giveUp = () =>
    late.reject(new Error(`the engine has not answered for ${ENGINE_TIMEOUT_MS / 1000} s`));
  overdue.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    overdue.removeEventListener("abort", giveUp);
  }
}

function statusOf(error: unknown): number | null {
  return error instanceof Error && "statusCode" in error ? Number(error.statusCode) : null;
}

function messageOf(error: unknown): string {
  return sanitizeLine(error instanceof Error ? error.message : String(error));
}
