// Echoes its input. Arguments: folder of the npm packages, Redis port, jobs at once. Prints a line when it is ready.
import { createRequire } from "node:module";

const [modules, port, lanes] = process.argv.slice(2);
const { Worker } = createRequire(`${modules}/`)("bullmq");
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const worker = new Worker("bench", async (job) => job.data, { connection, concurrency: Number(lanes) });
await worker.waitUntilReady();
console.log("ready");
