import { ENDED_WHEN_ASKED, type SimulatedProcess } from "../../src/runtime/adapters/simulated/worker-pool.ts";
import type { Chance } from "./chance.ts";
import { type Delivery, type Frozen, orderOf, type Post, type WorkerLife } from "./history.ts";
import { jobsIn, type Network, type Peer, type Reply, type Request } from "./network.ts";
import type { EndpointPlan, Plan, Run, Work } from "./plan.ts";
import { testOf } from "./plan-fleet.ts";
import type { World } from "./world.ts";

type Held = { readonly delivery: Delivery; readonly work: Work; readonly stop: AbortController };
/** A worker's program, and what can befall it. */
export type Running = {
  readonly process: SimulatedProcess;
  readonly endpoint: number;
  readonly peer: Peer;
  terminate(): void;
  hang(pings: boolean): void;
  freeze(): void;
  thaw(): void;
  askingSinceMs(): number | null;
  frozenSinceMs(): number | null;
};

export type ProgramContext = { readonly world: World; readonly network: Network; readonly chance: Chance };

/** How a start turns out. */
export type Fate = "well" | "fails" | "never" | "unfit";

const PING_EVERY_MS = 10_000;
/** What the stock SDK sleeps after a take that filled it, and after a failed one. */
const FULL_PAUSE_MS = 1_000;
const FAILED_PAUSE_MS = 300;
/** Tries of a post that met 5xx, and the pauses between them (stock SDK). */
const STOCK_PAUSES_MS = [2_000, 3_000] as const;
/** How long our SDK repeats a post. */
const OWN_LIMIT_MS = 600_000;
const ENDLESS_MS = 30 * 24 * 3_600_000;
/** How processes end by themselves. */
export const CRASHES = [
  { code: 1, signal: null, reason: "exited with code 1" },
  { code: null, signal: "SIGKILL", reason: "killed by SIGKILL (out of memory?)" },
  { code: 0, signal: null, reason: "exited by itself with code 0" },
] as const;

