/** What the integers inside a graph are in runs of different sizes. */
import type { InferenceSession, Tensor } from "onnxruntime-node";
import { cacheTensor, type GraphIo } from "./graph-io.ts";
import { SIZES, type Measured, type Sizes } from "./simplify.ts";

/** @param names outputs of the session; those that are no vectors of 64-bit integers are left out */
export async function measure(
  session: InferenceSession,
  io: GraphIo,
  names: readonly string[],
): Promise<Measured> {
  const measured = new Map<string, bigint[][]>(names.map((name) => [name, []]));
  for (const sizes of SIZES) {
    const results = await session.run(feedsOf(io, sizes), names);
    for (const name of names) {
      const { data, dims } = results[name] as Tensor;
      if (data instanceof BigInt64Array && dims.length === 1) measured.get(name)?.push([...data]);
      else measured.delete(name);
    }
  }
  return measured;
}

function feedsOf(io: GraphIo, { batch, tokens, past }: Sizes): Record<string, Tensor> {
  const row = { ids: Array.from({ length: tokens }, () => 1), past };
  const caches = io.pasts.map(({ name, type, emptyShape }) => {
    const [, heads, , size] = emptyShape as [number, number, number, number];
    const dims = [batch, heads, past, size];
    const count = batch * heads * past * size;
    const none = type === "float16" ? new Float16Array(count) : new Float32Array(count);
    return [name, cacheTensor(none, dims)] as const;
  });
  const rows = Array.from({ length: batch }, () => row);
  return { ...Object.fromEntries(caches), ...io.feeds(rows, past) };
}
