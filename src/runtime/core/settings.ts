import { RpxError } from "../../contract/error.ts";
import type { EndpointConfig } from "../../contract/schemas/endpoint.ts";
import { parseDuration } from "../../text/duration.ts";
import type { EndpointSettings } from "./model.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** What an endpoint has that says nothing else: RunPod's console defaults. */
export const DEFAULT_SETTINGS: EndpointSettings = {
  workers: {
    min: 0,
    max: 3,
    idleTimeoutMs: 5 * SECOND_MS,
    flashboot: true,
    prefetch: 1,
    extra: 0,
    prewarm: false,
  },
  scale: { by: "queue-delay", threshold: 4, maxQueued: 0 },
  limits: {
    executionTimeoutMs: 10 * MINUTE_MS,
    ttlMs: 24 * HOUR_MS,
    startTimeoutMs: 7 * MINUTE_MS,
    retries: 0,
  },
  retention: { asyncMs: 30 * MINUTE_MS, syncMs: MINUTE_MS, failedMs: 30 * MINUTE_MS },
  webhookSecret: null,
};

type Range = { readonly least: number; readonly most: number };

/** Idle, execution and ttl as on RunPod; the others keep a mistyped unit out. In ms. */
const DURATIONS = {
  "workers.idle_timeout": { least: SECOND_MS, most: HOUR_MS },
  "limits.execution_timeout": { least: 5 * SECOND_MS, most: 7 * DAY_MS },
  "limits.ttl": { least: 10 * SECOND_MS, most: 7 * DAY_MS },
  "limits.start_timeout": { least: SECOND_MS, most: DAY_MS },
  "retention.async": { least: 0, most: 30 * DAY_MS },
  "retention.sync": { least: 0, most: 30 * DAY_MS },
  "retention.failed": { least: 0, most: 30 * DAY_MS },
} as const satisfies Record<string, Range>;

const NUMBERS = {
  "workers.min": { least: 0, most: 1_000 },
  "workers.max": { least: 0, most: 1_000 },
  "workers.prefetch": { least: 1, most: 1_000 },
  "workers.extra": { least: 0, most: 1_000 },
  "scale.max_queued": { least: 0, most: Number.MAX_SAFE_INTEGER },
  "limits.retries": { least: 0, most: 25 },
} as const satisfies Record<string, Range>;

/** Seconds of the oldest wait, or requests per worker. */
const THRESHOLDS = {
  "queue-delay": { least: 0.5, most: 3_600 },
  "request-count": { least: 1, most: 1_000_000 },
} as const satisfies Record<EndpointSettings["scale"]["by"], Range>;

/**
 * Settings as the daemon keeps them, from settings as rpx.toml spells them: what is absent stays as in `previous`, or is the
 * default. Throws an RpxError `usage` that names the field, the rule and the value got. Keys that are no setting of this
 * record (gpu, env, volumes, sizes) are left to others.
 */
export function resolveSettings(
  config: EndpointConfig,
  previous: EndpointSettings = DEFAULT_SETTINGS,
): EndpointSettings {
  const settings: EndpointSettings = {
    workers: resolveWorkers(config.workers ?? {}, previous.workers),
    scale: resolveScale(config.scale ?? {}, previous.scale),
    limits: resolveLimits(config.limits ?? {}, previous.limits),
    retention: resolveRetention(config.retention ?? {}, previous.retention),
    webhookSecret: resolveSecret(config.webhook?.secret, previous.webhookSecret),
  };
  const { min, max } = settings.workers;
  if (min > max) refuse("workers.min", `at most workers.max, which is ${max}`, min);
  return settings;
}

const SIGNING_SECRET = /^whsec_[A-Za-z0-9+/]{32,}={0,2}$/;

/** A signing secret as Standard Webhooks writes it, or the name of one. What was shown redacted changes nothing. */
function resolveSecret(secret: string | undefined, previous: string | null): string | null {
  if (secret === undefined || secret === "whsec_[redacted]") return previous;
  if (secret.startsWith("secret:") || SIGNING_SECRET.test(secret)) return secret;
  throw new RpxError(
    "usage",
    "webhook.secret must be whsec_ and at least 24 bytes in base64, or secret:NAME",
    {
      hint: 'make one with: echo "whsec_$(openssl rand -base64 32)"',
    },
  );
}

