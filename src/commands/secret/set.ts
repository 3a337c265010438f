import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { talk } from "../../cli/output.ts";
import { readSecretValue } from "../../cli/secret-input.ts";
import type { StoredSecret } from "../../contract/schemas/secret.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class SecretSet extends BaseCommand {
  static override summary = "Store a secret, or change it";
  static override description =
    `The value is standard input byte for byte, one newline at its end dropped; on a terminal it is asked for and not shown. It is never a flag.
Workers get it where a variable of their endpoint says secret:NAME, or has {{ RUNPOD_SECRET_NAME }} in it; [webhook] secret = "secret:NAME" signs webhooks with it.
It is stored encrypted, and no command shows it. A change reaches workers that start from then on; those that run keep the old value and are named.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hf_token < token.txt",
    "pass show hf | <%= config.bin %> <%= command.id %> hf_token --json",
    "<%= config.bin %> <%= command.id %> hf_token",
  ];
  static override args = {
    name: Args.string({
      description: "name of the secret: letters, digits, _ and -",
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    owner: Flags.string({ summary: "Whose it is, for an admin; else the key's own", helpValue: "OWNER" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SecretSet);
    const { client } = this.connect(flags);
    const value = await readSecretValue({
      question: `value of ${args.name}`,
      command: "rpx secret set NAME",
      signal: this.interrupt.signal,
    });
    const stored = await client.setSecret(args.name, {
      value,
      ...(flags.owner === undefined ? {} : { owner: flags.owner }),
    });
    if (!this.jsonEnabled()) for (const line of adviceOf(stored)) talk(sanitizeLine(line));
    this.answer(stored, () => `secret ${stored.name} is ${stored.outcome === "created" ? "set" : "changed"}`);
  }
}

/** Who has the old value, and how they get the new one. */
function adviceOf({ endpoints, workers }: StoredSecret): string[] {
  if (workers.length === 0) return [];
  return [
    `workers of ${endpoints.join(", ")} keep the old value until they are replaced; others take their place:`,
    ...workers.map((id) => `rpx worker stop ${id}`),
  ];
}
