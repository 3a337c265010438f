/**
 * What BuildKit tells of a build: base64 of protobuf messages `moby.buildkit.v1.StatusResponse` (github.com/moby/buildkit,
 * api/services/control/control.proto). Read here by hand: three messages with a few fields each.
 */
export type Trace = { readonly vertexes: readonly Vertex[]; readonly logs: readonly VertexLog[] };

/** A step of the build graph. */
export type Vertex = {
  readonly digest: string;
  readonly name: string;
  readonly cached: boolean;
  readonly started: boolean;
  readonly completed: boolean;
  readonly error: string;
};

export type VertexLog = { readonly vertex: string; readonly text: string };

/** Wire types of protobuf. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

type Field = { readonly number: number; readonly bytes: Uint8Array; readonly value: bigint };

/** Throws a RangeError for what is no such message. */
export function readTrace(base64: string): Trace {
  const vertexes: Vertex[] = [];
  const logs: VertexLog[] = [];
  for (const { number, bytes } of fieldsOf(Buffer.from(base64, "base64"))) {
    if (number === 1) vertexes.push(readVertex(bytes));
    if (number === 3) logs.push(readLog(bytes));
  }
  return { vertexes, logs };
}

function readVertex(message: Uint8Array): Vertex {
  const vertex = { digest: "", name: "", cached: false, started: false, completed: false, error: "" };
  for (const { number, bytes, value } of fieldsOf(message)) {
    if (number === 1) vertex.digest = textOf(bytes);
    if (number === 3) vertex.name = textOf(bytes);
    if (number === 4) vertex.cached = value !== 0n;
    if (number === 5) vertex.started = true;
    if (number === 6) vertex.completed = true;
    if (number === 7) vertex.error = textOf(bytes);
  }
  return vertex;
}

function readLog(message: Uint8Array): VertexLog {
  let vertex = "";
  let text = "";
  for (const { number, bytes } of fieldsOf(message)) {
    if (number === 1) vertex = textOf(bytes);
    if (number === 4) text = textOf(bytes);
  }
  return { vertex, text };
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

const NO_BYTES = new Uint8Array();

function* fieldsOf(message: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at];
      if (byte === undefined || shift > 63n) throw new RangeError("a number is cut short");
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (count: number): Uint8Array => {
    if (at + count > message.length) throw new RangeError("a field is cut short");
    at += count;
    return message.subarray(at - count, at);
  };
  while (at < message.length) {
    const key = varint();
    const [number, type] = [Number(key >> 3n), Number(key & 7n)];
    if (type === VARINT) yield { number, bytes: NO_BYTES, value: varint() };
    else if (type === BYTES) yield { number, bytes: take(Number(varint())), value: 0n };
    else if (type === FIXED64) take(8);
    else if (type === FIXED32) take(4);
    else throw new RangeError(`there is no wire type ${type}`);
  }
}
