import { afterEach, beforeEach, expect, test } from "vitest";
import { RpxError } from "../../src/contract/error.ts";
import type { JournalEvent } from "../../src/runtime/core/model.ts";
import { startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import { type Reply, request, type TestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
let endpoint: string;
let worker: TestWorker;

beforeEach(async () => {
  daemon = await startTestDaemon();
  ({ endpoint, worker } = await daemon.ready());
});
afterEach(() => daemon.stop());

/** Posts a result as our own SDKs do, asking for one more job. */
function doneAndTake(jobId: string, body = '{"output":1}'): Promise<Reply> {
  const env = daemon.pool.started[0]?.env ?? {};
  const url = env.RUNPOD_WEBHOOK_POST_OUTPUT?.replace("$RUNPOD_POD_ID", worker.id).replace("$ID", jobId);
  const headers = { authorization: worker.token, "x-rpx-worker": "node/1", "x-rpx-take": "1" };
  return request(`${url}&isStream=false`, { method: "POST", headers, body });
}

const states = async (...ids: string[]) =>
  Promise.all(
    ids.map(async (id) => (await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).json().status),
  );

test("a result and the next job share one commit", async () => {
  const [first, second] = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
  await worker.takeJob();
  const commits: string[][] = [];
  daemon.store.onCommit((events: readonly JournalEvent[]) => commits.push(events.map(({ kind }) => kind)));
  const reply = await doneAndTake(first);
  expect(reply.json<{ id: string }[]>().map(({ id }) => id)).toEqual([second]);
  expect(commits).toContainEqual(["job.complete", "job.take"]);
  expect(await states(first, second)).toEqual(["COMPLETED", "IN_PROGRESS"]);
});

test("a claim that fails does not take the result with it", async () => {
  const [first, second] = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
  await worker.takeJob();
  const { take } = daemon.store.jobs;
  const fails = async () => Promise.reject(new RpxError("unavailable", "the disk is full"));
  Object.assign(daemon.store.jobs, { take: fails });
  const reply = await doneAndTake(first);
  expect([reply.status, reply.text]).toEqual([200, "{}"]);
  Object.assign(daemon.store.jobs, { take });
  expect(await states(first, second)).toEqual(["COMPLETED", "IN_QUEUE"]);
  expect((await worker.takeJob()).id).toBe(second);
});

test("a result that is not recorded hands over nothing, and what was claimed goes back uncounted", async () => {
  const [first, second] = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
  await worker.takeJob();
  const { finish } = daemon.store.jobs;
  const fails = async () => Promise.reject(new RpxError("unavailable", "the daemon is stopping"));
  Object.assign(daemon.store.jobs, { finish: fails });
  expect((await doneAndTake(first)).status).toBe(503);
  Object.assign(daemon.store.jobs, { finish });
  expect(await states(first, second)).toEqual(["IN_PROGRESS", "IN_QUEUE"]);
  await doneAndTake(first);
  expect(await states(first, second)).toEqual(["COMPLETED", "IN_PROGRESS"]);
});

test("a worker that asks to be replaced gets no more jobs", async () => {
  const [first, second] = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
  await worker.takeJob();
  const reply = await doneAndTake(first, '{"output":1,"stopPod":true}');
  expect(reply.text).toBe("{}");
  expect(await states(first, second)).toEqual(["COMPLETED", "IN_QUEUE"]);
});

test("a copy of a post, which changes nothing, brings no job: nobody may read its answer", async () => {
  const [first, second] = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
  await worker.takeJob();
  await worker.done(first, { output: 1 });
  const copy = await doneAndTake(first);
  expect(copy.text).toBe('{"ignored":true}');
  expect(await states(first, second)).toEqual(["COMPLETED", "IN_QUEUE"]);
});
