import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import type { EndpointId, KeyId } from "../../../../src/runtime/core/model.ts";
import { createRateLimits } from "../../../../src/runtime/service/rate-limits.ts";

const ada = { keyId: "ada" as KeyId };
const bob = { keyId: "bob" as KeyId };
const hello = "hello" as EndpointId;

describe("createRateLimits", () => {
  test("purge: two in 10 s by one key on one endpoint, with the headers of the IETF's draft", async () => {
    const clock = createSimulatedClock(50_000);
    const limits = createRateLimits({ clock, enabled: true });
    expect(limits.enter(ada, hello, "purge")).toMatchObject({
      ok: true,
      headers: { "RateLimit-Policy": '"purge";q=2;w=10', RateLimit: '"purge";r=1;t=10' },
    });
    limits.enter(ada, hello, "purge");
    const refused = limits.enter(ada, hello, "purge");
    expect(refused).toMatchObject({
      ok: false,
      retryAfterSeconds: 11,
      headers: { RateLimit: '"purge";r=0;t=11' },
    });
    expect(limits.enter(bob, hello, "purge").ok).toBe(true);
    expect(limits.enter(ada, "other" as EndpointId, "purge").ok).toBe(true);
    await clock.advance(11_000);
    expect(limits.enter(ada, hello, "purge").ok).toBe(true);
  });

  test.each([
    ["runsync", 400],
    ["run", 200],
    ["status", 400],
    ["stream", 400],
    ["cancel", 20],
    ["requests", 2],
    ["openai", 400],
  ] as const)("%s: %d at once", (operation, concurrent) => {
    const limits = createRateLimits({ clock: createSimulatedClock(0), enabled: true });
    const entries = Array.from({ length: concurrent }, () => limits.enter(ada, hello, operation));
    expect(entries.every(({ ok }) => ok)).toBe(true);
    expect(limits.enter(ada, hello, operation)).toMatchObject({ ok: false, retryAfterSeconds: 1 });
    const [first] = entries;
    if (first?.ok) {
      first.leave();
      first.leave();
    }
    expect(limits.enter(ada, hello, operation).ok).toBe(true);
    expect(limits.enter(ada, hello, operation).ok).toBe(false);
  });

  test("running workers raise the limit, never lower it", () => {
    const clock = createSimulatedClock(0);
    const policy = (workers: number) => {
      const limits = createRateLimits({
        clock,
        enabled: true,
        perWorkerRequests: 30,
        runningWorkers: () => workers,
      });
      return limits.enter(ada, hello, "cancel").headers["RateLimit-Policy"];
    };
    expect(policy(1)).toBe('"cancel";q=100;w=10');
    expect(policy(4)).toBe('"cancel";q=120;w=10');
  });

  test("off: everything goes through without headers", () => {
    const limits = createRateLimits({ clock: createSimulatedClock(0), enabled: false });
    for (let count = 0; count < 100; count += 1) {
      expect(limits.enter(ada, hello, "purge")).toMatchObject({ ok: true, headers: {} });
    }
    expect(limits.size()).toBe(0);
  });

  test("counters are bounded, and those with running requests go last", () => {
    const limits = createRateLimits({ clock: createSimulatedClock(0), enabled: true });
    limits.enter(ada, hello, "requests");
    limits.enter(ada, hello, "requests");
    for (let count = 0; count < 10_100; count += 1) {
      const entry = limits.enter({ keyId: `key-${count}` as KeyId }, hello, "run");
      if (entry.ok) entry.leave();
    }
    expect(limits.size()).toBe(10_000);
    expect(limits.enter(ada, hello, "requests").ok).toBe(false);
  });
});
