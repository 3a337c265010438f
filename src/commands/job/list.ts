import { Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { printJsonText, printLine } from "../../cli/output.ts";
import { jobTable } from "../../cli/tables.ts";
import { watchList } from "../../cli/watch.ts";
import type { JobRecordText } from "../../client/job-text.ts";
import { spliceArray } from "../../text/json-text.ts";

export default class JobList extends BaseCommand {
  static override summary = "List jobs, newest first";
  static override description =
    "With --watch the list is printed again whenever it changes; with --watch --json each new or changed job on a line.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --status FAILED --endpoint hello --limit 5",
    "<%= config.bin %> <%= command.id %> --watch --json",
  ];
  static override flags = {
    status: Flags.string({
      summary: "Only jobs in this state",
      options: ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"],
      helpValue: "STATUS",
    }),
    endpoint: Flags.string({ summary: "Only jobs of this endpoint", helpValue: "EP" }),
    worker: Flags.string({ summary: "Only jobs that this worker took", helpValue: "ID" }),
    limit: Flags.integer({ char: "n", summary: "How many at most", default: 20, min: 1, max: 1000 }),
    before: Flags.integer({ summary: "Only jobs before this `seq` of --json", min: 1, helpValue: "SEQ" }),
    watch: Flags.boolean({ char: "w", summary: "Go on, and print what changes" }),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(JobList);
    const { client } = this.connect(flags);
    const { status, endpoint, worker, limit, before } = flags;
    const read = (): Promise<JobRecordText[]> => client.listJobs({ status, endpoint, worker, limit, before });
    if (flags.watch) await this.watch(read);
    const jobs = await read();
    if (this.jsonEnabled()) printJsonText(spliceArray(jobs.map(({ json }) => json)));
    else printLine(jobTable(jobs));
  }

  private watch(read: () => Promise<JobRecordText[]>): Promise<never> {
    this.interrupt.explain({ message: "stopped watching" });
    return watchList({
      read,
      id: ({ fields }) => fields.id,
      fingerprint: ({ fields }) => [fields.status, fields.attempts, fields.workerId].join(),
      json: ({ json }) => json,
      table: jobTable,
      isJson: this.jsonEnabled(),
      signal: this.interrupt.signal,
    });
  }
}
