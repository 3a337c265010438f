import type { DatabaseSync } from "node:sqlite";
import type { JobPayload } from "../../core/model.ts";

type Input = Pick<JobPayload, "inputJson" | "extrasJson">;

/** A page of stream chunks; `last` is the cursor behind it. */
export type StoredChunks = { readonly chunksJson: string[]; readonly last: number; readonly more: boolean };

export type Payloads = ReturnType<typeof createPayloads>;

/** Inputs, results and stream chunks, by row number of the job. Large texts lie here, apart from the queue. */
export function createPayloads(db: DatabaseSync) {
  const insertInput = db.prepare("INSERT INTO inputs (seq, input, extras) VALUES (?, ?, ?)");
  const readInput = db.prepare("SELECT input, extras FROM inputs WHERE seq = ?");
  const readResult = db.prepare("SELECT output, error FROM results WHERE seq = ?");
  const writeResult = db.prepare("INSERT OR REPLACE INTO results (seq, output, error) VALUES (?, ?, ?)");
  const writeError = db.prepare(
    "INSERT INTO results (seq, error) VALUES (?, ?) ON CONFLICT DO UPDATE SET error = excluded.error",
  );
  const dropInput = db.prepare("DELETE FROM inputs WHERE seq = ?");
  const dropResult = db.prepare("DELETE FROM results WHERE seq = ?");
  const dropChunks = db.prepare("DELETE FROM chunks WHERE seq = ?");
  const insertChunk = db.prepare("INSERT INTO chunks (seq, chunk) VALUES (?, ?)");
  const nextChunks = db.prepare("SELECT id, chunk FROM chunks WHERE seq = ? AND id > ? ORDER BY id");

  const inputOf = (seq: number): Input => {
    const row = readInput.get(seq);
    return {
      inputJson: (row?.input as string | undefined) ?? "null",
      extrasJson: (row?.extras as string | undefined) ?? "{}",
    };
  };

  return {
    insertInput: (seq: number, { inputJson, extrasJson }: Input) => {
      insertInput.run(seq, inputJson, extrasJson);
    },
    hasInput: (seq: number): boolean => readInput.get(seq) !== undefined,
    readInput: inputOf,
    read: (seq: number): JobPayload => {
      const row = readResult.get(seq);
      return {
        ...inputOf(seq),
        outputJson: (row?.output as string | null) ?? null,
        error: (row?.error as string | null) ?? null,
      };
    },
    writeResult: (seq: number, outputJson: string | null, error: string | null) => {
      writeResult.run(seq, outputJson, error);
    },
    /** Keeps the latest progress as the output of a job that ended without one. */
    writeError: (seq: number, error: string | null) => {
      writeError.run(seq, error);
    },
    dropResult: (seq: number) => {
      dropResult.run(seq);
    },
    dropChunks: (seq: number) => {
      dropChunks.run(seq);
    },
    drop: (seq: number) => {
      dropInput.run(seq);
      dropResult.run(seq);
      dropChunks.run(seq);
    },
    insertChunk: (seq: number, chunk: string) => {
      insertChunk.run(seq, chunk);
    },
    /** Chunks behind a cursor, at most `maxBytes` of text but at least one. */
    readChunks: (seq: number, after: number, maxBytes: number): StoredChunks => {
      const chunksJson: string[] = [];
      let bytes = 0;
      let last = after;
      for (const row of nextChunks.iterate(seq, after)) {
        const chunk = row.chunk as string;
        bytes += Buffer.byteLength(chunk);
        if (chunksJson.length > 0 && bytes > maxBytes) return { chunksJson, last, more: true };
        chunksJson.push(chunk);
        last = row.id as number;
      }
      return { chunksJson, last, more: false };
    },
  };
}
