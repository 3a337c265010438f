import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findJob } from "../../cli/find.ts";
import { expectCompleted } from "../../cli/job-ending.ts";
import { waitForJob } from "../../cli/job-wait.ts";
import { printJsonText, printOutput } from "../../cli/output.ts";
import { optionalDurationMs } from "../../cli/parse-flags.ts";

export default class JobWait extends BaseCommand {
  static override summary = "Wait for a job and print its output";
  static override description =
    "As job run, for a job that was submitted before. Exits 7 when the job ended badly, 8 when --timeout passed.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> @last",
    "<%= config.bin %> <%= command.id %> 3c1e9b2a --timeout 5m --json",
  ];
  static override args = {
    job: Args.string({
      description: "id, the beginning of one, or @last",
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    timeout: Flags.string({
      summary: "Stop waiting after this time; the job goes on",
      helpValue: "DURATION",
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(JobWait);
    const timeoutMs = optionalDurationMs("timeout", flags.timeout);
    const connection = this.connect(flags);
    const { id, endpointId } = (await findJob(connection, args.job)).fields;
    this.interrupt.explain({ message: `stopped waiting; job ${id} goes on`, hint: `rpx job cancel ${id}` });
    const progress = await this.openProgress();
    const { signal } = this.interrupt;
    const job = await waitForJob({
      client: connection.client,
      endpointId,
      jobId: id,
      progress,
      signal,
      timeoutMs,
    });
    if (this.jsonEnabled()) printJsonText(job.json);
    else if (job.fields.status === "COMPLETED") printOutput(job.output ?? "null");
    expectCompleted(job.fields);
  }
}
