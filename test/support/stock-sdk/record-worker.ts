/** Puts the real SDK through one scenario per handler and writes down what it said. */
import { recordedFrom, type WorkerRecording, type WorkerRequest } from "./recording.ts";
import {
  type HeldRequest,
  type RecordingServer,
  type SeenRequest,
  startRecordingServer,
} from "./recording-server.ts";
import type { StockSdk } from "./stock-sdk.ts";
import { HANDLERS, startStockWorker } from "./stock-worker.ts";

const ENDPOINT = "endpoint-of-recording";
const WORKER = "worker-of-recording";
const KEY = "key-of-recording";

export interface WorkerScenario {
  readonly handler: string;
  readonly inputs: readonly unknown[];
  /** Posts of the kind `done` to wait for; progress counts. 0 for a job that reports nothing. */
  readonly donePosts: number;
  /** Stop the first job while it runs. */
  readonly isStopped?: true;
  /** The worker leaves by itself after the job. */
  readonly leaves?: true;
  readonly pingIntervalMs?: number;
}

const NAMED = [{ name: "first" }];

/** One per handler. `eight_at_once` gets its eight jobs in one reply to job-take-batch. */
export const WORKER_SCENARIOS: readonly WorkerScenario[] = [
  { handler: "plain", inputs: [{ name: "first" }, {}], donePosts: 2 },
  { handler: "asynchronous", inputs: NAMED, donePosts: 1 },
  { handler: "generator", inputs: NAMED, donePosts: 1 },
  { handler: "async_generator", inputs: NAMED, donePosts: 1 },
  { handler: "aggregate", inputs: NAMED, donePosts: 1 },
  { handler: "generator_raises", inputs: NAMED, donePosts: 1 },
  { handler: "error_dict", inputs: NAMED, donePosts: 1 },
  { handler: "exception", inputs: NAMED, donePosts: 1 },
  { handler: "eight_at_once", inputs: Array.from({ length: 8 }, (_, index) => ({ index })), donePosts: 8 },
  { handler: "progress", inputs: NAMED, donePosts: 4 },
  { handler: "refresh_handler", inputs: NAMED, donePosts: 1 },
  { handler: "refresh_config", inputs: NAMED, donePosts: 1, leaves: true },
  { handler: "json_edges", inputs: NAMED, donePosts: 1 },
  { handler: "unserializable", inputs: NAMED, donePosts: 0 },
  { handler: "slow", inputs: [{ seconds: 60 }], donePosts: 0, isStopped: true, pingIntervalMs: 1_000 },
  { handler: "slow_sync", inputs: [{ seconds: 3 }], donePosts: 0, isStopped: true, pingIntervalMs: 1_000 },
  { handler: "documented_plain", inputs: [{ prompt: "Hey there!" }], donePosts: 1 },
  { handler: "documented_generator", inputs: [{ prompt: "Hey there!" }], donePosts: 1 },
];

/** What runs a scenario: the real SDK in a process, or a replay of it. */
export interface ScenarioWorker {
  /** As SIGTERM. */
  end(): void;
  /** Resolves when it is gone: with its exit code, or the name of what ended it. */
  readonly exited: Promise<number | string>;
  kill(): Promise<void>;
  /** What it printed, for the message of a failure. */
  readonly output: () => string;
}

export interface ScenarioTarget {
  readonly origin: string;
  readonly endpointId: string;
  readonly workerId: string;
  readonly key: string;
  readonly pingIntervalMs?: number;
}

/** Runs one scenario under `sdk`. The worker is gone when this returns, whatever happened. */
export async function recordWorker(sdk: StockSdk, scenario: WorkerScenario): Promise<WorkerRecording> {
  return runScenario(scenario, sdk.version, sdk.path, (target) => {
    const worker = startStockWorker({ sdk, handler: scenario.handler, ...target });
    return { ...worker, end: () => worker.process.kill("SIGTERM") };
  });
}

