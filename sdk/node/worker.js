// `import { start } from "rpx/worker"`: a serverless worker in JavaScript or TypeScript.
import { createJobLoop } from "./job-loop.js";
import { setLogLevel } from "./log.js";
import { isProduction, RUNPOD_VERSION, readSettings } from "./settings.js";

const SHARED_BYTES = 65_536;

/**
 * Runs the worker until it is drained (SIGTERM, SIGINT or a refresh), then ends the process with 0; or, where no
 * platform is set, one local test.
 */
export async function start(config) {
  if (typeof config?.handler !== "function") throw new TypeError("start needs { handler: function }");
  process.stdout.on("error", () => {}); // nobody reads any more: a log line must not end a job
  process.stdout.write(`--- Starting Serverless Worker |  Version ${RUNPOD_VERSION} ---\n`);
  const { testInput, logLevel } = readArguments(process.argv.slice(2));
  if (logLevel !== undefined) setLogLevel(logLevel);
  if (testInput === undefined && isProduction(process.env)) return await serve(config);
  const { runLocalTest } = await import("./local-test.js");
  process.exit(await runLocalTest(config, testInput));
}

function readArguments(args) {
  const option = (name) => {
    const at = args.findIndex((argument) => argument === name || argument.startsWith(`${name}=`));
    if (at < 0) return undefined;
    const value = args[at] === name ? args[at + 1] : args[at].slice(name.length + 1);
    if (value === undefined) throw new Error(`${name} needs a value`);
    return value;
  };
  return { testInput: option("--test_input"), logLevel: option("--rp_log_level") };
}

async function serve(config) {
  const settings = readSettings(process.env);
  const shared = new SharedArrayBuffer(SHARED_BYTES);
  const loop = createJobLoop({ config, settings, showRunning: (ids) => showRunning(shared, ids) });
  process.on("SIGTERM", loop.drain);
  process.once("SIGINT", loop.drain); // the second one ends it at once
  // The first poll starts the background parts once it is sent: they cost the cold start nothing.
  await loop.run(() => startBackground(loop, settings, shared));
  process.exit(0); // a handler's open connections must not keep a drained worker
}

function startBackground(loop, settings, shared) {
  void loop.watchStops();
  if (settings.ping !== undefined) void startPings(settings.ping, shared);
}

async function startPings(ping, shared) {
  const { Worker } = await import("node:worker_threads");
  const workerData = { ...ping, key: process.env.RUNPOD_AI_API_KEY.trim(), shared };
  const options = { workerData, execArgv: [], env: {}, stdout: false, stderr: false };
  const thread = new Worker(new URL("./ping-thread.js", import.meta.url), options);
  thread.on("error", (error) => process.stderr.write(`rpx: the ping thread failed: ${error.message}\n`));
  thread.unref();
}

/** Writes the ids for the ping thread: a length, then the bytes. */
function showRunning(shared, ids) {
  const text = [...ids].join(",").slice(0, SHARED_BYTES - 4);
  new Uint8Array(shared, 4).set(Buffer.from(text, "latin1"));
  Atomics.store(new Int32Array(shared, 0, 1), 0, text.length);
}
