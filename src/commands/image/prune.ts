import { Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";
import { prunedTable } from "../../cli/image-tables.ts";
import { talk } from "../../cli/output.ts";
import { formatSize } from "../../text/size.ts";

export default class ImagePrune extends BaseCommand {
  static override summary = "Remove images, bundles and environments that no release needs";
  static override description =
    `Kept is what the last five releases of each endpoint need, what is live, and what workers run from. Only what this daemon has built is ever removed. The daemon does the same by itself, once a day and after a release went live.
Asks first; without a terminal it needs --yes (exit 2). Needs a key of scope admin.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> --dry-run",
    "<%= config.bin %> <%= command.id %> --yes --json",
  ];
  static override flags = {
    "dry-run": Flags.boolean({ summary: "Only show what would go" }),
    yes: Flags.boolean({ char: "y", summary: "Do not ask" }),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(ImagePrune);
    const { client } = this.connect(flags);
    const found = await client.pruneImages({ dryRun: true });
    if (flags["dry-run"] || found.removed.length === 0) {
      this.answer(flags["dry-run"] ? found : { ...found, dryRun: false }, () => prunedTable(found));
      return;
    }
    if (!flags.yes) talk(prunedTable(found));
    await confirm({
      question: `remove ${found.removed.length} things (${formatSize(found.bytes)})`,
      isAgreed: flags.yes,
      signal: this.interrupt.signal,
    });
    const pruned = await client.pruneImages({});
    this.answer(pruned, () => prunedTable(pruned));
  }
}
