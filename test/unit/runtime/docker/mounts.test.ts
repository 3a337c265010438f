import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { refusedMount, resolveMounts } from "../../../../src/runtime/adapters/docker/mounts.ts";

const RULES = {
  dataDir: "/home/ada/.local/share/rpx",
  mountable: ["/home/ada/.local/share/rpx/volumes"],
  engine: ["/run/docker.sock", "/var/lib/docker"],
};
const refused = (source: string, target = "/app") => refusedMount({ source, target, readOnly: true }, RULES);

test.each([
  ["/home/ada/hello", null],
  ["/home/ada/.local/share/rpx/volumes/models", null],
  ["/root/hello", null],
  ["/", "it is the whole file system"],
  ["/proc/self/root", "it would show /proc to the worker"],
  ["/sys", "it would show /sys to the worker"],
  ["/dev/../dev", "it would show /dev to the worker"],
  ["/etc/ssl", "it would show /etc to the worker"],
  ["/root", "it would show /root to the worker"],
  ["/var", "it would show /var/run to the worker"],
  ["/run/docker.sock", "it would show /run to the worker"],
  ["/var/lib", "it would show /var/lib/docker to the worker"],
  ["/var/lib/docker/overlay2/x", "it belongs to the Docker engine"],
  ["/home", "it would show rpx's own data to the worker"],
  ["/home/ada", "it would show rpx's own data to the worker"],
  ["/home/ada/.local/share/rpx", "it would show rpx's own data to the worker"],
  ["/home/ada/.local/share/rpx/rpx.db", "it belongs to rpx's own data"],
  ["/home/ada/.local/share/rpx/volumes-of-others", "it belongs to rpx's own data"],
  ["hello", "it is not an absolute path"],
])("T-12: %s: %s", (source, reason) => expect(refused(source)).toBe(reason));

test.each(["/", "/proc", "/dev/shm", "/sys/fs", "app", "/app/../proc"])(
  "T-12: nothing is put at %s",
  (target) => {
    expect(refused("/home/ada/hello", target)).toBe(`a worker cannot have it at ${target}`);
  },
);

test("T-12: a link is judged by where it leads, and a folder that is gone is told", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "rpx-mounts-"));
  try {
    mkdirSync(path.join(folder, "code"));
    symlinkSync("/etc", path.join(folder, "innocent"));
    symlinkSync("code", path.join(folder, "link"));
    const resolve = (name: string) =>
      resolveMounts([{ source: path.join(folder, name), target: "/app", readOnly: true }], RULES);
    expect(await resolve("link")).toMatchObject([{ source: path.join(folder, "code") }]);
    await expect(resolve("innocent")).rejects.toMatchObject({
      code: "forbidden",
      why: "it would show /etc to the worker",
    });
    await expect(resolve("gone")).rejects.toMatchObject({
      code: "unavailable",
      why: "there is no such folder",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
