import type { JobRecordText } from "../client/job-text.ts";
import type { KeyBody } from "../contract/schemas/daemon.ts";
import type { EndpointBody } from "../contract/schemas/endpoint.ts";
import type { ReleaseBody } from "../contract/schemas/release.ts";
import type { SecretBody } from "../contract/schemas/secret.ts";
import type { WorkerBody } from "../contract/schemas/worker.ts";
import { formatDuration } from "../text/duration.ts";
import { formatAge, formatCount, formatTable } from "../text/format.ts";
import { terminalWidth } from "./output.ts";

/** Characters of an id that lists show: enough to be unique among what one person looks at. */
const SHORT_ID_LENGTH = 13;

/** How long ago an ISO time was, for tables. */
export function age(iso: string | null | undefined): string {
  const ms = iso == null ? Number.NaN : Date.parse(iso);
  return Number.isNaN(ms) ? "-" : formatAge(Date.now() - ms);
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? "-" : formatDuration(ms);
}

export function table(
  columns: Parameters<typeof formatTable>[0],
  rows: readonly (readonly string[])[],
): string {
  const width = terminalWidth();
  return formatTable(columns, rows, width === undefined ? {} : { width });
}

/** `endpoint list` for people. */
export function endpointTable(endpoints: readonly EndpointBody[]): string {
  if (endpoints.length === 0) return "no endpoints";
  return table(
    [
      { title: "NAME" },
      { title: "ID" },
      { title: "STATE" },
      { title: "WORKERS", align: "right" },
      { title: "QUEUE", align: "right" },
      { title: "RUN", align: "right" },
      { title: "DONE", align: "right" },
      { title: "FAILED", align: "right" },
      { title: "POOL" },
      { title: "REASON" },
    ],
    endpoints.map((endpoint) => [
      endpoint.name,
      endpoint.id,
      endpoint.state,
      String(endpoint.workerCounts.idle + endpoint.workerCounts.running + endpoint.workerCounts.initializing),
      formatCount(endpoint.jobs.inQueue),
      formatCount(endpoint.jobs.inProgress),
      formatCount(endpoint.jobs.completed),
      formatCount(endpoint.jobs.failed),
      endpoint.isolation === "full" ? endpoint.pool : `${endpoint.pool} (isolation: ${endpoint.isolation})`,
      endpoint.reason,
    ]),
  );
}

/** `job list` for people. */
export function jobTable(jobs: readonly JobRecordText[]): string {
  if (jobs.length === 0) return "no jobs";
  return table(
    [
      { title: "ID" },
      { title: "ENDPOINT" },
      { title: "STATUS" },
      { title: "AGE", align: "right" },
      { title: "DELAY", align: "right" },
      { title: "RUN", align: "right" },
      { title: "TRIES", align: "right" },
      { title: "REASON" },
    ],
    jobs.map(({ fields }) => [
      fields.id,
      fields.endpoint,
      fields.status,
      age(fields.createdAt),
      milliseconds(fields.delayTime),
      milliseconds(fields.executionTime),
      String(fields.attempts),
      fields.reason,
    ]),
  );
}

/** `endpoint releases` for people: of changes the names alone, because values of env may be secret. */
export function releaseTable(releases: readonly ReleaseBody[]): string {
  if (releases.length === 0) return "no releases";
  return table(
    [
      { title: "RELEASE", align: "right" },
      { title: "STATE" },
      { title: "AGE", align: "right" },
      { title: "MADE BY" },
      { title: "POOL" },
      { title: "RUNS" },
      { title: "CHANGES" },
      { title: "REASON" },
    ],
    releases.map((release) => [
      String(release.version),
      release.state,
      age(release.createdAt),
      release.source,
      release.pool,
      release.image === "" ? "-" : release.image,
      release.diff.map(({ field }) => field).join(" ") || "-",
      release.reason,
    ]),
  );
}

/** `worker list` for people. */
export function workerTable(workers: readonly WorkerBody[]): string {
  if (workers.length === 0) return "no workers";
  return table(
    [
      { title: "ID" },
      { title: "ENDPOINT" },
      { title: "STATE" },
      { title: "RELEASE", align: "right" },
      { title: "POOL" },
      { title: "JOBS", align: "right" },
      { title: "AGE", align: "right" },
      { title: "REASON" },
    ],
    workers.map((worker) => [
      worker.id,
      worker.endpoint,
      worker.state,
      String(worker.release),
      worker.isolation === "full" ? worker.pool : `${worker.pool} (isolation: ${worker.isolation})`,
      String(worker.jobIds.length),
      age(worker.startedAt),
      worker.reason,
    ]),
  );
}

/** `key list` for people. */
export function keyTable(keys: readonly KeyBody[]): string {
  if (keys.length === 0) return "no keys";
  return table(
    [
      { title: "NAME" },
      { title: "OWNER" },
      { title: "SCOPE" },
      { title: "PREFIX" },
      { title: "ID" },
      { title: "AGE", align: "right" },
      { title: "USED", align: "right" },
      { title: "ENDPOINTS" },
    ],
    keys.map((key) => [
      key.name,
      key.owner,
      key.revokedAt === null ? key.scope : "revoked",
      `${key.prefix}…`,
      key.id.slice(0, SHORT_ID_LENGTH),
      age(key.createdAt),
      age(key.lastUsedAt),
      key.endpoints.join(" "),
    ]),
  );
}

/** `secret list` for people. */
export function secretTable(secrets: readonly SecretBody[]): string {
  if (secrets.length === 0) return "no secrets";
  return table(
    [
      { title: "NAME" },
      { title: "OWNER" },
      { title: "AGE", align: "right" },
      { title: "CHANGED", align: "right" },
      { title: "ENDPOINTS" },
    ],
    secrets.map((secret) => [
      secret.name,
      secret.owner,
      age(secret.createdAt),
      secret.updatedAt === secret.createdAt ? "-" : age(secret.updatedAt),
      secret.endpoints.join(" "),
    ]),
  );
}
