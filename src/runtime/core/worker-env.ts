import type { EndpointId, WorkerId } from "./model.ts";

/** GPUs handed to a worker: `ids` are UUIDs, `name` is what nvidia-smi calls the model. */
export type WorkerGpus = {
  readonly name: string;
  readonly ids: readonly string[];
  /** Made up by `--fake-gpus`: the SDK's GPU checks would fail on them. */
  readonly fake: boolean;
};

export type WorkerEnvironmentOptions = {
  /** Origin of the worker listener, without a slash at the end: "http://127.0.0.1:7791". */
  readonly baseUrl: string;
  readonly endpointId: EndpointId;
  readonly workerId: WorkerId;
  /** What the worker sends as its `Authorization`; worth nothing once the worker is condemned. */
  readonly workerToken: string;
  /** Null for a CPU endpoint. */
  readonly gpus: WorkerGpus | null;
  readonly cpuCount: number;
  readonly memoryGiB: number;
  /** The endpoint's volume and where the worker finds it, or null. */
  readonly volume: { readonly id: string; readonly path: string } | null;
  /** Longest start before the worker counts as unhealthy. */
  readonly startTimeoutMs: number;
  /** The endpoint's own variables, secrets filled in. */
  readonly endpointEnv: Readonly<Record<string, string>>;
};

/** RunPod's own default; below 1000 the SDK divides it to 0 and spins. */
const PING_INTERVAL_MS = 10_000;
/** What stands for a GPU name where there is none: the SDK needs a query string to append to. */
const NO_GPU_NAME = "cpu";

/**
 * The variables a platform sets for a worker of the `runpod` SDK (its serverless modules read them), and the endpoint's own.
 * `$ID` and `$RUNPOD_POD_ID` are left as they are: the SDK fills them in.
 *
 * The endpoint's variables win, so that a log level, the system checks or the visible GPUs can be set; but not over what
 * ties the worker to this daemon: RUNPOD_WEBHOOK_*, RUNPOD_POD_ID, RUNPOD_ENDPOINT_ID and RUNPOD_AI_API_KEY.
 */
export function workerEnvironment(options: WorkerEnvironmentOptions): Record<string, string> {
  return { ...platformDefaults(options), ...options.endpointEnv, ...protocolVariables(options) };
}

/** What the endpoint's own variables cannot change. */
function protocolVariables(options: WorkerEnvironmentOptions): Record<string, string> {
  const root = `${options.baseUrl}/v2/${options.endpointId}`;
  const query = `?gpu=${spelledForUrl(options.gpus?.name ?? NO_GPU_NAME)}`;
  const stream = `${root}/job-stream/$RUNPOD_POD_ID/$ID${query}`;
  return {
    RUNPOD_WEBHOOK_GET_JOB: `${root}/job-take/$ID${query}`,
    RUNPOD_WEBHOOK_POST_OUTPUT: `${root}/job-done/$RUNPOD_POD_ID/$ID${query}`,
    RUNPOD_WEBHOOK_POST_STREAM: stream,
    // The name that RunPod's own old simulator uses.
    RUNPOD_WEBHOOK_JOB_STREAM: stream,
    RUNPOD_WEBHOOK_PING: `${root}/ping/$RUNPOD_POD_ID${query}`,
    RUNPOD_AI_API_KEY: options.workerToken,
    RUNPOD_POD_ID: options.workerId,
    RUNPOD_ENDPOINT_ID: options.endpointId,
  };
}

/** What the endpoint's own variables may change. */
function platformDefaults(options: WorkerEnvironmentOptions): Record<string, string> {
  return {
    RUNPOD_PING_INTERVAL: String(PING_INTERVAL_MS),
    RUNPOD_POD_HOSTNAME: options.workerId,
    RUNPOD_INIT_TIMEOUT: String(Math.ceil(options.startTimeoutMs / 1_000)),
    RUNPOD_CPU_COUNT: String(options.cpuCount),
    RUNPOD_MEM_GB: String(options.memoryGiB),
    // The SDK ends a worker on a machine that is offline, nearly full or small.
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS: "true",
    // Downloads from a store on this machine are refused without it.
    RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS: "true",
    PYTHONUNBUFFERED: "1",
    ...gpuVariables(options.gpus),
    ...volumeVariables(options.volume),
  };
}

function gpuVariables(gpus: WorkerGpus | null): Record<string, string> {
  // "void" tells NVIDIA's runtime, an empty list tells CUDA, that there is none.
  if (gpus === null)
    return { RUNPOD_GPU_COUNT: "0", NVIDIA_VISIBLE_DEVICES: "void", CUDA_VISIBLE_DEVICES: "" };
  const visible = gpus.ids.join(",");
  return {
    RUNPOD_GPU_COUNT: String(gpus.ids.length),
    RUNPOD_GPU_NAME: gpus.name.replaceAll(" ", "+"),
    RUNPOD_GPU_TYPE_ID: gpus.name,
    NVIDIA_VISIBLE_DEVICES: visible,
    CUDA_VISIBLE_DEVICES: visible,
    ...(gpus.fake ? { RUNPOD_SKIP_GPU_CHECK: "true" } : {}),
  };
}

function volumeVariables(volume: WorkerEnvironmentOptions["volume"]): Record<string, string> {
  // A process has no /runpod-volume of its own: the path is told instead.
  return volume === null ? {} : { RUNPOD_VOLUME_ID: volume.id, RPX_VOLUME_PATH: volume.path };
}

/** A GPU's name as some images parse it out of the URL: `+` for spaces. */
function spelledForUrl(name: string): string {
  return encodeURIComponent(name).replaceAll("%20", "+");
}