/** Runs the program of one worker to its end. */
export function runWorker(
  { world, network, chance }: ProgramContext,
  process: SimulatedProcess,
  { endpoint, life, fate }: { readonly endpoint: number; readonly life: WorkerLife; readonly fate: Fate },
): Running {
  const { clock, history, plan } = world;
  const { workerId, env } = process.start;
  const { worker: program, prefetch } = plan.endpoints[endpoint] as EndpointPlan;
  const own = program.sdk === "own";
  const peer = network.peer(`worker ${workerId}`, endpoint);
  const held = new Set<Held>();
  const waiting: Held[] = [];
  let terminated = false;
  let hung = false;
  let frozen: { readonly noted: Frozen; readonly over: PromiseWithResolvers<void> } | null = null;
  let pings = true;
  let askingSinceMs: number | null = null;
  let wake = (): void => {};
  process.onEnd(() => peer.close());

  /** Virtual time of this process: it does not pass for one that has ended or stands still. */
  const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      void clock
        .sleep(ms, signal)
        .then(thawed)
        .then(() => {
          if (process.isAlive() && !hung) resolve();
        });
    });
  /** What is due while it stands still happens when it goes on. */
  async function thawed(): Promise<void> {
    while (frozen !== null) await frozen.over.promise;
  }
  const headers = {
    authorization: env.RUNPOD_AI_API_KEY ?? "",
    ...(own && { "x-rpx-worker": "sim" }),
  };

  async function send(request: Omit<Request, "listener" | "params">, job?: string): Promise<Reply | null> {
    const params = {
      endpoint: env.RUNPOD_ENDPOINT_ID ?? "",
      worker: workerId,
      ...(job !== undefined && { job }),
    };
    const reply = await peer.send({
      listener: "worker",
      params,
      ...request,
      headers: { ...headers, ...request.headers },
    });
    await thawed();
    if (hung) await new Promise(() => {});
    return reply;
  }

  async function main(): Promise<void> {
    await pause(program.bootMs + chance.skewed(0, 1_000));
    if (fate === "fails") return process.end(chance.pick(CRASHES));
    if (fate === "never") return;
    if (fate === "unfit") {
      await send({ route: "ping", query: { status: "unhealthy", check: "disk", reason: "almost full" } });
      return process.end(CRASHES[0]);
    }
    void pingLoop();
    if (program.stops) void stopLoop();
    await takeLoop();
    while (held.size > 0) await changed();
    process.end(ENDED_WHEN_ASKED);
  }

  async function pingLoop(): Promise<void> {
    for (;;) {
      await clock.sleep(PING_EVERY_MS);
      await thawed();
      if (!process.isAlive() || !pings) return;
      const query = { job_id: [...held].map(({ delivery }) => delivery.jobId).join(",") };
      const params = { endpoint: env.RUNPOD_ENDPOINT_ID ?? "", worker: workerId };
      await peer.send({ listener: "worker", route: "ping", params, query, headers });
    }
  }

  async function stopLoop(): Promise<void> {
    for (;;) {
      const reply = await send({ route: "jobStop" });
      if (reply === null || reply.status >= 300) await pause(1_000);
      else if (reply.status === 200) for (const id of stopsIn(reply)) stopJob(id);
    }
  }

  /** The stock SDK drops a stop for a job that it has not begun. */
  function stopJob(jobId: string): void {
    for (const { delivery, stop } of held)
      if (delivery.jobId === jobId && (own || delivery.begunAtMs !== null)) stop.abort(null);
  }

  async function takeLoop(): Promise<void> {
    while (!terminated) {
      const free = program.concurrency - held.size;
      if (free <= 0) {
        if (own) await changed();
        else await pause(FULL_PAUSE_MS);
        continue;
      }
      const askedAtMs = clock.nowMs();
      const reply = await send(takeRequest(free));
      if (reply === null || reply.status >= 400) {
        askingSinceMs = null;
        await pause(FAILED_PAUSE_MS);
      } else accept(reply, askedAtMs, program.batch ? free : 1);
    }
  }

  function takeRequest(free: number): Omit<Request, "listener" | "params"> {
    const idle = held.size === 0;
    if (idle) {
      life.idleTakesMs.push(clock.nowMs());
      askingSinceMs ??= clock.nowMs();
    }
    const query = { job_in_progress: idle ? "0" : "1", ...(program.batch && { batch_size: String(free) }) };
    return { route: program.batch ? "jobTakeBatch" : "jobTake", query };
  }

  function accept(reply: Reply, askedAtMs: number, asked: number): void {
    const jobs = jobsIn(reply);
    if (jobs.length > Math.max(asked, prefetch))
      world.fail("INV-5", `worker ${workerId} asked for ${asked} and got ${jobs.length} jobs`);
    for (const { id, step, number } of jobs) receive(id, step, number, askedAtMs);
    fill();
  }

  function receive(jobId: string, step: number, number: number, askedAtMs: number): void {
    const delivery: Delivery = {
      jobId,
      step,
      workerId,
      number,
      order: orderOf(history, number),
      atMs: clock.nowMs(),
      askedAtMs,
      begunAtMs: null,
      overAtMs: null,
      over: null,
    };
    history.deliveries.push(delivery);
    askingSinceMs = null;
    world.trace(`worker ${workerId} got ${jobId} as ${number}`);
    const still = [...held].some((job) => job.delivery.jobId === jobId && job.delivery.over !== "posted");
    if (still) world.fail("INV-6", `worker ${workerId} got ${jobId} while it holds it`);
    const work = workOf(plan, step);
    // What a worker that was asked to end accepts it never begins (stock SDK).
    if (terminated && !own)
      return void Object.assign(delivery, { overAtMs: clock.nowMs(), over: "swallowed" });
    const job = { delivery, work, stop: new AbortController() };
    held.add(job);
    waiting.push(job);
  }

  function fill(): void {
    const begun = () => [...held].filter(({ delivery }) => delivery.begunAtMs !== null).length;
    while (waiting.length > 0 && begun() < program.concurrency) {
      const job = waiting.shift() as Held;
      job.delivery.begunAtMs = clock.nowMs();
      void handle(job);
    }
  }

  async function handle(job: Held): Promise<void> {
    await perform(job);
    if (job.stop.signal.aborted) Object.assign(job.delivery, { over: "stopped", overAtMs: clock.nowMs() });
    held.delete(job);
    fill();
    wake();
  }

  async function perform(job: Held): Promise<void> {
    const { work, stop } = job;
    if (stop.signal.aborted) return;
    if (work.kind === "endless") return pause(ENDLESS_MS, stop.signal);
    if (work.kind === "echo" && !(await speak(job, work))) return;
    await pause(work.ms, stop.signal);
    if (stop.signal.aborted) return;
    if (work.kind === "poison") {
      process.end(CRASHES[1]);
      return new Promise(() => {});
    }
    if (work.kind === "flood")
      for (let part = 0; part < 4; part += 1) await postChunk(job, part, "x".repeat(900));
    await report(job);
  }

  /** Progress and chunks, spread over the run time; false when the job was stopped. */
  async function speak(job: Held, work: Extract<Work, { kind: "echo" }>): Promise<boolean> {
    const { jobId, number } = job.delivery;
    const parts = work.chunks + work.progress;
    for (let part = 0; part < parts && !job.stop.signal.aborted; part += 1) {
      await pause(Math.round(work.ms / parts), job.stop.signal);
      if (part < work.progress) {
        const text = JSON.stringify({ by: workerId, number, progress: part });
        record(job, "progress", text);
        void send(
          { route: "jobDone", body: `{"status":"IN_PROGRESS","output":${text}}`, headers: fence(job) },
          jobId,
        );
      } else await postChunk(job, part - work.progress, "");
    }
    return !job.stop.signal.aborted;
  }

  async function postChunk(job: Held, part: number, filling: string): Promise<void> {
    const text = JSON.stringify({ by: workerId, number: job.delivery.number, part, filling });
    record(job, "chunk", text);
    const counted = own ? { "x-rpx-chunk": String(part) } : {};
    await deliver(
      { route: "jobStream", body: `{"output":${text}}`, headers: { ...fence(job), ...counted } },
      job,
    );
  }

  const fence = ({ delivery }: Held): Record<string, string> =>
    own ? { "x-rpx-attempt": String(delivery.number) } : {};

  function record({ delivery }: Held, kind: Post["kind"], text: string): void {
    const { jobId, number, order } = delivery;
    history.posts.push({ jobId, workerId, number, order, kind, text, sentAtMs: clock.nowMs() });
  }

  async function report(job: Held): Promise<void> {
    const { body, kind, text } = resultOf(job);
    record(job, kind, text);
    const free = own && !terminated ? Math.max(0, program.concurrency - held.size + 1 - waiting.length) : 0;
    const askedAtMs = clock.nowMs();
    Object.assign(job.delivery, { over: "posted", overAtMs: askedAtMs });
    const request = {
      route: "jobDone",
      headers: { ...fence(job), ...(free > 0 && { "x-rpx-take": String(free) }) },
      ...(kind === "oversize" ? { oversize: true as const } : { body }),
    };
    const reply = await deliver(request, job);
    held.delete(job);
    if (job.work.kind === "refresh") terminate();
    if (reply?.text.startsWith("[")) accept(reply, askedAtMs, free);
  }

  function resultOf({ work, delivery }: Held): { body: string; kind: Post["kind"]; text: string } {
    const { number } = delivery;
    const said = JSON.stringify({ by: workerId, number });
    if (work.kind === "error") return { kind: "error", text: said, body: JSON.stringify({ error: said }) };
    if (work.kind === "unreadable") return { kind: "unreadable", text: "", body: "{nonsense" };
    if (work.kind === "oversize") return { kind: "oversize", text: "", body: "" };
    const refresh = work.kind === "refresh" ? ',"stopPod":true' : "";
    return { kind: "result", text: said, body: `{"output":${said}${refresh}}` };
  }

  /** Our SDK repeats until it is answered; the stock one gives up at once, but for 5xx. */
  async function deliver(request: Omit<Request, "listener" | "params">, job: Held): Promise<Reply | null> {
    const endMs = clock.nowMs() + OWN_LIMIT_MS;
    for (let tried = 0; ; tried += 1) {
      const reply = await send(request, job.delivery.jobId);
      if (reply !== null && reply.status < 500 && reply.status !== 429) return reply;
      const pauseMs = own ? chance.between(25, 5_000) : reply === null ? undefined : STOCK_PAUSES_MS[tried];
      if (pauseMs === undefined || clock.nowMs() > endMs) return reply;
      await pause(pauseMs);
    }
  }

  const changed = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });

  function terminate(): void {
    terminated = true;
    wake();
  }

  void main();
  return {
    process,
    endpoint,
    peer,
    terminate,
    askingSinceMs: () => (hung || frozen || terminated || peer.isCut() ? null : askingSinceMs),
    frozenSinceMs: () => (hung || terminated || peer.isCut() ? null : (frozen?.noted.fromMs ?? null)),
    freeze: () => {
      const holding = [...held].flatMap(({ delivery }) => (delivery.over === null ? [delivery] : []));
      const noted: Frozen = { workerId, fromMs: clock.nowMs(), toMs: null, holding };
      history.frozen.push(noted);
      frozen = { noted, over: Promise.withResolvers() };
      world.trace(`worker ${workerId} stands still`);
    },
    thaw: () => {
      if (frozen === null) return;
      const { noted, over } = frozen;
      noted.toMs = clock.nowMs();
      frozen = null;
      over.resolve();
      // What it asked before is answered long ago.
      askingSinceMs = null;
      world.trace(`worker ${workerId} goes on`);
    },
    hang: (pingsGoOn: boolean) => {
      hung = true;
      pings = pingsGoOn;
    },
  };
}

/** What the handler does: a client's job, or a release's test. */
function workOf(plan: Plan, number: number): Work {
  const test = testOf(number);
  const act = plan.steps.find(({ id }) => id === (test?.step ?? number))?.act;
  if (test === null || act?.kind !== "deploy") return (act as Run).work;
  const { ms = 0, passes = true } = act.tests[test.place] ?? {};
  return passes ? { kind: "echo", ms, chunks: 0, progress: 0 } : { kind: "error", ms };
}

function stopsIn({ text }: Reply): string[] {
  const { jobsToStop } = JSON.parse(text) as { jobsToStop?: string[] };
  return jobsToStop ?? [];
}
