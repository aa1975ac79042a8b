import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor, type InferenceSession } from "onnxruntime-node";
import { expect, test } from "vitest";
import { loadDecoder, readConfig } from "../../../worker/model/files.ts";
import { GraphIo } from "../../../worker/model/graph-io.ts";
import { measure } from "../../../worker/model/measure.ts";
import { integersNode, standardNode, type GraphNode } from "../../../worker/model/onnx-wire.ts";
import { prepareGraph } from "../../../worker/model/prepare.ts";
import { readPrepared, preparationKey } from "../../../worker/model/prepared-file.ts";
import { createSession } from "../../../worker/model/session.ts";
import { simplify, valuesToMeasure } from "../../../worker/model/simplify.ts";
import { largestDifference } from "../../support/logits.ts";
import { copyOf, VECTORS } from "../../support/model-folder.ts";

const OPTIONS = { intraOpThreads: 1 } as const;

const count = (nodes: readonly GraphNode[], op: string) =>
  nodes.filter((node) => node.op === op).length;

/** A split graph as it was made, and with fewer nodes. */
async function bothOf(name: string) {
  const folder = join(VECTORS, name);
  const bytes = readFileSync(join(folder, "onnx/model.onnx"));
  const [candidate] = prepareGraph({ name: "model.onnx", bytes });
  const { build, nodes, inputs, newRows } = candidate!;
  const config = readConfig(folder);
  const open = async (bytes: Uint8Array) => {
    const session = await createSession({ bytes, folder: join(folder, "onnx") }, OPTIONS);
    return { session, io: new GraphIo(session, config, { newRows, isRightPadded: false }) };
  };
  const names = valuesToMeasure(nodes, inputs);
  const { session, io } = await open(build(nodes, names));
  const outputs = new Set(["logits", ...newRows.values()]);
  const fewer = simplify(nodes, await measure(session, io, names), outputs);
  return { nodes, fewer, before: await open(build(nodes)), after: await open(build(fewer)) };
}

async function run({ session, io }: { session: InferenceSession; io: GraphIo }) {
  const [past, room] = [3, 6];
  // Two sequences, each with two new tokens, in a cache with room to spare.
  const rows = [
    { ids: [5, 6], past },
    { ids: [7, 8], past: past - 1 },
  ];
  const feeds = io.feeds(rows, room);
  for (const { name, emptyShape } of io.pasts) {
    const shape = [rows.length, emptyShape[1]!, room, emptyShape[3]!];
    const size = shape.reduce((product, axis) => product * axis, 1);
    const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
    feeds[name] = new Tensor("float32", data, shape);
  }
  const results = await session.run(feeds);
  return Object.values(results).map(({ data }) => data as Float32Array);
}

test.each(["llama/base", "qwen2/base", "qwen3/expert", "gpt2/base", "gpt_neox/base"])(
  "%s gives the same logits and rows with fewer nodes",
  async (name) => {
    const { nodes, fewer, before, after } = await bothOf(name);
    expect(fewer.length).toBeLessThan(nodes.length * 0.6);
    const [made, original] = [await run(after), await run(before)];
    expect(largestDifference(made, original)).toBeLessThan(1e-5);
  },
);

test("rotary positions are one operator for queries and one for keys, and the layers share one mask", async () => {
  const { nodes, fewer } = await bothOf("llama/base");
  const layers = count(nodes, "Softmax");
  expect(count(fewer, "RotaryEmbedding")).toBe(2 * layers);
  expect(count(fewer, "Neg")).toBe(0);
  expect(count(fewer, "IsNaN")).toBe(0);
  expect(count(nodes, "Where")).toBeGreaterThan(layers);
  expect(count(fewer, "Where")).toBeLessThan(count(nodes, "Where") - layers);
});

test("a model is served with fewer nodes", async () => {
  const folder = copyOf("llama/base");
  await loadDecoder(folder, { dtype: "fp32", ...OPTIONS });
  const file = join(folder, "onnx/model.onnx");
  const kept = await readPrepared(file, await preparationKey(file, readConfig(folder)));
  expect(Buffer.from(kept!.bytes).includes("RotaryEmbedding")).toBe(true);
});

test("integers that say the same at all sizes are one value, others stay", () => {
  const nodes = [
    standardNode("Add", ["a", "b"], "fixed"),
    standardNode("Add", ["c", "d"], "whole"),
    standardNode("Mul", ["c", "d"], "whole again"),
    standardNode("Mul", ["e", "f"], "something else"),
    standardNode("Reshape", ["x", "fixed"], "x1"),
    standardNode("Expand", ["y", "whole"], "y1"),
    standardNode("Expand", ["z", "whole again"], "z1"),
    standardNode("Expand", ["w", "something else"], "w1"),
  ];
  const names = ["fixed", "whole", "whole again", "something else"];
  expect(valuesToMeasure(nodes, new Set())).toEqual(names);
  const runs = (...values: readonly (readonly number[])[]) => values.map((run) => run.map(BigInt));
  const measured = new Map([
    ["fixed", runs([2, 4], [2, 4], [2, 4])],
    // Of the batch and of past + tokens.
    ["whole", runs([2, 10], [3, 16], [1, 17])],
    ["whole again", runs([2, 10], [3, 16], [1, 17])],
    ["something else", runs([2, 99], [3, 98], [1, 97])],
  ]);
  expect(simplify(nodes, measured, new Set(["x1", "y1", "z1", "w1"]))).toEqual([
    integersNode("measured/2,4", [2n, 4n]),
    nodes[1],
    nodes[3],
    standardNode("Reshape", ["x", "measured/2,4"], "x1"),
    standardNode("Expand", ["y", "whole"], "y1"),
    standardNode("Expand", ["z", "whole"], "z1"),
    standardNode("Expand", ["w", "something else"], "w1"),
  ]);
});

test("what the data decide is not measured: it may have been the same by chance", () => {
  const nodes = [
    standardNode("Shape", ["x"], "size"),
    standardNode("Add", ["size", "one"], "of sizes"),
    standardNode("Reshape", ["x", "of sizes"], "x1"),
    standardNode("Add", ["x", "one"], "of data"),
    standardNode("Reshape", ["x", "of data"], "x2"),
    standardNode("NonZero", ["size"], "selected"),
    standardNode("Shape", ["selected"], "of a selection"),
    standardNode("Expand", ["x", "of a selection"], "x3"),
  ];
  const measured = (all: readonly GraphNode[]) => valuesToMeasure(all, new Set(["x"]));
  expect(measured(nodes)).toEqual(["of sizes"]);
  // The graphs inside may use any value by its name.
  expect(measured([...nodes, standardNode("If", ["condition"], "y")])).toEqual([]);
});
