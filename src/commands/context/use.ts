import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { useContext } from "../../cli/contexts.ts";

export default class ContextUse extends BaseCommand {
  static override summary = "Choose which daemon the commands talk to";
  static override description =
    "With - none is chosen, and the daemon of this user is used. Flags and RPX_URL still come first. Exits 3 for an unknown name.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> lab",
    "<%= config.bin %> <%= command.id %> -",
  ];
  static override args = {
    name: Args.string({
      description: "name of the context, or - for none",
      required: true,
      ignoreStdin: true,
    }),
  };

  async run(): Promise<void> {
    const { args } = await this.parse(ContextUse);
    const name = args.name === "-" ? null : args.name;
    await useContext(name);
    this.answer({ current: name }, () => (name === null ? "no context is used" : `context ${name} is used`));
  }
}
