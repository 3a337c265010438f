/** A line of the engine's answer to a pull. */
export type PullMessage = {
  readonly id?: unknown;
  readonly status?: unknown;
  readonly progressDetail?: { readonly current?: unknown; readonly total?: unknown } | null;
};

/** Layers of one image; the engine itself allows 127. */
const MAX_LAYERS = 500;
/** Of a layer's work: fetching it takes longer than unpacking it, and verifying comes between. */
const FETCHED = 0.7;
const COMPLETE: ReadonlySet<string> = new Set(["Pull complete", "Already exists"]);
const STEPS: ReadonlySet<string> = new Set([
  "Pulling fs layer",
  "Waiting",
  "Downloading",
  "Verifying Checksum",
]);

/** How far a pull is, over all layers, in percent: null until a layer is known, and never less than before. */
export function createPullProgress(): (message: PullMessage) => number | null {
  const layers = new Map<string, number>();
  let shown: number | null = null;
  return ({ id, status, progressDetail }) => {
    if (typeof id !== "string" || typeof status !== "string") return shown;
    const done = layerDone(status, progressDetail ?? {});
    if (done === null || (!layers.has(id) && layers.size >= MAX_LAYERS)) return shown;
    layers.set(id, Math.max(layers.get(id) ?? 0, done));
    const sum = [...layers.values()].reduce((total, each) => total + each, 0);
    shown = Math.max(shown ?? 0, Math.floor((sum / layers.size) * 100));
    return shown;
  };
}

/** From 0 to 1; null for a line that is about no layer. */
function layerDone(
  status: string,
  { current, total }: { current?: unknown; total?: unknown },
): number | null {
  const part =
    typeof current === "number" && typeof total === "number" && total > 0 ? Math.min(current / total, 1) : 0;
  if (COMPLETE.has(status)) return 1;
  if (status === "Extracting") return FETCHED + (1 - FETCHED) * part;
  if (status === "Download complete") return FETCHED;
  return STEPS.has(status) ? FETCHED * part : null;
}
