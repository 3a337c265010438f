import { parseSize } from "../../text/size.ts";
import type { Hardware, WorkerLimits } from "./model.ts";

const GIB = 2 ** 30;
/** Processes and threads of one worker; GPU libraries start many. */
const PIDS = 512;
const GPU_PIDS = 8_192;
/** Shared memory of a GPU worker whose memory is not limited. */
const GPU_SHM_BYTES = 8 * GIB;

/** What a worker may use at most, from its settings as rpx.toml spells them. */
export function workerLimits({ gpu, limits = {} }: Hardware): WorkerLimits {
  const isGpu = (gpu?.count ?? 0) > 0;
  const memoryBytes = bytesOf(limits.memory);
  const gpuShmBytes = memoryBytes === null ? GPU_SHM_BYTES : Math.floor(memoryBytes / 2);
  return {
    memoryBytes,
    cpus: limits.cpus ?? null,
    pids: limits.pids ?? (isGpu ? GPU_PIDS : PIDS),
    shmBytes: bytesOf(limits.shm) ?? (isGpu ? gpuShmBytes : null),
    diskBytes: bytesOf(limits.disk),
  };
}

/** Null for a size that is not set; 0 is no limit. */
function bytesOf(size: string | number | undefined): number | null {
  const bytes = size === undefined ? null : parseSize(size);
  return bytes === 0 ? null : bytes;
}
