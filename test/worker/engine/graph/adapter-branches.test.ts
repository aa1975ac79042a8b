/** Adapters on products of all forms, in graphs of one layer. */
import { Writer } from "protobufjs/minimal.js";
import { expect, test } from "vitest";
import { ADAPTERS } from "../../../../worker/engine/decoder/graph-io.ts";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import { addAdapters } from "../../../../worker/engine/graph/adapter-branches.ts";
import type { LoraModules } from "../../../../worker/engine/graph/adapter-targets.ts";
import {
  constantTensor,
  int64Constant,
  integerAttribute,
  standardNode as node,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import {
  ATTRIBUTE_PROTO,
  DATA_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MICROSOFT_DOMAIN,
  MODEL_PROTO,
  TENSOR_PROTO,
  varintTag,
} from "../../../../worker/engine/graph/onnx-proto.ts";
import {
  messageField,
  nodeField,
  operatorSetField,
  readFields,
  untypedOutputField,
} from "../../../../worker/engine/graph/onnx-wire.ts";
import { inputField } from "../../../../worker/engine/graph/value-info.ts";
import { largestDifference } from "../../../support/logits.ts";
import { Tensor } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";

const [IN, OUT] = [2, 3];
const W = [1, 2, 3, 4, 5, 6];
const SCALE = 2;
/** A module's product adds `SCALE * (x0 + 2 x1) * [1, 10, 100]`. */
const module = {
  folder: "/adapter",
  rank: 1,
  inputs: IN,
  outputs: OUT,
  scale: SCALE,
  a: Float32Array.of(1, 2),
  b: Float32Array.of(1, 10, 100),
};
const added = ([x0, x1]: readonly number[]) => [1, 10, 100].map((b) => SCALE * (x0! + 2 * x1!) * b);
const path = (name: string) => `model.layers.0.${name}`;
const result = (name: string) => `/model/layers.0/${name}/MatMul_output_0`;
const adapterOf = (...names: string[]): LoraModules =>
  new Map(names.map((name) => [path(name), module]));

const bytesOf = ({ buffer }: Float32Array | Float16Array | Int8Array) => new Uint8Array(buffer);
const floats = (name: string, values: readonly number[], dims = [values.length]) =>
  constantTensor(name, DATA_TYPE.float, dims, bytesOf(Float32Array.from(values)));

/** A weight as a field of the graph. */
function weight(name: string, type: "float" | "float16"): Uint8Array {
  const values = type === "float" ? Float32Array.from(W) : Float16Array.from(W);
  const { attributes } = constantTensor(name, DATA_TYPE[type], [IN, OUT], bytesOf(values));
  const [[, tensor]] = [...readFields(attributes[0]!, [ATTRIBUTE_PROTO.t])] as [
    [number, Uint8Array],
  ];
  const named = Writer.create().uint32(lengthDelimitedTag(TENSOR_PROTO.name)).string(name).finish();
  return messageField(GRAPH_PROTO.initializer, [tensor, named]);
}

interface Graph {
  readonly nodes: readonly GraphNode[];
  readonly weights?: readonly Uint8Array[];
  readonly outputs: readonly string[];
  readonly opset?: number;
}

function modelOf({ nodes, weights = [], outputs, opset = 17 }: Graph): Uint8Array {
  return Buffer.concat([
    Writer.create().uint32(varintTag(MODEL_PROTO.irVersion)).int32(8).finish(),
    operatorSetField("", opset),
    operatorSetField(MICROSOFT_DOMAIN, 1),
    messageField(MODEL_PROTO.graph, [
      ...nodes.map(nodeField),
      Writer.create().uint32(lengthDelimitedTag(GRAPH_PROTO.name)).string("layer").finish(),
      ...weights,
      inputField("x", DATA_TYPE.float, [null, null, IN]),
      ...outputs.map(untypedOutputField),
    ]),
  ]);
}

/** The outputs for rows of one token each, by output. */
async function run(model: Uint8Array, rows: readonly number[][], adapters?: readonly number[]) {
  const session = await createSession({ bytes: model, folder: "/" }, { intraOpThreads: 1 });
  const tensor = (values: readonly number[], size: number) =>
    new Tensor("float32", Float32Array.from(values), [rows.length, 1, size]);
  const feeds = {
    x: tensor(rows.flat(), IN),
    ...(adapters && { [ADAPTERS]: tensor(adapters, 1) }),
  };
  const results = await session.run(feeds);
  await session.release();
  return Object.values(results).map(({ data }) => data as Float32Array);
}

/** By how much rows differ from those without adapters, plus what the adapter adds to `x` in the rows that have it. */
async function differenceOf(graph: Graph, x = (row: readonly number[]) => row): Promise<number> {
  const model = modelOf(graph);
  const names = graph.outputs.map((_, i) => `p${i}`);
  const rows = [
    [1, 0.5],
    [-1, 3],
    [2, -2],
  ];
  const chosen = [1, 0, 1];
  const delta = rows.flatMap((row, i) => added(x(row)).map((value) => value * chosen[i]!));
  const plain = await run(model, rows);
  const expected = plain.map((values) => values.map((value, i) => value + delta[i]!));
  return largestDifference(
    await run(addAdapters(model, [adapterOf(...names)]), rows, chosen),
    expected,
  );
}

const int8 = (name: string) =>
  constantTensor(name, DATA_TYPE.int8, [IN, OUT], bytesOf(Int8Array.from(W)));
const integerProduct = (output: string): GraphNode => {
  const inputs = ["q", "w", "q scale", "w scale", "q zero"];
  const attributes: Uint8Array[] = [];
  return {
    op: "MatMulIntegerToFloat",
    domain: MICROSOFT_DOMAIN,
    inputs,
    outputs: [output],
    attributes,
  };
};

test("products of one quantized input get their adapters from that input, before it is quantized", async () => {
  const outputs = [0, 1, 2].map((i) => result(`p${i}`));
  const quantized = node("DynamicQuantizeLinear", ["normed"], "q");
  const difference = await differenceOf(
    {
      nodes: [
        floats("gain", [3, 5]),
        int8("w"),
        floats("w scale", [1]),
        node("Mul", ["x", "gain"], "normed"),
        { ...quantized, outputs: ["q", "q scale", "q zero"] },
        ...outputs.map(integerProduct),
      ],
      outputs,
    },
    ([x0, x1]) => [3 * x0!, 5 * x1!],
  );
  expect(difference).toBeLessThan(0.1);
});

test("a product without an axis of tokens gets each row's adapter", async () => {
  const difference = await differenceOf({
    nodes: [
      int64Constant("shape", [-1n, BigInt(IN)]),
      node("Reshape", ["x", "shape"], "flat"),
      node("Identity", ["flat"], "same"),
      node("MatMul", ["same", "w"], result("p0")),
    ],
    weights: [weight("w", "float")],
    outputs: [result("p0")],
  });
  expect(difference).toBeLessThan(0.1);
});

test.each([13, 17])("a product of float16 gets its adapter in opset %d", async (opset) => {
  const difference = await differenceOf({
    nodes: [
      node("Cast", ["x"], "half", [integerAttribute("to", DATA_TYPE.float16)]),
      node("MatMul", ["half", "w"], result("p0")),
      node("Cast", [result("p0")], "y", [integerAttribute("to", DATA_TYPE.float)]),
    ],
    weights: [weight("w", "float16")],
    outputs: ["y"],
    opset,
  });
  expect(difference).toBeLessThan(0.1);
});

test.each<[string, Graph]>([
  [
    "it is quantized in another way",
    {
      nodes: [
        node("Mul", ["x", "q scale"], "levels"),
        node("QuantizeLinear", ["levels", "one", "q zero"], "q"),
        integerProduct(result("p0")),
      ],
      outputs: [result("p0")],
    },
  ],
  [
    "its left side is transposed",
    {
      nodes: [node("Gemm", ["x", "w"], result("p0"), [integerAttribute("transA", 1)])],
      weights: [weight("w", "float")],
      outputs: [result("p0")],
    },
  ],
  [
    "its type is not known, and cannot be read from the product",
    { nodes: [node("MatMul", ["x", "w"], result("p0"))], outputs: [result("p0")], opset: 13 },
  ],
])("a product has an unknown form if %s", (_, graph) => {
  expect(() => addAdapters(modelOf(graph), [adapterOf("p0")])).toThrow(
    `the product of the adapter's module ${path("p0")} has an unknown form`,
  );
});
