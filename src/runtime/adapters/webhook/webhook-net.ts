import { lookup as dnsLookup } from "node:dns/promises";
import http from "node:http";
import https from "node:https";
import { isIPv6, type LookupFunction } from "node:net";
import { networkInterfaces } from "node:os";
import { addressInHost, addressKind, checkWebhookUrl, type Guard, mayReach } from "../../core/url-guard.ts";
import type { WebhookAnswer, WebhookNet } from "../../ports/webhook-net.ts";

/** Where the daemon itself listens: no webhook may reach it. */
export type OwnListener = { readonly host: string; readonly port: number };

/** Bounds on one post (F-28, T-17). */
export type WebhookNetLimits = {
  /** Until the connection stands, TLS included. */
  readonly connectMs: number;
  /** Until the answer is read, name look-up included. */
  readonly totalMs: number;
  readonly maxBodyBytes: number;
};

type Resolve = (hostname: string) => Promise<readonly string[]>;
type Request = Parameters<WebhookNet["post"]>[0];

const LIMITS: WebhookNetLimits = { connectMs: 5_000, totalMs: 10_000, maxBodyBytes: 64 * 1_024 };
/** Addresses of one name that are tried. */
const MAX_ADDRESSES = 8;
/** The only status that RunPod's contract takes as received. */
const ACCEPTED_STATUS = 200;

/** A failure that is an answer: `message` is the status for people. */
class PostFailure extends Error {}

/**
 * Posts webhooks with Node's own client: the name is resolved once, every address is checked, and the connection goes to a checked
 * one while SNI and Host keep the name, so that an answer that changes between check and use changes nothing (T-16). Redirects
 * are not followed, connections are not shared, proxy variables are not read.
 */
export function createWebhookNet({
  ownListeners,
  resolve = resolveAll,
  limits = LIMITS,
}: {
  readonly ownListeners: () => readonly OwnListener[];
  readonly resolve?: Resolve;
  readonly limits?: WebhookNetLimits;
}): WebhookNet {
  // Agents of our own: the global ones read proxy variables when Node is told to.
  const httpAgent = new http.Agent({ keepAlive: false });
  const httpsAgent = new https.Agent({ keepAlive: false });

  async function post(request: Request): Promise<WebhookAnswer> {
    const overdue = AbortSignal.timeout(limits.totalMs);
    try {
      const url = checkedUrl(request.url, request.guard);
      const addresses = await orOverdue(resolve(url.hostname), overdue);
      checkAddresses(addresses, url, request.guard, ownListeners());
      const agent = url.protocol === "https:" ? httpsAgent : httpAgent;
      return await send({ url, addresses, request, agent, overdue });
    } catch (error) {
      return { accepted: false, status: statusOf(error, overdue.aborted) };
    }
  }

  function statusOf(error: unknown, isOverdue: boolean): string {
    if (error instanceof PostFailure) return error.message;
    if (isOverdue) return `timeout after ${limits.totalMs / 1_000} s`;
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    return STATUS_BY_CODE[code] ?? (code === "" ? "failed" : `failed (${code})`);
  }

  function send({ url, addresses, request, agent, overdue }: Sending): Promise<WebhookAnswer> {
    const connectOverdue = AbortSignal.timeout(limits.connectMs);
    return new Promise((resolve, reject) => {
      const client = (url.protocol === "https:" ? https : http).request(url, {
        method: "POST",
        agent,
        headers: { ...request.headers, "content-length": String(Buffer.byteLength(request.body)) },
        lookup: fixedLookup(addresses),
        signal: overdue,
      });
      const giveUp = () =>
        client.destroy(new PostFailure(`no connection within ${limits.connectMs / 1_000} s`));
      connectOverdue.addEventListener("abort", giveUp);
      client.once("socket", (socket) => {
        const connected = url.protocol === "https:" ? "secureConnect" : "connect";
        socket.once(connected, () => connectOverdue.removeEventListener("abort", giveUp));
      });
      client.on("error", reject);
      client.once("close", () => connectOverdue.removeEventListener("abort", giveUp));
      client.once("response", (response) => resolve(readAnswer(response, limits.maxBodyBytes)));
      client.end(request.body);
    });
  }

  return { post };
}

