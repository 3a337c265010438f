/** What `rpx init` writes into rpx.toml. */
export type NewProjectFile = { readonly name: string; readonly handler: string };

/** An rpx.toml with what matters set, and the other keys shown with their defaults. Reads back as a valid project file. */
export function projectToml({ name, handler }: NewProjectFile): string {
  return `# What this folder's endpoint is. Every key is also a flag of \`rpx endpoint create\` and \`update\`.
name = ${JSON.stringify(name)}
handler = ${JSON.stringify(handler)}
# dockerfile = "Dockerfile"  # what a container is made of; else one is generated

[workers]
min = 0                      # workers that are always there
max = 3                      # workers that may be there under load
idle_timeout = "5s"          # how long an idle worker stays

# [scale]
# by = "queue-delay"         # or "request-count"
# threshold = 4              # seconds of the oldest wait, or jobs per worker
# max_queued = 0             # jobs that may wait; 0: no limit

# [limits]
# execution_timeout = "10m"  # a job that runs longer has failed
# ttl = "24h"                # a job that is not done by then has timed out
# start_timeout = "7m"       # a worker that is not ready by then has failed
# retries = 0                # how often a handler's own error is tried again
# memory = "2GiB"            # what a container may use
# cpus = 2

# [image]                    # of a container
# base = "python:3.11-slim"  # what a generated Dockerfile begins with

# [retention]                # how long results can be fetched
# async = "30m"              # of /run
# sync = "1m"                # of /runsync
# failed = "30m"

# [env]
# MODEL = "tiny"
`;
}
