// The heartbeat: a thread of its own, so that a handler that keeps the event loop busy still counts as alive.
import { get as httpGet } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { workerData } from "node:worker_threads";

const TRIES = 3;
const { url, intervalMs, key, shared } = workerData;

/** The ids of the running jobs: a length, then that many bytes. */
function jobIds() {
  const length = Atomics.load(new Int32Array(shared, 0, 1), 0);
  return Buffer.from(new Uint8Array(shared, 4, length)).toString("latin1");
}

async function get(address) {
  if (address.startsWith("http:")) return httpGet;
  return (await import("node:https")).get;
}

async function ping() {
  const ids = jobIds();
  const address = ids ? `${url}&job_id=${encodeURIComponent(ids)}` : url;
  const start = await get(address);
  return new Promise((resolve) => {
    const request = start(address, {
      headers: { Authorization: key },
      agent: false,
      timeout: intervalMs * 2,
    });
    request.on("response", (reply) => {
      reply.resume();
      resolve(reply.statusCode !== 429 && reply.statusCode < 500);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

for (;;) {
  for (let tries = 0; tries < TRIES && !(await ping()); tries++) {
    await pause(Math.min(1000 * 2 ** tries, intervalMs));
  }
  await pause(intervalMs);
}
