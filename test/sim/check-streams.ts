import type { Post } from "./history.ts";
import { type JobStory, mayPassFor } from "./model.ts";
import type { World } from "./world.ts";

type Chunk = Pick<Post, "number" | "order"> & { readonly part: number };

/** INV-4: chunks and progress come from the delivery in force, in order. */
export function checkStreams(world: World, stories: ReadonlyMap<string, JobStory>): void {
  const reads = Map.groupBy(world.history.streams, ({ jobId }) => jobId);
  for (const [jobId, pages] of reads) {
    const story = stories.get(jobId);
    if (story)
      checkChunks(
        world,
        story,
        pages.flatMap(({ chunks }) => chunks),
      );
  }
  for (const story of stories.values()) checkProgress(world, story);
}

function checkChunks(world: World, story: JobStory, chunks: readonly string[]): void {
  const { jobId, posts, submission } = story;
  const posted = new Map(posts.flatMap((post) => (post.kind === "chunk" ? [[post.text, post]] : [])));
  const counted = world.plan.endpoints[submission.endpoint]?.worker.sdk === "own";
  let last: Chunk | null = null;
  for (const text of chunks) {
    const post = posted.get(text);
    if (post === undefined) {
      world.fail("INV-4", `a chunk of ${jobId} was posted by nobody: ${text}`);
      continue;
    }
    const chunk = { ...post, part: (JSON.parse(text) as { part: number }).part };
    if (last !== null && chunk.order < last.order && !mayPassFor(world, story, chunk, last))
      world.fail(
        "INV-4",
        `a chunk of ${jobId}'s delivery ${chunk.number} came after one of delivery ${last.number}`,
      );
    // Only our own SDK numbers its chunks, so that a post that was doubled is told from the next chunk.
    if (counted && last !== null && chunk.order === last.order && chunk.part <= last.part)
      world.fail("INV-4", `chunk ${chunk.part} of ${jobId} came after chunk ${last.part}`);
    last = chunk;
  }
}

/** A value of an earlier delivery is gone once a worker has the job anew. */
function checkProgress(world: World, story: JobStory): void {
  const { jobId, sights, deliveries, posts } = story;
  for (const { state, output, sentAtMs } of sights) {
    if (state !== "IN_PROGRESS" || output === null) continue;
    const post = posts.find(({ kind, text }) => kind === "progress" && text === output);
    if (post === undefined) {
      world.fail("INV-4", `progress of ${jobId} was posted by nobody: ${output}`);
      continue;
    }
    const later = deliveries.find(({ order, atMs }) => order > post.order && atMs < sentAtMs);
    if (later && !mayPassFor(world, story, post, later))
      world.fail("INV-4", `progress of ${jobId} is of delivery ${post.number}, and ${later.number} runs`);
  }
}
