import type { WorkerChannel, WorkerRecording } from "../../support/stock-sdk/recording.ts";

/**
 * What of a recording is the SDK's and not chance: the requests of each channel in order, with their bodies and, of the posts, their
 * headers. How often a poll came again is the server's doing, the order of posts of concurrent jobs is chance, and an X-Request-ID
 * belongs to whichever job touched the shared session last.
 * A replay says /app where the recorded traceback named the handlers' folder.
 */
export function saidByChannel(recording: WorkerRecording): Record<WorkerChannel, readonly string[]> {
  const of = (channel: WorkerChannel): string[] =>
    recording.requests
      .filter((request) => request.channel === channel)
      .map(({ method, url, headers, body }) => {
        const { "user-agent": _agent, "x-request-id": _id, ...meaningful } = headers;
        return `${method} ${url} ${JSON.stringify(meaningful)} ${(body ?? "").replaceAll("/app/", "<handlers>/")}`;
      });
  return {
    take: withoutRepeats(of("take")),
    done: of("done").sort(),
    stream: of("stream"),
    stop: withoutRepeats(of("stop")),
    ping: of("ping").slice(0, 1),
  };
}

function withoutRepeats(lines: readonly string[]): string[] {
  return lines.filter((line, index) => line !== lines[index - 1]);
}
