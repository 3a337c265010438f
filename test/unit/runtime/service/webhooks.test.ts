import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import type { EndpointId, JobId } from "../../../../src/runtime/core/model.ts";
import type { OutboxEntry, OutboxStore } from "../../../../src/runtime/ports/store.ts";
import type { WebhookAnswer, WebhookNet } from "../../../../src/runtime/ports/webhook-net.ts";
import { createWebhooks, webhookHeaders } from "../../../../src/runtime/service/webhooks.ts";

const OK: WebhookAnswer = { accepted: true, status: "200" };
const DOWN: WebhookAnswer = { accepted: false, status: "500" };
type Post = Parameters<WebhookNet["post"]>[0];

/** An outbox in memory and a network that answers as the test says. */
function setUp({
  answer,
  present,
}: {
  answer: (post: Post, number: number) => Promise<WebhookAnswer>;
  present?: (jobId: JobId, generation: number) => string | null;
}) {
  const clock = createSimulatedClock(1_000_000);
  const entries = new Map<number, OutboxEntry>();
  const ended: [number, string, string][] = [];
  const outbox: OutboxStore = {
    due: (nowMs, limit) =>
      [...entries.values()].filter((entry) => entry.nextTryAtMs <= nowMs).slice(0, limit),
    prune: async () => 0,
    recordTry: async (id, { kind, status, nextTryAtMs }) => {
      const entry = entries.get(id);
      if (entry === undefined) throw new Error("no such entry");
      if (kind === "retry") entries.set(id, { ...entry, tries: entry.tries + 1, nextTryAtMs });
      else {
        entries.delete(id);
        ended.push([id, kind, status]);
      }
    },
    nextDueMs: () =>
      entries
        .values()
        .reduce<number | null>((next, { nextTryAtMs }) => Math.min(next ?? nextTryAtMs, nextTryAtMs), null),
  };
  const posts: (Post & { readonly atMs: number })[] = [];
  const net: WebhookNet = {
    post: (post) => {
      posts.push({ ...post, atMs: clock.nowMs() });
      return answer(post, posts.length);
    },
  };
  const webhooks = createWebhooks({
    outbox,
    net,
    clock,
    present: present ?? ((jobId, generation) => `{"id":"${jobId}","generation":${generation}}`),
    guard: () => "private_allowed",
  });
  const stop = new AbortController();
  const running = webhooks.run(stop.signal);
  const add = (id: number, url = "https://hook.test/") =>
    entries.set(id, {
      id,
      jobId: `job-${id}` as JobId,
      endpointId: "e" as EndpointId,
      generation: 1,
      url,
      tries: 0,
      nextTryAtMs: clock.nowMs(),
    });
  return { clock, webhooks, posts, ended, entries, add, stop, running };
}

