import { BaseCommand } from "../cli/base-command.ts";
import { diskUses } from "../cli/disk.ts";
import { formatFacts } from "../cli/facts.ts";
import type { StatusBody } from "../contract/schemas/daemon.ts";
import { formatDuration } from "../text/duration.ts";
import { formatSize } from "../text/size.ts";

export default class Status extends BaseCommand {
  static override summary = "Show the daemon as a whole";
  static override description =
    "Shows the daemon's address, pool, health and disk. Exits 5 when no daemon answers, 0 otherwise.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
    "<%= config.bin %> <%= command.id %> --url http://127.0.0.1:7790",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(Status);
    const { client } = this.connect(flags);
    const status = await client.status();
    this.answer(status, () => describe(status));
  }
}

function describe(status: StatusBody): string {
  return formatFacts([
    ["daemon", `${status.url} (version ${status.version}, pid ${status.pid})`],
    ["up", formatDuration(status.uptimeMs)],
    ["health", status.health],
    ["pool", `${status.pool} (isolation: ${status.isolation})`],
    ["workers at", status.workerUrl],
    ["data", status.dataDir],
    ...diskUses(status.disk),
    [
      "free disk",
      `${formatSize(status.disk.freeBytes)} (jobs are refused below ${formatSize(status.disk.minFreeBytes)})`,
    ],
    ["journal", status.journalSeq],
  ]);
}
