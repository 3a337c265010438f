/** Celery on Redis, as Debian packages both. */
import { needPrograms, needPythonModules, PYTHON, type Redis, startRedis } from "./peers.ts";
import { output, type Running, start } from "./processes.ts";
import { PROGRAMS } from "./rpx.ts";

export async function needCelery(): Promise<string | null> {
  return (
    (await needPrograms({ "redis-server": "redis-server" })) ??
    (await needPythonModules({ celery: "python3-celery", redis: "python3-redis" }))
  );
}

export type Celery = {
  readonly redis: Redis;
  /** Starts the prefork worker with its own log level, at which it does not say when it is ready. */
  startWorker(concurrency: number): Promise<void>;
  /** Runs one of our Python programs beside the app; its stdout. */
  run(program: string, ...args: readonly string[]): Promise<string>;
  stop(): Promise<void>;
};

/** A broker without persistence, which is Celery's default; it also keeps the results. */
export async function startCelery(): Promise<Celery> {
  const redis = await startRedis(false);
  const env = {
    BENCH_REDIS: `redis://127.0.0.1:${redis.port}/0`,
    PYTHONPATH: PROGRAMS,
    PYTHONDONTWRITEBYTECODE: "1",
    // Celery as root warns and goes on with this.
    C_FORCE_ROOT: "1",
  };
  let worker: Running | null = null;
  return {
    redis,
    startWorker: async (concurrency) => {
      const args = ["-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork"];
      const options = { env, cwd: PROGRAMS, ready: null };
      worker = await start(PYTHON, [...args, "--concurrency", String(concurrency)], options);
    },
    run: (program, ...args) => output(PYTHON, [program, ...args], { ...env, PWD: PROGRAMS }),
    stop: async () => {
      await worker?.stop();
      await redis.stop();
    },
  };
}
