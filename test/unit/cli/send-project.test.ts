import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { Parser, type ReadEntry } from "tar";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sendCode } from "../../../src/cli/send-project.ts";
import type { Client } from "../../../src/client/client.ts";
import { loadProject } from "../../../src/project/load.ts";

let folder = "";

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "rpx-send-")));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const progress = { step: () => {}, done: () => {} };

/** A daemon that has nothing yet, and the paths in the tar that it is sent. */
function receiver(): { client: Client; paths: string[] } {
  const paths: string[] = [];
  const bundles: Pick<Client, "hasBundle" | "putBundle"> = {
    hasBundle: async () => false,
    putBundle: async (_digest, { content }: { content: () => Readable }) => {
      const parser = new Parser();
      parser.on("entry", (entry: ReadEntry) => {
        paths.push(entry.path.replace(/\/$/, ""));
        entry.resume();
      });
      const tar = content();
      for await (const part of tar) parser.write(part);
      parser.end();
      await finished(tar);
    },
  };
  return { client: bundles as Client, paths };
}

test("the Dockerfile goes with its folder whatever .dockerignore says, as Docker sends it", async () => {
  writeFileSync(join(folder, "Dockerfile"), "FROM scratch\n");
  writeFileSync(join(folder, "notes.txt"), "");
  writeFileSync(join(folder, "main.py"), "");
  writeFileSync(join(folder, ".dockerignore"), "Dockerfile\nnotes.txt\n.dockerignore\n");
  const { client, paths } = receiver();
  expect(await sendCode(client, await loadProject(folder), progress)).toEqual({
    source: { kind: "bundle", digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
    dockerfile: "Dockerfile",
  });
  expect(paths.toSorted()).toEqual(["Dockerfile", "main.py"]);
});

test("without one the handler is named, and nothing else", async () => {
  writeFileSync(join(folder, "handler.py"), "");
  const { client, paths } = receiver();
  const code = await sendCode(client, await loadProject(folder), progress);
  expect(code).toEqual({ source: expect.objectContaining({ kind: "bundle" }), handler: "handler.py" });
  expect(paths).toEqual(["handler.py"]);
});

test("an image is named alone: no folder is sent", async () => {
  const { client, paths } = receiver();
  const project = await loadProject(folder, { image: "org/worker:1" });
  const source = { kind: "image", reference: "org/worker:1" };
  expect(await sendCode(client, project, progress)).toEqual({ source });
  expect(paths).toEqual([]);
});
