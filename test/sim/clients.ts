import { readObject } from "../../src/text/json-text.ts";
import type { Order, SeenRelease, Sight, Submission } from "./history.ts";
import type { Network, Peer, Reply } from "./network.ts";
import { createOperators } from "./operators.ts";
import type { Act, EndpointPlan, Run } from "./plan.ts";
import { type FleetAct, goodCode } from "./plan-fleet.ts";
import type { World } from "./world.ts";

/** The people and programs that use the API. */
export type Clients = {
  /** Creates the endpoints; resolves once all are there. */
  prepare(): Promise<void>;
  perform(id: number, act: Extract<Act, { kind: ClientKind }>): Promise<void>;
  /** Looks at a job once, and notes what it saw; its state, null where it was not found, undefined without an answer. */
  look(jobId: string, endpoint: number): Promise<string | null | undefined>;
  /** The endpoint's releases, once nothing is on its way; null when that takes too long. */
  settledReleases(endpoint: number): Promise<readonly SeenRelease[] | null>;
  /** GET of the native API or of an endpoint's health, repeated until it is answered. */
  ask<T>(route: string, params?: Record<string, string>, query?: Record<string, string>): Promise<T>;
  endpointId(endpoint: number): string;
};

export type ClientKind =
  | "run"
  | "status"
  | "stream"
  | "cancel"
  | "retry"
  | "repeat"
  | "malformed"
  | "purge"
  | FleetAct["kind"];

/** What a client sends; it is the admin. */
export type Message = {
  readonly route: string;
  readonly params?: Record<string, string>;
  readonly query?: Record<string, string>;
  readonly headers?: Record<string, string>;
  readonly body?: string;
};

const REPEAT_MS = [500, 3_000] as const;
const MOST_REPEATS = 60;
/** A stream is read until its job ends, at most this often. */
const MOST_READS = 40;