/** The same settings under their rpx.toml names, durations as their shortest exact text ("5s", "10m", "90s"). */
export function presentConfig(
  settings: EndpointSettings,
  env: Readonly<Record<string, string>>,
): EndpointConfig {
  const { workers, scale, limits, retention, webhookSecret } = settings;
  return {
    workers: {
      min: workers.min,
      max: workers.max,
      idle_timeout: durationText(workers.idleTimeoutMs),
      flashboot: workers.flashboot,
      prefetch: workers.prefetch,
      extra: workers.extra,
      prewarm: workers.prewarm,
    },
    scale: { by: scale.by, threshold: scale.threshold, max_queued: scale.maxQueued },
    limits: {
      execution_timeout: durationText(limits.executionTimeoutMs),
      ttl: durationText(limits.ttlMs),
      start_timeout: durationText(limits.startTimeoutMs),
      retries: limits.retries,
    },
    retention: {
      async: durationText(retention.asyncMs),
      sync: durationText(retention.syncMs),
      failed: durationText(retention.failedMs),
    },
    ...(Object.keys(env).length === 0 ? {} : { env: { ...env } }),
    ...(webhookSecret === null ? {} : { webhook: { secret: shownSecret(webhookSecret) } }),
  };
}

/** The name of a secret is shown, a secret itself never is. */
function shownSecret(secret: string): string {
  return secret.startsWith("whsec_") ? "whsec_[redacted]" : secret;
}

/** A duration in whole ms as one number and one unit, the largest that is exact; days from two on ("24h", "2d"). */
export function durationText(ms: number): string {
  if (ms >= 2 * DAY_MS && ms % DAY_MS === 0) return `${ms / DAY_MS}d`;
  if (ms > 0 && ms % HOUR_MS === 0) return `${ms / HOUR_MS}h`;
  if (ms > 0 && ms % MINUTE_MS === 0) return `${ms / MINUTE_MS}m`;
  return ms % SECOND_MS === 0 ? `${ms / SECOND_MS}s` : `${ms}ms`;
}

type Part<Name extends "workers" | "scale" | "limits" | "retention"> = NonNullable<EndpointConfig[Name]>;

function resolveWorkers(
  config: Part<"workers">,
  previous: EndpointSettings["workers"],
): EndpointSettings["workers"] {
  return {
    min: whole("workers.min", config.min, previous.min),
    max: whole("workers.max", config.max, previous.max),
    idleTimeoutMs: duration("workers.idle_timeout", config.idle_timeout, previous.idleTimeoutMs),
    flashboot: config.flashboot ?? previous.flashboot,
    prefetch: whole("workers.prefetch", config.prefetch, previous.prefetch),
    extra: whole("workers.extra", config.extra, previous.extra),
    prewarm: config.prewarm ?? previous.prewarm,
  };
}

function resolveScale(config: Part<"scale">, previous: EndpointSettings["scale"]): EndpointSettings["scale"] {
  const by = config.by ?? previous.by;
  // A threshold in seconds means nothing as a number of requests: a change of rule starts from that rule's own default.
  const kept = by === previous.by ? previous.threshold : DEFAULT_SETTINGS.scale.threshold;
  const threshold = config.threshold ?? kept;
  const { least, most } = THRESHOLDS[by];
  if (!(threshold >= least && threshold <= most)) {
    refuse("scale.threshold", `between ${least} and ${most} with scale.by "${by}"`, threshold);
  }
  return { by, threshold, maxQueued: whole("scale.max_queued", config.max_queued, previous.maxQueued) };
}

function resolveLimits(
  config: Part<"limits">,
  previous: EndpointSettings["limits"],
): EndpointSettings["limits"] {
  return {
    executionTimeoutMs: duration(
      "limits.execution_timeout",
      config.execution_timeout,
      previous.executionTimeoutMs,
    ),
    ttlMs: duration("limits.ttl", config.ttl, previous.ttlMs),
    startTimeoutMs: duration("limits.start_timeout", config.start_timeout, previous.startTimeoutMs),
    retries: whole("limits.retries", config.retries, previous.retries),
  };
}

function resolveRetention(
  config: Part<"retention">,
  previous: EndpointSettings["retention"],
): EndpointSettings["retention"] {
  return {
    asyncMs: duration("retention.async", config.async, previous.asyncMs),
    syncMs: duration("retention.sync", config.sync, previous.syncMs),
    failedMs: duration("retention.failed", config.failed, previous.failedMs),
  };
}

function duration(
  field: keyof typeof DURATIONS,
  value: string | number | undefined,
  previousMs: number,
): number {
  if (value === undefined) return previousMs;
  const ms = parseDuration(value);
  if (ms === null) return refuse(field, 'a duration such as "5s" or "10m", or plain seconds', value);
  const { least, most } = DURATIONS[field];
  if (ms < least || ms > most) {
    refuse(field, `between ${durationText(least)} and ${durationText(most)}`, value);
  }
  return ms;
}

function whole(field: keyof typeof NUMBERS, value: number | undefined, previous: number): number {
  if (value === undefined) return previous;
  const { least, most } = NUMBERS[field];
  if (!Number.isInteger(value) || value < least || value > most) {
    refuse(field, `a whole number between ${least} and ${most}`, value);
  }
  return value;
}

function refuse(field: string, rule: string, value: string | number): never {
  throw new RpxError("usage", `${field} must be ${rule}, got ${JSON.stringify(value)}`, {
    hint: `Change ${field} in rpx.toml or its flag.`,
  });
}
