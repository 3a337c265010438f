/** Which targets webhooks may reach: only public ones, or private ones and plain http too (a daemon on loopback). */
export type Guard = "public_only" | "private_allowed";

export type UrlVerdict =
  | { readonly ok: true; readonly url: URL }
  /** A clause for a sentence: "it holds a password". */
  | { readonly ok: false; readonly reason: string };

/**
 * What an address is. `forbidden` ones are reached by nobody: link-local and metadata services, multicast, broadcast,
 * "this host", and IPv6 forms that carry an IPv4 address to another network.
 */
export type AddressKind = "public" | "private" | "loopback" | "forbidden";

/** Characters. */
const MAX_URL_LENGTH = 2_048;
/** Lower ports belong to other services (mail, ssh): a request to one is never a webhook. */
const FIRST_USER_PORT = 1_024;
const WEB_PORTS = [80, 443];

/** Whether a webhook may be sent to a URL, as far as its text tells; the address is judged when it is resolved (T-16). */
export function checkWebhookUrl(text: string, guard: Guard): UrlVerdict {
  if (text.length > MAX_URL_LENGTH) return refuse(`it is longer than ${MAX_URL_LENGTH} characters`);
  const url = URL.parse(text);
  if (url === null) return refuse("it is not a URL");
  const scheme = checkScheme(url, guard);
  if (scheme !== null) return refuse(scheme);
  if (url.username !== "" || url.password !== "") return refuse("it holds a user name or password");
  const port = url.port === "" ? 80 : Number(url.port);
  if (port < FIRST_USER_PORT && !WEB_PORTS.includes(port)) {
    return refuse(`port ${port} is not 80, 443 or from ${FIRST_USER_PORT} on`);
  }
  const host = checkHost(url.hostname, guard);
  return host === null ? { ok: true, url } : refuse(host);
}

/** What an IP address is; null for a text that is none. IPv4 dotted as the URL standard writes it, IPv6 without brackets. */
export function addressKind(address: string): AddressKind | null {
  const four = parseIPv4(address);
  if (four !== null) return kindOfIPv4(four);
  const six = parseIPv6(address);
  return six === null ? null : kindOfIPv6(six);
}

/** Whether an address is reachable from anywhere: no other may be reached by a guarded webhook. */
export function isPublicAddress(address: string): boolean {
  return addressKind(address) === "public";
}

/** Whether a webhook may connect to an address. */
export function mayReach(address: string, guard: Guard): boolean {
  const kind = addressKind(address);
  return kind === "public" || (guard === "private_allowed" && (kind === "private" || kind === "loopback"));
}

/** The host of a URL as an address, without brackets; null when it is a name. */
export function addressInHost(hostname: string): string | null {
  const bare = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
  return addressKind(bare) === null ? null : bare;
}

function refuse(reason: string): UrlVerdict {
  return { ok: false, reason };
}

function checkScheme(url: URL, guard: Guard): string | null {
  if (url.protocol === "https:") return null;
  if (url.protocol !== "http:") return "it is no http or https URL";
  return guard === "private_allowed" ? null : "it is not https";
}

function checkHost(hostname: string, guard: Guard): string | null {
  const address = addressInHost(hostname);
  if (address !== null) return mayReach(address, guard) ? null : `${address} is not a public address`;
  const name = hostname.replace(/\.$/, "");
  if (name === "") return "it names no host";
  if (guard === "private_allowed") return null;
  const isLocal = name === "localhost" || name.endsWith(".localhost");
  return isLocal || name.endsWith(".internal") || name.endsWith(".local")
    ? `${name} is a private name`
    : null;
}

// --- IPv4 -----------------------------------------------------------------------------------------------