describe("the outbox loop", () => {
  test("sends a due webhook at the nudge, once", async () => {
    const { clock, webhooks, posts, ended, add } = setUp({ answer: async () => OK });
    add(1);
    webhooks.nudge();
    await clock.advance(60_000);
    expect(ended).toEqual([[1, "delivered", "200"]]);
    expect(posts).toMatchObject([
      {
        url: "https://hook.test/",
        body: '{"id":"job-1","generation":1}',
        guard: "private_allowed",
        headers: {
          "webhook-id": "msg_job-1_1",
          "webhook-timestamp": "1000",
          "content-type": "application/json",
        },
      },
    ]);
    expect(posts[0]?.headers).not.toHaveProperty("webhook-signature");
  });

  test("finds it without a nudge too", async () => {
    const { clock, ended, add } = setUp({ answer: async () => OK });
    await clock.advance(1);
    add(1);
    await clock.advance(5_000);
    expect(ended).toHaveLength(1);
  });

  test("F-28 three tries, 10 s apart, then it is given up", async () => {
    const { clock, webhooks, posts, ended, add } = setUp({ answer: async () => DOWN });
    add(1);
    webhooks.nudge();
    await clock.advance(120_000);
    expect(posts.map(({ atMs }) => atMs)).toEqual([1_000_000, 1_010_000, 1_020_000]);
    expect(ended).toEqual([[1, "given_up", "500"]]);
  });

  test("F-29 a repeat has the same id and body", async () => {
    const { clock, webhooks, posts, ended, add } = setUp({
      answer: async (_, number) => (number < 3 ? { accepted: false, status: "timeout after 10 s" } : OK),
    });
    add(1);
    webhooks.nudge();
    await clock.advance(60_000);
    expect(new Set(posts.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set(["msg_job-1_1"]));
    expect(new Set(posts.map(({ body }) => body)).size).toBe(1);
    expect(ended).toEqual([[1, "delivered", "200"]]);
  });

  test("a webhook whose job is gone is dropped without a post", async () => {
    const { clock, webhooks, posts, ended, add } = setUp({ answer: async () => OK, present: () => null });
    add(1);
    webhooks.nudge();
    await clock.advance(1);
    expect(ended).toEqual([[1, "given_up", "gone"]]);
    expect(posts).toEqual([]);
  });

  test("F-28 a host that holds its posts gets four, and holds nobody else's up", async () => {
    const { clock, webhooks, posts, ended, add } = setUp({
      answer: ({ url }) =>
        url.includes("slow") ? clock.sleep(10_000).then(() => DOWN) : Promise.resolve(OK),
    });
    for (let id = 1; id <= 20; id += 1) add(id, "https://slow.test/");
    for (let id = 21; id <= 40; id += 1) add(id, "https://fast.test/");
    webhooks.nudge();
    await clock.advance(1);
    expect(webhooks.inFlight()).toBe(4);
    expect(ended).toHaveLength(20);
    await clock.advance(300_000);
    expect(ended).toHaveLength(40);
    const slow = posts.filter(({ url }) => url.includes("slow"));
    expect(slow).toHaveLength(60);
    for (const { atMs } of slow) {
      const at = slow.filter((post) => post.atMs <= atMs && atMs < post.atMs + 10_000);
      expect(at.length).toBeLessThanOrEqual(4);
    }
  });

  test("64 at once, over all hosts", async () => {
    const { clock, webhooks, add, ended } = setUp({ answer: () => clock.sleep(1_000).then(() => OK) });
    for (let id = 1; id <= 100; id += 1) add(id, `https://host-${id}.test/`);
    webhooks.nudge();
    await clock.advance(1);
    expect(webhooks.inFlight()).toBe(64);
    await clock.advance(2_000);
    expect(ended).toHaveLength(100);
  });

  test("stops at the signal, after the posts under way", async () => {
    const { clock, webhooks, add, entries, ended, stop, running } = setUp({
      answer: () => clock.sleep(1_000).then(() => OK),
    });
    add(1);
    webhooks.nudge();
    await clock.advance(1);
    stop.abort();
    add(2);
    await clock.advance(2_000);
    await running;
    expect(ended).toHaveLength(1);
    expect([...entries.keys()]).toEqual([2]);
    expect(clock.sleeping()).toBe(0);
  });

  test("a post that breaks in an unforeseen way does not end the loop", async () => {
    const { clock, webhooks, add, ended } = setUp({
      answer: async (_, number) => {
        if (number === 1) throw new Error("unforeseen");
        return OK;
      },
    });
    add(1);
    webhooks.nudge();
    await clock.advance(60_000);
    expect(ended).toEqual([[1, "delivered", "200"]]);
  });
});

test("a store that fails costs one try a round, and the post is not lost", async () => {
  const { clock, webhooks, posts, entries, add } = setUp({ answer: async () => OK });
  add(1);
  const entry = entries.get(1);
  entries.clear();
  if (entry !== undefined) entries.set(2, entry);
  webhooks.nudge();
  await clock.advance(20_000);
  expect(posts.length).toBeGreaterThanOrEqual(4);
  expect(posts.length).toBeLessThanOrEqual(5);
});

describe("webhookHeaders", () => {
  const message = { jobId: "j", generation: 2, body: '{"a":1}', nowMs: 1_614_265_330_999 };

  test("signs as Standard Webhooks does", () => {
    const headers = webhookHeaders({ ...message, secrets: ["whsec_c2VjcmV0", "secret"] });
    const [first, second] = headers["webhook-signature"]?.split(" ") ?? [];
    expect(headers["webhook-id"]).toBe("msg_j_2");
    expect(headers["webhook-timestamp"]).toBe("1614265330");
    // printf '%s' 'msg_j_2.1614265330.{"a":1}' | openssl dgst -sha256 -hmac secret -binary | base64
    expect(first).toBe("v1,xm8++EBYsdZTd6WvdIgW2oJLyubgMRa/Ind4wWs842I=");
    expect(second).toBe(first);
  });

  test("without a secret there is no signature", () => {
    expect(webhookHeaders({ ...message, secrets: [] })).not.toHaveProperty("webhook-signature");
  });
});
