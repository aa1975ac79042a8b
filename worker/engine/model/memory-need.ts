/** The memory that graphs and adapters need, and that there is. */
import { readFileSync } from "node:fs";
import { freemem } from "node:os";

/** Resident memory of a model by the size of its files: 1,310 MiB for 739 MiB of 4-bit weights. */
const WEIGHTS_FACTOR = 1.8;
/** Peak memory of weights in bfloat16 by their bytes: while a graph loads, the file is mapped, and they are there as float32. */
const BFLOAT16_FACTOR = 3;
/**
 * Peak memory of adapters by the values of their stacked matrices as float32: 4.4 to 4.9 times while a worker starts (its matrices, the stacked ones, the
 * encoded graph, onnxruntime's copy and its packed one), 1.1 to 1.5 times afterwards.
 */
const ADAPTER_FACTOR = 5;
const FLOAT_BYTES = 4;

/** @param graph bytes of its files, and how many of them are weights in bfloat16 */
export const graphMemory = ({
  bytes,
  bfloat16Bytes,
}: {
  readonly bytes: number;
  readonly bfloat16Bytes: number;
}) => (bytes - bfloat16Bytes) * WEIGHTS_FACTOR + bfloat16Bytes * BFLOAT16_FACTOR;

/** @param values in the stacked matrices (../graph/adapter-columns.ts) */
export const adapterMemory = (values: number) => values * FLOAT_BYTES * ADAPTER_FACTOR;

/** Memory that this process can still take. Mapped files count as free, because the system can take them back. */
export function availableMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(freemem(), limit - privateBytes()) : freemem();
}

function privateBytes(): number {
  try {
    const status = readFileSync("/proc/self/status", "utf8");
    return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  } catch {
    return process.memoryUsage.rss();
  }
}
