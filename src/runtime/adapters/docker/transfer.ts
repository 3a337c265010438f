import { sanitizeLine } from "../../../text/sanitize.ts";
import type { OnStep } from "../../ports/worker-pool.ts";

/** One line of the engine's answer to a pull or push. */
export type TransferMessage = {
  readonly id?: unknown;
  readonly status?: unknown;
  readonly progressDetail?: { readonly current?: unknown; readonly total?: unknown } | null;
  readonly error?: unknown;
};

export type Transfer = {
  take(message: TransferMessage): void;
  error(): string | null;
  /** Bytes of the layers whose size is known and that are not there yet, as they are sent. */
  packedBytes(): number;
};

type Layer = { readonly share: number; readonly totalBytes: number };

/** How much of a layer's way lies behind it while it is in a state; between two states its bytes count. */
const SHARES: Readonly<Record<string, readonly [from: number, to: number]>> = {
  "Pulling fs layer": [0, 0],
  Waiting: [0, 0],
  Preparing: [0, 0],
  Downloading: [0, 0.7],
  "Verifying Checksum": [0.7, 0.7],
  "Download complete": [0.7, 0.7],
  Extracting: [0.7, 1],
  Pushing: [0, 1],
  Pushed: [1, 1],
  "Pull complete": [1, 1],
  "Already exists": [1, 1],
  "Layer already exists": [1, 1],
};
const MAX_ERROR_CHARACTERS = 500;

/** Reads a pull or push into a percentage over its layers, which never falls. `text` says what is going on. */
export function createTransfer(text: string, onStep: OnStep): Transfer {
  const layers = new Map<string, Layer>();
  let error: string | null = null;
  let percent = 0;
  let toldPercent = -1;

  function take({ id, status, progressDetail, error: failure }: TransferMessage): void {
    if (typeof failure === "string") error = sanitizeLine(failure).slice(0, MAX_ERROR_CHARACTERS);
    const range = typeof status === "string" ? SHARES[status] : undefined;
    if (typeof id !== "string" || range === undefined) return;
    const { current, total } = {
      current: Number(progressDetail?.current),
      total: Number(progressDetail?.total),
    };
    const known = total > 0 && current >= 0;
    const share = range[0] + (range[1] - range[0]) * (known ? Math.min(1, current / total) : 0);
    // Only a download's total is what is sent; unpacking counts other bytes.
    const before = layers.get(id)?.totalBytes ?? 0;
    layers.set(id, { share, totalBytes: known && status === "Downloading" ? total : before });
    tell();
  }

  function tell(): void {
    const done = [...layers.values()].reduce((sum, { share }) => sum + share, 0);
    percent = Math.max(percent, Math.floor((done / layers.size) * 100));
    if (percent === toldPercent) return;
    toldPercent = percent;
    const isDone = (share: number) => share === 1;
    const there = [...layers.values()].filter(({ share }) => isDone(share)).length;
    onStep(`${text}: layer ${there}/${layers.size}`, percent);
  }

  return {
    take,
    error: () => error,
    packedBytes: () => [...layers.values()].reduce((sum, { totalBytes }) => sum + totalBytes, 0),
  };
}
