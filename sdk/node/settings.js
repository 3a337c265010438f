// What the platform says through the environment, and the addresses made of it.
import { randomUUID } from "node:crypto";

/** Goes out as X-Rpx-Worker: node/<this>. */
export const SDK_VERSION = "0.1.0";
/** Stands where the stock SDK puts its own version. */
export const RUNPOD_VERSION = `${SDK_VERSION}+rpx`;

/** RUNPOD_WEBHOOK_GET_JOB decides between serving and a local test. */
export function isProduction(env) {
  return Boolean(env.RUNPOD_WEBHOOK_GET_JOB);
}

function withQuery(url, query) {
  return `${url}${url.includes("?") ? "&" : "?"}${query}`;
}

/** Read once, when the worker starts. */
export function readSettings(env) {
  const workerId = env.RUNPOD_POD_ID || randomUUID();
  const template = (name) => (env[name] ?? "").replaceAll("$RUNPOD_POD_ID", workerId);
  const takeUrl = env.RUNPOD_WEBHOOK_GET_JOB.replaceAll("$ID", workerId);
  const doneTemplate = template("RUNPOD_WEBHOOK_POST_OUTPUT");
  const streamTemplate = template("RUNPOD_WEBHOOK_POST_STREAM") || template("RUNPOD_WEBHOOK_JOB_STREAM");
  const headers = {
    "User-Agent": `rpx-node-sdk/${SDK_VERSION}`,
    "X-Rpx-Worker": `node/${SDK_VERSION}`,
    ...(env.RUNPOD_AI_API_KEY ? { Authorization: env.RUNPOD_AI_API_KEY.trim() } : {}),
  };
  const postUrl = (url, jobId, isStream) =>
    withQuery(url.replaceAll("$ID", encodeURIComponent(jobId)), `isStream=${isStream}`);
  return {
    workerId,
    headers,
    postHeaders: { ...headers, "Content-Type": "application/x-www-form-urlencoded", charset: "utf-8" },
    takeUrl(count, isBusy) {
      const batch = takeUrl.replace("/job-take/", "/job-take-batch/");
      const url = count > 1 ? withQuery(batch, `batch_size=${count}`) : takeUrl;
      return withQuery(url, `job_in_progress=${isBusy ? 1 : 0}`);
    },
    /** The stop channel, or undefined when the take address has no known form. */
    stopUrl: takeUrl.includes("/job-take/") ? takeUrl.replace("/job-take/", "/job-stop/") : undefined,
    doneUrl: (jobId, isStream) => postUrl(doneTemplate, jobId, isStream),
    streamUrl: (jobId) => postUrl(streamTemplate, jobId, false),
    ping: readPing(env, template("RUNPOD_WEBHOOK_PING")),
  };
}

const DEFAULT_PING_MS = 10_000;
const LEAST_PING_MS = 100;

/** Pings are sent only where there is an address, a key and a worker id. */
function readPing(env, url) {
  if (!url || !env.RUNPOD_AI_API_KEY || !env.RUNPOD_POD_ID) return undefined;
  const intervalMs = Math.max(
    Number.parseInt(env.RUNPOD_PING_INTERVAL ?? "", 10) || DEFAULT_PING_MS,
    LEAST_PING_MS,
  );
  return { url: withQuery(url, `runpod_version=${encodeURIComponent(RUNPOD_VERSION)}`), intervalMs };
}
