/** Memory of caches that is used again. Any token is one number. */
import { expect, test } from "vitest";
import { FreeArrays } from "../../../../worker/engine/decoder/free-arrays.ts";
import type { PastInput } from "../../../../worker/engine/decoder/graph-io.ts";
import { KvCache } from "../../../../worker/engine/decoder/kv-cache.ts";

const block = (...sizes: number[]) => sizes.map((size) => new Float32Array(size));
const past: PastInput = { name: "key", output: "", type: "float32", emptyShape: [1, 1, 0, 1] };

test("arrays are taken only if all have the wanted size", () => {
  const free = new FreeArrays();
  const arrays = block(4, 8);
  free.give(arrays);
  expect(free.take([4, 4])).toBeNull();
  arrays[0]!.fill(NaN);
  const taken = free.take([4, 8])!;
  expect(taken.map(({ buffer }) => buffer)).toEqual(arrays.map(({ buffer }) => buffer));
  expect(taken).toEqual(block(4, 8));
  expect(free.take([4, 8])).toBeNull();
  expect(free.bytes).toBe(0);
});

test("those that were free for the longest time are dropped first", () => {
  const free = new FreeArrays();
  const blocks = [1, 2, 3].map((size) => block(size));
  for (const each of blocks) free.give(each);
  free.trim(5 * 4);
  expect(free.bytes).toBe(5 * 4);
  // Their memory does not wait for the garbage collector.
  expect(blocks.map(([values]) => values!.length)).toEqual([0, 2, 3]);
  expect(free.take([1])).toBeNull();
  expect(free.take([3])).not.toBeNull();
});

test("what becomes free while a model runs is not used again: the run may read it", async () => {
  const free = new FreeArrays();
  await free.during(() => Promise.resolve(free.give(block(4))));
  await expect(free.during(() => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
  expect(free.take([4])).toBeNull();
  free.give(block(4));
  expect(free.take([4])).not.toBeNull();
});

test("a cache that grows leaves its memory to the next one", () => {
  const free = new FreeArrays();
  const create = () => new KvCache([past], "gap", null, free);
  const grown = create();
  grown.open();
  const { bytes } = grown;
  grown.reserve(grown.tokenCapacity + 1);
  expect(free.bytes).toBe(bytes);
  create().open();
  expect(free.bytes).toBe(0);
  grown.close(grown.slots[0]!);
  grown.free();
  expect(free.bytes).toBe(2 * bytes);
});