type Sending = {
  readonly url: URL;
  readonly addresses: readonly string[];
  readonly request: Request;
  readonly agent: http.Agent;
  readonly overdue: AbortSignal;
};

/** What people read for the commonest failures; the body of an answer is never shown. */
const STATUS_BY_CODE: Readonly<Record<string, string>> = {
  ECONNREFUSED: "refused",
  ECONNRESET: "reset",
  ENOTFOUND: "host not found",
  EAI_AGAIN: "host not found (name server does not answer)",
  EHOSTUNREACH: "host not reachable",
  ENETUNREACH: "host not reachable",
  HPE_HEADER_OVERFLOW: "header too long",
  CERT_HAS_EXPIRED: "certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "certificate is not trusted",
  SELF_SIGNED_CERT_IN_CHAIN: "certificate is not trusted",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "certificate is not trusted",
  ERR_TLS_CERT_ALTNAME_INVALID: "certificate is for another host",
};

function checkedUrl(text: string, guard: Guard): URL {
  const verdict = checkWebhookUrl(text, guard);
  if (!verdict.ok) throw new PostFailure(`not sent: ${verdict.reason}`);
  return verdict.url;
}

async function resolveAll(hostname: string): Promise<readonly string[]> {
  const literal = addressInHost(hostname);
  if (literal !== null) return [literal];
  const found = await dnsLookup(hostname, { all: true });
  return found.map(({ address }) => address);
}

/** All of them must be allowed: one bad address is a name that plays with us. */
function checkAddresses(
  addresses: readonly string[],
  url: URL,
  guard: Guard,
  own: readonly OwnListener[],
): void {
  if (addresses.length === 0) throw new PostFailure("host not found");
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  for (const address of addresses) {
    if (!mayReach(address, guard)) {
      throw new PostFailure("not sent: its host has an address that webhooks may not reach");
    }
    if (isOurs(address, port, own)) throw new PostFailure("not sent: it leads to this daemon");
  }
}

/** Whether a connection would arrive at a listener of ours: same port, and an address of this machine. */
function isOurs(address: string, port: number, own: readonly OwnListener[]): boolean {
  if (!own.some((listener) => listener.port === port)) return false;
  if (addressKind(address) === "loopback") return true;
  const bare = address.replace(/^::ffff:/i, "");
  const here = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return own.some(({ host }) => host === bare) || here.some((face) => face.address === bare);
}

/** Answers every look-up with the checked addresses, in the form the caller asks for. */
function fixedLookup(addresses: readonly string[]): LookupFunction {
  const all = addresses
    .slice(0, MAX_ADDRESSES)
    .map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
  return (_hostname, options, callback) => {
    if (options.all) return callback(null, all);
    const [first] = all;
    if (first !== undefined) callback(null, first.address, first.family);
  };
}

/** Waits for the end of the body or its bound; the status decides, whatever the body does afterwards. */
function readAnswer(response: http.IncomingMessage, maxBodyBytes: number): Promise<WebhookAnswer> {
  const status = response.statusCode ?? 0;
  const answer = { accepted: status === ACCEPTED_STATUS, status: String(status) };
  return new Promise((resolve) => {
    let readBytes = 0;
    response.on("data", (chunk: Buffer) => {
      readBytes += chunk.length;
      if (readBytes > maxBodyBytes) response.destroy();
    });
    response.on("error", () => resolve(answer));
    response.on("close", () => resolve(answer));
  });
}

/** A name server that does not answer must not hold the post beyond its time. */
function orOverdue<T>(work: Promise<T>, overdue: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const expire = () => reject(overdue.reason);
    overdue.addEventListener("abort", expire);
    work.then(resolve, reject).finally(() => overdue.removeEventListener("abort", expire));
  });
}
