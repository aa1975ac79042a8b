/** Tokens of quantized models have the same logits, bit for bit, in every run. */
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { exactAttention } from "../../../../worker/engine/graph/exact-attention.ts";
import { standardNode } from "../../../../worker/engine/graph/nodes.ts";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import type { Dtype } from "../../../../worker/engine/model/graph-files.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const load = (folder: string, dtype: Dtype) =>
  loadDecoder(join(VECTORS, folder), { dtype, intraOpThreads: 1 });

const ids = (minLength: number, maxLength: number) =>
  fc.array(fc.integer({ min: 1, max: 127 }), { minLength, maxLength });
const plans = fc.record({
  prompt: ids(2, 20),
  tokens: ids(4, 12),
  /** The neighbour's length decides how much room the caches have. */
  neighbour: ids(1, 140),
  chunk: fc.integer({ min: 1, max: 6 }),
});
type Plan = typeof plans extends fc.Arbitrary<infer Value> ? Value : never;

/** Logits after each token: one by one, in chunks, and beside a neighbour. */
async function threeWays(decoder: Decoder, { prompt, tokens, neighbour, chunk }: Plan) {
  const open = async (ids: readonly number[], size: number) => {
    const sequence = decoder.open();
    for (let i = 0; i < ids.length; i += size) {
      await decoder.prefill(sequence, ids.slice(i, i + size));
    }
    return sequence;
  };
  const [alone, chunks, beside]: Float32Array[][] = [[], [], []];
  const first = await open(prompt, 128);
  for (const id of tokens) {
    alone!.push((await decoder.decode([{ sequence: first, id }]))[0]!.slice());
  }
  decoder.close(first);
  const second = await open(prompt, chunk);
  for (let i = 0; i < tokens.length; i += chunk) {
    const rows = await decoder.score(second, tokens.slice(i, i + chunk));
    chunks!.push(...rows.map((logits) => logits.slice()));
  }
  decoder.close(second);
  const other = await open(neighbour, 128);
  const third = await open(prompt, 16);
  for (const id of tokens) {
    const inputs = [other, third].map((sequence) => ({ sequence, id }));
    beside!.push((await decoder.decode(inputs))[1]!.slice());
  }
  decoder.close(other);
  decoder.close(third);
  return [alone!, chunks!, beside!] as const;
}

describe("logits of a token are the same bits alone, in chunks and beside another sequence", () => {
  test.each<Dtype>(["int8", "q8", "q4"])("in %s", { timeout: 30_000 }, async (dtype) => {
    const decoder = await load("llama/base", dtype);
    expect(decoder.hasExactRows).toBe(true);
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const [alone, chunks, beside] = await threeWays(decoder, plan);
        expect(chunks).toEqual(alone);
        expect(beside).toEqual(alone);
      }),
      { numRuns: 12 },
    );
  });
});

test("where fused attention adds in another order for one token, it is known", async () => {
  for (const dtype of ["int8", "q4"] as const) {
    const decoder = await load("gqa/base", dtype);
    expect(decoder.hasExactRows).toBe(false);
    // Neighbours alone change nothing.
    const plan = { prompt: [5, 9, 3], tokens: [4, 8, 1], neighbour: [2, 2, 7, 9, 1], chunk: 1 };
    const [alone, , beside] = await threeWays(decoder, plan);
    expect(beside).toEqual(alone);
  }
});

test("another form of attention stays as it is", () => {
  const softmax = standardNode("Softmax", ["scores"], "weights");
  const product = standardNode("MatMul", ["weights", "values"], "output");
  expect(exactAttention([softmax, product], new Map(), 18)).toBeNull();
  expect(exactAttention([product], new Map(), 18)).toBeNull();
});

test("attention whose weights are read elsewhere stays as it is, and its weights lose their name", () => {
  const slices = ["old", "new"].map((part) =>
    standardNode("Slice", ["weights", `${part} bounds`], part),
  );
  const products = ["old", "new"].map((part) =>
    standardNode("MatMul", [part, `${part} values`], `${part} sum`),
  );
  const nodes = [
    standardNode("Softmax", ["scores"], "weights"),
    ...slices,
    ...products,
    standardNode("Add", ["old sum", "new sum"], "output"),
  ];
  const exact = exactAttention(nodes, new Map(), 18)!;
  // As an output of the graph it is missing then, so that the graph does not load.
  expect(exact.flatMap(({ outputs }) => outputs)).not.toContain("weights");
  for (const inputs of [["weights"], ["mask", "weights"], ["mask", "old"]]) {
    const read = [...nodes, standardNode("Mul", inputs, "read")];
    expect(exactAttention(read, new Map(), 18)).toBeNull();
  }
});
