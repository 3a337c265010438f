import { readFile } from "node:fs/promises";
import { isIPv4 } from "node:net";

/** The host's, and the one with systemd-resolved's own servers: the engine reads that where the first names only 127.0.0.53. */
const FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/** Servers of one file that the engine asks. */
const MAX_SERVERS_PER_FILE = 3;

/**
 * The name servers that containers must reach for names to resolve. The engine's resolver (127.0.0.11 in each container) asks the
 * host's servers from inside the container's network, those on the host's loopback from the host: tried with engine 20.10. So the
 * former need an opening and the latter none. IPv6 ones are no use to containers without IPv6, and the engine skips them.
 */
export async function readNameServers(): Promise<readonly string[]> {
  const texts = await Promise.all(FILES.map((file) => readFile(file, "utf8").catch(() => "")));
  return [...new Set(texts.flatMap(nameServers))].sort();
}

/** The IPv4 servers beyond loopback of one resolv.conf. */
export function nameServers(text: string): readonly string[] {
  const servers = text.split("\n").flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
  return servers
    .slice(0, MAX_SERVERS_PER_FILE)
    .filter((address) => isIPv4(address) && !address.startsWith("127."));
}
