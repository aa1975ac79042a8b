/** Runs a graph with inputs of different sizes and records the integers (shapes, slice bounds) that it computes. */
import type { InferenceSession, Tensor } from "../onnxruntime/onnxruntime.ts";
import { cacheTensor, type GraphIo } from "../decoder/graph-io.ts";
import { MEASURED_SIZES, type RunSizes, type ShapeValues } from "./simplify.ts";

/**
 * @param session of a graph whose outputs include `names`
 * @param names values to record; those that are not vectors of 64-bit integers are left out of the result
 */
export async function measureShapeValues(
  session: InferenceSession,
  io: GraphIo,
  names: readonly string[],
): Promise<ShapeValues> {
  const values = new Map<string, bigint[][]>(names.map((name) => [name, []]));
  for (const sizes of MEASURED_SIZES) {
    const results = await session.run(feedsForSizes(io, sizes), names);
    for (const name of names) {
      const { data, dims } = results[name] as Tensor;
      if (data instanceof BigInt64Array && dims.length === 1) values.get(name)?.push([...data]);
      else values.delete(name);
    }
  }
  return values;
}

function feedsForSizes(io: GraphIo, { batch, tokens, past }: RunSizes): Record<string, Tensor> {
  const row = { ids: Array.from({ length: tokens }, () => 1), pastTokens: past };
  const rows = Array.from({ length: batch }, () => row);
  return { ...zeroCaches(io, { batch, past }), ...io.feeds(rows, past) };
}

/** Caches of zeros. */
export function zeroCaches(
  { pastInputs }: GraphIo,
  { batch, past }: Omit<RunSizes, "tokens">,
): Record<string, Tensor> {
  const caches = pastInputs.map(({ name, type, emptyShape }) => {
    const [, heads, , size] = emptyShape as [number, number, number, number];
    const count = batch * heads * past * size;
    const zeros = type === "float16" ? new Float16Array(count) : new Float32Array(count);
    return [name, cacheTensor(zeros, [batch, heads, past, size])] as const;
  });
  return Object.fromEntries(caches);
}
