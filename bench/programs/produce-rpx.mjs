// Submits jobs to rpx, so many in flight, and waits until they have completed. Arguments: folder of the npm packages, URL of the
// endpoint, key, jobs, in flight, body. Prints the ms from the first submit to the last completion.
import { setTimeout as pause } from "node:timers/promises";
import { connect, postAll } from "./rpx-client.mjs";

const [modules, url, key, jobs, inFlight, body] = process.argv.slice(2);
const client = connect(modules, url, key, Number(inFlight));
const completed = async () => (await client.get("/health")).jobs.completed;

const before = await completed();
const startMs = performance.now();
await postAll(client, "/run", body, Number(jobs), Number(inFlight));
while ((await completed()) < before + Number(jobs)) await pause(5);
console.log(performance.now() - startMs);
await client.close();
