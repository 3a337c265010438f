import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { waitForWorkers } from "../../cli/warm-wait.ts";

export default class EndpointWarm extends BaseCommand {
  static override summary = "Have workers up before the first job";
  static override description =
    `Starts or wakes workers as a burst of jobs would; afterwards they go to sleep or end like any idle worker. --wait ends when they are ready.
Exits 3 when there is no such endpoint, 6 when it is paused or may not have so many workers, 9 when its workers fail.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --workers 3 --wait --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    workers: Flags.integer({ summary: "How many", default: 1, min: 1, max: 1000 }),
    wait: Flags.boolean({ summary: "Wait until they are ready" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointWarm);
    const connection = this.connect(flags);
    const { client } = connection;
    const { id } = await findEndpoint(connection, args.endpoint);
    const asked = await client.warmEndpoint(id, { workers: flags.workers });
    const progress = await this.openProgress();
    const { interrupt } = this;
    const wait = { client, endpoint: asked, workers: flags.workers, progress, interrupt };
    const endpoint = flags.wait ? await waitForWorkers(wait) : asked;
    progress.done();
    const { idle, running } = endpoint.workerCounts;
    this.answer(endpoint, () =>
      flags.wait
        ? `${endpoint.name} has ${idle + running} workers ready`
        : `${endpoint.name} is being warmed; rpx worker list --endpoint ${endpoint.name} shows how far it is`,
    );
  }
}
