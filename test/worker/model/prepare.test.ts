import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../../worker/model/files.ts";
import { GraphIo } from "../../../worker/model/graph-io.ts";
import { prepareGraph } from "../../../worker/model/prepare.ts";
import { createSession } from "../../../worker/model/session.ts";
import { largestDifference } from "../../support/logits.ts";
import { VECTORS } from "../../support/model-folder.ts";

const folders = readdirSync(VECTORS)
  .filter((name) => existsSync(join(VECTORS, name, "cases.json")))
  .flatMap((name) => [`${name}/base`, `${name}/expert`]);
const fused = ["gqa/base", "gqa/expert", "gqa/antiexpert", "gqa/window"];
const graphOf = (name: string) => ({
  name: "model.onnx",
  bytes: readFileSync(join(VECTORS, name, "onnx/model.onnx")),
});
const LLAMA = graphOf("llama/base");

/** Another name of the same length, everywhere in a graph. */
function renamed(from: string, to: string): Uint8Array {
  expect(to).toHaveLength(from.length);
  expect(LLAMA.bytes.includes(from)).toBe(true);
  return Buffer.from(LLAMA.bytes.toString("latin1").replaceAll(from, to), "latin1");
}

const OPTIONS = { intraOpThreads: 1 } as const;

describe("a prepared graph", () => {
  test.each([...folders, ...fused])("%s gives the rows that `present` ends with", async (name) => {
    const folder = join(VECTORS, name);
    const candidates = prepareGraph(graphOf(name));
    expect(candidates.map(({ form }) => form)).toEqual(
      fused.includes(name) ? ["fused"] : ["split", "new rows"],
    );
    const config = readConfig(folder);
    const plain = await createSession(join(folder, "onnx/model.onnx"), OPTIONS);
    const io = new GraphIo(plain, config);
    const [past, count] = [3, 2];
    const feeds = io.feeds([{ ids: [5, 6], past }], past);
    for (const { name, emptyShape } of io.pasts) {
      const shape = emptyShape.map((axis) => axis || past);
      const size = shape.reduce((product, axis) => product * axis, 1);
      const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
      feeds[name] = new Tensor("float32", data, shape);
    }
    const whole = await plain.run(feeds);
    for (const { build, nodes, newRows } of candidates) {
      const bytes = build(nodes);
      const prepared = await createSession({ bytes, folder: join(folder, "onnx") }, OPTIONS);
      const rowsIo = new GraphIo(prepared, config, { newRows, isRightPadded: false });
      expect(prepared.inputNames).toEqual(plain.inputNames);
      expect(prepared.outputNames).toEqual(["logits", ...new Set(newRows.values())]);
      expect(rowsIo.logitsWidth).toBe(io.logitsWidth);
      const results = await prepared.run(feeds);
      for (const [i, { output, emptyShape }] of io.pasts.entries()) {
        const [, heads, , size] = emptyShape as [number, number, number, number];
        const present = whole[output]!.data as Float32Array;
        const rows = results[rowsIo.pasts[i]!.output]!;
        expect(rows.dims).toEqual([1, heads, count, size]);
        const last = Array.from({ length: heads }, (_, head) => {
          const end = (head + 1) * (past + count) * size;
          return present.subarray(end - count * size, end);
        });
        expect(largestDifference([rows.data as Float32Array], [flat(last)])).toBeLessThan(1e-5);
      }
    }
  });

  test("has its weights where the original has them", () => {
    const weights = 4 * 32 * 128;
    for (const { build, nodes } of prepareGraph(LLAMA)) {
      expect(build(nodes).length).toBeLessThan(LLAMA.bytes.length - 2 * weights);
    }
  });
});

const flat = (rows: readonly Float32Array[]) => Float32Array.from(rows.flatMap((row) => [...row]));

describe("a graph cannot be prepared", () => {
  test.each([
    ["whose caches are not made by Concat", renamed("Concat", "Konkat")],
    ["one of whose caches is not", renamed("present.1.value", "prezent.1.value")],
    ["that has no caches", renamed("past_key_values.", "fast_key_values.")],
    ["that is empty", new Uint8Array()],
  ])("%s", (_, bytes) => {
    expect(prepareGraph({ name: "model.onnx", bytes })).toEqual([]);
  });
});
