// A handler tried by hand: `node handler.mjs --test_input '{"input": {...}}'`, or test_input.json in the working directory.
import { existsSync, readFileSync } from "node:fs";
import { createLog } from "./log.js";
import { chunkError, encodeResult, failed, isStream, returned, streamed } from "./results.js";

const TEST_FILE = "test_input.json";

/** Runs one job; the process's exit code: 0, or 1 when there is no input or the handler reports an error. */
export async function runLocalTest(config, testInput) {
  const log = createLog();
  const { job, problem } = readJob(testInput);
  if (job === undefined) {
    log.error(problem);
    return 1;
  }
  const result = await runJob(config, job);
  if (result.error) {
    log.error(
      `Job ${job.id} failed with error: ${typeof result.error === "string" ? result.error : JSON.stringify(result.error)}`,
    );
    return 1;
  }
  log.info(`Job ${job.id} completed successfully.`);
  log.info(`Job result: ${encodeResult(result, createLog(job))}`);
  log.info("Local testing complete, exiting.");
  return 0;
}

function readJob(testInput) {
  if (testInput === undefined && !existsSync(TEST_FILE))
    return { problem: `${TEST_FILE} not found, exiting.` };
  const source = testInput === undefined ? TEST_FILE : "--test_input";
  let job;
  try {
    job = JSON.parse(testInput ?? readFileSync(TEST_FILE, "utf8"));
  } catch (error) {
    return { problem: `${source} is not JSON: ${error.message}` };
  }
  if (job?.input === undefined || job.input === null)
    return { problem: "Job has no input parameter. Unable to run." };
  return { job: { id: "local_test", ...job } };
}

async function runJob(config, job) {
  const log = createLog(job);
  log.info("Started.");
  const progress = (value) => log.info(`Progress update: ${JSON.stringify(value)}`);
  try {
    const value = await config.handler(job, { signal: new AbortController().signal, progress, log });
    return isStream(value) ? await readStream(config, value, log) : returned(value);
  } catch (error) {
    return failed(error, log);
  }
}

async function readStream(config, iterable, log) {
  const chunks = [];
  const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]();
  for (;;) {
    const { value, done } = await iterator.next();
    if (done) return streamed(config.returnAggregateStream ? chunks : undefined, value);
    if (chunkError(value) !== undefined) return { error: chunkError(value) };
    log.info(`Stream output: ${JSON.stringify(value)}`);
    chunks.push(value);
  }
}
