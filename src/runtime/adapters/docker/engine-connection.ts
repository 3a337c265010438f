import { readFileSync } from "node:fs";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import path from "node:path";
import { inspect } from "node:util";
import Dockerode from "dockerode";
import { RpxError } from "../../../contract/error.ts";

/** Where an engine is. */
export type EngineConnection = {
  readonly docker: Dockerode;
  /** As DOCKER_HOST has it, for people. */
  readonly endpoint: string;
  /** A socket of this machine; it may lead into a virtual machine all the same (Docker Desktop). */
  readonly isSocket: boolean;
};

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_HOST = "unix:///var/run/docker.sock";
const TLS_PORT = "2376";

/**
 * The engine that DOCKER_HOST names (unix, tcp, http, https or ssh), with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH as Docker's own client reads
 * them. Nothing is sent yet.
 */
export function connectEngine(environment: Environment): EngineConnection {
  const endpoint = environment.DOCKER_HOST || DEFAULT_HOST;
  const socketPath = /^unix:\/\/(.+)$/.exec(endpoint)?.[1];
  // Without `host` the library would take it from this process's own environment.
  const options =
    socketPath === undefined
      ? { socketPath: undefined, ...remoteOptions(endpoint, environment) }
      : { socketPath, host: undefined, protocol: "http", agent: new QuietHttpAgent() };
  const docker = new Dockerode(options as Dockerode.DockerOptions);
  return { docker, endpoint, isSocket: socketPath !== undefined };
}

function remoteOptions(endpoint: string, environment: Environment): object {
  const url = URL.parse(endpoint.includes("://") ? endpoint : `tcp://${endpoint}`);
  if (url === null || url.hostname === "")
    throw new RpxError("bad_request", `DOCKER_HOST is no address of an engine: ${endpoint}`, {
      hint: `name it like ${DEFAULT_HOST} or tcp://host:2375`,
    });
  const { hostname: host, port, username } = url;
  if (url.protocol === "ssh:")
    return {
      protocol: "ssh",
      host,
      port: port || 22,
      username,
      sshOptions: { agent: environment.SSH_AUTH_SOCK },
    };
  const isTls = url.protocol === "https:" || port === TLS_PORT || environment.DOCKER_TLS_VERIFY === "1";
  if (!isTls) return { protocol: "http", host, port: port || 2375, agent: new QuietHttpAgent() };
  return {
    protocol: "https",
    host,
    port: port || TLS_PORT,
    agent: new QuietHttpsAgent(),
    ...certificates(environment),
  };
}

function certificates(environment: Environment): object {
  const folder = environment.DOCKER_CERT_PATH;
  if (folder === undefined || folder === "") return {};
  const read = (name: string) => readFileSync(path.join(folder, name));
  return { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem") };
}

/**
 * The library renders its request options as text before each call, for a debug line that nobody reads, and the agent with every
 * socket that it holds open: 3 ms a call with a few log streams. A connection is made for each call: on a Unix socket that costs
 * 0.05 ms, and none is left over from an engine that is gone.
 */
class QuietHttpAgent extends HttpAgent {
  [inspect.custom](): string {
    return "Agent";
  }
}

class QuietHttpsAgent extends HttpsAgent {
  [inspect.custom](): string {
    return "Agent";
  }
}
