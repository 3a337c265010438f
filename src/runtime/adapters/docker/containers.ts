import type Dockerode from "dockerode";
import { z } from "zod";
import type { EndpointId, WorkerId } from "../../core/model.ts";
import { LABELS, WORKER_ROLE } from "./container-spec.ts";
import type { Engine } from "./engine.ts";
import { refusalOf, safeText } from "./engine-errors.ts";

/** One of this daemon's containers, as a listing shows it. */
export type SeenContainer = {
  readonly id: string;
  readonly name: string;
  readonly workerId: WorkerId;
  readonly endpointId: EndpointId;
  readonly status: ContainerStatus;
  readonly diskBytesLimit: number | null;
};

export const CONTAINER_STATUSES = [
  "created",
  "running",
  "paused",
  "restarting",
  "removing",
  "exited",
  "dead",
] as const;
export type ContainerStatus = (typeof CONTAINER_STATUSES)[number];

/** What only a closer look tells. */
export type ContainerDetails = {
  readonly status: ContainerStatus;
  /** On the engine's machine; 0 when it does not run. */
  readonly pid: number;
  /** When its program started last, in the engine's own writing: another value means another run. */
  readonly startedAt: string;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** What the engine says of a start that failed. */
  readonly error: string;
  readonly memoryBytes: number | null;
  /** Bytes in its own layer, where they were asked for. */
  readonly diskBytes: number | null;
};

