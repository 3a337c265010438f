// Adds jobs to BullMQ, so many in flight, and waits until they have completed. Arguments: folder of the npm packages, Redis
// port, jobs, in flight, input as JSON. Prints the ms from the first add to the last completion.
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const [modules, port, jobs, inFlight, input] = process.argv.slice(2);
const { Queue } = createRequire(`${modules}/`)("bullmq");
const queue = new Queue("bench", { connection: { host: "127.0.0.1", port: Number(port) } });
await queue.waitUntilReady();
const before = await queue.getCompletedCount();
const data = JSON.parse(input);
let left = Number(jobs);

async function lane() {
  while (left > 0) {
    left -= 1;
    await queue.add("job", data);
  }
}

const startMs = performance.now();
await Promise.all(Array.from({ length: Number(inFlight) }, lane));
while ((await queue.getCompletedCount()) < before + Number(jobs)) await pause(5);
console.log(performance.now() - startMs);
await queue.close();
