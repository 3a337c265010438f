/** Images made by hand, as strangers may send them. Who asks for one removes it. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { dockerCommand } from "./engine.ts";

/** Loads an image without a program under a tag, for any processor; its id. */
export function craftImage(tag: string, architecture: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), "rpx-image-"));
  try {
    const layer = makeLayer(folder);
    const config = JSON.stringify({
      architecture,
      os: "linux",
      config: { Env: [], Cmd: ["/nothing"] },
      rootfs: { type: "layers", diff_ids: [`sha256:${digest(readFileSync(layer))}`] },
    });
    writeFileSync(path.join(folder, "config.json"), config);
    const manifest = [{ Config: "config.json", RepoTags: [tag], Layers: ["layer.tar"] }];
    writeFileSync(path.join(folder, "manifest.json"), JSON.stringify(manifest));
    tar(path.join(folder, "image.tar"), folder, ["manifest.json", "config.json", "layer.tar"]);
    dockerCommand("load", "--quiet", "--input", path.join(folder, "image.tar"));
    return `sha256:${digest(config)}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Another image with lines of a Dockerfile on top, under a tag; its id. */
export function changeImage(tag: string, base: string, lines: readonly string[]): string {
  const container = dockerCommand("create", base);
  try {
    return dockerCommand("commit", ...lines.flatMap((line) => ["--change", line]), container, tag);
  } finally {
    dockerCommand("rm", container);
  }
}

/** As images spell the engine's processor. */
export function engineArchitecture(): string {
  return dockerCommand("version", "--format", "{{.Server.Arch}}");
}

/** A file of random bytes, so that two of these images share nothing. */
function makeLayer(folder: string): string {
  mkdirSync(path.join(folder, "root"));
  writeFileSync(path.join(folder, "root/file"), createHash("sha256").update(folder).digest());
  tar(path.join(folder, "layer.tar"), path.join(folder, "root"), ["file"]);
  return path.join(folder, "layer.tar");
}

function tar(file: string, folder: string, names: readonly string[]): void {
  execFileSync("tar", ["--numeric-owner", "--owner=0", "--group=0", "-C", folder, "-cf", file, ...names]);
}

function digest(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
