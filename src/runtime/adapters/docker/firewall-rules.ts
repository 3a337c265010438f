import { createHash } from "node:crypto";
import { isIPv4 } from "node:net";
import { ipv4Text, networkStart } from "./ipv4.ts";

/**
 * What the host's packet filter is told about a daemon's bridge, as text for iptables-restore. Pure: firewall.ts reads and writes.
 *
 * Traffic to this host's own addresses, any bridge's gateway included, passes INPUT and never FORWARD (reliability.md, finding 11):
 * both need rules. They match the bridge by the name of its interface, which no address that a container gives itself can change.
 */

/** Hex digits of the daemon's digest in names: an interface's name has 15 characters at most, a chain's 28. */
const TAG_DIGITS = 12;
/** For the jump's place: the first rules of a chain may be other daemons' jumps, which are about other bridges. */
const JUMP_OF_ANY_DAEMON = /^-A \S+ -i rpx[0-9a-f]{12} -j RPX-(?:IN|FWD)-[0-9a-f]{12}$/;

export type RuleNames = {
  /** Interface of the daemon's bridge on this host. */
  readonly bridge: string;
  /** Chain of what its containers send to this host. */
  readonly input: string;
  /** Chain of what its containers send through this host. */
  readonly forward: string;
};

/** Names of a daemon's own, from a digest of its id: ids may be longer, and begin alike. */
export function ruleNames(daemonId: string): RuleNames {
  const tag = createHash("sha256").update(daemonId).digest("hex").slice(0, TAG_DIGITS);
  return { bridge: `rpx${tag}`, input: `RPX-IN-${tag}`, forward: `RPX-FWD-${tag}` };
}

/** What containers may reach beside the internet. Addresses are IPv4: the bridge has no IPv6. */
export type Openings = {
  /** Where they find the worker listener. */
  readonly listener: { readonly address: string; readonly port: number };
  /** Name servers that the engine's resolver asks from inside containers: their port 53 alone. */
  readonly resolvers: readonly string[];
  /** Private networks beyond this host that the user opened, as {@link spelledNetwork} writes them. */
  readonly networks: readonly string[];
};

/**
 * Not the internet. Refused whatever networks this host has: which ones it has changes, and a machine two hops away is as little
 * a worker's business as one beside it.
 */
const PRIVATE_NETWORKS = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  // Carriers' and overlay networks; Alibaba Cloud's metadata (100.100.100.200) with them.
  "100.64.0.0/10",
  "127.0.0.0/8",
  // Link-local: the metadata of AWS, Google, Azure and most others.
  "169.254.0.0/16",
  // Azure's agent on each machine, in a public range.
  "168.63.129.16/32",
  "172.16.0.0/12",
  // Oracle Cloud's metadata.
  "192.0.0.0/24",
  "192.168.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
];

export type IpVersion = 4 | 6;

/** Refused with an answer, so that a program that looks for a metadata service gives up at once. */
const REFUSE: Readonly<Record<IpVersion, string>> = {
  4: "-j REJECT --reject-with icmp-admin-prohibited",
  6: "-j REJECT --reject-with icmp6-adm-prohibited",
};

/** Packets of connections that the other side began: the daemon that asks a worker something. */
const ANSWERS = "-m conntrack --ctstate ESTABLISHED --ctdir REPLY";
const DNS_PROTOCOLS = ["udp", "tcp"] as const;

/**
 * The rules of both chains, in the spelling of `iptables -S`, so that what is there can be compared with what should be. Openings are
 * null for IPv6: the bridge has none, and what comes from it all the same goes nowhere.
 */
export function chainRules(
  names: RuleNames,
  version: IpVersion,
  openings: Openings | null,
): readonly string[] {
  const { input, forward, bridge } = names;
  const refuse = REFUSE[version];
  if (openings === null) return [`-A ${input} ${refuse}`, `-A ${forward} ${refuse}`];
  const { listener, resolvers, networks } = openings;
  const open = [
    `-d ${listener.address}/32 -p tcp -m tcp --dport ${listener.port}`,
    ...resolvers.flatMap((address) =>
      DNS_PROTOCOLS.map((protocol) => `-d ${address}/32 -p ${protocol} -m ${protocol} --dport 53`),
    ),
  ];
  return [
    ...[ANSWERS, ...open].map((match) => `-A ${input} ${match} -j ACCEPT`),
    `-A ${input} ${refuse}`,
    // Other containers on the bridge come first: nothing below may open them.
    `-A ${forward} -o ${bridge} ${refuse}`,
    // Not ACCEPT: the engine's own rules, which hold its bridges apart, are still to be asked.
    ...[ANSWERS, ...open, ...networks.map((network) => `-d ${network}`)].map(
      (match) => `-A ${forward} ${match} -j RETURN`,
    ),
    // A port that a container published on this host, which the engine sends to it under another address than the one called. (With
    // its proxy, which engines have unless told otherwise, such a connection passes INPUT.)
    `-A ${forward} -m conntrack --ctstate DNAT --ctdir ORIGINAL ${refuse}`,
    ...PRIVATE_NETWORKS.map((network) => `-A ${forward} -d ${network} ${refuse}`),
  ];
}

