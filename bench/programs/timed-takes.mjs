// A worker that first takes jobs one after another by hand, timing each take, and then serves as echo.mjs does. BENCH_TAKES: how
// many; BENCH_OUT: the file that gets the ms of each as a JSON list.
import { renameSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";

const { RUNPOD_WEBHOOK_GET_JOB, RUNPOD_WEBHOOK_POST_OUTPUT, RUNPOD_AI_API_KEY, RUNPOD_POD_ID } = process.env;
const { BENCH_TAKES, BENCH_OUT } = process.env;
const agent = new Agent({ keepAlive: true });
const headers = {
  Authorization: RUNPOD_AI_API_KEY,
  "X-Rpx-Worker": "bench/1",
  "Content-Type": "application/json",
};

function call(url, method, body) {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) };
    const outgoing = request(url, { method, agent, headers: { ...headers, ...length } }, (reply) => {
      let text = "";
      reply.setEncoding("utf8").on("data", (part) => {
        text += part;
      });
      reply.on("end", () => {
        if (reply.statusCode === 200) resolve(text);
        else reject(new Error(`${method} answered ${reply.statusCode}`));
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

const times = [];
for (let number = 0; number < Number(BENCH_TAKES); number += 1) {
  const startMs = performance.now();
  const taken = await call(
    `${RUNPOD_WEBHOOK_GET_JOB.replace("$ID", RUNPOD_POD_ID)}&job_in_progress=0`,
    "GET",
  );
  times.push(performance.now() - startMs);
  const { id, input } = JSON.parse(taken);
  const url = RUNPOD_WEBHOOK_POST_OUTPUT.replace("$RUNPOD_POD_ID", RUNPOD_POD_ID).replace("$ID", id);
  await call(`${url}&isStream=false`, "POST", JSON.stringify({ output: input }));
}
agent.destroy();
writeFileSync(`${BENCH_OUT}.new`, JSON.stringify(times));
renameSync(`${BENCH_OUT}.new`, BENCH_OUT);
await import("./echo.mjs");
