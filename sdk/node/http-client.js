// Requests over kept connections, and how hard a post is tried.
import { Agent as HttpAgent, request as httpRequest } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const REPLY_TIMEOUT_MS = 60_000;
const RESULT_RETRY_MS = 600_000;
const MAX_IDLE_CONNECTIONS = 64;

/** Waits that double from `firstMs` to `mostMs`, each shortened by up to a half at random. */
export function createBackoff(firstMs, mostMs) {
  let waitMs = firstMs;
  return {
    reset() {
      waitMs = firstMs;
    },
    nextMs() {
      const now = waitMs * (0.5 + Math.random() / 2);
      waitMs = Math.min(waitMs * 2, mostMs);
      return now;
    },
  };
}

/** `send` gives `{status, headers, text}` or rejects; a kept connection that proves stale is replaced, once. */
export function createHttpClient() {
  const agents = new Map();
  const polls = new Set();
  let isGivenUp = false;

  async function transport(url) {
    if (url.protocol === "http:") return { request: httpRequest, agent: agentOf("http:", HttpAgent) };
    const https = await import("node:https");
    return { request: https.request, agent: agentOf("https:", https.Agent) };
  }

  function agentOf(protocol, Agent) {
    if (!agents.has(protocol)) {
      agents.set(protocol, new Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS }));
    }
    return agents.get(protocol);
  }

  async function send(options) {
    const url = new URL(options.url);
    const { request, agent } = await transport(url);
    try {
      return await exchange(request, agent, url, options);
    } catch (error) {
      if (!error.isStale || (options.isPoll && isGivenUp)) throw error;
      return await exchange(request, agent, url, options);
    }
  }

  function exchange(
    request,
    agent,
    url,
    { method, headers, body, timeoutMs = REPLY_TIMEOUT_MS, isPoll, onSent },
  ) {
    const { promise, resolve, reject } = Promise.withResolvers?.() ?? withResolvers();
    if (isPoll && isGivenUp) return Promise.reject(new Error("draining"));
    const bytes = body === undefined ? undefined : Buffer.from(body);
    const length = bytes === undefined ? {} : { "Content-Length": bytes.length };
    const outgoing = request(url, { method, agent, headers: { ...headers, ...length }, timeout: timeoutMs });
    let hasReply = false;
    outgoing.on("response", (incoming) => {
      hasReply = true;
      read(incoming).then(resolve, reject);
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no reply within ${timeoutMs} ms`)));
    outgoing.on("error", (error) => {
      const isStale = outgoing.reusedSocket && !hasReply && /ECONNRESET|EPIPE/.test(error.code ?? "");
      reject(Object.assign(error, { isStale }));
    });
    outgoing.end(bytes, onSent);
    if (isPoll) {
      polls.add(outgoing);
      outgoing.on("close", () => polls.delete(outgoing));
    }
    return promise;
  }

  /** Ends the sending side of every held poll: the server gives it up, yet a job already sent is read. */
  function giveUpPolls(limitMs) {
    isGivenUp = true;
    for (const poll of polls) {
      if (!poll.socket) poll.destroy();
      poll.socket?.end();
      setTimeout(() => poll.destroy(), limitMs).unref();
    }
  }

  return { send, giveUpPolls };
}

function withResolvers() {
  let resolve;
  let reject;
  const promise = new Promise((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

async function read(incoming) {
  const parts = [];
  for await (const part of incoming) parts.push(part);
  return {
    status: incoming.statusCode,
    headers: incoming.headers,
    text: Buffer.concat(parts).toString("utf8"),
  };
}

/**
 * Posts until the server took it: a refused or reset connection, 5xx, 408, 425 and 429 are tried again for
 * `limitMs`. The reply, or undefined when it was refused or the limit passed.
 */
export async function deliver(client, { url, headers, body, log, limitMs = RESULT_RETRY_MS }) {
  const endMs = performance.now() + limitMs;
  const backoff = createBackoff(50, 5_000);
  for (let isFirst = true; ; isFirst = false) {
    const { reply, error } = await attempt(client, { method: "POST", url, headers, body });
    if (reply !== undefined && reply.status < 400) return reply;
    const why =
      reply === undefined ? `${error.code ?? error.name}: ${error.message}` : `HTTP ${reply.status}`;
    const isFinal = reply !== undefined && reply.status < 500 && ![408, 425, 429].includes(reply.status);
    if (isFinal || performance.now() >= endMs) {
      log.error(`Failed to return job results. | ${why}`);
      return undefined;
    }
    if (isFirst) log.warn(`Returning job results again. | ${why}`);
    await pause(backoff.nextMs());
  }
}

/** `{reply}` or `{error}`. */
export async function attempt(client, options) {
  try {
    return { reply: await client.send(options) };
  } catch (error) {
    return { error };
  }
}
