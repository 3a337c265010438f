// One JSON object per line on an endpoint, aligned text elsewhere; as RunPod's own logger writes them.
const LEVELS = ["NOTSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
const MAX_MESSAGE_LENGTH = 4096;

let level = readLevel(process.env.RUNPOD_LOG_LEVEL || process.env.RUNPOD_DEBUG_LEVEL || "DEBUG");

function readLevel(name) {
  const at = LEVELS.indexOf(name.toUpperCase());
  if (at < 0) throw new Error(`invalid log level "${name}": one of ${LEVELS.join(", ")}`);
  return at;
}

export function setLogLevel(name) {
  level = readLevel(name);
}

function cut(message) {
  if (message.length <= MAX_MESSAGE_LENGTH) return message;
  const half = MAX_MESSAGE_LENGTH / 2;
  const note = `\n...TRUNCATED ${message.length - MAX_MESSAGE_LENGTH} CHARACTERS...\n`;
  return message.slice(0, half) + note + message.slice(-half);
}

function write(name, text, jobId) {
  if (level === 0 || LEVELS.indexOf(name) < level) return;
  const message = cut(String(text));
  if (process.env.RUNPOD_ENDPOINT_ID) {
    process.stdout.write(`${JSON.stringify({ requestId: jobId ?? null, message, level: name })}\n`);
  } else {
    process.stdout.write(`${name.padEnd(7)}| ${jobId ? `${jobId} | ` : ""}${message}\n`);
  }
}

/** trace, debug, info, warn, error: each takes one message. `job`: its lines carry the job's id, and its batch. */
export function createLog(job) {
  const prefix = typeof job?.batchId === "string" ? `[batchId=${job.batchId}] ` : "";
  const at = (name) => (message) => write(name, prefix + message, job?.id);
  return { trace: at("TRACE"), debug: at("DEBUG"), info: at("INFO"), warn: at("WARN"), error: at("ERROR") };
}
