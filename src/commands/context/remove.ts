import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { removeContext } from "../../cli/contexts.ts";

export default class ContextRemove extends BaseCommand {
  static override summary = "Forget a daemon's name and key";
  static override description = "The daemon itself is left alone. Exits 3 for an unknown name.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> lab",
    "<%= config.bin %> <%= command.id %> lab --json",
  ];
  static override args = {
    name: Args.string({ description: "name of the context", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args } = await this.parse(ContextRemove);
    await removeContext(args.name);
    this.answer({ name: args.name, removed: true }, () => `context ${args.name} is removed`);
  }
}
