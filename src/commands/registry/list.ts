import { BaseCommand } from "../../cli/base-command.ts";
import { registryTable } from "../../cli/image-tables.ts";

export default class RegistryList extends BaseCommand {
  static override summary = "List logins of image registries";
  static override description =
    "Names, servers and user names, and which endpoints use them; never a password. Needs a key of scope deploy (exit 4).";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(RegistryList);
    const { client } = this.connect(flags);
    const registries = await client.listRegistries();
    this.answer(registries, () => registryTable(registries));
  }
}
