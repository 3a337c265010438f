/**
 * The replayed worker and clients say what was recorded of the real ones. These run everywhere: the recordings are all they need.
 */
import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { replayClient, replayWorker } from "../../support/replay-worker.ts";
import { createClientApi } from "../../support/stock-sdk/record-client.ts";
import { runScenario, WORKER_SCENARIOS } from "../../support/stock-sdk/record-worker.ts";
import { RECORDED, readClientRecording, readWorkerRecording } from "../../support/stock-sdk/recording.ts";
import { startRecordingServer } from "../../support/stock-sdk/recording-server.ts";
import { saidByChannel } from "./said-by-channel.ts";

const VERSION = "1.12.0";

describe("the replayed worker", () => {
  /** What was recorded of older releases; 1.6's parallel takes of one job each are more than a replay does. */
  const older = readdirSync(RECORDED).filter(
    (name) => /^1\.[67]\./.test(name) && name !== "1.6.2-eight_at_once.json",
  );
  const names = [
    ...WORKER_SCENARIOS.map(({ handler }) => `${VERSION}-${handler}`),
    ...older.map((name) => name.slice(0, -5)),
  ];

  test.each(names)("ACC-07 says what the real SDK said: %s", async (name) => {
    const recording = readWorkerRecording(name);
    const { sdk: version, handler: handlerName } = recording;
    const scenario = WORKER_SCENARIOS.find(({ handler }) => handler === handlerName);
    if (scenario === undefined) {
      throw new Error(`no scenario made ${name}`);
    }

    const replayed = await runScenario(scenario, version, "/sdk", (target) => {
      const killed = new AbortController();
      const worker = replayWorker({
        baseUrl: target.origin,
        key: target.key,
        workerId: target.workerId,
        endpointId: target.endpointId,
        version,
        handlerName,
        // Stopped jobs wait for a ping that names them.
        pingIntervalMs: 100,
        signal: killed.signal,
      });
      return {
        end: worker.drain,
        exited: worker.ended.then(() => 0),
        kill: async () => {
          killed.abort();
          await worker.ended;
        },
        output: () => JSON.stringify(worker.said),
      };
    });

    expect(saidByChannel(replayed)).toEqual(saidByChannel(recording));
  });

  test("T-16 says nothing more once it is killed, not even a result", async () => {
    const server = await startRecordingServer();
    const killed = new AbortController();
    const worker = replayWorker({
      baseUrl: server.origin,
      key: "key",
      workerId: "worker-1",
      endpointId: "endpoint-1",
      version: VERSION,
      handlerName: "slow",
      signal: killed.signal,
    });
    const take = await server.nextHeld("take");
    take.answer({ status: 200, body: { id: "job-1", input: {} } });
    await server.nextHeld("stop");

    killed.abort();

    expect(await worker.ended).toBe("killed");
    expect(server.seen.filter(({ channel }) => channel === "done")).toEqual([]);
    await server.close();
  });

  test("there is a recording for every handler, and no other", () => {
    const recorded = readdirSync(RECORDED).filter((name) => name.startsWith(VERSION));
    expect(recorded.sort()).toEqual(
      WORKER_SCENARIOS.map(({ handler }) => `${VERSION}-${handler}.json`).sort(),
    );
  });
});

describe("the replayed client", () => {
  test.each([
    ["sync", VERSION],
    ["asyncio", VERSION],
    ["js", "1.1.2"],
  ] as const)("ACC-07 says what the %s client %s said, and polls to the end", async (client, version) => {
    const server = await startRecordingServer({ client: createClientApi() });
    const replies = await replayClient({
      baseUrl: server.origin,
      key: "key-of-recording",
      endpointId: "<endpoint>",
      client,
      version,
    });
    await server.close();

    const recording = readClientRecording(`client-${client}-${version}`);
    const recordedUrls = recording.steps.flatMap(({ requests }) =>
      requests.map(({ method, url }) => `${method} ${url}`),
    );
    const saidUrls = server.seen.map(
      ({ method, url }) => `${method} ${decodeURI(url).replace(/job-of-recording-(\d+)-u1/, "<job-$1>")}`,
    );
    expect(withoutRepeats(saidUrls)).toEqual(withoutRepeats(recordedUrls));
    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
  });
});

/** How often a client polled is the server's doing. */
function withoutRepeats(lines: readonly string[]): string[] {
  return lines.filter((line, index) => line !== lines[index - 1]);
}
