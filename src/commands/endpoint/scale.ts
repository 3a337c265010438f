import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { configFromFlags } from "../../cli/endpoint-flags.ts";
import { findEndpoint } from "../../cli/find.ts";
import { describeScale } from "../../cli/scale-text.ts";
import { RpxError } from "../../contract/error.ts";

export default class EndpointScale extends BaseCommand {
  static override summary = "Change how many workers an endpoint has, and when";
  static override description =
    `Makes no release: workers stay, more start or surplus ones end. What is not named stays. --min 0 scales to zero, --max 0 pauses the endpoint.
Exits 3 when there is no such endpoint, 2 for a number out of its range.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello --min 1 --max 5",
    "<%= config.bin %> <%= command.id %> hello --by request-count --threshold 10",
    "<%= config.bin %> <%= command.id %> hello --min 0 --idle-timeout 30s --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    min: Flags.string({
      summary: "Workers that always run (also --workers-min)",
      helpValue: "N",
      aliases: ["workers-min"],
    }),
    max: Flags.string({
      summary: "Most workers; 0 pauses the endpoint (also --workers-max)",
      helpValue: "N",
      aliases: ["workers-max"],
    }),
    by: Flags.string({
      summary: "queue-delay (delay, QUEUE_DELAY) or request-count (requests, REQUEST_COUNT); also --scale-by",
      helpValue: "SCALER",
      aliases: ["scale-by"],
    }),
    threshold: Flags.string({
      summary: "Seconds of delay, or jobs per worker (also --scale-threshold)",
      helpValue: "N",
      aliases: ["scale-threshold"],
    }),
    "idle-timeout": Flags.string({ summary: "How long an idle worker stays", helpValue: "DURATION" }),
    extra: Flags.string({
      summary: "Workers above the most while the queue waits too long",
      helpValue: "N",
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointScale);
    const config = configFromFlags({
      "workers-min": flags.min,
      "workers-max": flags.max,
      "scale-by": flags.by,
      "scale-threshold": flags.threshold,
      "idle-timeout": flags["idle-timeout"],
      extra: flags.extra,
    });
    if (Object.keys(config).length === 0)
      throw new RpxError("usage", "nothing to change was named", { hint: "for example --min 1, or --max 5" });
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    await connection.client.updateEndpoint(id, { config });
    // Read again: the decision is made of the settings that are stored now.
    const endpoint = await connection.client.getEndpoint(id);
    this.answer(endpoint, () => describeScale(endpoint));
  }
}
