/** Describes the machine, measures its memory bandwidth, and reads CPU times from /proc. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { Worker } from "node:worker_threads";

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly node: string;
}

export function describeMachine(): Machine {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
}

/** Bytes that a thread reads in one try. */
const STREAM_BYTES = 192 * 2 ** 20;
/** Code of a thread that compares two equal buffers: this reads both and writes nothing. */
const READER = `
  const { parentPort, workerData } = require("node:worker_threads");
  const [a, b] = [Buffer.alloc(workerData / 2, 1), Buffer.alloc(workerData / 2, 1)];
  parentPort.on("message", () => {
    const startedMs = performance.now();
    a.compare(b);
    parentPort.postMessage(performance.now() - startedMs);
  });
  parentPort.postMessage(0);
`;

/** Bytes per second that all cores together read from memory; the fastest of 12 tries. */
export async function readBandwidth(): Promise<number> {
  const threads = Array.from(
    { length: availableParallelism() },
    () => new Worker(READER, { eval: true, workerData: STREAM_BYTES }),
  );
  const messages = () =>
    Promise.all(
      threads.map((thread) => new Promise<number>((resolve) => thread.once("message", resolve))),
    );
  await messages();
  let best = 0;
  for (let i = 0; i < 12; i++) {
    const done = messages();
    for (const thread of threads) thread.postMessage(null);
    const slowestMs = Math.max(...(await done));
    best = Math.max(best, (threads.length * STREAM_BYTES) / (slowestMs / 1000));
  }
  await Promise.all(threads.map((thread) => thread.terminate()));
  return best;
}

/** CPU seconds of all cores since the machine started, without idle time; null if /proc is not available. */
export function busySeconds(): number | null {
  try {
    const [, user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
      .split("\n")[0]!
      .split(/\s+/)
      .map(Number);
    return (user! + nice! + system! + irq! + softirq! + steal!) / 100;
  } catch {
    return null;
  }
}

/** CPU seconds of a running process; 0 if /proc is not available. */
export function cpuSeconds(pid: number): number {
  try {
    // utime and stime are the fields 14 and 15; the split starts after the second one, the name in parentheses.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}
