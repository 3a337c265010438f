import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { EndpointConfig } from "../../src/contract/schemas/endpoint.ts";
import type { JobDetail } from "../../src/contract/schemas/job.ts";
import type { WorkerBody } from "../../src/contract/schemas/worker.ts";
import { eventually, type RealDaemon } from "../support/real-daemon.ts";

/** A job as /v2 shows it. */
export type JobBody = {
  readonly id: string;
  readonly status: string;
  readonly output?: unknown;
  readonly error?: string;
  readonly workerId?: string;
  readonly retries?: number;
  readonly executionTime?: number;
};

/** One endpoint of a real daemon, by name. */
export type DeployedEndpoint = {
  readonly name: string;
  /** Submits to /run; the id. */
  submit(input: unknown, extras?: Record<string, unknown>): Promise<string>;
  /** Submits to /runsync and waits for the end there. */
  run(input: unknown, extras?: Record<string, unknown>): Promise<JobBody>;
  status(id: string): Promise<JobBody>;
  /** Waits for a final state. */
  end(id: string, timeoutMs?: number): Promise<JobBody>;
  /** Waits for any of these states. */
  until(id: string, states: readonly string[], timeoutMs?: number): Promise<JobBody>;
  detail(id: string): Promise<JobDetail>;
  workers(): Promise<WorkerBody[]>;
  /** Replaces the code; the answer's status. */
  update(source: Source): Promise<number>;
};

export const FIXTURES = join(import.meta.dirname, "../fixtures/e2e");
export const EXAMPLES = join(import.meta.dirname, "../../examples");

const FINAL = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];
const END_MS = 30_000;

/** A folder of handlers that goes with `remove`. */
export function createFolder(): {
  path: string;
  write(files: Record<string, string>): string;
  remove(): void;
} {
  const path = mkdtempSync(join(tmpdir(), "rpx-e2e-code-"));
  let count = 0;
  return {
    path,
    write: (files) => {
      count += 1;
      const folder = join(path, String(count));
      mkdirSync(folder);
      for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
      return folder;
    },
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Whether a process runs: one that has ended and was not collected by its parent yet does not. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.charAt(stat.lastIndexOf(")") + 2) !== "Z";
  } catch {
    return false;
  }
}

/** A folder that the daemon can read, and which stays while the endpoint runs from it. */
export type Source = { readonly folder: string; readonly handler: string };

function codeOf({ folder, handler }: Source) {
  return { source: { kind: "folder", path: folder }, handler };
}

/** Creates an endpoint from a folder that the daemon can read. */
export async function deploy(
  daemon: RealDaemon,
  name: string,
  source: Source,
  config: EndpointConfig = {},
): Promise<DeployedEndpoint> {
  const created = await daemon.call("POST", "/api/endpoints", { name, config, ...codeOf(source) });
  expect(created.status, created.text).toBe(200);
  return attach(daemon, name);
}

/** The same for an endpoint that exists already. */
export function attach(daemon: Pick<RealDaemon, "call">, name: string): DeployedEndpoint {
  const post = async (path: string, input: unknown, extras = {}): Promise<JobBody> => {
    const reply = await daemon.call("POST", `/v2/${name}/${path}`, { input, ...extras });
    expect(reply.status, reply.text).toBe(200);
    return reply.json<JobBody>();
  };
  const status = async (id: string): Promise<JobBody> => {
    const reply = await daemon.call("GET", `/v2/${name}/status/${id}`);
    expect(reply.status, reply.text).toBe(200);
    return reply.json<JobBody>();
  };
  const until: DeployedEndpoint["until"] = (id, states, timeoutMs = END_MS) => {
    let last = "";
    return eventually(
      async () => {
        const body = await status(id);
        last = body.status;
        return states.includes(body.status) && body;
      },
      timeoutMs,
      `job ${id} becomes ${states.join(" or ")}`,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; it is ${last}`);
    });
  };
  return {
    name,
    submit: async (input, extras) => (await post("run", input, extras)).id,
    run: (input, extras) => post("runsync?wait=60000", input, extras),
    status,
    until,
    end: (id, timeoutMs) => until(id, FINAL, timeoutMs),
    detail: async (id) => (await daemon.call("GET", `/api/jobs/${id}`)).json<JobDetail>(),
    workers: async () => (await daemon.call("GET", `/api/workers?endpoint=${name}`)).json<WorkerBody[]>(),
    update: async (source) => {
      const body = { code: codeOf(source) };
      return (await daemon.call("PATCH", `/api/endpoints/${name}`, body)).status;
    },
  };
}
