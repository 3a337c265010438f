/** Kills the daemon child at a point while the script runs, lets the script go on with the successor, and counts. */
import { existsSync } from "node:fs";
import { eventually } from "../support/real-daemon.ts";
import { arm, disarm, type NamedPoint, nameOf } from "./points.ts";
import { type Findings, runScript } from "./script.ts";
import { countCalls, killAtCall, WRITE_CALLS, type WriteCall } from "./strace.ts";
import type { World } from "./world.ts";

/** A way to die, once: armed on a child that serves, let go when the script is through. */
export type Point = {
  /** Row of the table. */
  readonly name: string;
  /** Its n-th occurrence in the script. */
  readonly occurrence: number;
  arm(world: World, pid: number): Promise<{ disarm(): Promise<void> }>;
};

/** One row of the kill table: all points of one name. */
export type Row = {
  readonly point: string;
  readonly kills: number;
  /** Points that were armed and did not fire. */
  readonly missed: number;
  /** From the death of the child to the first answer of its successor. */
  readonly restartsMs: readonly number[];
} & Findings;

/** The script varies a little: a point near its end may need another run of it. */
const MAX_SCRIPTS = 4;
/** Points of each kind of call, where the script has so many. */
const FEWEST = 3;
const RESTART_MS = 30_000;
const LOOK_MS = 5;
/** A child that served this long ends a row of crashes: the supervisor's pause before the next one is short again. */
const STEADY_MS = 1_100;

export function namedPoint(point: NamedPoint): Point {
  return {
    name: nameOf(point),
    occurrence: point.occurrence,
    arm: async ({ killDir }) => {
      arm(killDir, point);
      return { disarm: async () => disarm(killDir) };
    },
  };
}

export function callPoint(call: WriteCall, occurrence: number): Point {
  const name = `in front of ${call}`;
  return {
    name,
    occurrence,
    arm: async (_, pid) => {
      const { detach } = await killAtCall(pid, call, occurrence);
      return { disarm: detach };
    },
  };
}

/** How often the main thread makes each write-class call while the script runs, without a kill; `others`: all other threads. */
export async function countScript(world: World) {
  const pid = await world.daemon.childPid();
  return countCalls(pid, () => runScript(world));
}

/** Every n-th call of the counted script, and a few of each kind however rare it is. */
export function callPoints(counts: ReadonlyMap<WriteCall, number>, every: number): Point[] {
  return WRITE_CALLS.flatMap((call) => {
    const count = counts.get(call) ?? 0;
    const step = Math.max(1, Math.min(every, Math.floor(count / FEWEST)));
    return Array.from({ length: Math.ceil(count / step) }, (_, at) => callPoint(call, 1 + at * step));
  });
}

/** Goes through the points one by one on one daemon. `tell` hears of each. */
export async function runPoints(
  world: World,
  points: readonly Point[],
  tell: (text: string) => void = () => {},
): Promise<Row[]> {
  const rows = new Map<string, Row>();
  for (const point of points) {
    const row = await killAt(world, point);
    const { restartsMs, lost, doubled, unexplained } = row;
    const restart = restartsMs[0] === undefined ? "did not fire" : `back in ${restartsMs[0].toFixed(0)} ms`;
    tell(
      [`${point.name} ${point.occurrence}: ${restart}`, ...lost, ...doubled, ...unexplained].join("\n    "),
    );
    const before = rows.get(point.name);
    rows.set(point.name, before ? add(before, row) : row);
  }
  return [...rows.values()];
}

async function killAt(world: World, point: Point): Promise<Row> {
  const pid = await servingChild(world);
  const over = new AbortController();
  const { disarm } = await point.arm(world, pid);
  const restart = watchRestart(world, pid, over.signal);
  const findings: Findings[] = [];
  try {
    for (let n = 0; n < MAX_SCRIPTS && isThere(pid); n += 1) findings.push(await runScript(world));
  } finally {
    over.abort();
    await disarm();
  }
  const back = await restart;
  if (back) await pause(Math.max(0, back.atMs + STEADY_MS - performance.now()));
  const empty = { point: point.name, lost: [], doubled: [], ranTwice: 0, unexplained: [] };
  const kill = back ? { kills: 1, missed: 0, restartsMs: [back.tookMs] } : { ...NOTHING, missed: 1 };
  const row: Row = { ...empty, ...kill };
  return findings.reduce<Row>((sum, each) => add(sum, { ...row, ...NOTHING, ...each }), row);
}

const NOTHING = { kills: 0, missed: 0, restartsMs: [] };

function add(one: Row, other: Row): Row {
  return {
    point: one.point,
    kills: one.kills + other.kills,
    missed: one.missed + other.missed,
    restartsMs: [...one.restartsMs, ...other.restartsMs],
    lost: [...one.lost, ...other.lost],
    doubled: [...one.doubled, ...other.doubled],
    ranTwice: one.ranTwice + other.ranTwice,
    unexplained: [...one.unexplained, ...other.unexplained],
  };
}

/** The child, once it answers. */
async function servingChild(world: World): Promise<number> {
  await answers(world);
  return world.daemon.childPid();
}

type Restart = { readonly tookMs: number; readonly atMs: number };

/** Null when the child is alive at the end of the scripts. */
async function watchRestart(world: World, pid: number, over: AbortSignal): Promise<Restart | null> {
  while (isThere(pid)) {
    if (over.aborted) return null;
    await pause(LOOK_MS);
  }
  const diedMs = performance.now();
  await answers(world);
  const atMs = performance.now();
  return { tookMs: atMs - diedMs, atMs };
}

async function answers({ daemon }: World): Promise<void> {
  const healthy = async () => (await daemon.call("GET", "/healthz").catch(() => null))?.status === 200;
  await eventually(healthy, RESTART_MS, "an answer of the daemon", LOOK_MS);
}

/** Collected by its parent at once: an entry in /proc is a process that runs. */
function isThere(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/** Ends of the daemon child that were no kill: there must be none. */
export function otherEnds({ daemon }: World): string[] {
  return daemon
    .stderr()
    .split("\n")
    .filter((line) => line.includes("the daemon ended (") && !line.includes("(SIGKILL)"));
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
