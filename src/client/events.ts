import { setTimeout as sleep } from "node:timers/promises";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { RpxError } from "../contract/error.ts";
import { API_ROUTES } from "../contract/routes.ts";
import type { EventBody } from "../contract/schemas/job.ts";
import { expectSuccess } from "./reply.ts";
import type { Reply, Send } from "./send.ts";

/** Waits between attempts to connect again, in ms: doubled each time, up to the last. */
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 8_000;
/** Attempts in a row without an answer before giving up: half a minute, more than a restart takes. */
const MAX_ATTEMPTS = 8;

/** `after`: the journal number after which to begin; undefined: now. */
export type FollowOptions = { readonly after?: number; readonly signal?: AbortSignal };

/**
 * The journal as it grows. A broken connection is taken up again where it broke (`Last-Event-ID`), so that no event is lost or doubled;
 * ends by throwing when the daemon stays away or the signal fires.
 */
export async function* followEvents(send: Send, options: FollowOptions = {}): AsyncGenerator<EventBody> {
  let last = options.after;
  let attempts = 0;
  for (;;) {
    const reply = await connect(send, last, options.signal).catch((error: unknown) => {
      attempts += 1;
      if (!mayComeBack(error) || attempts >= MAX_ATTEMPTS) throw error;
      return null;
    });
    if (reply !== null) {
      for await (const event of readEvents(reply)) {
        attempts = 0;
        last = event.seq;
        yield event;
      }
    }
    const pauseMs = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts);
    await sleep(pauseMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}

function mayComeBack(error: unknown): boolean {
  return error instanceof RpxError && (error.code === "unreachable" || error.code === "unavailable");
}

async function connect(
  send: Send,
  last: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Reply> {
  const reply = await send({
    method: "GET",
    path: API_ROUTES.events.path,
    ...(last === undefined
      ? {}
      : { query: { after: String(last) }, headers: { "last-event-id": String(last) } }),
    silenceMs: 0,
    ...(signal === undefined ? {} : { signal }),
  });
  await expectSuccess(reply);
  return reply;
}

/** The events of one connection; ends quietly when it breaks, except by the signal. */
async function* readEvents(reply: Reply): AsyncGenerator<EventBody> {
  const waiting: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => waiting.push(message) });
  const decoder = new TextDecoder();
  try {
    for await (const part of reply.body) {
      parser.feed(decoder.decode(part, { stream: true }));
      for (const message of waiting.splice(0)) yield JSON.parse(message.data) as EventBody;
    }
  } catch (error) {
    if (error instanceof RpxError || error instanceof SyntaxError) throw error;
  }
}
