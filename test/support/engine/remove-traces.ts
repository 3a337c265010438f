/** What a daemon leaves on the tests' engine and in this machine's packet filter, found by its id and taken away. */
import { createDockerNetwork } from "../../../src/runtime/adapters/docker/network.ts";
import { dockerCommand } from "./engine.ts";
import { openEngine } from "./open.ts";

/** Removes containers, images, network and firewall rules of a daemon that has ended, and nobody else's. */
export async function removeTraces(daemonId: string): Promise<void> {
  const label = `rpx.daemon=${daemonId}`;
  const containers = idsOf(dockerCommand("ps", "-aq", "--no-trunc", `--filter=label=${label}`));
  if (containers.length > 0) dockerCommand("rm", "-f", "-v", ...containers);
  const images = idsOf(dockerCommand("images", "-q", "--no-trunc", `--filter=label=${label}`));
  if (images.length > 0) dockerCommand("rmi", "-f", ...images);
  const engine = await openEngine(label);
  try {
    const options = { engine, daemonId, workerPort: () => 0, workerUrl: null, openNetworks: [] };
    await createDockerNetwork(options).remove();
  } finally {
    await engine.close();
  }
}

function idsOf(text: string): string[] {
  return [...new Set(text.split("\n").filter((id) => id !== ""))];
}
