-- Times are integer milliseconds of the daemon's clock; JSON is text.

CREATE TABLE endpoints (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  settings TEXT NOT NULL,
  live_release INTEGER NOT NULL,
  desired_workers INTEGER NOT NULL,
  desired_reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE releases (
  endpoint_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  spec TEXT NOT NULL,
  built TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, version)
) STRICT, WITHOUT ROWID;

-- What the hot path reads. Payloads lie apart, so that a queue scan stays small.
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  endpoint_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  state TEXT NOT NULL,
  generation INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  deliveries INTEGER NOT NULL,
  policy TEXT NOT NULL,
  low_priority INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  queued_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  webhook_url TEXT,
  -- 1 while a backoff runs: such a job is not in the ready index.
  delayed INTEGER NOT NULL,
  available_at_ms INTEGER,
  worker_id TEXT,
  taken_at_ms INTEGER,
  started_at_ms INTEGER,
  deadline_ms INTEGER,
  ended_at_ms INTEGER,
  delay_ms INTEGER,
  execution_ms INTEGER,
  failure TEXT,
  retain_until_ms INTEGER,
  -- 1 while input, output and chunks are kept.
  has_payload INTEGER NOT NULL DEFAULT 1,
  stream_bytes INTEGER NOT NULL DEFAULT 0,
  -- Chunks of the present delivery.
  stream_parts INTEGER NOT NULL DEFAULT 0,
  -- Id of the last chunk that a client read.
  stream_cursor INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Take: first row of one endpoint's queue, normal priority first, then in order of arrival.
CREATE INDEX jobs_ready ON jobs (endpoint_id, low_priority, seq) WHERE state = 'IN_QUEUE' AND delayed = 0;
CREATE INDEX jobs_delayed ON jobs (available_at_ms) WHERE state = 'IN_QUEUE' AND delayed = 1;
CREATE INDEX jobs_expiry ON jobs (expires_at_ms) WHERE state IN ('IN_QUEUE', 'IN_PROGRESS');
CREATE INDEX jobs_deadline ON jobs (deadline_ms) WHERE state = 'IN_PROGRESS';
CREATE INDEX jobs_lease ON jobs (worker_id) WHERE state = 'IN_PROGRESS';
CREATE INDEX jobs_retained ON jobs (retain_until_ms) WHERE retain_until_ms IS NOT NULL AND has_payload = 1;
CREATE INDEX jobs_emptied ON jobs (ended_at_ms) WHERE has_payload = 0;
CREATE INDEX jobs_by_endpoint ON jobs (endpoint_id, seq);

CREATE TABLE inputs (seq INTEGER PRIMARY KEY, input TEXT NOT NULL, extras TEXT NOT NULL) STRICT;
CREATE TABLE results (seq INTEGER PRIMARY KEY, output TEXT, error TEXT) STRICT;

CREATE TABLE chunks (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, chunk TEXT NOT NULL) STRICT;
CREATE INDEX chunks_by_job ON chunks (seq, id);

-- Counts per endpoint and owner, changed in the transaction of the job: /health never scans.
CREATE TABLE counts (
  endpoint_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  in_queue INTEGER NOT NULL DEFAULT 0,
  in_progress INTEGER NOT NULL DEFAULT 0,
  completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0,
  timed_out INTEGER NOT NULL DEFAULT 0,
  retried INTEGER NOT NULL DEFAULT 0,
  accepted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (endpoint_id, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  body_digest TEXT NOT NULL,
  job_id TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at_ms);

CREATE TABLE workers (
  id TEXT PRIMARY KEY,
  endpoint_id TEXT NOT NULL,
  release INTEGER NOT NULL,
  pool TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  ready_at_ms INTEGER,
  ended_at_ms INTEGER,
  handle TEXT,
  -- NULL once revoked: the token opens nothing any more.
  token_digest TEXT
) STRICT;
CREATE INDEX workers_present ON workers (endpoint_id) WHERE state <> 'gone';
CREATE INDEX workers_by_age ON workers (created_at_ms);

-- Append-only, never with a payload. Its number is the only event number there is.
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  endpoint_id TEXT,
  owner TEXT,
  job_id TEXT,
  worker_id TEXT,
  -- job/generation, on the row that ended it
  result_of TEXT,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX journal_by_job ON journal (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX journal_by_worker ON journal (worker_id) WHERE worker_id IS NOT NULL;
-- The database's own proof of INV-2: one terminal row per job and generation.
CREATE UNIQUE INDEX journal_one_result ON journal (result_of) WHERE result_of IS NOT NULL;

-- Webhooks to send, written in the transaction that ended the job.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL,
  endpoint_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  url TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  next_try_at_ms INTEGER NOT NULL,
  -- pending, delivered, given_up
  state TEXT NOT NULL DEFAULT 'pending',
  last_status TEXT,
  UNIQUE (job_id, generation)
) STRICT;
CREATE INDEX outbox_due ON outbox (next_try_at_ms) WHERE state = 'pending';

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  owner TEXT NOT NULL,
  scope TEXT NOT NULL,
  endpoint_ids TEXT NOT NULL,
  prefix TEXT NOT NULL,
  digest TEXT NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  last_used_at_ms INTEGER,
  revoked_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked_at_ms IS NULL;

CREATE TABLE owners (owner TEXT PRIMARY KEY, max_queued INTEGER NOT NULL) STRICT, WITHOUT ROWID;
