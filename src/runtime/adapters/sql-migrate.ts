import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RpxError } from "../../contract/error.ts";

export type Migration = { readonly version: number; readonly sql: string };

/** What a database must be able to do to be migrated. */
export type MigrationTarget = {
  version(): number;
  /** Runs the statements and records the number, in one transaction. */
  apply(migration: Migration): void;
  /** Called once before the first migration of a database that holds data. */
  backUp(): void;
};

/**
 * The numbered files of a folder (`0001_name.sql`), in order; a double number is a bug. Numbers may be left out, but none may come later
 * that is lower than one that was released: databases beyond it would pass it by.
 */
export function readMigrations(folder: string): Migration[] {
  const names = readdirSync(folder)
    .filter((name) => /^\d{4}_.*\.sql$/.test(name))
    .sort();
  const versionOf = (name: string) => Number(name.slice(0, 4));
  return names.map((name, index) => {
    if (index > 0 && versionOf(name) === versionOf(names[index - 1] ?? ""))
      throw new Error(`migration ${name} has a number that another has`);
    return { version: versionOf(name), sql: readFileSync(join(folder, name), "utf8") };
  });
}

/** Brings a database to the newest version; refuses one that is newer than this rpx (F-38). */
export function migrate(target: MigrationTarget, migrations: readonly Migration[]): void {
  const present = target.version();
  refuseNewer(present, migrations);
  const missing = migrations.filter(({ version }) => version > present);
  if (present > 0 && missing.length > 0) target.backUp();
  for (const migration of missing) target.apply(migration);
}

/** Throws when a schema version is newer than all that this rpx knows. */
export function refuseNewer(present: number, migrations: readonly Migration[]): void {
  const newest = migrations.at(-1)?.version ?? 0;
  if (present <= newest) return;
  throw new RpxError("conflict", "the data directory belongs to a newer rpx", {
    why: `its schema is version ${present}, this rpx knows ${newest}`,
    hint: "start the newer rpx, or use another --data-dir",
  });
}
