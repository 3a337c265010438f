import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Interfaces } from "@oclif/core";

/** What each topic is about, for the help and the manual. */
export const TOPICS = {
  context: { description: "Daemons by name: which one the commands talk to" },
  endpoint: { description: "Endpoints: a handler or an image behind a queue" },
  image: { description: "Images: what containers are made from" },
  job: { description: "Jobs: submit, follow, cancel" },
  key: { description: "API keys" },
  registry: { description: "Logins of image registries" },
  secret: { description: "Secrets: values for workers that nobody is shown" },
  worker: { description: "Workers: the processes and containers that run handlers" },
} as const;

/** package.json as oclif wants it: with the topics, and with -h as a flag that shows the help. Read here, so that oclif need not look for it. */
export function packageWithTopics(root: string): Interfaces.PJSON {
  const pjson: Interfaces.PJSON = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return { ...pjson, oclif: { ...pjson.oclif, topics: TOPICS, additionalHelpFlags: ["-h"] } };
}
