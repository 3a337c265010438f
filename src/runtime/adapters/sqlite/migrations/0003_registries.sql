-- Logins of image registries. Passwords are sealed (ports/secret-box.ts): this file alone tells none.
CREATE TABLE registries (
  name TEXT PRIMARY KEY,
  server TEXT NOT NULL,
  username TEXT NOT NULL,
  sealed TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
