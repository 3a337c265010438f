import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import type { EndpointId, JobId, JournalEvent, WorkerId } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Endpoints } from "../service/endpoints.ts";
import type { Events } from "../service/events.ts";
import type { Principal } from "../service/keys.ts";
import type { LogRequest, Logs, TaggedLine } from "../service/logs.ts";
import { eventBody, logLineBody } from "./present.ts";
import type { Answer, Sink } from "./reply.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

export type EventRoutesOptions = {
  readonly store: Pick<Store, "journal" | "fleet">;
  readonly clock: Clock;
  readonly events: Events;
  readonly endpoints: Endpoints;
  readonly logs: Logs;
  /** Aborts when the key is revoked (F-47). */
  readonly untilRevoked: (principal: Principal) => AbortSignal;
};

type StreamRouteName = Extract<ApiRouteName, "endpointLogs" | "workerLogs" | "events">;

const PAGE = 500;
const KEEP_ALIVE_MS = 5_000;
const DEFAULT_TAIL = 100;
const MAX_TAIL = 5_000;

/** What goes on for as long as somebody reads: the journal as server-sent events, logs as lines of JSON. */
export function createEventRoutes(options: EventRoutesOptions): Record<StreamRouteName, Handler<Principal>> {
  const { store, clock, events, endpoints, logs } = options;

  async function follow(call: Call<Principal>): Promise<Answer> {
    const asked = call.query.get("after") ?? call.headers["last-event-id"];
    const afterSeq = asked === undefined ? store.journal.newestSeq() : Number(asked);
    if (!Number.isInteger(afterSeq) || afterSeq < 0)
      throw new RpxError("bad_request", "after must be an event's number");
    const revoked = options.untilRevoked(call.principal);
    return {
      kind: "stream",
      contentType: "text/event-stream",
      write: (sink) => writeEvents(sink, call.principal, afterSeq, revoked),
    };
  }

  /** Reads the journal page by page; the bus only says that there is more. */
  async function writeEvents(
    sink: Sink,
    principal: Principal,
    afterSeq: number,
    revoked: AbortSignal,
  ): Promise<void> {
    const closed = AbortSignal.any([sink.closed, revoked]);
    let cursor = afterSeq;
    while (!closed.aborted) {
      const grown = growth(closed);
      const page = store.journal.read({ afterSeq: cursor, limit: PAGE });
      for (const event of page) {
        cursor = event.seq;
        if (!maySee(principal, event)) continue;
        if (!(await sink.write(`id: ${event.seq}\ndata: ${JSON.stringify(eventBody(event))}\n\n`)))
          return grown.cancel();
      }
      if (page.length > 0) grown.cancel();
      else if (!(await grown.promise) && !closed.aborted && !(await sink.write(": waiting\n\n"))) return;
    }
  }

  /** Resolves true at the next event, false after the keep-alive pause. */
  function growth(closed: AbortSignal): { promise: Promise<boolean>; cancel: () => void } {
    const timer = new AbortController();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const finish = (grown: boolean) => {
      unsubscribe();
      closed.removeEventListener("abort", stop);
      timer.abort();
      resolve(grown);
    };
    const stop = () => finish(false);
    const unsubscribe = events.subscribe(() => finish(true));
    closed.addEventListener("abort", stop, { once: true });
    clock.sleep(KEEP_ALIVE_MS, timer.signal).then(() => timer.signal.aborted || finish(false), stop);
    return { promise, cancel: stop };
  }

  function maySee(principal: Principal, event: JournalEvent): boolean {
    if (principal.scope === "admin") return true;
    const endpoint = event.endpointId ? endpoints.byId(event.endpointId) : null;
    if (endpoint?.owner === principal.owner) return true;
    return event.owner === principal.owner && event.owner !== null;
  }

  async function endpointLogs(call: Call<Principal>): Promise<Answer> {
    const { endpoint, owner } = endpoints.find(call.principal, call.params.endpoint ?? "");
    const request = readLogRequest(call.query, endpoint.id, undefined);
    return logAnswer(call, owner === null ? request : { ...request, owner });
  }

  async function workerLogs(call: Call<Principal>): Promise<Answer> {
    const ref = call.params.worker ?? "";
    const worker = store.fleet.worker(ref as WorkerId) ?? onlyOne(ref);
    const endpoint = worker && endpoints.byId(worker.endpointId);
    const visible = call.principal.scope === "admin" || (endpoint && endpoint.owner === call.principal.owner);
    if (!worker || !visible)
      throw new RpxError("not_found", `no worker "${ref}"`, { hint: "rpx worker list" });
    return logAnswer(call, readLogRequest(call.query, worker.endpointId, worker.id));
  }

  function onlyOne(prefix: string) {
    const found = store.fleet.workers().filter(({ id }) => id.startsWith(prefix));
    return found.length === 1 ? found[0] : undefined;
  }

  async function logAnswer(call: Call<Principal>, request: LogRequest): Promise<Answer> {
    const revoked = options.untilRevoked(call.principal);
    const following = call.query.get("follow") === "1" || call.query.get("follow") === "true";
    return {
      kind: "stream",
      contentType: "application/x-ndjson",
      write: async (sink) => {
        const write = (lines: readonly TaggedLine[]) =>
          sink.write(lines.map((line) => `${JSON.stringify(logLineBody(line))}\n`).join(""));
        if (!following) return void (await write(await logs.read(request)));
        await logs.follow(request, (lines) => void write(lines), AbortSignal.any([sink.closed, revoked]));
      },
    };
  }

  return { events: follow, endpointLogs, workerLogs };
}

function readLogRequest(
  query: URLSearchParams,
  endpointId: EndpointId,
  workerId: WorkerId | undefined,
): LogRequest {
  const text = (name: string) => query.get(name) || undefined;
  const worker = (workerId ?? text("worker")) as WorkerId | undefined;
  const sinceMs = readTime(text("since"));
  const untilMs = readTime(text("until"));
  const job = text("job") as JobId | undefined;
  const [level, source, grep] = [text("level"), text("source"), text("grep")];
  return {
    endpointId,
    tail: readTail(query.get("tail")),
    ...(worker && { workerId: worker }),
    ...(sinceMs !== undefined && { sinceMs }),
    ...(untilMs !== undefined && { untilMs }),
    ...(job && { jobId: job }),
    ...(level && { level }),
    ...(source && { source }),
    ...(grep && { grep }),
  };
}

function readTail(text: string | null): number {
  if (text === null) return DEFAULT_TAIL;
  const tail = Number(text);
  if (!Number.isInteger(tail) || tail < 0)
    throw new RpxError("bad_request", `tail must be a whole number, not "${text}"`);
  return Math.min(tail, MAX_TAIL);
}

/** ISO 8601 or ms since 1970. */
function readTime(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(ms))
    throw new RpxError("bad_request", `"${text}" is no time`, {
      hint: "use ISO 8601, as 2026-01-31T12:00:00Z",
    });
  return ms;
}
