import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";

export default class SecretUnset extends BaseCommand {
  static override summary = "Forget a secret";
  static override description =
    `One that an endpoint uses is refused (exit 6) unless --force is given: no worker of that endpoint could start any more. Workers that run keep the value until they end.
Asks first; without a terminal it needs --yes (exit 2).`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hf_token",
    "<%= config.bin %> <%= command.id %> hf_token --yes --force --json",
  ];
  static override args = {
    name: Args.string({ description: "name of the secret", required: true, ignoreStdin: true }),
  };
  static override flags = {
    force: Flags.boolean({ summary: "Also one that an endpoint uses" }),
    owner: Flags.string({ summary: "Whose it is, for an admin; else the key's own", helpValue: "OWNER" }),
    yes: Flags.boolean({ char: "y", summary: "Do not ask" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SecretUnset);
    const { client } = this.connect(flags);
    const { force, owner, yes } = flags;
    await confirm({
      question: `forget secret ${args.name}`,
      isAgreed: yes,
      signal: this.interrupt.signal,
    });
    const unset = await client.unsetSecret(args.name, { force, owner });
    this.answer(unset, () => `secret ${unset.name} is forgotten`);
  }
}
