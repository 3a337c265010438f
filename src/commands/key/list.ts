import { BaseCommand } from "../../cli/base-command.ts";
import { keyTable } from "../../cli/tables.ts";

export default class KeyList extends BaseCommand {
  static override summary = "List API keys";
  static override description =
    "Names, owners, scopes and last use; never their text. Needs a key of scope admin (exit 4).";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(KeyList);
    const { client } = this.connect(flags);
    const keys = await client.listKeys();
    this.answer(keys, () => keyTable(keys));
  }
}
