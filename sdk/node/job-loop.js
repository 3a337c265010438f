// Taking jobs, running handlers, reporting: the loop of one worker.
import { setTimeout as pause } from "node:timers/promises";
import { attempt, createBackoff, createHttpClient, deliver } from "./http-client.js";
import { createLog } from "./log.js";
import { chunkError, encodeResult, failed, isStream, returned, streamed } from "./results.js";

const TAKE_TIMEOUT_MS = 90_000;
/** How long a poll that was given up may take to end. */
const DRAIN_POLL_MS = 5_000;
const MAX_CONCURRENCY = 4096;
const TOO_MANY_REQUESTS_MS = 5_000;
/** An empty answer sooner than this was no long poll. */
const HELD_MS = 20;
const STOP_FLOOR_MS = 1_000;
const NO_STOP_CHANNEL_MS = 30_000;
/** How often a concurrencyModifier is asked while all places are taken. */
const MODIFIER_MS = 1_000;
const PROGRESS_RETRY_MS = 5_000;
const PROGRESS_FLUSH_MS = 1_000;
const MAX_PROGRESS_WAITING = 256;

/** `config` as `start` takes it. `showRunning(ids)` is told whenever the running jobs change. */
export function createJobLoop({ config, settings, showRunning }) {
  const client = createHttpClient();
  const log = createLog();
  const ready = [];
  const running = new Map();
  const backoff = createBackoff(50, 5_000);
  const drained = new AbortController();
  let concurrency = 1;
  let isDraining = false;
  let isFast = false;
  let taking = 0; // places that the pending take may fill
  let reporting = 0; // jobs whose handler is done and whose final post is under way
  let offered = 0; // places that those posts may fill
  let quickEmpty = 0;
  let wake = () => {};

  async function run(onFirstTakeSent) {
    let onSent = onFirstTakeSent;
    while (!isDraining) {
      nextConcurrency();
      const held = Math.max(running.size, running.size - reporting + offered);
      const free = concurrency - held - ready.length - taking;
      if (free > 0) await take(free, onSent);
      else await changed(config.concurrencyModifier ? MODIFIER_MS : undefined);
      onSent = undefined;
    }
    while (running.size > 0 || ready.length > 0) await changed();
  }

  /** A plain timer: this runs for every job, and an aborted signal makes two exceptions. */
  async function changed(limitMs) {
    let timer;
    await new Promise((resolve) => {
      wake = resolve;
      if (limitMs !== undefined) timer = setTimeout(resolve, limitMs);
    });
    clearTimeout(timer);
  }

  function nextConcurrency() {
    try {
      const wanted = config.concurrencyModifier?.(concurrency) ?? concurrency;
      if (!Number.isFinite(wanted)) throw new TypeError(`it returned ${wanted}`);
      concurrency = Math.min(Math.max(Math.trunc(wanted), 1), MAX_CONCURRENCY);
    } catch (error) {
      log.error(`concurrencyModifier failed, ${concurrency} stays: ${error.message}`);
    }
  }

  // ------------------------------------------------------------------ taking

  async function take(count, onSent) {
    const startedMs = performance.now();
    taking = count;
    const url = settings.takeUrl(count, running.size > 0);
    const options = {
      method: "GET",
      url,
      headers: settings.headers,
      timeoutMs: TAKE_TIMEOUT_MS,
      isPoll: true,
      onSent,
    };
    const outcome = await attempt(client, options);
    taking = 0;
    if (outcome.reply !== undefined) accept(outcome.reply);
    const pauseMs = pauseAfterTake(outcome, performance.now() - startedMs);
    fill();
    if (pauseMs > 0) await pause(pauseMs, undefined, { signal: drained.signal }).catch(() => {});
  }

  /** Puts the jobs of a reply to a take or a final post on `ready`. */
  function accept(reply) {
    isFast ||= reply.headers["x-rpx-fast"] === "1";
    const type = (reply.headers["content-type"] ?? "").split(";")[0].trim();
    if (reply.status !== 200 || type !== "application/json" || reply.text === "") return;
    const attempts = (reply.headers["x-rpx-attempts"] ?? "").split(",").map((text) => text.trim());
    parseJobs(reply.text).forEach((data, at) => {
      if (typeof data?.id === "string") ready.push(createJob(data, attempts[at]));
      else log.error("Failed to get job. | A job without an id was dropped.");
    });
  }

  function createJob(data, attempt) {
    const number = /^\d+$/.test(attempt ?? "") ? attempt : undefined;
    const own = { controller: new AbortController(), log: createLog(data), chunks: 0, waiting: 0 };
    return { data, id: data.id, attempt: number, ...own };
  }

  function parseJobs(text) {
    try {
      const jobs = JSON.parse(text);
      return Array.isArray(jobs) ? jobs : [jobs];
    } catch (error) {
      log.error(`Failed to get job. | The reply is no JSON: ${error.message}`);
      return [];
    }
  }

  function pauseAfterTake({ reply, error }, heldMs) {
    if (ready.length > 0 || isDraining) {
      backoff.reset();
      quickEmpty = 0;
      return 0;
    }
    if (reply !== undefined && (reply.status < 300 || reply.status === 400)) {
      quickEmpty = heldMs < HELD_MS ? quickEmpty + 1 : 0;
      if (quickEmpty >= 3) return backoff.nextMs();
      backoff.reset();
      return 0;
    }
    log.warn(`Failed to get job. | ${reply ? `HTTP ${reply.status}` : (error.code ?? error.message)}`);
    return reply?.status === 429 ? TOO_MANY_REQUESTS_MS : backoff.nextMs();
  }

  function fill() {
    while (ready.length > 0 && running.size < concurrency) {
      const job = ready.shift();
      if (!job.controller.signal.aborted) void handle(job);
    }
  }

  // ------------------------------------------------------------------ one job

  async function handle(job) {
    running.set(job, job.id);
    showRunning(running.values());
    job.log.info("Started.");
    const { result, isStreamed } = await call(job);
    if (result === undefined || job.controller.signal.aborted) job.log.info("Job stopped.");
    else await report(job, result, isStreamed);
    running.delete(job);
    fill();
    if (running.size === 0 || ready.length === 0) showRunning(running.values());
    wake();
  }

  /** The result is undefined when the job was stopped. */
  async function call(job) {
    let isStreamed = false;
    try {
      const context = {
        signal: job.controller.signal,
        progress: (value) => progress(job, value),
        log: job.log,
      };
      const value = await config.handler(job.data, context);
      if (!isStream(value)) return { result: returned(value), isStreamed };
      isStreamed = true;
      return { result: await stream(job, value), isStreamed };
    } catch (error) {
      if (job.controller.signal.aborted) return { result: undefined, isStreamed };
      return { result: failed(error, job.log), isStreamed };
    }
  }

  async function stream(job, iterable) {
    const chunks = config.returnAggregateStream ? [] : undefined;
    const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]();
    try {
      for (;;) {
        const { value, done } = await iterator.next();
        if (done) {
          job.log.info("Finished running generator.");
          return streamed(chunks, value);
        }
        const error = chunkError(value);
        if (error !== undefined || job.controller.signal.aborted) return { error };
        await postChunk(job, value);
        chunks?.push(value);
      }
    } finally {
      await iterator.return?.(); // nothing to do after its own end
    }
  }

  function headersOf(job) {
    return { ...settings.postHeaders, ...(job.attempt ? { "X-Rpx-Attempt": job.attempt } : {}) };
  }

  async function postChunk(job, chunk) {
    const body = JSON.stringify({ output: chunk === undefined ? null : chunk });
    const headers = { ...headersOf(job), "X-Rpx-Chunk": String(job.chunks++) };
    await deliver(client, { url: settings.streamUrl(job.id), headers, body, log: job.log });
  }

  /** Updates of one job go out in order; its result waits for them, for a second at most. */
  function progress(job, value) {
    if (job.waiting >= MAX_PROGRESS_WAITING) return;
    let body;
    try {
      body = JSON.stringify({ status: "IN_PROGRESS", output: value === undefined ? null : value });
    } catch (error) {
      job.log.error(`The progress update cannot be sent as JSON: ${error.message}`);
      return;
    }
    job.waiting++;
    const post = { url: settings.doneUrl(job.id, false), body, log: job.log, limitMs: PROGRESS_RETRY_MS };
    job.progress = (job.progress ?? Promise.resolve()).then(async () => {
      if (!job.isReported) await deliver(client, { ...post, headers: headersOf(job) });
      job.waiting--;
    });
  }

  async function report(job, result, isStreamed) {
    if (job.progress !== undefined) {
      const controller = new AbortController();
      const limit = pause(PROGRESS_FLUSH_MS, undefined, { signal: controller.signal }).catch(() => {});
      await Promise.race([job.progress, limit]);
      controller.abort();
    }
    job.isReported = true;
    if (config.refreshWorker) result.stopPod = true;
    if (result.stopPod) drain();
    reporting++;
    const held = running.size - reporting + offered + taking + ready.length;
    const wanted = isFast && !isDraining ? Math.max(concurrency - held, 0) : 0;
    offered += wanted;
    const headers = { ...headersOf(job), ...(wanted > 0 ? { "X-Rpx-Take": String(wanted) } : {}) };
    const url = settings.doneUrl(job.id, isStreamed);
    const reply = await deliver(client, { url, headers, body: encodeResult(result, job.log), log: job.log });
    reporting--;
    offered -= wanted;
    if (reply?.text.trimStart().startsWith("[")) accept(reply);
    job.log.info("Finished.");
  }

  // ------------------------------------------------------------------ stopping

  /** Takes no more jobs; those that run, and those already handed over, end. */
  function drain() {
    if (isDraining) return;
    isDraining = true;
    drained.abort();
    client.giveUpPolls(DRAIN_POLL_MS);
    wake();
  }

  /** The stop channel: a held request. Never ends. */
  async function watchStops() {
    const stops = createHttpClient();
    const stopBackoff = createBackoff(STOP_FLOOR_MS, NO_STOP_CHANNEL_MS);
    const options = {
      method: "GET",
      url: settings.stopUrl,
      headers: settings.headers,
      timeoutMs: TAKE_TIMEOUT_MS,
    };
    while (settings.stopUrl !== undefined) {
      const startedMs = performance.now();
      const { reply } = await attempt(stops, options);
      if (reply === undefined || reply.status >= 300) {
        await pause(reply?.status === 429 ? TOO_MANY_REQUESTS_MS : stopBackoff.nextMs());
        continue;
      }
      stopBackoff.reset();
      const ids = readStops(reply);
      for (const id of ids) stop(id);
      if (ids.length === 0 && performance.now() - startedMs < STOP_FLOOR_MS) await pause(STOP_FLOOR_MS);
    }
  }

  function readStops(reply) {
    if (reply.status !== 200 || reply.text === "") return [];
    const ids = parseJobs(reply.text)[0]?.jobsToStop;
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  }

  function stop(jobId) {
    for (const job of [...running.keys(), ...ready]) {
      if (job.id !== jobId || job.isReported) continue;
      job.log.info("Stopping job.");
      job.controller.abort(new Error("the job was stopped"));
    }
  }

  return { run, drain, watchStops };
}
