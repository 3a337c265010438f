import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { readSecretValue } from "../../cli/secret-input.ts";

export default class RegistryAdd extends BaseCommand {
  static override summary = "Store a login of an image registry, or change it";
  static override description =
    `The password, or better an access token, is standard input byte for byte, one newline at its end dropped; on a terminal it is asked for and not shown. It is never a flag.
It is stored encrypted, no command shows it, and it is sent to its own registry alone. An endpoint names it with [image] registry = "NAME". Needs a key of scope admin.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> work --server registry.example --username ada < token.txt",
    "pass show ghcr | <%= config.bin %> <%= command.id %> ghcr --server ghcr.io --username ada --json",
  ];
  static override args = {
    name: Args.string({
      description: "name of the login: a-z, 0-9 and -",
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    server: Flags.string({
      summary: "Its host, and port where it has one: docker.io, ghcr.io, registry.example:5000",
      required: true,
      helpValue: "HOST",
    }),
    username: Flags.string({ summary: "User name", required: true, helpValue: "USER" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(RegistryAdd);
    const { client } = this.connect(flags);
    const password = await readSecretValue({
      question: `password of ${flags.username} at ${flags.server}`,
      command: "rpx registry add NAME --server HOST --username USER",
      signal: this.interrupt.signal,
    });
    const { server, username } = flags;
    const stored = await client.setRegistry(args.name, { server, username, password });
    this.answer(
      stored,
      () =>
        `registry login ${stored.name} (${stored.server}) is ${stored.outcome === "created" ? "stored" : "changed"}`,
    );
  }
}
