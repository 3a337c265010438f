import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";

export default class RegistryRemove extends BaseCommand {
  static override summary = "Forget a login of an image registry";
  static override description =
    "Images that are here stay. One that an endpoint uses is kept unless --force is given (exit 6). Asks first; without a terminal it needs --yes (exit 2). Needs a key of scope admin.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> work",
    "<%= config.bin %> <%= command.id %> work --force --yes --json",
  ];
  static override args = {
    name: Args.string({ description: "name of the login", required: true, ignoreStdin: true }),
  };
  static override flags = {
    force: Flags.boolean({ summary: "Also one that an endpoint uses" }),
    yes: Flags.boolean({ char: "y", summary: "Do not ask" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(RegistryRemove);
    const { client } = this.connect(flags);
    await confirm({
      question: `forget the registry login ${args.name}`,
      isAgreed: flags.yes,
      signal: this.interrupt.signal,
    });
    const removed = await client.removeRegistry(args.name, { force: flags.force });
    this.answer(removed, () => `registry login ${removed.name} (${removed.server}) is forgotten`);
  }
}
