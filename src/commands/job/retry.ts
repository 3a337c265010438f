import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findJob } from "../../cli/find.ts";
import { printJsonText, printLine } from "../../cli/output.ts";
import { wrongState } from "../../cli/wrong-state.ts";

export default class JobRetry extends BaseCommand {
  static override summary = "Run a failed or timed out job again";
  static override description =
    "The job keeps its id and input; its old output is dropped. Exits 6 when the job is in another state, 3 when there is none.";
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

  async run(): Promise<void> {
    const { args, flags } = await this.parse(JobRetry);
    const connection = this.connect(flags);
    const { id, endpointId } = (await findJob(connection, args.job)).fields;
    const job = await connection.client.retryJob(endpointId, id).catch(wrongState);
    if (this.jsonEnabled()) printJsonText(job.json);
    else printLine(`${job.fields.id} ${job.fields.status}`);
  }
}
