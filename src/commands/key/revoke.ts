import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";
import { findKey } from "../../cli/find.ts";

export default class KeyRevoke extends BaseCommand {
  static override summary = "Make an API key worthless";
  static override description =
    "The next request with it gets 401, its open streams are closed. Asks first; without a terminal it needs --yes (exit 2).";
  static override examples = [
    "<%= config.bin %> <%= command.id %> ci",
    "<%= config.bin %> <%= command.id %> ci --yes --json",
  ];
  static override args = {
    key: Args.string({ description: "name or id of the key", required: true, ignoreStdin: true }),
  };
  static override flags = { yes: Flags.boolean({ char: "y", summary: "Do not ask" }) };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(KeyRevoke);
    const connection = this.connect(flags);
    const { id, name } = await findKey(connection, args.key);
    await confirm({
      question: `revoke key ${name} (${id})`,
      isAgreed: flags.yes,
      signal: this.interrupt.signal,
    });
    await connection.client.revokeKey(id);
    this.answer({ id, name, revoked: true }, () => `key ${name} is revoked`);
  }
}
