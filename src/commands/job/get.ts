import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { findJob } from "../../cli/find.ts";
import { readFailure } from "../../cli/job-ending.ts";
import { printJsonText, printLine } from "../../cli/output.ts";
import type { JobDetailText } from "../../client/job-text.ts";
import { formatDuration } from "../../text/duration.ts";
import { formatTable } from "../../text/format.ts";
import { escapeControls, indentJson } from "../../text/json-text.ts";
import { sanitize } from "../../text/sanitize.ts";

export default class JobGet extends BaseCommand {
  static override summary = "Show a job with its history";
  static override description =
    "Shows state, reason, times, input, output and every event of a job. Exits 0 whatever became of the job, 3 when there is none.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> @last",
    "<%= config.bin %> <%= command.id %> 3c1e9b2a --json",
  ];
  static override args = {
    job: Args.string({
      description: "id, the beginning of one, or @last",
      required: true,
      ignoreStdin: true,
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(JobGet);
    const job = await findJob(this.connect(flags), args.job);
    if (this.jsonEnabled()) printJsonText(job.json);
    else printLine(describe(job));
  }
}

function describe(job: JobDetailText): string {
  const { fields } = job;
  const failure = fields.error === undefined ? null : readFailure(fields.error);
  const facts = formatFacts([
    ["job", fields.id],
    ["endpoint", `${fields.endpoint} (${fields.endpointId})`],
    ["status", fields.status],
    ["reason", fields.reason],
    ["error", failure?.message],
    ["created", fields.createdAt],
    ["finished", fields.finishedAt],
    ["waited", duration(fields.delayTime)],
    ["ran", duration(fields.executionTime)],
    ["attempts", fields.attempts],
    ["worker", fields.workerId],
    ["owner", fields.owner],
  ]);
  const parts = [facts, section("input", job.input), section("output", job.output)];
  if (failure?.traceback != null) parts.push(`traceback\n${sanitize(failure.traceback).trimEnd()}`);
  parts.push(history(fields.events));
  return parts.filter((part) => part !== "").join("\n\n");
}

function duration(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : formatDuration(ms);
}

function section(title: string, json: string | null): string {
  return json === null ? "" : `${title}\n${escapeControls(indentJson(json))}`;
}

function history(events: JobDetailText["fields"]["events"]): string {
  if (events.length === 0) return "";
  return formatTable(
    [{ title: "TIME" }, { title: "EVENT" }, { title: "WORKER" }, { title: "DETAIL" }],
    events.map((event) => [event.ts, event.kind, event.workerId ?? "-", detail(event.data)]),
  );
}

function detail(data: Readonly<Record<string, unknown>>): string {
  return Object.entries(data)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(" ");
}