/** Network, prefix length, what is in it: the special blocks of RFC 6890 and its successors. The first that fits decides. */
const IPV4_BLOCKS: readonly (readonly [string, number, AddressKind])[] = [
  ["0.0.0.0", 8, "forbidden"],
  ["10.0.0.0", 8, "private"],
  ["100.100.100.200", 32, "forbidden"], // a cloud's metadata service
  ["100.64.0.0", 10, "private"],
  ["127.0.0.0", 8, "loopback"],
  ["169.254.0.0", 16, "forbidden"],
  ["172.16.0.0", 12, "private"],
  ["192.0.0.0", 24, "forbidden"],
  ["192.0.2.0", 24, "forbidden"],
  ["192.88.99.0", 24, "forbidden"],
  ["192.168.0.0", 16, "private"],
  ["198.18.0.0", 15, "private"],
  ["198.51.100.0", 24, "forbidden"],
  ["203.0.113.0", 24, "forbidden"],
  ["224.0.0.0", 3, "forbidden"],
];

/** An address as one number; null unless it is four decimal numbers without leading zeros. */
function parseIPv4(text: string): number | null {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  if (parts === undefined) return null;
  if (parts.some((part) => Number(part) > 255 || String(Number(part)) !== part)) return null;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}

function kindOfIPv4(address: number): AddressKind {
  const block = IPV4_BLOCKS.find(([network, length]) => {
    const size = 2 ** (32 - length);
    return Math.floor(address / size) === Math.floor((parseIPv4(network) ?? 0) / size);
  });
  return block?.[2] ?? "public";
}

// --- IPv6 -----------------------------------------------------------------------------------------------

const GROUPS = 8;

/** An address as eight numbers of 16 bits; null when it is none. A zone ("%eth0") makes it none: it names a link. */
function parseIPv6(text: string): readonly number[] | null {
  const [left = "", right, ...more] = withIPv4AsGroups(text).split("::");
  if (more.length > 0) return null;
  const head = parseGroups(left);
  const tail = right === undefined ? [] : parseGroups(right);
  if (head === null || tail === null) return null;
  if (right === undefined) return head.length === GROUPS ? head : null;
  const missing = GROUPS - head.length - tail.length;
  return missing < 1 ? null : [...head, ...new Array<number>(missing).fill(0), ...tail];
}

/** Rewrites "::ffff:1.2.3.4" to "::ffff:102:304". */
function withIPv4AsGroups(text: string): string {
  const at = text.lastIndexOf(":") + 1;
  const four = at === 0 ? null : parseIPv4(text.slice(at));
  if (four === null) return text;
  return `${text.slice(0, at)}${Math.floor(four / 65_536).toString(16)}:${(four % 65_536).toString(16)}`;
}

function parseGroups(text: string): number[] | null {
  if (text === "") return [];
  const groups = text.split(":");
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return groups.map((group) => Number.parseInt(group, 16));
}

/** Network as its first groups, prefix length, what is in it. The first that fits decides; the rest of the space is forbidden. */
const IPV6_BLOCKS: readonly (readonly [readonly number[], number, AddressKind])[] = [
  [[0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"],
  [[0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254], 128, "forbidden"], // a cloud's metadata service
  [[0xfc00], 7, "private"],
  [[0x2001, 0x0000], 23, "forbidden"], // Teredo, ORCHID, benchmarking
  [[0x2001, 0x0db8], 32, "forbidden"],
  [[0x2002], 16, "forbidden"], // 6to4
  [[0x3fff], 20, "forbidden"],
  [[0x2000], 3, "public"],
];

function kindOfIPv6(address: readonly number[]): AddressKind {
  if (isIPv4Mapped(address)) return kindOfMapped(address);
  return IPV6_BLOCKS.find(([network, length]) => startsWith(address, network, length))?.[2] ?? "forbidden";
}

function isIPv4Mapped(address: readonly number[]): boolean {
  return startsWith(address, [0, 0, 0, 0, 0, 0xffff], 96);
}

/** "::ffff:10.0.0.1" is what IPv4 says of 10.0.0.1, but never public: nobody has a reason to write one that is. */
function kindOfMapped(address: readonly number[]): AddressKind {
  const kind = kindOfIPv4((address[6] ?? 0) * 65_536 + (address[7] ?? 0));
  return kind === "public" ? "private" : kind;
}

function startsWith(address: readonly number[], network: readonly number[], length: number): boolean {
  return address.every((group, index) => {
    const bits = Math.max(0, Math.min(16, length - index * 16));
    const mask = (0xffff << (16 - bits)) & 0xffff;
    return (group & mask) === ((network[index] ?? 0) & mask);
  });
}
