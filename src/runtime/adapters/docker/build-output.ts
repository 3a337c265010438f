import { sanitizeLine } from "../../../text/sanitize.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import { readTrace, type Vertex } from "./buildkit-trace.ts";

/** One line of the engine's answer to a build, of either builder. */
export type BuildMessage = {
  readonly stream?: unknown;
  readonly id?: unknown;
  readonly aux?: unknown;
  readonly error?: unknown;
};

export type BuildOutput = {
  take(message: BuildMessage): void;
  /** Whether a step of the Dockerfile has begun. */
  hasBegun(): boolean;
  /** Id of the image that was made, `sha256:...`; null until then. */
  imageId(): string | null;
  /** What the builder says went wrong; null while nothing did. */
  error(): string | null;
  /** The last lines that the build printed, the newest last. */
  lastLines(): readonly string[];
};

/** Lines that an error repeats. */
const LAST_LINES = 20;
const MAX_LINE_CHARACTERS = 500;
/** Lines of one build that are told; later ones still count for its error. */
const MAX_TOLD_LINES = 5_000;
const MAX_ERROR_CHARACTERS = 2_000;
const CLASSIC_STEP = /^Step (\d+)\/(\d+) : (.*)$/;
/** `[2/4] RUN ...`, and `[builder 2/4] RUN ...` where there are several stages. What BuildKit does by itself is `[internal] ...`. */
const VERTEX_STEP = /^\[(?:(\S+) +)?(\d+)\/(\d+)\] (.*)$/;
const TRACE_ID = "moby.buildkit.trace";

/** Reads what both builders say into steps, a percentage of steps done, and last lines. */
export function createBuildOutput(onStep: OnStep): BuildOutput {
  const lastLines: string[] = [];
  const vertexes = new Map<string, Vertex>();
  let told = 0;
  let percent = 0;
  let begun = false;
  let imageId: string | null = null;
  let error: string | null = null;

  function step(text: string): void {
    begun = true;
    onStep(shown(text), percent);
  }

  function print(text: string): void {
    for (const raw of text.split(/[\r\n]+/)) {
      const line = shown(raw).trimEnd();
      if (line === "") continue;
      lastLines.push(line);
      if (lastLines.length > LAST_LINES) lastLines.shift();
      told += 1;
      if (told <= MAX_TOLD_LINES) onStep(line, percent);
    }
  }

  function classicLine(text: string): void {
    const [, at, of, instruction] = CLASSIC_STEP.exec(text.trim()) ?? [];
    if (at === undefined) {
      print(text);
      return;
    }
    percent = Math.floor(((Number(at) - 1) / Number(of)) * 100);
    step(`step ${at}/${of}: ${instruction}`);
  }

  function takeVertex(vertex: Vertex): void {
    const before = vertexes.get(vertex.digest);
    vertexes.set(vertex.digest, vertex);
    const steps = [...vertexes.values()].filter(({ name }) => VERTEX_STEP.test(name));
    const done = steps.filter(({ completed }) => completed).length;
    percent = steps.length === 0 ? 0 : Math.floor((done / steps.length) * 100);
    const [, stage, at, of, instruction] = VERTEX_STEP.exec(vertex.name) ?? [];
    if (at === undefined || !vertex.started || before?.started) return;
    const cached = vertex.cached ? " (cached)" : "";
    step(`step ${stage === undefined ? "" : `${stage} `}${at}/${of}: ${instruction}${cached}`);
  }

  function take({ stream, id, aux, error: failure }: BuildMessage): void {
    if (typeof failure === "string") error = shownError(failure);
    if (typeof stream === "string") classicLine(stream);
    if (id === TRACE_ID && typeof aux === "string") {
      const trace = readTrace(aux);
      for (const vertex of trace.vertexes) takeVertex(vertex);
      for (const { text } of trace.logs) print(text);
    } else if (isImage(aux)) imageId = aux.ID;
  }

  return {
    take,
    hasBegun: () => begun,
    imageId: () => imageId,
    error: () => error,
    lastLines: () => lastLines,
  };
}

function isImage(aux: unknown): aux is { readonly ID: string } {
  return /^sha256:[0-9a-f]{64}$/.test(String((aux as { ID?: unknown } | null | undefined)?.ID));
}

function shown(text: string): string {
  return sanitizeLine(text).slice(0, MAX_LINE_CHARACTERS);
}

function shownError(text: string): string {
  return text
    .slice(0, MAX_ERROR_CHARACTERS)
    .split(/[\r\n]+/)
    .map((line) => sanitizeLine(line).trimEnd())
    .filter((line) => line !== "")
    .join("\n");
}
