import { createHmac } from "node:crypto";
import { RpxError } from "../../contract/error.ts";
import type { EndpointId, JobId } from "../core/model.ts";
import type { Guard } from "../core/url-guard.ts";
import type { Clock } from "../ports/clock.ts";
import type { OutboxEntry, OutboxStore } from "../ports/store.ts";
import type { WebhookAnswer, WebhookNet } from "../ports/webhook-net.ts";

export type Webhooks = {
  /** Sends what is due until the signal aborts; resolves when the posts then under way have ended. */
  run(signal: AbortSignal): Promise<void>;
  /** Looks at the outbox now: a job with a webhook has ended. */
  nudge(): void;
  /** Posts under way. */
  inFlight(): number;
};

type Log = { info(fields: object, message: string): void; error(fields: object, message: string): void };

type Dependencies = {
  readonly outbox: OutboxStore;
  readonly net: WebhookNet;
  readonly clock: Clock;
  /**
   * The body: what /status answers, plus `input` and `webhook`, in the order RunPod sends them. Null when the job, or that
   * generation of it, is gone.
   */
  readonly present: (jobId: JobId, generation: number) => string | null;
  /** The endpoint's signing secrets, two while one replaces the other; empty: unsigned. Throws an RpxError where one is missing. */
  readonly secrets?: (endpointId: EndpointId) => readonly string[];
  readonly guard: () => Guard;
  readonly log?: Log;
};

/** Tries of one webhook, and the time between them: RunPod's contract. */
const MAX_TRIES = 3;
const RETRY_AFTER_MS = 10_000;
/** Posts at once, to all hosts and to one (F-28). */
const MAX_IN_FLIGHT = 64;
const MAX_PER_HOST = 4;
/**
 * Entries looked at in one round, oldest first. A host whose queue alone is longer delays the others' webhooks until its own
 * are given up; it never delays jobs.
 */
const MAX_DUE = 1_000;
/** Longest rest: what a lost nudge costs at most. */
const MAX_REST_MS = 5_000;

/**
 * Sends webhooks from the outbox: at least once each, with an id that stays the same on repeats (F-29), so that a receiver
 * can drop what it has seen. The outbox row was written in the transaction that ended the job (F-06).
 */
export function createWebhooks(dependencies: Dependencies): Webhooks {
  const { outbox, clock, log } = dependencies;
  const underWay = new Map<number, { readonly host: string; readonly done: Promise<void> }>();
  let wake = new AbortController();

  async function run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", nudge);
    while (!signal.aborted) {
      wake = new AbortController();
      startDue(signal);
      await clock.sleep(restMs(), wake.signal);
    }
    signal.removeEventListener("abort", nudge);
    await Promise.all([...underWay.values()].map(({ done }) => done));
  }

  function nudge(): void {
    wake.abort();
  }

  function startDue(signal: AbortSignal): void {
    if (signal.aborted || underWay.size >= MAX_IN_FLIGHT) return;
    for (const entry of outbox.due(clock.nowMs(), MAX_DUE)) {
      if (underWay.size >= MAX_IN_FLIGHT) return;
      const host = hostOf(entry.url);
      if (!underWay.has(entry.id) && postsTo(host) < MAX_PER_HOST) start(entry, host);
    }
  }

  function start(entry: OutboxEntry, host: string): void {
    const done = deliver(entry).then(
      () => end(entry, true),
      (error: unknown) => {
        log?.error({ err: error, outboxId: entry.id }, "webhook's try not recorded");
        end(entry, false);
      },
    );
    underWay.set(entry.id, { host, done });
  }

  /** A try that could not be recorded is due still: the next round is soon enough for it. */
  function end(entry: OutboxEntry, recorded: boolean): void {
    underWay.delete(entry.id);
    if (recorded) nudge();
  }

  function postsTo(host: string): number {
    return underWay.values().reduce((sum, post) => sum + (post.host === host ? 1 : 0), 0);
  }

  async function deliver(entry: OutboxEntry): Promise<void> {
    const answer = await attempt(dependencies, entry).catch((error: unknown): Attempted => {
      if (error instanceof RpxError) return { accepted: false, status: error.message };
      log?.error({ err: error, outboxId: entry.id }, "webhook broke");
      return { accepted: false, status: "failed" };
    });
    const nowMs = clock.nowMs();
    const kind = outcomeOf(answer, entry);
    log?.info({ jobId: entry.jobId, tries: entry.tries + 1, status: answer.status, kind }, "webhook tried");
    await outbox.recordTry(
      entry.id,
      { kind, status: answer.status, nextTryAtMs: nowMs + RETRY_AFTER_MS },
      nowMs,
    );
  }

  /** Until the next entry is due; entries that are due now wait for a place, and a place that frees up nudges. */
  function restMs(): number {
    const nextMs = outbox.nextDueMs();
    const nowMs = clock.nowMs();
    return nextMs === null || nextMs <= nowMs ? MAX_REST_MS : Math.min(MAX_REST_MS, nextMs - nowMs);
  }

  return { run, nudge, inFlight: () => underWay.size };
}

type Attempted = WebhookAnswer & { readonly gone?: true };

async function attempt(dependencies: Dependencies, entry: OutboxEntry): Promise<Attempted> {
  const { net, clock, present, secrets, guard } = dependencies;
  const body = present(entry.jobId, entry.generation);
  if (body === null) return { accepted: false, status: "gone", gone: true };
  const headers = webhookHeaders({
    jobId: entry.jobId,
    generation: entry.generation,
    body,
    secrets: secrets?.(entry.endpointId) ?? [],
    nowMs: clock.nowMs(),
  });
  return await net.post({ url: entry.url, body, headers, guard: guard() });
}

function outcomeOf(answer: Attempted, entry: OutboxEntry): "delivered" | "given_up" | "retry" {
  if (answer.accepted) return "delivered";
  return answer.gone || entry.tries + 1 >= MAX_TRIES ? "given_up" : "retry";
}

/** The headers of a webhook, as Standard Webhooks names them; the signature only with a secret. */
export function webhookHeaders({
  jobId,
  generation,
  body,
  secrets,
  nowMs,
}: {
  readonly jobId: string;
  readonly generation: number;
  readonly body: string;
  readonly secrets: readonly string[];
  readonly nowMs: number;
}): Record<string, string> {
  const id = `msg_${jobId}_${generation}`;
  const timestamp = String(Math.floor(nowMs / 1_000));
  const headers = {
    "content-type": "application/json",
    "user-agent": "rpx",
    "webhook-id": id,
    "webhook-timestamp": timestamp,
  };
  if (secrets.length === 0) return headers;
  const signed = `${id}.${timestamp}.${body}`;
  return { ...headers, "webhook-signature": secrets.map((secret) => sign(secret, signed)).join(" ") };
}

/** HMAC-SHA256 in base64; a secret in the form `whsec_<base64>` is the bytes it encodes, any other its own text. */
function sign(secret: string, text: string): string {
  const key = secret.startsWith("whsec_")
    ? Buffer.from(secret.slice("whsec_".length), "base64")
    : Buffer.from(secret);
  return `v1,${createHmac("sha256", key).update(text).digest("base64")}`;
}

function hostOf(url: string): string {
  return URL.parse(url)?.host ?? "";
}
