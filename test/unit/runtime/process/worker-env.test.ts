import { expect, test } from "vitest";
import type { EndpointId, WorkerId } from "../../../../src/runtime/core/model.ts";
import { type WorkerEnvironmentOptions, workerEnvironment } from "../../../../src/runtime/core/worker-env.ts";

const CPU: WorkerEnvironmentOptions = {
  baseUrl: "http://127.0.0.1:7791",
  endpointId: "abc123def456gh" as EndpointId,
  workerId: "w-7f3a" as WorkerId,
  workerToken: "token-1",
  gpus: null,
  cpuCount: 4,
  memoryGiB: 16,
  volume: null,
  startTimeoutMs: 420_000,
  endpointEnv: {},
};
const BASE = "http://127.0.0.1:7791/v2/abc123def456gh";

test("a CPU worker gets the protocol's variables, with the templates unfilled", () => {
  expect(workerEnvironment(CPU)).toEqual({
    RUNPOD_WEBHOOK_GET_JOB: `${BASE}/job-take/$ID?gpu=cpu`,
    RUNPOD_WEBHOOK_POST_OUTPUT: `${BASE}/job-done/$RUNPOD_POD_ID/$ID?gpu=cpu`,
    RUNPOD_WEBHOOK_POST_STREAM: `${BASE}/job-stream/$RUNPOD_POD_ID/$ID?gpu=cpu`,
    RUNPOD_WEBHOOK_JOB_STREAM: `${BASE}/job-stream/$RUNPOD_POD_ID/$ID?gpu=cpu`,
    RUNPOD_WEBHOOK_PING: `${BASE}/ping/$RUNPOD_POD_ID?gpu=cpu`,
    RUNPOD_AI_API_KEY: "token-1",
    RUNPOD_POD_ID: "w-7f3a",
    RUNPOD_ENDPOINT_ID: "abc123def456gh",
    RUNPOD_PING_INTERVAL: "10000",
    RUNPOD_POD_HOSTNAME: "w-7f3a",
    RUNPOD_INIT_TIMEOUT: "420",
    RUNPOD_CPU_COUNT: "4",
    RUNPOD_MEM_GB: "16",
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS: "true",
    RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS: "true",
    RUNPOD_GPU_COUNT: "0",
    NVIDIA_VISIBLE_DEVICES: "void",
    CUDA_VISIBLE_DEVICES: "",
    PYTHONUNBUFFERED: "1",
  });
});

test("a GPU worker sees its GPUs by UUID and their name with + for spaces", () => {
  const env = workerEnvironment({
    ...CPU,
    gpus: { name: "NVIDIA H100 80GB HBM3", ids: ["GPU-1", "GPU-2"], fake: false },
  });
  expect(env).toMatchObject({
    RUNPOD_WEBHOOK_GET_JOB: `${BASE}/job-take/$ID?gpu=NVIDIA+H100+80GB+HBM3`,
    RUNPOD_GPU_COUNT: "2",
    RUNPOD_GPU_NAME: "NVIDIA+H100+80GB+HBM3",
    RUNPOD_GPU_TYPE_ID: "NVIDIA H100 80GB HBM3",
    NVIDIA_VISIBLE_DEVICES: "GPU-1,GPU-2",
    CUDA_VISIBLE_DEVICES: "GPU-1,GPU-2",
  });
  expect(env).not.toHaveProperty("RUNPOD_SKIP_GPU_CHECK");
});

test("a fake GPU is not tested by the SDK", () => {
  const env = workerEnvironment({ ...CPU, gpus: { name: "A", ids: ["GPU-1"], fake: true } });
  expect(env).toHaveProperty("RUNPOD_SKIP_GPU_CHECK", "true");
});

test("a GPU's name cannot bring a placeholder or a parameter into the URL", () => {
  const env = workerEnvironment({ ...CPU, gpus: { name: "x&$ID=1", ids: ["GPU-1"], fake: true } });
  expect(env.RUNPOD_WEBHOOK_GET_JOB).toBe(`${BASE}/job-take/$ID?gpu=x%26%24ID%3D1`);
});

test("a volume is told by id and path", () => {
  const env = workerEnvironment({ ...CPU, volume: { id: "models", path: "/data/volumes/models" } });
  expect(env).toMatchObject({ RUNPOD_VOLUME_ID: "models", RPX_VOLUME_PATH: "/data/volumes/models" });
});

test("the endpoint's own variables win, but not over the protocol's", () => {
  const own = {
    MODEL: "tiny",
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS: "false",
    RUNPOD_PING_INTERVAL: "2000",
    RUNPOD_POD_ID: "other",
    RUNPOD_ENDPOINT_ID: "other",
    RUNPOD_AI_API_KEY: "other",
    RUNPOD_WEBHOOK_GET_JOB: "http://elsewhere/",
    RUNPOD_WEBHOOK_POST_OUTPUT: "http://elsewhere/",
    RUNPOD_WEBHOOK_POST_STREAM: "http://elsewhere/",
    RUNPOD_WEBHOOK_JOB_STREAM: "http://elsewhere/",
    RUNPOD_WEBHOOK_PING: "http://elsewhere/",
  };
  const env = workerEnvironment({ ...CPU, endpointEnv: own });
  expect(env).toEqual({
    ...workerEnvironment(CPU),
    MODEL: "tiny",
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS: "false",
    RUNPOD_PING_INTERVAL: "2000",
  });
});

test("a part of a second of the start timeout counts as a whole one", () => {
  expect(workerEnvironment({ ...CPU, startTimeoutMs: 1_500 }).RUNPOD_INIT_TIMEOUT).toBe("2");
});
