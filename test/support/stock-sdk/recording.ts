/** The shape of the files under test/fixtures/stock-sdk/recorded, and how one request is put into it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { SeenRequest } from "./recording-server.ts";

export const RECORDED = join(import.meta.dirname, "../../fixtures/stock-sdk/recorded");

/** What a worker's request is for; the order within one channel is the SDK's, between channels it is chance. */
export type WorkerChannel = "take" | "done" | "stream" | "stop" | "ping";

/** Ids are the placeholders `<endpoint>`, `<worker>`, `<job-1>`, `<job-2>` ..., the key is `<key>`. */
export interface RecordedRequest {
  readonly method: string;
  /** Path and query as sent. */
  readonly url: string;
  /** Those that carry meaning, names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Raw text: it may hold NaN and integers that JavaScript rounds. */
  readonly body?: string;
}

export interface WorkerRequest extends RecordedRequest {
  readonly channel: WorkerChannel;
}

export interface WorkerRecording {
  readonly sdk: string;
  readonly handler: string;
  /** The jobs as given to the worker, in order; `<job-1>` is the first. */
  readonly inputs: readonly unknown[];
  /** "asked": went on polling until SIGTERM. "itself": left its loops after the job. */
  readonly ends: "asked" | "itself";
  /** The name of the signal where the SDK has no handler for it (1.7.2 and older). */
  readonly exitCode: number | string;
  readonly requests: readonly WorkerRequest[];
}

export interface ClientStep {
  readonly step: string;
  readonly requests: readonly RecordedRequest[];
}

export interface ClientRecording {
  readonly sdk: string;
  readonly client: string;
  readonly steps: readonly ClientStep[];
}

const MEANINGFUL_HEADERS = [
  "accept",
  "accept-encoding",
  "authorization",
  "charset",
  "content-type",
  "user-agent",
  "x-request-id",
] as const;

/** One request as recorded. `placeholders` maps what was really sent to what the file says; longer texts first. */
export function recordedFrom(seen: SeenRequest, placeholders: ReadonlyMap<string, string>): RecordedRequest {
  const headers: Record<string, string> = {};
  for (const name of MEANINGFUL_HEADERS) {
    const value = seen.headers[name];
    if (typeof value === "string") {
      headers[name] = withoutMachine(replaceAll(value, placeholders));
    }
  }
  // A POST that says it has no body, under a content type that promises one.
  if (seen.method === "POST" && seen.body === "" && seen.headers["content-length"] === "0") {
    headers["content-length"] = "0";
  }
  const request = { method: seen.method, url: replaceAll(seen.url, placeholders), headers };
  return seen.body === ""
    ? request
    : { ...request, body: withoutSource(replaceAll(seen.body, placeholders)) };
}

export function replaceAll(text: string, replacements: ReadonlyMap<string, string>): string {
  let result = text;
  for (const [from, to] of replacements) {
    result = result.replaceAll(from, to);
  }
  return result;
}

/** Reads a recording; `name` such as "1.12.0-plain". */
export function readWorkerRecording(name: string): WorkerRecording {
  return JSON.parse(readFileSync(join(RECORDED, `${name}.json`), "utf8")) as WorkerRecording;
}

/** Reads a recording; `name` such as "client-sync-1.12.0". */
export function readClientRecording(name: string): ClientRecording {
  return JSON.parse(readFileSync(join(RECORDED, `${name}.json`), "utf8")) as ClientRecording;
}

/** A kernel's release in a user agent says nothing about the wire. */
function withoutMachine(header: string): string {
  return header
    .replace(/\((?:Linux|Darwin)[^)]*\)/, "(<os>)")
    .replace(/(Python) \d+\.\d+\.\d+/, "$1 <python>");
}

/** A traceback quotes lines of the SDK and where they are; which frames there are is enough. Both spellings of a line end: JSON in JSON. */
function withoutSource(body: string): string {
  return body.replace(
    /(File \\+"<sdk>[^"\\]*\\+", line )\d+(, in \w+)(\\+n) +(?:[^\\]|\\(?!\\*n))*?(?=\\+n)/g,
    "$1<n>$2$3    ...",
  );
}
