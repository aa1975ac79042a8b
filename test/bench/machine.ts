/** The machine: what it is, how fast its memory is read, and how much of it others use meanwhile. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { Worker } from "node:worker_threads";

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly node: string;
}

export function machine(): Machine {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
}

const STREAM_BYTES = 192 * 2 ** 20;
/** Compares two equal buffers, which reads both and writes nothing. */
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

/** Bytes per second that all cores together read from memory; the fastest of several tries. */
export async function readBandwidth(): Promise<number> {
  const threads = Array.from(
    { length: availableParallelism() },
    () => new Worker(READER, { eval: true, workerData: STREAM_BYTES }),
  );
  const answers = () =>
    Promise.all(
      threads.map((thread) => new Promise<number>((resolve) => thread.once("message", resolve))),
    );
  await answers();
  let best = 0;
  for (let i = 0; i < 12; i++) {
    const done = answers();
    for (const thread of threads) thread.postMessage(null);
    const slowestMs = Math.max(...(await done));
    best = Math.max(best, (threads.length * STREAM_BYTES) / (slowestMs / 1000));
  }
  await Promise.all(threads.map((thread) => thread.terminate()));
  return best;
}

/** Seconds that all cores were busy since the machine started; null where /proc does not tell. */
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

/** CPU seconds of a running process; 0 where /proc does not tell. */
export function cpuSeconds(pid: number): number {
  try {
    // After the name in parentheses: utime and stime are the 14th and 15th field of all.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}
