import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { GraphIo, logitsRows } from "../../../../worker/engine/decoder/graph-io.ts";
import { readModelFile } from "../../../../worker/engine/graph/model-file.ts";
import { rewriteGraph } from "../../../../worker/engine/graph/prepare.ts";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import { largestDifference } from "../../../support/logits.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const folders = readdirSync(VECTORS)
  .filter((name) => existsSync(join(VECTORS, name, "cases.json")))
  .flatMap((name) => [`${name}/base`, `${name}/expert`]);
const fused = ["gqa/base", "gqa/expert", "gqa/antiexpert", "gqa/window"];
const graphOf = (name: string) => join(VECTORS, name, "onnx/model.onnx");
const LLAMA = readFileSync(graphOf("llama/base"));

/** A graph with another name of the same length, everywhere. */
function renamed(from: string, to: string): Uint8Array {
  expect(to).toHaveLength(from.length);
  expect(LLAMA.includes(from)).toBe(true);
  return Buffer.from(LLAMA.toString("latin1").replaceAll(from, to), "latin1");
}

const OPTIONS = { intraOpThreads: 1 } as const;

describe("a prepared graph", () => {
  test.each([...folders, ...fused])("%s returns the rows at the end of `present`", async (name) => {
    const folder = join(VECTORS, name);
    const rewrites = rewriteGraph(readModelFile(graphOf(name)));
    expect(rewrites.map(({ variant }) => variant)).toEqual(
      fused.includes(name) ? ["fused", "fused"] : ["split", "split", "concat", "concat"],
    );
    const config = readConfig(folder);
    const original = await createSession(join(folder, "onnx/model.onnx"), OPTIONS);
    const io = new GraphIo(original, config);
    const [pastTokens, count] = [3, 2];
    const rows = [{ ids: [5, 6], pastTokens }];
    const feeds = io.feeds(rows, pastTokens);
    for (const { name, emptyShape } of io.pastInputs) {
      const shape = emptyShape.map((axis) => axis || pastTokens);
      const size = shape.reduce((product, axis) => product * axis, 1);
      const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
      feeds[name] = new Tensor("float32", data, shape);
    }
    const whole = await original.run(feeds);
    for (const [n, { build, nodes, newKvOutputs }] of rewrites.entries()) {
      const bytes = build(nodes);
      const prepared = await createSession({ bytes, folder: join(folder, "onnx") }, OPTIONS);
      const rowsIo = new GraphIo(prepared, config, { newKvOutputs, alignment: "end" });
      const isGiven = (name: string) => !["position_ids", "logits_start"].includes(name);
      expect(prepared.inputNames.filter(isGiven)).toEqual(original.inputNames.filter(isGiven));
      expect(prepared.outputNames).toEqual(["logits", ...new Set(newKvOutputs.values())]);
      expect(rowsIo.logitsWidth).toBe(io.logitsWidth);
      const results = await prepared.run({ ...feeds, ...rowsIo.feeds(rows, pastTokens) });
      const unwanted = await prepared.run({ ...feeds, ...rowsIo.feeds(rows, pastTokens, 1) });
      // The first one of each variant computes the logits of the wanted tokens only.
      const isLimited = n % 2 === 0;
      expect(rowsIo.hasInput("logits_start")).toBe(isLimited);
      const logits = [results, unwanted].map(({ logits }) => logitsRows(logits as Tensor));
      expect(logits.map(({ length }) => length)).toEqual([count, isLimited ? 1 : count]);
      expect(logits[1]!.at(-1)).toEqual(logits[0]!.at(-1));
      for (const [i, { output, emptyShape }] of io.pastInputs.entries()) {
        const [, heads, , size] = emptyShape as [number, number, number, number];
        const present = whole[output]!.data as Float32Array;
        const newRows = results[rowsIo.pastInputs[i]!.output]!;
        expect(newRows.dims).toEqual([1, heads, count, size]);
        const last = Array.from({ length: heads }, (_, head) => {
          const end = (head + 1) * (pastTokens + count) * size;
          return present.subarray(end - count * size, end);
        });
        expect(largestDifference([newRows.data as Float32Array], [flat(last)])).toBeLessThan(1e-5);
      }
    }
  });

  test("refers to the weights in the original file", () => {
    const weights = 4 * 32 * 128;
    for (const { build, nodes } of rewriteGraph(readModelFile(graphOf("llama/base")))) {
      expect(build(nodes).length).toBeLessThan(LLAMA.length - 2 * weights);
    }
  });
});

const flat = (rows: readonly Float32Array[]) => Float32Array.from(rows.flatMap((row) => [...row]));

describe("a graph has no rewrite if", () => {
  test.each([
    ["its KV caches are not computed by Concat", renamed("Concat", "Konkat")],
    ["one of its KV caches is not", renamed("present.1.value", "prezent.1.value")],
    ["it has no KV caches", renamed("past_key_values.", "fast_key_values.")],
    ["it is empty", new Uint8Array()],
  ])("%s", (_, bytes) => {
    expect(rewriteGraph(bytes)).toEqual([]);
  });
});
