import { Args, Flags } from "@oclif/core";
import { BaseCommand, type Connection } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { expectCompleted } from "../../cli/job-ending.ts";
import { readInput, readStdin } from "../../cli/job-input.ts";
import { showStream } from "../../cli/job-stream.ts";
import { isOver, type Waiting, waitForJob } from "../../cli/job-wait.ts";
import { rememberJob } from "../../cli/last-job.ts";
import { printJsonText, printLine, printOutput } from "../../cli/output.ts";
import { durationMs, optionalDurationMs } from "../../cli/parse-flags.ts";
import type { JobBodyText } from "../../client/job-text.ts";
import { RpxError } from "../../contract/error.ts";
import { jsonString, spliceObject } from "../../text/json-text.ts";

/** Largest request of /run in bytes (RunPod); /runsync takes twice that. */
const RUN_LIMIT_BYTES = 10_000_000;
/** The shortest wait that /runsync takes, in ms. */
const SHORTEST_WAIT_MS = 1_000;

export default class JobRun extends BaseCommand {
  static override summary = "Submit a job, wait for it and print its output";
  static override description =
    `The output is printed as JSON on stdout, as the handler wrote it; everything else goes to stderr. With --json the whole job is printed.
Ctrl-C stops waiting; the job goes on. Exits 7 when the job ended badly, 8 when --timeout passed, 3 when there is no such endpoint.`;
  static override examples = [
    `<%= config.bin %> <%= command.id %> hello -i '{"name": "Ada"}'`,
    "<%= config.bin %> <%= command.id %> hello -i name=Ada -i count=3",
    "<%= config.bin %> <%= command.id %> hello -i @input.json --async",
    "echo '{}' | <%= config.bin %> <%= command.id %> hello - --stream",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
    stdin: Args.string({
      description: "reads the input from standard input",
      options: ["-"],
      ignoreStdin: true,
    }),
  };
  static override flags = {
    input: Flags.string({
      char: "i",
      summary: "The input: JSON, @file, or key=value (repeatable)",
      multiple: true,
      multipleNonGreedy: true,
      helpValue: "INPUT",
    }),
    async: Flags.boolean({ summary: "Print the job's id and do not wait", exclusive: ["stream", "timeout"] }),
    stream: Flags.boolean({ summary: "Print chunks as they come, one JSON per line, the output last" }),
    timeout: Flags.string({
      summary: "Stop waiting after this time; the job goes on",
      helpValue: "DURATION",
    }),
    webhook: Flags.string({ summary: "URL that is told when the job ends", helpValue: "URL" }),
    "execution-timeout": Flags.string({ summary: "Longest run of this job", helpValue: "DURATION" }),
    ttl: Flags.string({ summary: "Longest life of this job, waiting included", helpValue: "DURATION" }),
    "low-priority": Flags.boolean({ summary: "Start no worker for this job" }),
    "idempotency-key": Flags.string({
      summary: "A repeat with the same key gets the first job",
      helpValue: "KEY",
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(JobRun);
    const connection = this.connect(flags);
    const body = await requestBody(args.stdin === undefined ? (flags.input ?? []) : ["-"], flags);
    const timeoutMs = optionalDurationMs("timeout", flags.timeout);
    const job = await submit(connection, args.endpoint, { body, idempotencyKey: flags["idempotency-key"] });
    rememberJob({ url: connection.settings.url.value, id: job.fields.id });
    if (flags.async) {
      this.printSubmitted(job);
      return;
    }
    const waiting = await this.prepareToWait(connection, job.fields.id, {
      endpoint: args.endpoint,
      timeoutMs,
    });
    if (flags.stream) {
      await showStream(waiting, { isJson: this.jsonEnabled() });
      return;
    }
    const ended = isOver(job.fields.status) ? job : await waitForJob(waiting);
    if (this.jsonEnabled()) printJsonText(ended.json);
    else if (ended.fields.status === "COMPLETED") printOutput(ended.output ?? "null");
    expectCompleted(ended.fields);
  }

  private printSubmitted(job: JobBodyText): void {
    if (this.jsonEnabled()) printJsonText(job.json);
    else printLine(job.fields.id);
  }

  private async prepareToWait(
    { client }: Connection,
    jobId: string,
    options: { readonly endpoint: string; readonly timeoutMs: number | undefined },
  ): Promise<Waiting> {
    const { interrupt } = this;
    interrupt.explain({ message: `stopped waiting; job ${jobId} goes on`, hint: `rpx job cancel ${jobId}` });
    const progress = await this.openProgress();
    const { signal } = interrupt;
    return { client, endpointId: options.endpoint, jobId, progress, signal, timeoutMs: options.timeoutMs };
  }
}

type RequestFlags = {
  readonly webhook?: string | undefined;
  readonly "execution-timeout"?: string | undefined;
  readonly ttl?: string | undefined;
  readonly "low-priority": boolean;
};

/** The request as JSON text; the input stands in it as it was written. */
async function requestBody(inputs: readonly string[], flags: RequestFlags): Promise<string> {
  const members: [string, string][] = [["input", await readInput(inputs, readStdin)]];
  if (flags.webhook !== undefined) members.push(["webhook", jsonString(flags.webhook)]);
  const policy = {
    executionTimeout: optionalDurationMs("execution-timeout", flags["execution-timeout"]),
    ttl: flags.ttl === undefined ? undefined : durationMs("ttl", flags.ttl),
    lowPriority: flags["low-priority"] || undefined,
  };
  const policyText = JSON.stringify(policy);
  if (policyText !== "{}") members.push(["policy", policyText]);
  return spliceObject(members);
}

type Submission = { readonly body: string; readonly idempotencyKey: string | undefined };

/** Submits under the name as typed; when that is unknown, under the only endpoint that begins like it. */
async function submit(connection: Connection, typed: string, submission: Submission): Promise<JobBodyText> {
  try {
    return await send(connection, typed, submission);
  } catch (error) {
    if (!(error instanceof RpxError && error.code === "not_found")) throw error;
    const { id } = await findEndpoint(connection, typed);
    if (id === typed) throw error;
    return send(connection, id, submission);
  }
}

/** By /run, whose answer names the job at once, so that Ctrl-C can; by /runsync what is too large for it. */
function send({ client }: Connection, endpoint: string, submission: Submission): Promise<JobBodyText> {
  const { body, idempotencyKey } = submission;
  if (Buffer.byteLength(body) <= RUN_LIMIT_BYTES) return client.run(endpoint, body, { idempotencyKey });
  return client.runSync(endpoint, body, { idempotencyKey, waitMs: SHORTEST_WAIT_MS });
}
