import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RpxError } from "../../../../src/contract/error.ts";
import { type EndpointConfig, endpointConfigSchema } from "../../../../src/contract/schemas/endpoint.ts";
import type { EndpointSettings } from "../../../../src/runtime/core/model.ts";
import {
  DEFAULT_SETTINGS,
  durationText,
  presentConfig,
  resolveSettings,
} from "../../../../src/runtime/core/settings.ts";
import { parseDuration } from "../../../../src/text/duration.ts";

const DAY_MS = 86_400_000;
const ms = (least: number, most: number) => fc.integer({ min: least, max: most });
const settings: fc.Arbitrary<EndpointSettings> = fc
  .record({
    range: fc.tuple(fc.nat(1_000), fc.nat(1_000)),
    idleTimeoutMs: ms(1_000, 3_600_000),
    flashboot: fc.boolean(),
    prefetch: fc.integer({ min: 1, max: 1_000 }),
    extra: fc.nat(1_000),
    prewarm: fc.boolean(),
    scale: fc.oneof(
      fc.record({
        by: fc.constant("queue-delay" as const),
        threshold: fc.integer({ min: 1, max: 7_200 }).map((half) => half / 2),
        maxQueued: fc.nat(),
      }),
      fc.record({
        by: fc.constant("request-count" as const),
        threshold: fc.integer({ min: 1, max: 1_000 }),
        maxQueued: fc.nat(),
      }),
    ),
    limits: fc.record({
      executionTimeoutMs: ms(5_000, 7 * DAY_MS),
      ttlMs: ms(10_000, 7 * DAY_MS),
      startTimeoutMs: ms(1_000, DAY_MS),
      retries: fc.nat(25),
    }),
    retention: fc.record({
      asyncMs: ms(0, 30 * DAY_MS),
      syncMs: ms(0, 30 * DAY_MS),
      failedMs: ms(0, 30 * DAY_MS),
    }),
    webhookSecret: fc.option(fc.constant("secret:hook"), { nil: null }),
  })
  .map(({ range, idleTimeoutMs, flashboot, prefetch, extra, prewarm, ...rest }) => ({
    ...rest,
    workers: {
      min: Math.min(...range),
      max: Math.max(...range),
      idleTimeoutMs,
      flashboot,
      prefetch,
      extra,
      prewarm,
    },
  }));

describe("resolveSettings", () => {
  test("fills in RunPod's defaults", () => {
    expect(resolveSettings({})).toEqual(DEFAULT_SETTINGS);
    expect(presentConfig(DEFAULT_SETTINGS, {})).toEqual({
      workers: {
        min: 0,
        max: 3,
        idle_timeout: "5s",
        flashboot: true,
        prefetch: 1,
        extra: 0,
        prewarm: false,
      },
      scale: { by: "queue-delay", threshold: 4, max_queued: 0 },
      limits: { execution_timeout: "10m", ttl: "24h", start_timeout: "7m", retries: 0 },
      retention: { async: "30m", sync: "1m", failed: "30m" },
    });
  });

  test("what is absent stays as it was", () => {
    const before = resolveSettings({ workers: { min: 1, max: 8 }, limits: { ttl: "2h" } });
    const after = resolveSettings({ workers: { max: 5 }, webhook: { secret: "secret:hook" } }, before);
    expect(after.workers).toEqual({ ...before.workers, max: 5 });
    expect(after.limits.ttlMs).toBe(7_200_000);
    expect(after.webhookSecret).toBe("secret:hook");
  });

  test("another scaling rule starts from its own threshold", () => {
    const before = resolveSettings({ scale: { threshold: 0.5 } });
    expect(resolveSettings({ scale: { by: "request-count" } }, before).scale.threshold).toBe(4);
    expect(resolveSettings({ scale: { max_queued: 9 } }, before).scale.threshold).toBe(0.5);
  });

  test.each<[string, EndpointConfig, string]>([
    ["min over max", { workers: { min: 4 } }, "workers.min must be at most workers.max, which is 3, got 4"],
    [
      "an unreadable duration",
      { workers: { idle_timeout: "soon" } },
      'workers.idle_timeout must be a duration such as "5s" or "10m", or plain seconds, got "soon"',
    ],
    [
      "a duration out of range",
      { limits: { execution_timeout: "1s" } },
      'limits.execution_timeout must be between 5s and 7d, got "1s"',
    ],
    ["a short ttl", { limits: { ttl: 9 } }, "limits.ttl must be between 10s and 7d, got 9"],
    [
      "a fraction of a request",
      { scale: { by: "request-count", threshold: 0.5 } },
      'scale.threshold must be between 1 and 1000000 with scale.by "request-count", got 0.5',
    ],
    [
      "half a worker",
      { workers: { max: 1.5 } },
      "workers.max must be a whole number between 0 and 1000, got 1.5",
    ],
  ])("refuses %s, naming the field, the rule and the value", (_, config, message) => {
    try {
      resolveSettings(config);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(RpxError);
      expect(error).toMatchObject({ code: "usage", message });
    }
  });
});

describe("presentConfig", () => {
  test("is read back as the same settings, and the contract accepts it", () => {
    fc.assert(
      fc.property(settings, (settings) => {
        const config = endpointConfigSchema.parse(presentConfig(settings, { MODEL: "tiny" }));
        expect(resolveSettings(config)).toEqual(settings);
        expect(config.env).toEqual({ MODEL: "tiny" });
      }),
    );
  });

  test.each([
    [0, "0s"],
    [1, "1ms"],
    [1_500, "1500ms"],
    [90_000, "90s"],
    [600_000, "10m"],
    [5_400_000, "90m"],
    [DAY_MS, "24h"],
    [7 * DAY_MS, "7d"],
  ])("%d ms is %s", (duration, text) => {
    expect(durationText(duration)).toBe(text);
    expect(parseDuration(text)).toBe(duration);
  });
});
