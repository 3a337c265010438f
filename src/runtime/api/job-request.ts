import { createHash } from "node:crypto";
import { RpxError } from "../../contract/error.ts";
import {
  EXECUTION_TIMEOUT_RANGE_MS,
  MAX_DEPTH,
  policySchema,
  TTL_RANGE_MS,
  WAIT_RANGE_MS,
} from "../../contract/schemas/job.ts";
import { readObject, spliceObject } from "../../text/json-text.ts";
import { checkWebhookUrl, type Guard } from "../core/url-guard.ts";
import type { RunRequest } from "../service/jobs.ts";
import type { Call } from "./request.ts";

/** Members that the daemon sets itself, or that break the SDK's job tracker. */
const OURS: ReadonlySet<string> = new Set(["id", "input", "self"]);
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;
const IDEMPOTENCY_KEY = /^[\x20-\x7e]{1,255}$/;

/** Reads the body of /run and /runsync: the members' raw text, judged but not rebuilt. */
export function readRunRequest(
  call: Call<unknown>,
  operation: RunRequest["operation"],
  guard: Guard,
): RunRequest {
  const body = call.text();
  // One level for the request itself.
  const read = readObject(body, { maxDepth: MAX_DEPTH.input + 1 });
  if (!read.ok)
    throw new RpxError("bad_request", `the body is ${read.reason}`, { hint: 'send {"input": ...}' });
  const { members } = read;
  const inputJson = members.get("input");
  if (inputJson === undefined)
    throw new RpxError("bad_request", 'the body has no "input"', { hint: 'send {"input": ...}' });
  return {
    inputJson,
    extrasJson: spliceObject(extrasOf(members)),
    webhookUrl: readWebhook(members, guard),
    policy: readPolicy(members.get("policy")),
    operation,
    waitGiven: call.query.has("wait"),
    idempotency: readIdempotency(call),
  };
}

/** What the handler gets beside id and input: everything whose name its SDK can carry. */
export function extrasOf(members: ReadonlyMap<string, string>): Map<string, string> {
  return new Map(
    [...members].filter(([name]) => !OURS.has(name) && IDENTIFIER.test(name) && !name.startsWith("__")),
  );
}

/** `wait` in ms: outside its range it is clamped, anything but a number is refused. */
export function readWaitMs(query: URLSearchParams, defaultMs: number): number {
  const text = query.get("wait");
  if (text === null) return defaultMs;
  const waitMs = Number(text);
  if (text.trim() === "" || !Number.isFinite(waitMs)) {
    throw new RpxError("bad_request", `wait must be a number of milliseconds, not "${text}"`);
  }
  return Math.min(WAIT_RANGE_MS.max, Math.max(WAIT_RANGE_MS.min, waitMs));
}

function readWebhook(members: ReadonlyMap<string, string>, guard: Guard): string | null {
  const given = [members.get("webhook"), members.get("webhookV2")];
  const raw = given.find((each) => each !== undefined && each !== "null");
  if (raw === undefined) return null;
  const value: unknown = JSON.parse(raw);
  if (typeof value !== "string") throw new RpxError("bad_request", "webhook must be a URL");
  const verdict = checkWebhookUrl(value, guard);
  if (!verdict.ok) throw new RpxError("bad_request", `this webhook cannot be used: ${verdict.reason}`);
  return value;
}

function readPolicy(raw: string | undefined): RunRequest["policy"] {
  if (raw === undefined || raw === "null") return {};
  const parsed = policySchema.safeParse(JSON.parse(raw));
  if (!parsed.success) throw refusedPolicy(parsed.error.issues[0]?.path.join(".") ?? "");
  const { executionTimeout, ttl, lowPriority } = parsed.data;
  return {
    ...(executionTimeout !== undefined && { executionTimeoutMs: executionTimeout }),
    ...(ttl !== undefined && { ttlMs: ttl }),
    ...(lowPriority !== undefined && { lowPriority }),
  };
}

function refusedPolicy(field: string): RpxError {
  const ranges: Record<string, string> = {
    executionTimeout: `an integer of ms from ${EXECUTION_TIMEOUT_RANGE_MS.min} to ${EXECUTION_TIMEOUT_RANGE_MS.max}`,
    ttl: `an integer of ms from ${TTL_RANGE_MS.min} to ${TTL_RANGE_MS.max}`,
    lowPriority: "true or false",
  };
  const rule = ranges[field] ?? "an object";
  return new RpxError("bad_request", `policy${field && `.${field}`} must be ${rule}`);
}

function readIdempotency(call: Call<unknown>): RunRequest["idempotency"] {
  const key = call.headers["idempotency-key"];
  if (key === undefined) return null;
  if (typeof key !== "string" || !IDEMPOTENCY_KEY.test(key)) {
    throw new RpxError("bad_request", "Idempotency-Key must be 1 to 255 printable ASCII characters");
  }
  return { key, bodyDigest: createHash("sha256").update(call.bytes).digest("hex") };
}
