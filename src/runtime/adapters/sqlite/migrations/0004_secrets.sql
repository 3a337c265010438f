-- Values are sealed (ports/secret-box.ts): this file alone tells none.
CREATE TABLE secrets (
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

-- Values that were replaced or taken away, kept while there may be logs of workers that had them: those are redacted when read.
CREATE TABLE replaced_secrets (
  id INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed TEXT NOT NULL,
  replaced_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX replaced_secrets_by_name ON replaced_secrets (owner, name, id);
CREATE INDEX replaced_secrets_by_age ON replaced_secrets (replaced_at_ms);