/** The calls on containers that the pool makes, and no others (4.6). A container that is gone is no failure of them but of `create`. */
export type Containers = {
  list(): Promise<SeenContainer[]>;
  /** Null when there is none. */
  inspect(id: string, options?: { readonly size?: boolean }): Promise<ContainerDetails | null>;
  /** Its id. */
  create(options: Dockerode.ContainerCreateOptions, signal: AbortSignal): Promise<string>;
  start(id: string, signal?: AbortSignal): Promise<void>;
  signal(id: string, signal: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** Asks it to end, ends it after a while, and keeps it. */
  stop(id: string): Promise<void>;
  pause(id: string): Promise<void>;
  unpause(id: string): Promise<void>;
  rename(id: string, name: string): Promise<void>;
  /** With its anonymous volumes, whatever it does. */
  remove(idOrName: string): Promise<void>;
};

/** Between SIGTERM and SIGKILL of an idle worker that is put to sleep. */
const STOP_GRACE_S = 5;
const SLOW_LIMIT_MS = 60_000;
/** To count a layer's bytes the engine walks over its files. */
const SIZE_LIMIT_MS = 120_000;
const SAFE_ID = /^[A-Za-z0-9_-]{1,64}$/;
const GONE = 404;
const WRONG_STATE = 409;
const NOT_MODIFIED = 304;

const listSchema = z.array(
  z.object({
    Id: z.string().regex(/^[0-9a-f]{12,64}$/),
    Names: z.array(z.string()),
    State: z.string(),
    Labels: z.record(z.string(), z.string()),
  }),
);
const inspectSchema = z.object({
  SizeRw: z.number().optional(),
  State: z.object({
    Status: z.enum(CONTAINER_STATUSES),
    Pid: z.number().int(),
    StartedAt: z.string(),
    ExitCode: z.number().int(),
    OOMKilled: z.boolean(),
    Error: z.string().catch(""),
  }),
  HostConfig: z.object({ Memory: z.number().catch(0) }),
});

export function createContainers(engine: Engine, daemonId: string): Containers {
  const { docker } = engine;
  const label = [`${LABELS.daemon}=${daemonId}`, `${LABELS.role}=${WORKER_ROLE}`];

  /** Runs a call on one container; that it is gone, or in that state already, is what was wanted. */
  async function settle(call: () => Promise<unknown>, wanted: readonly number[]): Promise<void> {
    try {
      await call();
    } catch (error) {
      const status = refusalOf(error);
      if (status === null || !wanted.includes(status)) throw error;
    }
  }

  return {
    async list() {
      const found = await engine.ask(
        (options) => docker.listContainers({ all: true, filters: { label }, ...options }),
        { repeat: true },
      );
      return listSchema.parse(found).flatMap(seenContainer);
    },
    async inspect(id, { size = false } = {}) {
      // The declared type lacks `size`.
      const asked: object = { size };
      try {
        const found = await engine.ask(
          (options) => docker.getContainer(id).inspect({ ...asked, ...options }),
          { repeat: true, ...(size && { limitMs: SIZE_LIMIT_MS }) },
        );
        return details(inspectSchema.parse(found));
      } catch (error) {
        if (refusalOf(error) === GONE) return null;
        throw error;
      }
    },
    async create(options, signal) {
      const { name, ...body } = options;
      // Told apart, or the library writes all of it, secrets included, into the address as well.
      const request = { _query: { name }, _body: body } as Dockerode.ContainerCreateOptions;
      const made = await engine.ask((call) => docker.createContainer({ ...request, ...call }), {
        limitMs: SLOW_LIMIT_MS,
        signal,
      });
      return made.id;
    },
    async start(id, signal) {
      const call = () =>
        engine.ask((options) => docker.getContainer(id).start(options), {
          limitMs: SLOW_LIMIT_MS,
          ...(signal && { signal }),
        });
      await settle(call, [NOT_MODIFIED]);
    },
    async signal(id, signal) {
      const call = () =>
        engine.ask((options) => docker.getContainer(id).kill({ signal, ...options }), { repeat: true });
      await settle(call, [GONE, WRONG_STATE]);
    },
    async stop(id) {
      const call = () =>
        engine.ask((options) => docker.getContainer(id).stop({ t: STOP_GRACE_S, ...options }), {
          limitMs: SLOW_LIMIT_MS,
          repeat: true,
        });
      await settle(call, [GONE, NOT_MODIFIED]);
    },
    async pause(id) {
      const call = () => engine.ask((options) => docker.getContainer(id).pause(options));
      await settle(call, [GONE, WRONG_STATE]);
    },
    async unpause(id) {
      const call = () => engine.ask((options) => docker.getContainer(id).unpause(options));
      await settle(call, [GONE, WRONG_STATE]);
    },
    async rename(id, name) {
      const call = () =>
        engine.ask((options) => docker.getContainer(id).rename({ name, ...options }), { repeat: true });
      await settle(call, [GONE]);
    },
    async remove(idOrName) {
      const call = () =>
        engine.ask((options) => docker.getContainer(idOrName).remove({ force: true, v: true, ...options }), {
          limitMs: SLOW_LIMIT_MS,
          repeat: true,
        });
      await settle(call, [GONE]);
    },
  };
}

/** Nothing for a container whose labels are none that a daemon writes. */
function seenContainer(found: z.infer<typeof listSchema>[number]): SeenContainer[] {
  const workerId = found.Labels[LABELS.worker] ?? "";
  const endpointId = found.Labels[LABELS.endpoint] ?? "";
  const status = CONTAINER_STATUSES.find((known) => known === found.State);
  if (!SAFE_ID.test(workerId) || !SAFE_ID.test(endpointId) || status === undefined) return [];
  const diskBytes = Number(found.Labels[LABELS.diskBytes]);
  return [
    {
      id: found.Id,
      name: (found.Names[0] ?? "").replace(/^\//, ""),
      workerId: workerId as WorkerId,
      endpointId: endpointId as EndpointId,
      status,
      diskBytesLimit: diskBytes > 0 ? diskBytes : null,
    },
  ];
}

function details({ SizeRw, State, HostConfig }: z.infer<typeof inspectSchema>): ContainerDetails {
  return {
    status: State.Status,
    pid: State.Pid,
    startedAt: State.StartedAt,
    exitCode: State.ExitCode,
    oomKilled: State.OOMKilled,
    error: safeText(State.Error),
    memoryBytes: HostConfig.Memory > 0 ? HostConfig.Memory : null,
    diskBytes: SizeRw ?? null,
  };
}
