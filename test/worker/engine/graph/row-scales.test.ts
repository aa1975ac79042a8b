/** Quantized activations with a scale for each row. */
import { Writer } from "protobufjs/minimal.js";
import { describe, expect, test } from "vitest";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import {
  constantTensor,
  integerAttribute,
  standardNode,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import {
  DATA_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MICROSOFT_DOMAIN,
  MODEL_PROTO,
  varintTag,
} from "../../../../worker/engine/graph/onnx-proto.ts";
import {
  messageField,
  nodeField,
  operatorSetField,
  untypedOutputField,
} from "../../../../worker/engine/graph/onnx-wire.ts";
import { scaleRows } from "../../../../worker/engine/graph/row-scales.ts";
import { inputField } from "../../../../worker/engine/graph/value-info.ts";
import { Tensor } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";

const [WIDTH, OUT] = [4, 3];
const LEVELS = [3, -7, 100, 20, 55, -128, 127, 1, 0, -9, 31, 64];
const SCALES = [0.5, 0.25, 2];
const BIAS = [10, 20, 30];

const bytesOf = (values: Float32Array | Uint8Array | Int8Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

interface Form {
  readonly opset: number;
  readonly weights: "int8" | "uint8";
  readonly hasZeroPoints: boolean;
}

/** The nodes of onnxruntime's quantize_dynamic for `x * weights + bias`. */
function quantizedNodes({ weights, hasZeroPoints }: Form): GraphNode[] {
  const offset = weights === "uint8" ? 128 : 0;
  const type = DATA_TYPE[weights];
  const levels = LEVELS.map((level) => level + offset);
  const zero = SCALES.map(() => offset);
  const encode = (values: readonly number[]) =>
    bytesOf(weights === "uint8" ? Uint8Array.from(values) : Int8Array.from(values));
  const node = standardNode;
  const quantized = {
    ...node("DynamicQuantizeLinear", ["x"], ""),
    outputs: ["q", "scale", "zero point"],
  };
  return [
    constantTensor("w", type, [WIDTH, OUT], encode(levels)),
    constantTensor("w zero", type, [OUT], encode(zero)),
    constantTensor("w scale", DATA_TYPE.float, [OUT], bytesOf(Float32Array.from(SCALES))),
    constantTensor("bias", DATA_TYPE.float, [OUT], bytesOf(Float32Array.from(BIAS))),
    quantized,
    node("MatMulInteger", ["q", "w", "zero point", ...(hasZeroPoints ? ["w zero"] : [])], "i32"),
    node("Cast", ["i32"], "f32", [integerAttribute("to", DATA_TYPE.float)]),
    node("Mul", ["scale", "w scale"], "scales"),
    node("Mul", ["f32", "scales"], "product"),
    node("Add", ["product", "bias"], "y"),
  ];
}

async function run(nodes: readonly GraphNode[], opset: number, rows: readonly number[][]) {
  const model = Buffer.concat([
    Writer.create().uint32(varintTag(MODEL_PROTO.irVersion)).int32(8).finish(),
    operatorSetField("", opset),
    operatorSetField(MICROSOFT_DOMAIN, 1),
    messageField(MODEL_PROTO.graph, [
      ...nodes.map(nodeField),
      Writer.create().uint32(lengthDelimitedTag(GRAPH_PROTO.name)).string("rows").finish(),
      inputField("x", DATA_TYPE.float, [null, null]),
      untypedOutputField("y"),
    ]),
  ]);
  const session = await createSession({ bytes: model, folder: "/" }, { intraOpThreads: 1 });
  const x = new Tensor("float32", Float32Array.from(rows.flat()), [rows.length, WIDTH]);
  const y = (await session.run({ x }, ["y"]))["y"]!.data as Float32Array;
  await session.release();
  return rows.map((_, row) => [...y.subarray(row * OUT, (row + 1) * OUT)]);
}

const exact = (row: readonly number[]) =>
  SCALES.map(
    (scale, column) =>
      row.reduce((sum, x, i) => sum + x * LEVELS[i * OUT + column]! * scale, 0) + BIAS[column]!,
  );

const ROWS = [
  [0.1, -0.2, 0.33, 0.05],
  [0, 0, 0, 0],
  [1000, -900, 4, 77],
  [Number.NaN, 1, 2, 3],
  [-0.5, 0.25, 0.125, 0.4],
];

describe.each<Form>([
  { opset: 11, weights: "int8", hasZeroPoints: true },
  { opset: 13, weights: "uint8", hasZeroPoints: true },
  { opset: 18, weights: "int8", hasZeroPoints: false },
])("$weights weights in operator set $opset", (form) => {
  const { opset } = form;
  const original = quantizedNodes(form);
  const nodes = scaleRows(original, opset);

  test("give each row the bits that it has alone, beside outliers and NaN", async () => {
    const together = await run(nodes, opset, ROWS);
    for (const [i, row] of ROWS.entries()) {
      expect(together[i]).toEqual((await run(nodes, opset, [row]))[0]);
    }
    expect(together[1]).toEqual(BIAS);
    expect(together[3]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    // The test would show a common scale.
    const before = await run(original, opset, ROWS.slice(0, 3));
    expect(before[0]).not.toEqual((await run(original, opset, [ROWS[0]!]))[0]);
  });

  test("give the product, rounded to 1/254 of the row's largest magnitude", async () => {
    const results = await run(nodes, opset, ROWS);
    for (const i of [0, 2, 4]) {
      const largest = Math.max(...ROWS[i]!.map(Math.abs));
      for (const [column, value] of exact(ROWS[i]!).entries()) {
        const weights = LEVELS.filter((_, k) => k % OUT === column).map(Math.abs);
        const sum = weights.reduce((a, b) => a + b, 0) * SCALES[column]!;
        expect(Math.abs(results[i]![column]! - value)).toBeLessThan((sum * largest) / 250);
      }
    }
  });
});

test("another form stays as it is", () => {
  const nodes = quantizedNodes({ opset: 18, weights: "int8", hasZeroPoints: true });
  expect(scaleRows([...nodes, standardNode("Cast", ["q"], "levels")], 18)).toHaveLength(
    nodes.length + 1,
  );
  for (const name of ["scale", "zero point", "scales"]) {
    // Its value has another meaning after the replacement.
    const read = [...nodes, standardNode("Identity", [name], "read")];
    expect(scaleRows(read, 18)).toBe(read);
  }
  const others = nodes.filter(({ op }) => op !== "DynamicQuantizeLinear");
  expect(scaleRows(others, 18)).toBe(others);
});

test("two products with one factor are both replaced", () => {
  const nodes = quantizedNodes({ opset: 18, weights: "int8", hasZeroPoints: false });
  const second = [
    standardNode("MatMulInteger", ["q", "w", "zero point"], "second i32"),
    standardNode("Cast", ["second i32"], "second f32", [integerAttribute("to", DATA_TYPE.float)]),
    standardNode("Mul", ["second f32", "scales"], "second product"),
  ];
  const ops = scaleRows([...nodes, ...second], 18).map(({ op }) => op);
  expect(ops.filter((op) => op === "MatMulIntegerToFloat")).toHaveLength(2);
  expect(ops).not.toContain("Cast");
});
