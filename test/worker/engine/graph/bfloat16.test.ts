/** Small graphs in bfloat16. test/worker/engine/model/large-models.test.ts has whole models. */
import { Writer } from "protobufjs/minimal.js";
import { expect, test } from "vitest";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import { inFloat32 } from "../../../../worker/engine/graph/bfloat16.ts";
import {
  integerAttribute,
  standardNode as node,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import {
  ATTRIBUTE_PROTO,
  ATTRIBUTE_TYPE,
  DATA_TYPE,
  FUNCTION_PROTO,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  TENSOR_PROTO,
  varintTag,
} from "../../../../worker/engine/graph/onnx-proto.ts";
import {
  functionNodeField,
  messageField,
  nodeField,
  operatorSetField,
  readFields,
  readIntegerAttribute,
  readNode,
} from "../../../../worker/engine/graph/onnx-wire.ts";
import { readIntegers } from "../../../../worker/engine/graph/weights.ts";
import { Tensor } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { valueInfo } from "../../../support/tiny-graph.ts";

const { bfloat16, float, int64 } = DATA_TYPE;
/** 1, 2, 3 and 4 in bfloat16. */
const HALVES = [0x3f80, 0x4000, 0x4040, 0x4080];

const text = (field: number, value: string) =>
  Writer.create().uint32(lengthDelimitedTag(field)).string(value).finish();
const number = (field: number, value: number) =>
  Writer.create().uint32(varintTag(field)).int64(value).finish();
const field = (id: number, content: Uint8Array) => messageField(id, [content]);

/** The fields of a matrix of two rows, as raw values or as integers. */
function matrix(name: string, kind: "raw" | "integers"): Uint8Array[] {
  const integers = Writer.create();
  for (const half of HALVES) integers.int32(half);
  const values =
    kind === "raw"
      ? field(TENSOR_PROTO.rawData, new Uint8Array(Uint16Array.from(HALVES).buffer))
      : field(TENSOR_PROTO.int32Data, integers.finish());
  const dims = [2, 2].map((size) => number(TENSOR_PROTO.dims, size));
  return [...dims, number(TENSOR_PROTO.dataType, bfloat16), text(TENSOR_PROTO.name, name), values];
}

const constant = (name: string) =>
  node("Constant", [], name, [
    Buffer.concat([
      text(ATTRIBUTE_PROTO.name, "value"),
      messageField(ATTRIBUTE_PROTO.t, matrix("", "integers")),
      number(ATTRIBUTE_PROTO.type, ATTRIBUTE_TYPE.tensor),
    ]),
  ]);

const WEIGHT = messageField(GRAPH_PROTO.initializer, matrix("w", "raw"));
const input = (name: string, type: number, ...shape: (number | string)[]) =>
  field(GRAPH_PROTO.input, valueInfo(name, type, shape));
const output = (name: string) => field(GRAPH_PROTO.output, valueInfo(name, bfloat16, [2, 2]));

const modelOf = (parts: readonly Uint8Array[], functions: readonly Uint8Array[] = []) =>
  Buffer.concat([
    number(MODEL_PROTO.irVersion, 8),
    operatorSetField("", 17),
    messageField(MODEL_PROTO.graph, [text(GRAPH_PROTO.name, "graph"), ...parts]),
    ...functions,
  ]);
const graphOf = (nodes: readonly GraphNode[], parts: readonly Uint8Array[]) =>
  modelOf([...nodes.map(nodeField), WEIGHT, ...parts]);

async function run(model: Uint8Array, feeds: Record<string, Tensor>) {
  const bytes = inFloat32(model)!;
  const session = await createSession({ bytes, folder: "." }, { intraOpThreads: 1 });
  try {
    const results = await session.run(feeds);
    return Object.fromEntries(
      Object.entries(results).map(([name, { data, type }]) => {
        expect(type).toBe("float32");
        return [name, Array.from(data as Float32Array)];
      }),
    );
  } finally {
    await session.release();
  }
}

const x = { x: new Tensor("float32", Float32Array.of(1, 0, 0, 1), [2, 2]) };
const product = node("MatMul", ["x", "w"], "y");

test("a graph without bfloat16 is left as it is", () => {
  const parts = [nodeField(node("Abs", ["x"], "y")), input("x", float, 2, 2)];
  expect(inFloat32(modelOf(parts))).toBeNull();
});

test("weights that are inputs too are computed, in front of them or behind", async () => {
  const inputs = [input("x", bfloat16, 2, 2), input("w", bfloat16, 2, 2)];
  const [nodes, results] = [[nodeField(product)], [output("y")]];
  for (const parts of [
    [...inputs, ...nodes, WEIGHT, ...results],
    [WEIGHT, ...nodes, ...results, ...inputs],
  ]) {
    expect(await run(modelOf(parts), x)).toEqual({ y: [1, 2, 3, 4] });
  }
});

test("a weight that no node uses may be an output", async () => {
  const model = graphOf(
    [node("Abs", ["x"], "y")],
    [input("x", bfloat16, 2, 2), output("y"), output("w")],
  );
  expect(await run(model, x)).toEqual({ y: [1, 0, 0, 1], w: [1, 2, 3, 4] });
});

test("a table is looked up and multiplied", async () => {
  const nodes = [node("Gather", ["w", "ids"], "rows"), node("MatMul", ["rows", "w"], "y")];
  const model = graphOf(nodes, [input("ids", int64, 2), output("y")]);
  const ids = new Tensor("int64", BigInt64Array.of(1n, 0n), [2]);
  // [[3, 4], [1, 2]] times [[1, 2], [3, 4]].
  expect(await run(model, { ids })).toEqual({ y: [15, 22, 7, 10] });
});

test("constants may have their values as integers", async () => {
  const nodes = [constant("c"), product, node("Add", ["y", "c"], "sum")];
  const model = graphOf(nodes, [input("x", bfloat16, 2, 2), output("sum")]);
  expect(await run(model, x)).toEqual({ sum: [2, 4, 6, 8] });
});

test("inner graphs use weights and constants of their own", async () => {
  const branch = (name: string, nodes: readonly GraphNode[]) =>
    Buffer.concat([
      text(ATTRIBUTE_PROTO.name, name),
      messageField(ATTRIBUTE_PROTO.g, [
        text(GRAPH_PROTO.name, name),
        ...nodes.map(nodeField),
        output("r"),
      ]),
      number(ATTRIBUTE_PROTO.type, 5),
    ]);
  const choice = node("If", ["flag"], "y", [
    branch("then_branch", [node("MatMul", ["x", "w"], "r")]),
    branch("else_branch", [constant("c"), node("Add", ["x", "c"], "r")]),
  ]);
  const parts = [input("flag", DATA_TYPE.bool, 1), input("x", bfloat16, 2, 2), output("y")];
  const model = graphOf([choice], parts);
  for (const [flag, y] of [
    [1, [1, 2, 3, 4]],
    [0, [2, 2, 3, 5]],
  ] as const) {
    expect(await run(model, { ...x, flag: new Tensor("bool", Uint8Array.of(flag), [1]) })).toEqual({
      y,
    });
  }
});

test("casts in functions get the other type", () => {
  const cast = node("Cast", ["a"], "b", [integerAttribute("to", bfloat16)]);
  const functions = [messageField(MODEL_PROTO.functions, [functionNodeField(cast)])];
  const model = inFloat32(modelOf([WEIGHT], functions))!;
  const [[, content]] = [...readFields(model, [MODEL_PROTO.functions])] as [[number, Uint8Array]];
  const [[, inner]] = [...readFields(content, [FUNCTION_PROTO.node])] as [[number, Uint8Array]];
  expect(readIntegerAttribute(readNode(inner).attributes, "to")).toBe(float);
});

test("a packed list of many integers is read", () => {
  const packed = Writer.create();
  for (let i = 0; i < 150_000; i++) packed.int32(i % 100);
  const read = readIntegers(field(TENSOR_PROTO.int32Data, packed.finish()), TENSOR_PROTO.int32Data);
  expect([read.length, read.at(-1)]).toEqual([150_000, 99]);
});
