import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { dtypesIn, findGraph, type Dtype } from "../../../../worker/engine/model/graph-files.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { VECTORS } from "../../../support/model-folder.ts";

interface Case {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
}
/** By model folder and file: tokens generated with onnxruntime's Python package (test/vectors/formats.py). */
const cases = JSON.parse(readFileSync(join(VECTORS, "formats.json"), "utf8")) as Record<
  string,
  Record<string, Case>
>;

/** Root mean square of the differences from fp32 logits, at most. Logits have a standard deviation of 2; unrelated ones would be 2.8 off. */
const ROUNDING: Readonly<Partial<Record<Dtype, number>>> = {
  fp32: 1e-5,
  fp16: 0.01,
  int8: 0.15,
  q8: 0.15,
  q4: 1,
  q4f16: 1,
};

const NEARLY_BEST = 0.5;

describe.each(Object.keys(cases))("%s", (name) => {
  const folder = join(VECTORS, name);
  const load = (dtype: Dtype) => loadDecoder(folder, { dtype, intraOpThreads: 1 });

  test.each(dtypesIn(folder).map(({ dtype }) => dtype))(
    "in %s runs in batches, generates the recorded tokens, and has about the logits of fp32",
    async (dtype) => {
      const { prompt, tokens } = cases[name]![basename(findGraph({ path: folder, dtype }))]!;
      const decoder = await load(dtype);
      expect(decoder.fallbackReason).toBeNull();
      const [generated, logits] = await greedy(decoder, prompt, tokens.length);
      await expectNearlyBest(decoder, prompt, tokens);
      // Attention that is made exact rounds, which changes how activations are rounded to 8 bits.
      expect(decoder.hasExactRows || generated.join() === tokens.join()).toBe(true);
      const [, exact] = await greedy(await load("fp32"), prompt, 1);
      expect(rootMeanSquare(logits, exact)).toBeLessThan(ROUNDING[dtype]!);
    },
  );
});

/** Most of the tokens have the highest logit, and none is more than rounding behind it. */
async function expectNearlyBest(
  decoder: Decoder,
  prompt: readonly number[],
  tokens: readonly number[],
): Promise<void> {
  const sequence = decoder.open();
  await decoder.prefill(sequence, prompt.slice(0, -1));
  const rows = await decoder.score(sequence, [prompt.at(-1)!, ...tokens.slice(0, -1)]);
  const behind = rows.map((logits, i) => Math.max(...logits) - logits[tokens[i]!]!);
  expect(Math.max(...behind)).toBeLessThan(NEARLY_BEST);
  expect(behind.filter((distance) => distance === 0).length).toBeGreaterThan(tokens.length * 0.8);
}

/** Of the differences. */
function rootMeanSquare(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((logit, id) => logit - b[id]!)) / Math.sqrt(a.length);
}

/** Greedy tokens, and the logits of the first. */
async function greedy(
  decoder: Decoder,
  prompt: readonly number[],
  count: number,
): Promise<[tokens: number[], logits: Float32Array]> {
  const sequence = decoder.open();
  await decoder.prefill(sequence, prompt.slice(0, -1));
  const tokens = [prompt.at(-1)!];
  let first: Float32Array | null = null;
  while (tokens.length <= count) {
    const [logits] = await decoder.decode([{ sequence, id: tokens.at(-1)! }]);
    first ??= logits!;
    tokens.push(logits!.indexOf(Math.max(...logits!)));
  }
  return [tokens.slice(1), first!];
}
