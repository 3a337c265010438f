import type Dockerode from "dockerode";
import { createLoop } from "../../loop.ts";
import type { Clock } from "../../ports/clock.ts";
import { joinSignals, unlessAborted } from "./abort.ts";
import type { EngineConnection } from "./engine-connection.ts";
import {
  asRefusal,
  awayError,
  awaySentence,
  EngineSilence,
  isUnanswered,
  refusalOf,
} from "./engine-errors.ts";
import { type EngineEvent, readEvents } from "./engine-events.ts";
import { type EngineFacts, engineFacts } from "./engine-facts.ts";

type Log = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

export type EngineDeps = {
  readonly connection: EngineConnection;
  /** Events of containers that carry this label reach `onEvent`. */
  readonly label: string;
  readonly clock: Clock;
  readonly log: Log;
};

export type AskOptions = {
  /** Longest time for one try. */
  readonly limitMs?: number;
  /** It may be asked again after a try whose outcome nobody knows. */
  readonly repeat?: boolean;
  readonly signal?: AbortSignal;
};

/** What every request is given: the library ends it when the signal aborts. */
export type CallOptions = { readonly abortSignal: AbortSignal };

/** Three calls whose declared types lack the options that they take. */
type Looks = Record<"ping" | "version" | "info", (options: CallOptions) => Promise<unknown>>;

/** The one connection of a daemon to its engine (4.6): every call has a time limit, and one engine's absence is noticed once. */
export type Engine = {
  readonly docker: Dockerode;
  readonly endpoint: string;
  readonly isSocket: boolean;
  /**
   * Asks the engine something. Rejects with an `EngineRefusal` when it says no, with an RpxError `unavailable` when it does not answer, and
   * with the signal's reason when that aborts. While the engine is known to be away it rejects at once.
   */
  ask<Answer>(call: (options: CallOptions) => Promise<Answer>, options?: AskOptions): Promise<Answer>;
  /** A sentence why it cannot be used now; null when it can. An engine that hangs is away like one that is down (F-18). */
  away(): string | null;
  /** What it said of itself when it was last found; null before that. */
  facts(): EngineFacts | null;
  /** Calls back when `away` has changed. */
  onChange(listener: () => void): () => void;
  /** Events are hints: some are lost. Null says that some may have been. */
  onEvent(listener: (event: EngineEvent | null) => void): () => void;
  /** Looks for the engine, and goes on looking; resolves after the first look, whatever it finds. */
  open(): Promise<void>;
  close(): Promise<void>;
};

const ASK_LIMIT_MS = 15_000;
/** A healthy engine answers a ping in milliseconds; one that is deleting a large container may take a second. */
const PING_LIMIT_MS = 3_000;
const PING_EVERY_MS = 2_000;
const PING_AGAIN_MS = 100;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
const MAX_TRIES = 6;

