import { Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { workerTable } from "../../cli/tables.ts";
import { watchList } from "../../cli/watch.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";

export default class WorkerList extends BaseCommand {
  static override summary = "List workers";
  static override description =
    "Each with its state and the reason for it. With --watch the list is printed again whenever it changes; with --watch --json each new or changed worker on a line.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --endpoint hello --json",
    "<%= config.bin %> <%= command.id %> --watch --json",
  ];
  static override flags = {
    endpoint: Flags.string({ summary: "Only workers of this endpoint", helpValue: "EP" }),
    all: Flags.boolean({ char: "a", summary: "Also workers that are gone" }),
    watch: Flags.boolean({ char: "w", summary: "Go on, and print what changes" }),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(WorkerList);
    const { client } = this.connect(flags);
    const read = (): Promise<WorkerBody[]> =>
      client.listWorkers({ endpoint: flags.endpoint, all: flags.all });
    if (flags.watch) await this.watch(read);
    const workers = await read();
    this.answer(workers, () => workerTable(workers));
  }

  private watch(read: () => Promise<WorkerBody[]>): Promise<never> {
    this.interrupt.explain({ message: "stopped watching" });
    return watchList({
      read,
      id: ({ id }) => id,
      fingerprint: ({ state, release, jobIds }) => [state, release, ...jobIds].join(),
      json: (worker) => JSON.stringify(worker),
      table: workerTable,
      isJson: this.jsonEnabled(),
      signal: this.interrupt.signal,
    });
  }
}
