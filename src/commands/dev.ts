import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../cli/base-command.ts";
import { runCommand } from "../cli/dev/child.ts";
import { checkRunnable, DEV_POOLS, type DevPool } from "../cli/dev/deploy.ts";
import { runOnce, showEnd } from "../cli/dev/one-shot.ts";
import { runOutside } from "../cli/dev/outside.ts";
import { looksLikeRequest, requestBody } from "../cli/dev/request.ts";
import { type Session, withSession } from "../cli/dev/session.ts";
import { createStopSignals } from "../cli/dev/signals.ts";
import { contextName, endpointUrl, stay, withContext } from "../cli/dev/stay.ts";
import { ShownError } from "../cli/errors.ts";
import { readInput, readStdin } from "../cli/job-input.ts";
import { printJson, talk } from "../cli/output.ts";
import { checkInterpreter } from "../cli/serve/daemon-flags.ts";
import { checkPortFree } from "../cli/serve/port-check.ts";
import { loadProject, type Project } from "../project/load.ts";

const MAX_PORT = 65_535;

type DevFlags = {
  readonly input: string | undefined;
  readonly stream: boolean;
  readonly "execution-timeout": string | undefined;
  readonly exec: string | undefined;
  readonly python: string | undefined;
  readonly pool: DevPool;
  readonly port: number;
};

export default class Dev extends BaseCommand {
  static override summary = "Run a folder's handler behind a real queue, and reload it on save";
  static override description =
    `Starts a daemon of its own on a free port, with the handler in a real worker: a process, or a container with --pool docker. Everything ends with this command.

With --input one job is run: its output is printed as JSON on stdout and nothing else; worker output and errors go to stderr.
With --exec a command runs against the endpoint: RPX_URL, RPX_API_KEY, RPX_ENDPOINT and RunPod's own RUNPOD_ENDPOINT_BASE_URL and
RUNPOD_API_KEY are set for it. Arguments after -- run the handler's file itself, outside the queue, with the SDK on its path.

Exits 7 when the job ended badly, 6 when another rpx dev runs on the folder, otherwise as --exec or the file does.`;
  static override examples = [
    "<%= config.bin %> dev",
    `<%= config.bin %> dev examples/hello --input '{"name": "Ada"}'`,
    "<%= config.bin %> dev examples/stream --input @input.json --stream",
    "<%= config.bin %> dev --exec 'pytest -q'",
    "<%= config.bin %> dev --pool docker",
    `<%= config.bin %> dev examples/hello -- --test_input '{"input": {"name": "Ada"}}'`,
  ];
  static override args = {
    dir: Args.string({ description: "Folder, or handler file", default: ".", ignoreStdin: true }),
  };
  // The daemon is its own.
  static override baseFlags = {} as typeof BaseCommand.baseFlags;
  static override flags = {
    input: Flags.string({
      summary: "Run one job with this input: JSON, @file, or - for standard input",
      exclusive: ["exec"],
      helpValue: "JSON",
    }),
    stream: Flags.boolean({
      summary: "Print chunks as they come, one JSON per line, the output last",
      dependsOn: ["input"],
    }),
    "execution-timeout": Flags.string({
      summary: "Longest run of the job",
      dependsOn: ["input"],
      helpValue: "DURATION",
    }),
    exec: Flags.string({ summary: "Run a command against the endpoint, then end", helpValue: "COMMAND" }),
    python: Flags.string({
      summary: "Interpreter of a Python handler",
      env: "RPX_PYTHON",
      helpValue: "PATH",
    }),
    pool: Flags.option({ options: DEV_POOLS })({
      summary: "Where the worker runs: a process of yours, or a container",
      default: "process",
    }),
    port: Flags.integer({
      summary: "Port of the endpoint; 0 takes a free one",
      default: 0,
      min: 0,
      max: MAX_PORT,
    }),
  };

  async run(): Promise<void> {
    const { own, handlerArguments } = splitArguments(this.argv);
    const { args, flags } = await this.parse(Dev, own);
    const python = flags.python === undefined ? undefined : checkInterpreter(flags.python);
    const project = await loadProject(args.dir);
    const stop = createStopSignals(this.interrupt);
    try {
      if (handlerArguments !== null) {
        throw new ShownError(await runOutside(project, handlerArguments, { python, signal: stop.signal }));
      }
      checkRunnable(project, flags.pool);
      await checkPortFree("--port", { host: "127.0.0.1", port: flags.port });
      await this.runSession(project, { ...flags, python }, { path: args.dir, signal: stop.signal });
    } finally {
      stop.dispose();
    }
  }

  private async runSession(
    project: Project,
    flags: DevFlags,
    { path, signal }: { path: string; signal: AbortSignal },
  ): Promise<void> {
    const body =
      flags.input === undefined ? null : await readRequest(flags.input, flags["execution-timeout"]);
    const { port, python, pool, stream: isStream, exec } = flags;
    const isJson = this.jsonEnabled();
    await withSession({ project, port, python, pool, isWarm: body === null, signal }, async (session) => {
      if (body !== null) {
        const { client, calm, endpoint, logs, signal } = session;
        const job = await runOnce({ client, calm, endpoint, body, isStream, signal }).finally(logs.finish);
        showEnd(job, { isJson, isStream });
      } else if (exec !== undefined) {
        await runAgainst(session, exec);
      } else {
        if (isJson)
          printJson({
            endpoint: session.endpoint.name,
            url: endpointUrl(session),
            context: contextName(session),
          });
        await stay(session, { path, folder: project.folder, testInput: project.testInput });
      }
    });
  }
}

/** Before and behind `--`: null where there is none. */
function splitArguments(argv: readonly string[]): { own: string[]; handlerArguments: string[] | null } {
  const end = argv.indexOf("--");
  return end < 0
    ? { own: [...argv], handlerArguments: null }
    : { own: argv.slice(0, end), handlerArguments: argv.slice(end + 1) };
}

async function readRequest(given: string, executionTimeout: string | undefined): Promise<string> {
  const input = await readInput([given], readStdin);
  if (looksLikeRequest(input)) {
    talk(`note: --input is the input itself: this handler gets {"input": …} in event["input"]`);
  }
  return requestBody(input, executionTimeout);
}

/** Exits as the command does. */
async function runAgainst(session: Session, command: string): Promise<void> {
  const { signal } = session;
  const { url, key } = session.daemon;
  const env = {
    ...process.env,
    RPX_URL: url,
    RPX_API_KEY: key,
    RPX_ENDPOINT: session.endpoint.name,
    RUNPOD_ENDPOINT_BASE_URL: `${url}/v2`,
    RUNPOD_API_KEY: key,
  };
  const code = await withContext(session, () => runCommand({ file: command, env, signal }));
  signal.throwIfAborted();
  throw new ShownError(code);
}