export function createEngine({ connection, label, clock, log }: EngineDeps): Engine {
  const { docker, endpoint } = connection;
  const looks = docker as unknown as Looks;
  const closed = new AbortController();
  const changes = createListeners<void>();
  const events = createListeners<EngineEvent | null>();
  let sentence: string | null = `the Docker engine at ${endpoint} was not asked yet`;
  let facts: EngineFacts | null = null;
  /** Aborted when the engine is lost: nobody waits on for an answer that will not come. */
  let absence = new AbortController();
  /** Aborted when the engine is found again: what listened to the one before listens to nobody. */
  let present = new AbortController();
  let following: Promise<void> | null = null;

  const watch = createLoop({
    clock,
    tick: look,
    maxPauseMs: PING_EVERY_MS,
    minPauseMs: PING_AGAIN_MS,
    log,
    name: "engine watch",
  });

  async function once<Answer>(
    call: (options: CallOptions) => Promise<Answer>,
    { limitMs = ASK_LIMIT_MS, signal }: AskOptions,
    lost?: AbortSignal,
  ): Promise<Answer> {
    const joined = joinSignals([closed.signal, signal, lost]);
    const ended = new AbortController();
    void clock
      .sleep(limitMs, ended.signal)
      .then(() => ended.signal.aborted || joined.controller.abort(new EngineSilence(limitMs)));
    try {
      joined.signal.throwIfAborted();
      return await unlessAborted(call({ abortSignal: joined.signal }), joined.signal);
    } catch (error) {
      throw joined.signal.aborted ? joined.signal.reason : asRefusal(error);
    } finally {
      ended.abort();
      joined.release();
    }
  }

  /** One look at the engine. A first silence may be a moment's: only the second in a row means that it is away. */
  async function look(): Promise<number | null> {
    const failure = (await pingFailure()) && (await pingFailure());
    if (failure) lose(awaySentence(endpoint, failure));
    else if (sentence !== null) await find();
    return null;
  }

  async function pingFailure(): Promise<unknown> {
    try {
      await once((options) => looks.ping(options), { limitMs: PING_LIMIT_MS });
      return null;
    } catch (error) {
      // An engine that refuses a ping is there: which one it is, `find` sees.
      return refusalOf(error) === null ? (error ?? new Error("ping failed")) : null;
    }
  }

  function lose(why: string): void {
    if (sentence === why) return;
    if (sentence === null) log.warn({ reason: why }, "Docker engine away");
    sentence = why;
    absence.abort(awayError(why));
    changes.call();
  }

  async function find(): Promise<void> {
    try {
      facts = engineFacts(
        await once((options) => looks.version(options), {}),
        await once((options) => looks.info(options), {}),
      );
    } catch (error) {
      return lose(awaySentence(endpoint, error));
    }
    log.info({ endpoint, version: facts.version }, "Docker engine found");
    sentence = null;
    absence = new AbortController();
    present.abort();
    present = new AbortController();
    changes.call();
  }

  /** Follows the engine's events for as long as it is there, and begins again when it has come back. */
  async function follow(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!closed.signal.aborted) {
      const joined = joinSignals([present.signal, closed.signal]);
      const heard = sentence === null && (await followOnce(joined.signal));
      pauseMs = heard ? FIRST_PAUSE_MS : Math.min(pauseMs * 2, MAX_PAUSE_MS);
      await clock.sleep(pauseMs, joined.signal);
      joined.release();
    }
  }

  /** Whether the stream was there. Its answer has a time limit, the stream itself none. */
  async function followOnce(until: AbortSignal): Promise<boolean> {
    const { controller, signal, release } = joinSignals([until]);
    const filters = { type: ["container" as const], label: [label] };
    try {
      const stream = await once(() => docker.getEvents({ filters, abortSignal: signal }), { signal });
      events.call(null);
      await readEvents(stream, events.call);
      return true;
    } catch (error) {
      if (!signal.aborted) log.warn({ reason: awaySentence(endpoint, error) }, "events of the engine lost");
      return false;
    } finally {
      controller.abort();
      release();
      watch.nudge();
    }
  }

  return {
    docker,
    endpoint,
    isSocket: connection.isSocket,
    async ask(call, options = {}) {
      const { repeat = false, signal } = options;
      let pauseMs = FIRST_PAUSE_MS;
      for (let tries = 1; ; tries += 1) {
        if (sentence !== null) throw awayError(sentence);
        try {
          return await once(call, options, absence.signal);
        } catch (error) {
          if (!isUnanswered(error)) throw error;
          watch.nudge();
          if (!repeat || tries >= MAX_TRIES) throw awayError(awaySentence(endpoint, error), error);
        }
        await clock.sleep(pauseMs, signal);
        signal?.throwIfAborted();
        pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
      }
    },
    away: () => sentence,
    facts: () => facts,
    onChange: (listener) => changes.add(listener),
    onEvent: (listener) => events.add(listener),
    async open() {
      await look();
      watch.start();
      following ??= follow();
    },
    async close() {
      closed.abort(awayError("the daemon is closing its connection to the Docker engine"));
      await watch.stop();
      await following;
    },
  };
}

function createListeners<Value>() {
  const listeners = new Set<(value: Value) => void>();
  return {
    add(listener: (value: Value) => void): () => void {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    call(value: Value): void {
      for (const listener of [...listeners]) listener(value);
    },
  };
}