/** An IPv4 network as `iptables -S` prints it: its first address, and its bits. Null for anything else, and for all there is. */
export function spelledNetwork(text: string): string | null {
  const [address = "", bits = "32", ...more] = text.split("/");
  if (!isIPv4(address) || !/^\d{1,2}$/.test(bits) || more.length > 0) return null;
  if (Number(bits) < 1 || Number(bits) > 32) return null;
  return `${ipv4Text(networkStart(address, Number(bits)))}/${Number(bits)}`;
}

/**
 * What makes a filter table what it should be, for `iptables-restore --noflush`: one transaction, so that no packet ever meets half
 * of it. Null where all is in place.
 *
 * @param saved the table as `iptables -S` prints it
 */
export function planRules(saved: string, names: RuleNames, rules: readonly string[]): string | null {
  const lines = saved.split("\n");
  const jumps = ownJumps(lines, names);
  const wanted = [
    { chain: "INPUT", jump: `-i ${names.bridge} -j ${names.input}` },
    { chain: forwardHook(lines), jump: `-i ${names.bridge} -j ${names.forward}` },
  ];
  const inPlace =
    sameLines(ownRules(lines, names), rules) &&
    jumps.length === wanted.length &&
    wanted.every(({ chain, jump }) => standsFirst(lines, chain, jump));
  if (inPlace) return null;
  return transaction([
    ...declared(names),
    ...rules,
    ...jumps.map(asDeletion),
    ...wanted.map(({ chain, jump }) => `-I ${chain} 1 ${jump}`),
  ]);
}

/** What takes a daemon's rules out of a filter table again. Null where there are none. */
export function planRemoval(saved: string, names: RuleNames): string | null {
  const lines = saved.split("\n");
  const chains = ownChains(names).filter((chain) => lines.includes(`-N ${chain}`));
  if (chains.length === 0) return null;
  return transaction([
    ...ownJumps(lines, names).map(asDeletion),
    ...chains.map((chain) => `-F ${chain}`),
    ...chains.map((chain) => `-X ${chain}`),
  ]);
}

/**
 * Where traffic through this host is looked at first. The engine keeps DOCKER-USER before its own rules and never changes what is in
 * it, but after somebody flushed FORWARD nothing leads there until the engine restarts.
 */
function forwardHook(lines: readonly string[]): string {
  const first = lines.find((line) => line.startsWith("-A FORWARD ") && !JUMP_OF_ANY_DAEMON.test(line));
  return first === "-A FORWARD -j DOCKER-USER" ? "DOCKER-USER" : "FORWARD";
}

/** Whether only other daemons' jumps are before it. */
function standsFirst(lines: readonly string[], chain: string, jump: string): boolean {
  const inChain = lines.filter((line) => line.startsWith(`-A ${chain} `));
  const at = inChain.indexOf(`-A ${chain} ${jump}`);
  return at >= 0 && inChain.slice(0, at).every((line) => JUMP_OF_ANY_DAEMON.test(line));
}

function ownChains({ input, forward }: RuleNames): readonly string[] {
  return [input, forward];
}

/** Both chains, as `-S` groups them: input before forward, whichever it printed first. */
function ownRules(lines: readonly string[], names: RuleNames): readonly string[] {
  return ownChains(names).flatMap((chain) => lines.filter((line) => line.startsWith(`-A ${chain} `)));
}

/** Every rule of other chains that leads into ours, wherever somebody has put it. */
function ownJumps(lines: readonly string[], names: RuleNames): readonly string[] {
  const ends = ownChains(names).flatMap((chain) => [` -j ${chain}`, ` -g ${chain}`]);
  return lines.filter((line) => line.startsWith("-A ") && ends.some((end) => line.endsWith(end)));
}

/** Makes both chains, empty: one that exists is flushed. */
function declared(names: RuleNames): readonly string[] {
  return ownChains(names).map((chain) => `:${chain} - [0:0]`);
}

function asDeletion(rule: string): string {
  return rule.replace(/^-A /, "-D ");
}

function transaction(lines: readonly string[]): string {
  return `${["*filter", ...lines, "COMMIT"].join("\n")}\n`;
}

function sameLines(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((line, index) => line === others[index]);
}
