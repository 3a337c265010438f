// Fills a queue of rpx, 32 submits in flight. Arguments: folder of the npm packages, URL of the endpoint, key, jobs, body.
import { connect, postAll } from "./rpx-client.mjs";

const IN_FLIGHT = 32;
const [modules, url, key, jobs, body] = process.argv.slice(2);
const client = connect(modules, url, key, IN_FLIGHT);
await postAll(client, "/run", body, Number(jobs), IN_FLIGHT);
await client.close();
