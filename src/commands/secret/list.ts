import { BaseCommand } from "../../cli/base-command.ts";
import { secretTable } from "../../cli/tables.ts";

export default class SecretList extends BaseCommand {
  static override summary = "List secrets";
  static override description =
    "Names, ages, and the endpoints that use them; never their values. A key of scope admin sees those of all owners.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(SecretList);
    const { client } = this.connect(flags);
    const secrets = await client.listSecrets();
    this.answer(secrets, () => secretTable(secrets));
  }
}
