import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../../worker/model/files.ts";
import { GraphIo } from "../../../worker/model/graph-io.ts";
import { prepareGraph } from "../../../worker/model/prepare.ts";
import { LOGITS_WIDTH, VECTORS } from "../../support/model-folder.ts";

const folders = readdirSync(VECTORS)
  .filter((name) => existsSync(join(VECTORS, name, "cases.json")))
  .flatMap((name) => [`${name}/base`, `${name}/expert`]);
const graphOf = (name: string) => readFileSync(join(VECTORS, name, "onnx/model.onnx"));
const LLAMA = graphOf("llama/base");

/** Another name of the same length, everywhere in a graph. */
function renamed(from: string, to: string): Uint8Array {
  expect(to).toHaveLength(from.length);
  expect(LLAMA.includes(from)).toBe(true);
  return Buffer.from(LLAMA.toString("latin1").replaceAll(from, to), "latin1");
}

describe("a prepared graph", () => {
  test.each(folders)("%s gives the rows that `present` ends with", async (name) => {
    const { bytes, newRows } = prepareGraph(graphOf(name))!;
    const session = await InferenceSession.create(bytes, { logSeverityLevel: 3 });
    const io = new GraphIo(session, readConfig(join(VECTORS, name)));
    expect(new Set(newRows.keys())).toEqual(new Set(io.pasts.map((past) => past.name)));
    const [past, count] = [3, 2];
    const feeds = io.feeds([{ ids: [5, 6], past }], past);
    for (const { name, emptyShape } of io.pasts) {
      const shape = emptyShape.map((axis) => axis || past);
      const size = shape.reduce((product, axis) => product * axis, 1);
      const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
      feeds[name] = new Tensor("float32", data, shape);
    }
    const presents = io.pasts.map(({ present }) => present);
    const results = await session.run(feeds, [...presents, ...new Set(newRows.values())]);
    for (const { name, present, emptyShape } of io.pasts) {
      const [, heads, , size] = emptyShape as [number, number, number, number];
      const whole = results[present]!.data as Float32Array;
      const rows = results[newRows.get(name)!]!;
      expect(rows.dims).toEqual([1, heads, count, size]);
      const last = Array.from({ length: heads }, (_, head) => {
        const end = (head + 1) * (past + count) * size;
        return [...whole.subarray(end - count * size, end)];
      });
      expect([...(rows.data as Float32Array)]).toEqual(last.flat());
    }
  });

  test("is the graph with more outputs, and nothing else is changed", async () => {
    const prepared = prepareGraph(LLAMA)!;
    expect(prepared.bytes.subarray(0, LLAMA.length)).toEqual(new Uint8Array(LLAMA));
    const options = { logSeverityLevel: 3 } as const;
    const [before, after] = [
      await InferenceSession.create(LLAMA, options),
      await InferenceSession.create(prepared.bytes, options),
    ];
    expect(after.inputNames).toEqual(before.inputNames);
    expect(after.outputNames).toEqual([
      ...before.outputNames,
      ...new Set(prepared.newRows.values()),
    ]);
    const logits = after.outputMetadata.find(({ name }) => name === "logits")!;
    expect(logits.isTensor && logits.shape.at(-1)).toBe(LOGITS_WIDTH);
  });
});

describe("a graph cannot be prepared", () => {
  test.each([
    ["whose caches are not made by Concat", renamed("Concat", "Konkat")],
    ["one of whose caches is not", renamed("present.1.value", "prezent.1.value")],
    ["that has no caches", renamed("past_key_values.", "fast_key_values.")],
    ["that is empty", new Uint8Array()],
  ])("%s", (_, bytes) => {
    expect(prepareGraph(bytes)).toBeNull();
  });
});
