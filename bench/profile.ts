/** Says where a process spent its time: self time by function and by file, from a .cpuprofile of `node --cpu-prof`. */
import { readFileSync } from "node:fs";

type Node = {
  readonly id: number;
  readonly callFrame: {
    readonly functionName: string;
    readonly url: string;
    readonly lineNumber: number;
  };
};
type Profile = {
  readonly nodes: readonly Node[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
};

/** The largest shares of a profile in percent of the time that was not idle. */
export function summarize(
  path: string,
  top: number,
): { readonly functions: string[]; readonly files: string[] } {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path, "utf8")) as Profile;
  const selfUs = new Map<number, number>();
  samples.forEach((id, at) => {
    selfUs.set(id, (selfUs.get(id) ?? 0) + (timeDeltas[at] ?? 0));
  });
  const functions = new Map<string, number>();
  const files = new Map<string, number>();
  let busyUs = 0;
  for (const { id, callFrame } of nodes) {
    const us = selfUs.get(id) ?? 0;
    if (callFrame.functionName === "(idle)") continue;
    busyUs += us;
    const file = shortName(callFrame.url);
    add(functions, `${callFrame.functionName || "(anonymous)"} ${file}:${callFrame.lineNumber + 1}`, us);
    add(files, file || callFrame.functionName, us);
  }
  const largest = (shares: ReadonlyMap<string, number>) =>
    [...shares]
      .toSorted(([, a], [, b]) => b - a)
      .slice(0, top)
      .map(([name, us]) => `${((100 * us) / busyUs).toFixed(1).padStart(5)} %  ${name}`);
  return { functions: largest(functions), files: largest(files) };
}

function add(shares: Map<string, number>, name: string, us: number): void {
  shares.set(name, (shares.get(name) ?? 0) + us);
}

/** A path from dist/ or node_modules/ on: profiles are read on other machines too. */
function shortName(url: string): string {
  return url.replace(/^.*\/(?=(?:dist|node_modules|sdk)\/)/, "");
}

if (import.meta.main) {
  for (const path of process.argv.slice(2)) {
    const { functions, files } = summarize(path, 40);
    console.log([path, "by file", ...files.slice(0, 15), "by function", ...functions].join("\n"));
  }
}
