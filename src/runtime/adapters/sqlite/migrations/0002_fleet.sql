-- Releases that are made, proven and replaced; workers that are pulled, booted and put to sleep; jobs for one release alone.

-- The release that is being built or proven.
ALTER TABLE endpoints ADD COLUMN candidate_release INTEGER;
ALTER TABLE endpoints ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;

ALTER TABLE releases ADD COLUMN state TEXT NOT NULL DEFAULT 'superseded';
ALTER TABLE releases ADD COLUMN reason TEXT NOT NULL DEFAULT 'a newer release took its place';
-- At what it failed: build, worker, test.
ALTER TABLE releases ADD COLUMN failure TEXT;
ALTER TABLE releases ADD COLUMN diff TEXT NOT NULL DEFAULT '[]';
ALTER TABLE releases ADD COLUMN origin TEXT NOT NULL DEFAULT 'update';
ALTER TABLE releases ADD COLUMN tests TEXT NOT NULL DEFAULT '[]';
ALTER TABLE releases ADD COLUMN live_at_ms INTEGER;
UPDATE releases SET live_at_ms = created_at_ms;
UPDATE releases SET state = 'live', reason = 'serves'
  WHERE version = (SELECT live_release FROM endpoints WHERE id = endpoint_id);

ALTER TABLE workers ADD COLUMN phase TEXT;
ALTER TABLE workers ADD COLUMN booted_at_ms INTEGER;
ALTER TABLE workers ADD COLUMN asleep TEXT;
ALTER TABLE workers ADD COLUMN parked_at_ms INTEGER;
-- How it ended, as JSON.
ALTER TABLE workers ADD COLUMN exit TEXT;
UPDATE workers SET phase = 'boot', booted_at_ms = created_at_ms WHERE state IN ('wanted', 'starting');

-- The release that alone may run the job; 0: the live one.
ALTER TABLE jobs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
DROP INDEX jobs_ready;
-- Take: first row of one queue, normal priority first, then in order of arrival.
CREATE INDEX jobs_ready ON jobs (endpoint_id, pinned, low_priority, seq) WHERE state = 'IN_QUEUE' AND delayed = 0;
CREATE INDEX jobs_pinned ON jobs (endpoint_id, pinned) WHERE pinned > 0 AND state IN ('IN_QUEUE', 'IN_PROGRESS');
