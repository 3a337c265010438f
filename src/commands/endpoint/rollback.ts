import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { finishRollout } from "../../cli/rollout.ts";

export default class EndpointRollback extends BaseCommand {
  static override summary = "Go back to what an older release was made of";
  static override description =
    `Makes a new release of what an older one was made of, the one that served before unless --to names another, and waits until it serves, as
endpoint deploy does; nothing is built again. Settings stay as they are.
Exits 3 when there is no such release, or it was never built, 2 when its first worker fails, 6 when a newer deploy takes its place.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --to 3 --no-wait --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    to: Flags.integer({ summary: "Version to go back to", min: 1, helpValue: "VERSION" }),
    wait: Flags.boolean({ summary: "Wait until the release serves", default: true, allowNo: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointRollback);
    const connection = this.connect(flags);
    const { client } = connection;
    const { id } = await findEndpoint(connection, args.endpoint);
    const progress = await this.openProgress();
    const endpoint = await client.rollback(id, flags.to === undefined ? {} : { to: flags.to }, progress.step);
    const made = endpoint.madeRelease ?? null;
    const rollout = { client, progress, interrupt: this.interrupt, isWaitedFor: flags.wait };
    const version = made ?? endpoint.release;
    const outcome = await finishRollout({ ...rollout, endpoint, version, isNew: made !== null });
    this.answer(outcome.document, () => outcome.text);
  }
}
