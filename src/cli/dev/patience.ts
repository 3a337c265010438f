import { setTimeout as sleep } from "node:timers/promises";
import { sanitizeLine } from "../../text/sanitize.ts";
import { talk } from "../output.ts";

/** Nothing is said of what takes less. */
const SILENT_MS = 2_000;
/** Between two looks at what is waited for. */
const LOOK_MS = 1_000;
/** Durations as `formatDuration` writes them: a wait that only grew is no news. */
const DURATION = /\d+ ms|\d+(?:\.\d+)? s|\d+[mhd]\d+[smh]/g;

/**
 * Waits for `work`; after 2 s says on stderr what for, and again when that changes. `describe` answers null when there is nothing to say;
 * its failure is the work's business.
 */
export async function withPatience<Result>(
  work: Promise<Result>,
  describe: () => Promise<string | null>,
): Promise<Result> {
  const over = new AbortController();
  const talking = sayWhy(describe, over.signal);
  try {
    return await work;
  } finally {
    over.abort();
    await talking;
  }
}

async function sayWhy(describe: () => Promise<string | null>, signal: AbortSignal): Promise<void> {
  let said = "";
  for (let pauseMs = SILENT_MS; ; pauseMs = LOOK_MS) {
    await sleep(pauseMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    const reason = await describe().catch(() => null);
    if (signal.aborted || reason === null) continue;
    const news = reason.replace(DURATION, "");
    if (news !== said) talk(sanitizeLine(`waiting: ${reason}`));
    said = news;
  }
}
