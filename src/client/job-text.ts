import { RpxError } from "../contract/error.ts";
import type { JobBody, JobDetail, JobRecord } from "../contract/schemas/job.ts";
import { elements, readObject } from "../text/json-text.ts";

/** Levels of a reply: a result's 1,000 and what stands around it. */
const MAX_REPLY_DEPTH = 1_100;

/**
 * A job whose input and output stay the text that they are: parsing them would spoil integers beyond 2^53. `json` is the whole body
 * as it came, `fields` everything else in it.
 */
export type JobText<Fields> = {
  readonly json: string;
  readonly fields: Omit<Fields, "input" | "output">;
  /** Raw JSON; null: the body has none. A result of null is the text "null". */
  readonly input: string | null;
  readonly output: string | null;
};

export type JobBodyText = JobText<JobBody>;
export type JobRecordText = JobText<JobRecord>;
export type JobDetailText = JobText<JobDetail>;

/** What came over HTTP in another form than the contract's. */
export function notOurs(reason: string): RpxError {
  return new RpxError("unreachable", "the answer does not come from an rpx daemon", {
    why: reason,
    hint: "rpx doctor shows which address is used",
  });
}

/** The members of a JSON object as raw texts. */
export function readMembers(json: string): ReadonlyMap<string, string> {
  const read = readObject(json, { maxDepth: MAX_REPLY_DEPTH });
  if (!read.ok) throw notOurs(`its body is ${read.reason}`);
  return read.members;
}

/** One job from its body. */
export function readJob<Fields>(json: string): JobText<Fields> {
  const members = readMembers(json);
  const fields: Record<string, unknown> = {};
  for (const [name, raw] of members) {
    if (name !== "input" && name !== "output") fields[name] = JSON.parse(raw);
  }
  return {
    json,
    fields: fields as Omit<Fields, "input" | "output">,
    input: members.get("input") ?? null,
    output: members.get("output") ?? null,
  };
}

/** Jobs from a bare array of bodies. */
export function readJobs<Fields>(json: string): JobText<Fields>[] {
  if (!json.trimStart().startsWith("[")) throw notOurs("its body is no list");
  return elements(json).map((body) => readJob<Fields>(body));
}
