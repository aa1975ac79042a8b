import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inspectGraph, quantizesActivations } from "../../../../worker/engine/graph/inspect.ts";
import { readModelFile } from "../../../../worker/engine/graph/model-file.ts";
import { standardNode } from "../../../../worker/engine/graph/nodes.ts";
import {
  ATTRIBUTE_PROTO,
  GRAPH_PROTO,
  MODEL_PROTO,
} from "../../../../worker/engine/graph/onnx-proto.ts";
import {
  externalDataField,
  messageField,
  nodeField,
} from "../../../../worker/engine/graph/onnx-wire.ts";
import { VECTORS } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const graph = (name: string) => join(VECTORS, "llama/base/onnx", name);
const node = standardNode;

test.each([
  ["model.onnx", false],
  ["model_fp16.onnx", false],
  ["model_quantized.onnx", true],
  ["model_q8.onnx", true],
  ["model_q4.onnx", true],
])("%s: activations are quantized: %s", (name, quantizesActivations) => {
  expect(inspectGraph(graph(name))).toMatchObject({ externalFiles: [], quantizesActivations });
});

test("external weights are named", () => {
  const file = join(folderOf({}), "references.onnx");
  writeFileSync(file, readModelFile(graph("model.onnx")));
  expect(inspectGraph(file).externalFiles).toEqual(["model.onnx"]);
});

test("external weights of inner graphs and constants are named, and renamed behind links", () => {
  const entries = (location: string) => [
    externalDataField("location", location),
    externalDataField("offset", "8"),
    externalDataField("length", "32"),
  ];
  const inner = messageField(ATTRIBUTE_PROTO.g, [
    nodeField(node("Identity", ["a"], "b")),
    messageField(GRAPH_PROTO.initializer, entries("inner.bin")),
  ]);
  const value = messageField(ATTRIBUTE_PROTO.t, entries("constant.bin"));
  const model = messageField(MODEL_PROTO.graph, [
    nodeField(node("If", ["flag"], "c", [inner])),
    nodeField(node("Constant", [], "d", [value])),
  ]);
  const snapshot = folderOf({});
  const file = join(snapshot, "model.onnx");
  for (const name of ["inner.bin", "constant.bin"]) {
    writeFileSync(join(snapshot, `blob-${name}`), "");
    symlinkSync(`blob-${name}`, join(snapshot, name));
  }
  writeFileSync(file, model);
  expect([...inspectGraph(file).externalBytes]).toEqual([
    ["inner.bin", 40],
    ["constant.bin", 40],
  ]);
  const linked = join(snapshot, "linked.onnx");
  writeFileSync(linked, readModelFile(file));
  expect(inspectGraph(linked).externalFiles).toEqual(["blob-constant.bin", "blob-inner.bin"]);
});

test("a file that ends within a field is refused", () => {
  const file = join(folderOf({}), "short.onnx");
  writeFileSync(file, readFileSync(graph("model.onnx")).subarray(0, 20_000));
  expect(() => inspectGraph(file)).toThrow("ends within a field");
});

const q = (op: string, ...inputs: string[]) => node(op, inputs, "q");
test.each([
  ["a scale that is a weight", [q("QuantizeLinear", "x", "weight", "zero")], true],
  ["a constant scale", [node("Constant", [], "s"), q("QuantizeLinear", "x", "s")], true],
  ["a computed scale", [node("ReduceMax", ["x"], "s"), q("QuantizeLinear", "x", "s")], true],
  [
    "integers from an unknown operator",
    [node("Cast", ["x"], "i"), q("MatMulInteger", "i", "w")],
    true,
  ],
  ["operators of integers", [q("QLinearMatMul", "x", "weight")], true],
  ["attention of integers", [q("QAttention", "x", "weight")], true],
  ["only weights that are rounded", [q("QuantizeLinear", "weight", "scale")], false],
  [
    "only constants that are rounded",
    [node("Constant", [], "c"), q("QuantizeLinear", "c", "s")],
    false,
  ],
])("activations with %s", (_, nodes, isQuantized) => {
  expect(quantizesActivations(nodes, new Set(["weight"]))).toBe(isQuantized);
});
