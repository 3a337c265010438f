// From what a handler returned, yielded or threw to the body of a post.
import { RUNPOD_VERSION } from "./settings.js";

/** True for what a generator, sync or async, returned, and for every other async iterable. */
export function isStream(value) {
  if (value === null || typeof value !== "object") return false;
  const isGenerator = typeof value.next === "function" && typeof value[Symbol.iterator] === "function";
  return isGenerator || typeof value[Symbol.asyncIterator] === "function";
}

/** The JSON text that the `error` of a failed job holds. */
export function errorText(error, message) {
  const isError = error instanceof Error;
  return JSON.stringify({
    error_type: isError ? (error.constructor?.name ?? error.name) : typeof error,
    error_message: message ?? (isError ? error.message : String(error)),
    error_traceback: isError ? (error.stack ?? "") : "",
    hostname: process.env.RUNPOD_POD_HOSTNAME ?? "unknown",
    worker_id: process.env.RUNPOD_POD_ID ?? "unknown",
    runpod_version: RUNPOD_VERSION,
  });
}

/** The result of a handler that threw. */
export function failed(error, log) {
  const text = errorText(error);
  log.error("Captured Handler Exception");
  log.error(text);
  return { error: text };
}

/** The result of a handler that returned `value`. */
export function returned(value) {
  if (value === undefined) return { output: null };
  const isPlain =
    value !== null &&
    typeof value === "object" &&
    !Array.isArray(value) &&
    typeof value.toJSON !== "function";
  if (!isPlain) return { output: value };
  const { error, refresh_worker: refresh, ...rest } = value;
  return {
    ...(Object.keys(rest).length > 0 ? { output: rest } : {}),
    ...(error ? { error } : {}),
    ...(refresh ? { stopPod: true } : {}),
  };
}

/** The error that a yielded object reports, as text, or undefined. */
export function chunkError(chunk) {
  const error = chunk !== null && typeof chunk === "object" ? chunk.error : undefined;
  if (!error) return undefined;
  return typeof error === "string" ? error : JSON.stringify(error);
}

/** The result of a stream that ended. `chunks`: all of them, or undefined when they are not aggregated. */
export function streamed(chunks, value) {
  if (chunks !== undefined) return { output: chunks };
  return value === undefined ? { output: [] } : returned(value);
}

/** The body of the final post. A result that JSON cannot carry becomes an error that says so. */
export function encodeResult(result, log) {
  try {
    return JSON.stringify(result);
  } catch (error) {
    const message = `the handler's result cannot be sent as JSON: ${error.message}`;
    log.error(message);
    return JSON.stringify({ error: errorText(error, message), ...(result.stopPod ? { stopPod: true } : {}) });
  }
}
