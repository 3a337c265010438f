import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findJob } from "../../cli/find.ts";
import { showStream } from "../../cli/job-stream.ts";
import { optionalDurationMs } from "../../cli/parse-flags.ts";

export default class JobStream extends BaseCommand {
  static override summary = "Print a job's chunks as they come, its output last";
  static override description =
    `One JSON per line. With --json each line is an object: {"output": chunk}, and the whole job last. Each chunk is handed out once: a second reader gets the rest.
Exits 7 when the job ended badly, 8 when --timeout passed.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> @last",
    "<%= config.bin %> <%= command.id %> 3c1e9b2a --json",
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
    const { args, flags } = await this.parse(JobStream);
    const timeoutMs = optionalDurationMs("timeout", flags.timeout);
    const connection = this.connect(flags);
    const { id, endpointId } = (await findJob(connection, args.job)).fields;
    this.interrupt.explain({ message: `stopped reading; job ${id} goes on`, hint: `rpx job cancel ${id}` });
    const isJson = this.jsonEnabled();
    const progress = await this.openProgress();
    const { signal } = this.interrupt;
    await showStream(
      { client: connection.client, endpointId, jobId: id, progress, signal, timeoutMs },
      { isJson },
    );
  }
}