/** Puts any worker through the scenario and writes down what it said. `sdkPath` is taken out of bodies. */
export async function runScenario(
  scenario: WorkerScenario,
  version: string,
  sdkPath: string,
  start: (target: ScenarioTarget) => ScenarioWorker,
): Promise<WorkerRecording> {
  const server = await startRecordingServer();
  // The first take meets "no job", so that the recording shows how the worker goes on.
  server.answerNext("take", { status: 204 });
  const worker = start({
    origin: server.origin,
    endpointId: ENDPOINT,
    workerId: WORKER,
    key: KEY,
    ...(scenario.pingIntervalMs === undefined ? {} : { pingIntervalMs: scenario.pingIntervalMs }),
  });
  try {
    await Promise.race([handOut(server, scenario), earlyEnd(worker, scenario)]);
    const exitCode = await end(server, worker, scenario);
    return {
      sdk: version,
      handler: scenario.handler,
      inputs: scenario.inputs,
      ends: scenario.leaves ? "itself" : "asked",
      exitCode,
      requests: tidy(server.seen, sdkPath),
    };
  } catch (error) {
    throw new Error(`${scenario.handler} under SDK ${version}: ${String(error)}\n${worker.output()}`);
  } finally {
    await worker.kill();
    await server.close();
  }
}

/** Fails when the worker ends before it was asked to, so that nobody waits for requests that cannot come. */
async function earlyEnd(worker: ScenarioWorker, scenario: WorkerScenario): Promise<void> {
  const code = await worker.exited;
  if (!scenario.leaves) {
    throw new Error(`the worker ended by itself with ${code}`);
  }
}

/** Gives the worker its jobs and waits for their results. */
async function handOut(server: RecordingServer, scenario: WorkerScenario): Promise<void> {
  await server.until("the first ping", (seen) => seen.some((request) => request.channel === "ping"));
  const jobs = scenario.inputs.map((input, index) => ({ id: jobId(index), input }));
  while (jobs.length > 0) {
    const take = await server.nextHeld("take");
    const room = Number(new URL(take.seen.url, server.origin).searchParams.get("batch_size") ?? "1");
    const handed = jobs.splice(0, room);
    take.answer({ status: 200, body: take.seen.url.includes("job-take-batch") ? handed : handed[0] });
  }
  if (scenario.isStopped) {
    await server.until("a ping that names the job", (seen) =>
      seen.some(({ url }) => url.includes(`job_id=${jobId(0)}`)),
    );
    const stop = await server.nextHeld("stop");
    stop.answer({ status: 200, body: { jobsToStop: [jobId(0)] } });
  }
  await server.until(
    `${scenario.donePosts} posts to job-done`,
    (seen) => seen.filter((request) => request.channel === "done").length >= scenario.donePosts,
  );
}

/** Ends the worker as a platform does: SIGTERM with its polls open, then the polls answered. */
async function end(
  server: RecordingServer,
  worker: ScenarioWorker,
  scenario: WorkerScenario,
): Promise<number | string> {
  const open: HeldRequest[] = [];
  if (!scenario.leaves) {
    open.push(await server.nextHeld("take"));
    worker.end();
  }
  for (const held of open) {
    held.answer({ status: 204 });
  }
  server.release();
  return worker.exited;
}

function jobId(index: number): string {
  return `job-of-recording-${index + 1}-u1`;
}

/** In order of arrival, ids as placeholders; a ping that says the same as the one before it is left out. */
function tidy(seen: readonly SeenRequest[], sdkPath: string): WorkerRequest[] {
  const placeholders = new Map([
    [HANDLERS, "<handlers>"],
    [sdkPath, "<sdk>"],
    [ENDPOINT, "<endpoint>"],
    [WORKER, "<worker>"],
    [KEY, "<key>"],
  ]);
  for (let index = 0; index < 99; index++) {
    placeholders.set(jobId(index), `<job-${index + 1}>`);
  }
  const requests: WorkerRequest[] = [];
  let lastPing = "";
  for (const request of seen) {
    if (request.channel === undefined) {
      continue;
    }
    const recorded = { channel: request.channel, ...recordedFrom(request, placeholders) };
    if (request.channel === "ping" && recorded.url === lastPing) {
      continue;
    }
    lastPing = request.channel === "ping" ? recorded.url : lastPing;
    requests.push(recorded);
  }
  return requests;
}
