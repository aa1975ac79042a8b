/** How many axes the values of a decoder graph have, as far as it follows from operators that are common in front of its products. */
import type { GraphNode } from "./nodes.ts";
import { ATTRIBUTE_PROTO } from "./onnx-proto.ts";
import { attributeNamed, readFields, readIntegerAttribute } from "./onnx-wire.ts";
import { readDims, type WeightInfo } from "./weights.ts";

/** Their result has the axes of their first input. */
const SAME_AXES =
  /^(Identity|Cast|Sigmoid|Tanh|Erf|(Fast|Quick|Bias)?Gelu|Relu|Sqrt|Neg|Reciprocal|(Skip)?(Simplified)?LayerNormalization|RMSNormalization|MatMulNBits|MatMulBnb4|MatMulInteger(ToFloat)?|QuantizeLinear|DequantizeLinear|DynamicQuantizeLinear|Abs)$/;
/** Their result has the axes of the input with the most. */
const MOST_AXES = /^(Add|Sub|Mul|Div|Pow)$/;
const REDUCED = /^Reduce(Mean|Sum|Max)$/;
const ATTENTION = /^(GroupQueryAttention|MultiHeadAttention)$/;

/** By name; values that are not known are absent. @param nodes in topological order */
export function axesByValue(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, Pick<WeightInfo, "dims">>,
): ReadonlyMap<string, number> {
  const axes = new Map<string, number>([
    ["input_ids", 2],
    ["position_ids", 2],
    ...Array.from(weights, ([name, { dims }]) => [name, dims.length] as const),
  ]);
  /** Sizes of the vectors with which values are reshaped. */
  const lengths = new Map<string, number>(
    Array.from(weights, ([name, { dims }]) => [name, dims[0] ?? 0] as const),
  );
  for (const node of nodes) {
    const [output] = node.outputs as [string];
    if (node.op === "Concat") lengths.set(output, node.inputs.length);
    if (node.op === "Constant") {
      const dims = constantDims(node);
      if (dims) axes.set(output, dims.length);
      if (dims?.length === 1) lengths.set(output, dims[0]!);
      continue;
    }
    const count = axesOf(node, axes, lengths);
    if (count !== undefined) axes.set(output, count);
  }
  return axes;
}

function axesOf(
  { op, inputs, attributes }: GraphNode,
  axes: ReadonlyMap<string, number>,
  lengths: ReadonlyMap<string, number>,
): number | undefined {
  const [first, second] = inputs.map((input) => axes.get(input));
  if (SAME_AXES.test(op)) return first;
  if (op === "Reshape") return lengths.get(inputs[1]!);
  if (op === "Gemm") return 2;
  if (ATTENTION.test(op)) return 3;
  if (REDUCED.test(op))
    return readIntegerAttribute(attributes, "keepdims") === 0 ? undefined : first;
  if (first === undefined || second === undefined) return undefined;
  if (op === "Gather") return first + second - 1;
  if (op === "MatMul" || op === "FusedMatMul") return second === 2 ? first : undefined;
  return MOST_AXES.test(op) ? Math.max(first, second) : undefined;
}

function constantDims({ attributes }: GraphNode): readonly number[] | null {
  const value = attributeNamed(attributes, "value");
  const [tensor] = value ? readFields(value, [ATTRIBUTE_PROTO.t]) : [];
  return tensor ? readDims(tensor[1]) : null;
}
