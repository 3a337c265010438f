// Fills a queue of rpx over 32 kept connections. Arguments: URL of the endpoint, key, jobs, body.
import { Agent, request } from "node:http";

const CONNECTIONS = 32;
const [url, key, jobs, body] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
const headers = {
  Authorization: `Bearer ${key}`,
  "Content-Type": "application/json",
  "Content-Length": Buffer.byteLength(body),
};
let left = Number(jobs);

function submit() {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${url}/run`, { method: "POST", headers, agent }, (reply) => {
      reply.resume().on("end", () => {
        if (reply.statusCode === 200) resolve();
        else reject(new Error(`/run answered ${reply.statusCode}`));
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function lane() {
  while (left > 0) {
    left -= 1;
    await submit();
  }
}

await Promise.all(Array.from({ length: CONNECTIONS }, lane));
agent.destroy();
