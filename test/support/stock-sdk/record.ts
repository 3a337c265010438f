/**
 * Writes the recordings anew: RPX_RUNPOD_SDK=/path/to/checkout node test/support/stock-sdk/record.ts [handler or client ...]
 * Nothing of the SDK's source goes into them: requests only, with ids, paths and quoted lines replaced.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLIENTS, recordClient } from "./record-client.ts";
import { recordWorker, WORKER_SCENARIOS } from "./record-worker.ts";
import { RECORDED } from "./recording.ts";
import { findStockSdk } from "./stock-sdk.ts";

const sdk = findStockSdk();
if ("missing" in sdk) {
  process.stderr.write(`${sdk.missing}\n`);
  process.exit(2);
}
const wanted = process.argv.slice(2);
const isWanted = (name: string): boolean => wanted.length === 0 || wanted.includes(name);
mkdirSync(RECORDED, { recursive: true });

// Before 1.10 the SDK had no channel on which to stop one job.
const hasJobStop = sdk.version.localeCompare("1.10", "en", { numeric: true }) >= 0;
for (const scenario of WORKER_SCENARIOS.filter(
  ({ handler, isStopped }) => isWanted(handler) && (hasJobStop || !isStopped),
)) {
  const recording = await recordWorker(sdk, scenario);
  write(`${sdk.version}-${scenario.handler}`, recording);
}
for (const client of CLIENTS.filter(isWanted)) {
  const recording = await recordClient(client, sdk);
  write(`client-${client}-${recording.sdk}`, recording);
}

function write(name: string, recording: unknown): void {
  writeFileSync(join(RECORDED, `${name}.json`), `${JSON.stringify(recording, null, 2)}\n`);
  process.stdout.write(`${name}\n`);
}
