import { Flags } from "@oclif/core";
import { BaseCommand } from "../cli/base-command.ts";
import { talk } from "../cli/output.ts";
import { dataDir } from "../cli/paths.ts";
import { type DaemonSettings, daemonSettings } from "../cli/serve/daemon-flags.ts";
import { startDetached } from "../cli/serve/detach.ts";
import { supervisorArguments } from "../cli/serve/entries.ts";
import { checkPortFree } from "../cli/serve/port-check.ts";
import { readDaemonFile } from "../cli/settings.ts";

const MAX_PORT = 65_535;
/** Where workers of the process pool reach the daemon. */
const WORKER_HOST = "127.0.0.1";
const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const;

const port = (name: string, summary: string, preset: number) =>
  Flags.integer({ summary, default: preset, min: 0, max: MAX_PORT, env: name, helpValue: "PORT" });

export default class Serve extends BaseCommand {
  static override summary = "Run the daemon: queue, workers and API on this machine";
  static override description =
    `Serves RunPod's API for jobs at http://HOST:PORT/v2/ENDPOINT until SIGTERM or Ctrl-C: new jobs are
refused then, running ones get --grace to end, jobs of process workers go back to the queue; workers in containers go on and are taken over at the
next start, unless --stop-workers is given. A second signal stops at once.
SIGHUP replaces the daemon by a newly installed one while sockets and workers stay.

The first start makes an admin key and keeps it in the data directory, where the commands of the same user find it.`;
  static override examples = [
    "<%= config.bin %> serve",
    "<%= config.bin %> serve --port 0 --data-dir /tmp/rpx --detach",
    "<%= config.bin %> serve --pool docker --budget-memory 48GiB --budget-cpus 12",
    "<%= config.bin %> serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --trusted-code",
  ];
  // Which daemon to talk to is no question here.
  static override baseFlags = {} as typeof BaseCommand.baseFlags;
  static override flags = {
    host: Flags.string({
      summary: "Address that clients reach; beyond loopback only with TLS or --insecure-http",
      default: "127.0.0.1",
      env: "RPX_HOST",
    }),
    port: port("RPX_PORT", "Port for clients; 0 takes a free one", 7790),
    "worker-port": port("RPX_WORKER_PORT", "Port for workers, on loopback; 0 takes a free one", 7791),
    "data-dir": Flags.string({
      summary: "Where jobs, logs and keys are kept (RPX_DATA_DIR)",
      helpValue: "DIR",
    }),
    pool: Flags.string({
      summary:
        "Where workers of new endpoints run: process, docker, or auto (containers where a Docker engine answers, else processes)",
      default: "auto",
      env: "RPX_POOL",
    }),
    python: Flags.string({
      summary: "Interpreter for Python handlers, before any other",
      env: "RPX_PYTHON",
      helpValue: "PATH",
    }),
    detach: Flags.boolean({ summary: "Run in the background; ends when it is ready", env: "RPX_DETACH" }),
    grace: Flags.string({
      summary: "How long running jobs may go on after SIGTERM",
      default: "10s",
      env: "RPX_GRACE",
      helpValue: "DURATION",
    }),
    "stop-workers": Flags.boolean({
      summary:
        "End workers in containers with the daemon; unless given they go on (process workers always end)",
      env: "RPX_STOP_WORKERS",
    }),
    "budget-cpus": Flags.string({
      summary: "CPUs that workers with a limit may claim together; 90 % of this machine unless set",
      env: "RPX_BUDGET_CPUS",
      helpValue: "N",
    }),
    "budget-memory": Flags.string({
      summary: "Memory that workers with a limit may claim together",
      env: "RPX_BUDGET_MEMORY",
      helpValue: "SIZE",
    }),
    "budget-disk": Flags.string({
      summary: "Disk that workers with a limit may claim together",
      env: "RPX_BUDGET_DISK",
      helpValue: "SIZE",
    }),
    "worker-url": Flags.string({
      summary: "Address at which containers reach the worker port, where the engine runs on another machine",
      env: "RPX_WORKER_URL",
      helpValue: "URL",
    }),
    "tls-cert": Flags.string({ summary: "Certificate chain, PEM", env: "RPX_TLS_CERT", helpValue: "FILE" }),
    "tls-key": Flags.string({
      summary: "Key of the certificate, PEM",
      env: "RPX_TLS_KEY",
      helpValue: "FILE",
    }),
    "insecure-http": Flags.boolean({
      summary: "Accept a --host beyond loopback without TLS",
      env: "RPX_INSECURE_HTTP",
    }),
    "trusted-code": Flags.boolean({
      summary: "Accept a --host beyond loopback though workers are not isolated",
      env: "RPX_TRUSTED_CODE",
    }),
    "public-url": Flags.string({
      summary: "Address under which clients know this daemon",
      env: "RPX_PUBLIC_URL",
      helpValue: "URL",
    }),
    "min-free-disk": Flags.string({
      summary: "Refuse new jobs when less is free",
      default: "1GB",
      env: "RPX_MIN_FREE_DISK",
      helpValue: "SIZE",
    }),
    "rate-limits": Flags.boolean({
      summary: "RunPod's rate limits; on beyond loopback unless set",
      allowNo: true,
      env: "RPX_RATE_LIMITS",
    }),
    "log-level": Flags.option({ options: LOG_LEVELS })({
      summary: "Least level of the daemon's own log",
      default: "info",
      env: "RPX_LOG_LEVEL",
    }),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(Serve);
    const folder = dataDir(process.env, flags["data-dir"]).path;
    const settings = daemonSettings(
      {
        host: flags.host,
        port: flags.port,
        workerPort: flags["worker-port"],
        pool: flags.pool,
        python: flags.python,
        grace: flags.grace,
        tlsCert: flags["tls-cert"],
        tlsKey: flags["tls-key"],
        insecureHttp: flags["insecure-http"],
        trustedCode: flags["trusted-code"],
        publicUrl: flags["public-url"],
        minFreeDisk: flags["min-free-disk"],
        rateLimits: flags["rate-limits"],
        logLevel: flags["log-level"],
        stopWorkers: flags["stop-workers"],
        budgetCpus: flags["budget-cpus"],
        budgetMemory: flags["budget-memory"],
        budgetDisk: flags["budget-disk"],
        workerUrl: flags["worker-url"],
      },
      folder,
    );
    await checkPorts(settings);
    if (!flags.detach) return becomeSupervisor(folder, settings);
    const { url, pid, logPath } = await startDetached(folder, settings);
    talk(`the daemon runs in the background; it writes ${logPath}, stop it with: kill ${pid}`);
    this.answer({ url, pid, dataDir: folder, log: logPath }, () => url);
  }
}

/** A daemon that has this data directory has the ports too: the supervisor's refusal tells more then. */
async function checkPorts({ dataDir, host, port, workerPort }: DaemonSettings): Promise<void> {
  if (readDaemonFile(dataDir) !== null) return;
  await checkPortFree("--port", { host, port });
  await checkPortFree("--worker-port", { host: WORKER_HOST, port: workerPort });
}

/** Same pid, same terminal, same signals: nothing of this command is left in memory. */
function becomeSupervisor(dataDir: string, daemonConfig: object): void {
  const { execPath, env, execve } = process;
  if (execve === undefined) throw new Error("this platform cannot replace a process");
  execve.call(process, execPath, [execPath, ...supervisorArguments({ dataDir, daemonConfig })], env);
}
