import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  Tensor,
  type InferenceSession,
} from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { expect, test } from "vitest";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { GraphIo } from "../../../../worker/engine/decoder/graph-io.ts";
import { measureShapeValues } from "../../../../worker/engine/graph/shape-values.ts";
import {
  int64Constant,
  standardNode,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import { rewriteGraph } from "../../../../worker/engine/graph/prepare.ts";
import { readPrepared, preparationKey } from "../../../../worker/engine/graph/prepared-file.ts";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import { simplify, shapeValueNames } from "../../../../worker/engine/graph/simplify.ts";
import { largestDifference } from "../../../support/logits.ts";
import { copyOf, VECTORS } from "../../../support/model-folder.ts";

const OPTIONS = { intraOpThreads: 1 } as const;

const count = (nodes: readonly GraphNode[], op: string) =>
  nodes.filter((node) => node.op === op).length;

/** A split graph before and after it is simplified. */
async function splitAndSimplified(name: string) {
  const folder = join(VECTORS, name);
  const bytes = readFileSync(join(folder, "onnx/model.onnx"));
  const [rewrite] = rewriteGraph(bytes);
  const { build, nodes, inputs, newKvOutputs } = rewrite!;
  const config = readConfig(folder);
  const open = async (bytes: Uint8Array) => {
    const session = await createSession({ bytes, folder: join(folder, "onnx") }, OPTIONS);
    return { session, io: new GraphIo(session, config, { newKvOutputs, alignment: "end" }) };
  };
  const names = shapeValueNames(nodes, inputs);
  const { session, io } = await open(build(nodes, names));
  const outputs = new Set(["logits", ...newKvOutputs.values()]);
  const values = await measureShapeValues(session, io, names);
  const simplified = simplify(nodes, values, outputs);
  return {
    nodes,
    simplified,
    before: await open(build(nodes)),
    after: await open(build(simplified)),
  };
}

async function run({ session, io }: { session: InferenceSession; io: GraphIo }) {
  const [pastTokens, capacity] = [3, 6];
  // Two sequences, each with two new tokens, in a cache with unused capacity.
  const rows = [
    { ids: [5, 6], pastTokens },
    { ids: [7, 8], pastTokens: pastTokens - 1 },
  ];
  const feeds = io.feeds(rows, capacity);
  for (const { name, emptyShape } of io.pastInputs) {
    const shape = [rows.length, emptyShape[1]!, capacity, emptyShape[3]!];
    const size = shape.reduce((product, axis) => product * axis, 1);
    const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
    feeds[name] = new Tensor("float32", data, shape);
  }
  const results = await session.run(feeds);
  return Object.values(results).map(({ data }) => data as Float32Array);
}

test.each(["llama/base", "qwen2/base", "qwen3/expert", "gpt2/base", "gpt_neox/base"])(
  "%s has the same logits and new KV rows with fewer nodes",
  async (name) => {
    const { nodes, simplified, before, after } = await splitAndSimplified(name);
    expect(simplified.length).toBeLessThan(nodes.length * 0.6);
    const [actual, expected] = [await run(after), await run(before)];
    expect(largestDifference(actual, expected)).toBeLessThan(1e-5);
  },
);

test("each layer has two RotaryEmbedding operators, and the layers share one mask", async () => {
  const { nodes, simplified } = await splitAndSimplified("llama/base");
  const layers = count(nodes, "Softmax");
  expect(count(simplified, "RotaryEmbedding")).toBe(2 * layers);
  expect(count(simplified, "Neg")).toBe(0);
  expect(count(simplified, "IsNaN")).toBe(0);
  expect(count(nodes, "Where")).toBeGreaterThan(layers);
  // None for each layer: a mask does not keep the sizes behind it from being measured.
  expect(count(simplified, "Where")).toBeLessThanOrEqual(count(nodes, "Where") - 2 * layers);
});

test("a loaded model is simplified", async () => {
  const folder = copyOf("llama/base");
  await loadDecoder(folder, { dtype: "fp32", ...OPTIONS });
  const file = join(folder, "onnx/model.onnx");
  const stored = await readPrepared(file, await preparationKey(file, readConfig(folder)));
  expect(Buffer.from(stored!.bytes).includes("RotaryEmbedding")).toBe(true);
});

test("shape values that are constant become constants, equal ones are merged, others stay", () => {
  const nodes = [
    standardNode("Add", ["a", "b"], "constant"),
    standardNode("Add", ["c", "d"], "sizes"),
    standardNode("Mul", ["c", "d"], "sizes again"),
    standardNode("Mul", ["e", "f"], "something else"),
    standardNode("Reshape", ["x", "constant"], "x1"),
    standardNode("Expand", ["y", "sizes"], "y1"),
    standardNode("Expand", ["z", "sizes again"], "z1"),
    standardNode("Expand", ["w", "something else"], "w1"),
  ];
  const names = ["constant", "sizes", "sizes again", "something else"];
  expect(shapeValueNames(nodes, new Set())).toEqual(names);
  const runs = (...values: readonly (readonly number[])[]) => values.map((run) => run.map(BigInt));
  const values = new Map([
    ["constant", runs([2, 4], [2, 4], [2, 4])],
    // [batch, past + tokens]
    ["sizes", runs([2, 10], [3, 16], [1, 17])],
    ["sizes again", runs([2, 10], [3, 16], [1, 17])],
    ["something else", runs([2, 99], [3, 98], [1, 97])],
  ]);
  expect(simplify(nodes, values, new Set(["x1", "y1", "z1", "w1"]))).toEqual([
    int64Constant("measured/2,4", [2n, 4n]),
    nodes[1],
    nodes[3],
    standardNode("Reshape", ["x", "measured/2,4"], "x1"),
    standardNode("Expand", ["y", "sizes"], "y1"),
    standardNode("Expand", ["z", "sizes"], "z1"),
    standardNode("Expand", ["w", "something else"], "w1"),
  ]);
});

test("values that depend on data are not measured: they could be equal by chance", () => {
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
  const namesOf = (all: readonly GraphNode[]) => shapeValueNames(all, new Set(["x"]));
  expect(namesOf(nodes)).toEqual(["of sizes"]);
  // A subgraph may use any value by its name.
  expect(namesOf([...nodes, standardNode("If", ["condition"], "y")])).toEqual([]);
});

test("sizes of values with a mask are measured, those of a part with a limited size are not", () => {
  const nodes = [
    standardNode("Greater", ["x", "one"], "mask"),
    standardNode("Add", ["x", "mask"], "masked"),
    standardNode("Shape", ["masked"], "size"),
    standardNode("Add", ["size", "one"], "of a masked value"),
    standardNode("Reshape", ["x", "of a masked value"], "x1"),
    standardNode("Min", ["size", "window"], "limited"),
    standardNode("Slice", ["x", "zero", "limited"], "part"),
    standardNode("Shape", ["part"], "size of a part"),
    standardNode("Expand", ["x", "size of a part"], "x2"),
  ];
  expect(shapeValueNames(nodes, new Set(["x"]))).toEqual(["of a masked value"]);
});
