// Submits jobs to rpx over kept connections, so many in flight, and waits until they have completed. Arguments: URL of the
// endpoint, key, jobs, in flight, body. Prints the ms from the first submit to the last completion.
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const [url, key, jobs, inFlight, body] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: Number(inFlight) });
const authorization = { Authorization: `Bearer ${key}` };
const postHeaders = {
  ...authorization,
  "Content-Type": "application/json",
  "Content-Length": Buffer.byteLength(body),
};
let left = Number(jobs);

function call(path, options, text) {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${url}${path}`, { ...options, agent }, (reply) => {
      let answer = "";
      reply.setEncoding("utf8").on("data", (part) => {
        answer += part;
      });
      reply.on("end", () => {
        if (reply.statusCode === 200) resolve(answer);
        else reject(new Error(`${path} answered ${reply.statusCode}: ${answer}`));
      });
    });
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

async function lane() {
  while (left > 0) {
    left -= 1;
    await call("/run", { method: "POST", headers: postHeaders }, body);
  }
}

async function completed() {
  return JSON.parse(await call("/health", { headers: authorization })).jobs.completed;
}

const before = await completed();
const startMs = performance.now();
await Promise.all(Array.from({ length: Number(inFlight) }, lane));
while ((await completed()) < before + Number(jobs)) await pause(5);
console.log(performance.now() - startMs);
agent.destroy();
