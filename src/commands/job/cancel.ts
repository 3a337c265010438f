import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findJob } from "../../cli/find.ts";
import { printJsonText, printLine } from "../../cli/output.ts";
import { wrongState } from "../../cli/wrong-state.ts";
import { RpxError } from "../../contract/error.ts";

export default class JobCancel extends BaseCommand {
  static override summary = "Cancel a job that waits or runs";
  static override description =
    "A running job is stopped on its worker. Exits 6 when the job has ended already, 3 when there is none.";
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
    const { args, flags } = await this.parse(JobCancel);
    const connection = this.connect(flags);
    const { id, endpointId } = (await findJob(connection, args.job)).fields;
    const job = await connection.client.cancelJob(endpointId, id).catch(wrongState);
    if (job.fields.status !== "CANCELLED") {
      throw new RpxError("conflict", `job ${id} cannot be cancelled`, {
        why: `it is ${job.fields.status} already`,
      });
    }
    if (this.jsonEnabled()) printJsonText(job.json);
    else printLine(`${job.fields.id} ${job.fields.status}`);
  }
}