export function createClients(world: World, network: Network, adminKey: () => string): Clients {
  const { clock, history, plan } = world;
  const chance = world.chance("clients");
  const ids: string[] = [];
  /** Jobs whose stream is read: chunks go to one reader. */
  const streamed = new Set<string>();

  const endpointId = (endpoint: number): string => ids[endpoint] ?? "";
  const operators = createOperators({
    world,
    chance,
    endpointId,
    send: (message) => send(network.peer("operator"), message),
  });

  async function send(
    peer: Peer,
    { params = {}, headers, ...message }: Message,
    giveUpMs?: number,
  ): Promise<Reply | null> {
    const request = {
      listener: "client" as const,
      params,
      ...message,
      headers: { authorization: `Bearer ${adminKey()}`, ...headers },
    };
    const reply = await peer.send(request, giveUpMs === undefined ? {} : { giveUpMs });
    world.trace(
      `${peer.name} ${message.route} ${params.job ?? ""} -> ${reply === null ? "broken" : `${reply.status} ${reply.text.slice(0, 120)}`}`,
    );
    if (reply?.status === 500) world.fail("no internal error", `${message.route} answered 500`);
    return reply;
  }

  /** Until there is an answer that is not about the daemon's own state. */
  async function insist(peer: Peer, message: Message): Promise<Reply> {
    for (let tried = 0; tried < MOST_REPEATS * 4; tried += 1) {
      const reply = await send(peer, message);
      if (reply !== null && reply.status < 500) return reply;
      await clock.sleep(chance.between(...REPEAT_MS));
    }
    throw new Error(`${message.route} was not answered`);
  }

  async function prepare(): Promise<void> {
    const peer = network.peer("admin");
    for (const [at, endpoint] of plan.endpoints.entries()) {
      ids.push(await create(peer, endpoint));
      if (endpoint.proves) await proven(at);
    }
  }

  /** A first release that fails, by the weather, is followed by one that nobody has to prove. */
  async function proven(endpoint: number): Promise<void> {
    for (let tried = 0; tried < MOST_REPEATS; tried += 1) {
      const releases = await operators.settled(endpoint);
      if (releases?.some(({ state }) => state === "live")) return;
      await operators.perform(-1, goodCode(endpoint));
    }
    throw new Error(`endpoint ${endpoint} has no release`);
  }

  async function create(peer: Peer, endpoint: EndpointPlan): Promise<string> {
    const { name } = endpoint;
    const code = { source: { kind: "folder", path: "/handlers" }, handler: "handler.py" };
    const { pool } = endpoint;
    const rollout = endpoint.proves ? "prove" : "at_once";
    const config = configOf(endpoint);
    const body = JSON.stringify({ name, id: `id-${name}`, pool, rollout, config, ...code });
    // A repeat whose first try was done is refused by its name: that is as good.
    const reply = await insist(peer, { route: "createEndpoint", body });
    if (reply.status !== 200 && reply.status !== 409) throw new Error(`no endpoint: ${reply.text}`);
    return `id-${name}`;
  }

  // --- Jobs ----------------------------------------------------------------------------------------------

  function bodyOf(id: number, run: Run, changed: boolean): string {
    const input = JSON.stringify({ n: id, ...(changed && { changed }) });
    const policy = {
      ...(run.ttlMs !== null && { ttl: run.ttlMs }),
      ...(run.lowPriority && { lowPriority: true }),
    };
    const webhook = run.webhook ? `,"webhook":"http://127.0.0.1:9000/${id}"` : "";
    return `{"input":${input},"policy":${JSON.stringify(policy)}${webhook}}`;
  }

  async function submit(id: number, run: Run): Promise<void> {
    const submission: Submission = {
      step: id,
      endpoint: run.endpoint,
      key: run.careful ? `key-${id}` : null,
      ttlMs: run.ttlMs ?? (plan.endpoints[run.endpoint]?.ttlS ?? 0) * 1_000,
      webhook: run.webhook,
      lowPriority: run.lowPriority,
      sendings: [],
      jobId: null,
    };
    history.submissions.set(id, submission);
    const peer = network.peer(`client ${id}`);
    for (let tried = 0; tried < (run.careful ? MOST_REPEATS : 1); tried += 1) {
      const status = await sendRun(peer, submission, run, false);
      if (status !== 0 && status !== 503) return;
      await clock.sleep(chance.between(...REPEAT_MS));
    }
  }

  async function sendRun(peer: Peer, submission: Submission, run: Run, changed: boolean): Promise<number> {
    const sending = {
      sentAtMs: clock.nowMs(),
      changed,
      endedAtMs: null,
      status: null,
      jobId: null,
    } as Submission["sendings"][number];
    submission.sendings.push(sending);
    const gives = run.sync && world.strikes("client-gone", chance) ? chance.between(10, 3_000) : undefined;
    const message = {
      route: run.sync ? "runSync" : "run",
      params: { endpoint: endpointId(run.endpoint) },
      query: run.sync ? { wait: "20000" } : {},
      headers: submission.key === null ? {} : { "idempotency-key": submission.key },
      body: bodyOf(submission.step, run, changed),
    };
    const reply = await send(peer, message, gives);
    sending.endedAtMs = clock.nowMs();
    sending.status = reply?.status ?? 0;
    if (reply?.status === 200) {
      sending.jobId = see(reply.text, sending.sentAtMs, run.sync ? "runsync" : "ticket");
      submission.jobId ??= sending.jobId;
    }
    return sending.status;
  }

  /** Notes what a body says of a job; the job's id. */
  function see(body: string, sentAtMs: number, by: Sight["by"]): string {
    const members = membersOf(body);
    const jobId = String(JSON.parse(members.get("id") ?? '""'));
    const text = (name: string) => members.get(name) ?? null;
    const state = String(JSON.parse(text("status") ?? '""'));
    const error = text("error");
    history.sights.push({
      jobId,
      sentAtMs,
      atMs: clock.nowMs(),
      state,
      output: text("output"),
      error: error === null ? null : String(JSON.parse(error)),
      whole: members.size > 2,
      by,
    });
    return jobId;
  }

  async function look(jobId: string, endpoint: number): Promise<string | null | undefined> {
    const sentAtMs = clock.nowMs();
    const params = { endpoint: endpointId(endpoint), job: jobId };
    const reply = await send(network.peer("watcher"), { route: "jobStatus", params });
    if (reply === null || reply.status >= 500) return undefined;
    if (reply.status === 200) {
      see(reply.text, sentAtMs, "status");
      return history.sights.at(-1)?.state;
    }
    history.sights.push({
      jobId,
      sentAtMs,
      atMs: clock.nowMs(),
      state: null,
      output: null,
      error: null,
      whole: true,
      by: "status",
    });
    return null;
  }

  // --- Operations on jobs --------------------------------------------------------------------------------

  const known = (of: number): Submission | null => {
    const submission = history.submissions.get(of);
    return submission?.jobId ? submission : null;
  };

  async function order(kind: "cancel" | "retry", { jobId, endpoint }: Submission): Promise<void> {
    const route = kind === "cancel" ? "jobCancel" : "jobRetry";
    const params = { endpoint: endpointId(endpoint), job: jobId ?? "" };
    const message = { route, params };
    await orderWith({ kind, target: jobId ?? "" }, message);
  }

  async function orderWith(what: Pick<Order, "kind" | "target">, message: Message): Promise<void> {
    const noted: Order = { ...what, sentAtMs: clock.nowMs(), endedAtMs: null, outcome: "open" };
    history.orders.push(noted);
    const reply = await send(network.peer("operator"), message);
    noted.endedAtMs = clock.nowMs();
    noted.outcome = outcomeOf(reply);
    if (what.kind === "cancel" && reply?.status === 200) see(reply.text, noted.sentAtMs, "ticket");
  }

  async function readStream({ jobId, endpoint }: Submission): Promise<void> {
    if (streamed.has(jobId ?? "")) return;
    streamed.add(jobId ?? "");
    const peer = network.peer("reader");
    for (let read = 0; read < MOST_READS; read += 1) {
      const params = { endpoint: endpointId(endpoint), job: jobId ?? "" };
      const gives = world.strikes("client-gone", chance) ? chance.between(10, 3_000) : undefined;
      const reply = await send(peer, { route: "jobStreamRead", params }, gives);
      if (reply?.status === 404) return;
      if (reply?.status !== 200) {
        await clock.sleep(chance.between(...REPEAT_MS));
        continue;
      }
      const { status, stream } = JSON.parse(reply.text) as { status: string; stream: { output: unknown }[] };
      const chunks = stream.map(({ output }) => JSON.stringify(output));
      history.streams.push({ jobId: jobId ?? "", atMs: clock.nowMs(), chunks });
      if (status !== "IN_QUEUE" && status !== "IN_PROGRESS" && chunks.length === 0) return;
    }
  }

  async function refuse(endpoint: number, id: number): Promise<void> {
    const params = { endpoint: endpointId(endpoint) };
    const body = chance.pick([
      `{"input":{"n":${id}}`,
      `{"inputs":{"n":${id}}}`,
      `{"input":{"n":${id}},"policy":{"ttl":1}}`,
    ]);
    const reply = await send(network.peer("operator"), { route: "run", params, body });
    if (reply !== null && reply.status === 200)
      world.fail("INV-3", `a malformed request was accepted: ${body}`);
  }

  async function perform(id: number, act: Extract<Act, { kind: ClientKind }>): Promise<void> {
    if ("of" in act) {
      const submission = known(act.of);
      const run = plan.steps.find((step) => step.id === act.of)?.act as Run | undefined;
      if (!submission || !run) return;
      if (act.kind === "status") await look(submission.jobId ?? "", submission.endpoint);
      else if (act.kind === "stream") await readStream(submission);
      else if (act.kind === "repeat") {
        if (submission.key !== null)
          await sendRun(network.peer(`client ${id}`), submission, run, act.changed);
      } else await order(act.kind, submission);
      return;
    }
    switch (act.kind) {
      case "run":
        return submit(id, act);
      case "malformed":
        return refuse(act.endpoint, id);
      case "purge":
        return orderWith(
          { kind: "purge", target: act.endpoint },
          { route: "purgeQueue", params: { endpoint: endpointId(act.endpoint) } },
        );
      default:
        return operators.perform(id, act);
    }
  }

  return {
    prepare,
    perform,
    look,
    ask: async (route, params = {}, query = {}) =>
      JSON.parse((await insist(network.peer("auditor"), { route, params, query })).text),
    settledReleases: operators.settled,
    endpointId,
  };
}

