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
  const caches = io.pastInputs.map(({ name, type, emptyShape }) => {
    const [, heads, , size] = emptyShape as [number, number, number, number];
    const dims = [batch, heads, past, size];
    const count = batch * heads * past * size;
    const zeros = type === "float16" ? new Float16Array(count) : new Float32Array(count);
    return [name, cacheTensor(zeros, dims)] as const;
  });
  const rows = Array.from({ length: batch }, () => row);
  return { ...Object.fromEntries(caches), ...io.feeds(rows, past) };
}