export function outcomeOf(reply: Reply | null): Order["outcome"] {
  if (reply === null || reply.status >= 500) return "unknown";
  return reply.status === 200 ? "done" : "refused";
}

export function membersOf(body: string): ReadonlyMap<string, string> {
  const read = readObject(body, { maxDepth: Number.POSITIVE_INFINITY });
  if (!read.ok) throw new Error(`no JSON object: ${body.slice(0, 100)}`);
  return read.members;
}

function configOf(endpoint: EndpointPlan): Record<string, unknown> {
  const kept = `${endpoint.retentionS}s`;
  return {
    workers: {
      min: endpoint.min,
      max: endpoint.max,
      idle_timeout: `${endpoint.idleS}s`,
      prefetch: endpoint.prefetch,
      extra: endpoint.extra,
      flashboot: endpoint.flashboot,
      prewarm: endpoint.prewarm,
    },
    scale: { by: endpoint.by, threshold: endpoint.threshold, max_queued: endpoint.maxQueued },
    limits: {
      execution_timeout: `${endpoint.executionS}s`,
      ttl: `${endpoint.ttlS}s`,
      start_timeout: `${endpoint.startS}s`,
      retries: endpoint.retries,
      ...(endpoint.memoryGiB !== null && { memory: `${endpoint.memoryGiB}GiB` }),
    },
    retention: { async: kept, sync: kept, failed: kept },
    env: { SIM_ENDPOINT: endpoint.name },
  };
}
