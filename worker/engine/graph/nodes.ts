/** Creates, finds and removes nodes of a graph, which are plain objects. onnx-wire.ts encodes them. */
import { Writer } from "protobufjs/minimal.js";
import {
  ATTRIBUTE_PROTO,
  ATTRIBUTE_TYPE,
  DATA_TYPE,
  lengthDelimitedTag,
  TENSOR_PROTO,
  varintTag,
} from "./onnx-proto.ts";

export interface GraphNode {
  readonly op: string;
  /** Null for the standard operators. */
  readonly domain: string | null;
  /** Names of values. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Encoded AttributeProto messages. */
  readonly attributes: readonly Uint8Array[];
}

/** Name of a value -> the node that computes it. */
export type Producers = ReadonlyMap<string, GraphNode>;

export function producersByValue(nodes: readonly GraphNode[]): Producers {
  return new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
}

/**
 * Removes nodes whose outputs no remaining node uses.
 * @param nodes in topological order, as ONNX requires
 * @param isRequired whether a node stays although no node uses its outputs
 */
export function withoutUnusedNodes(
  nodes: readonly GraphNode[],
  isRequired: (node: GraphNode) => boolean,
): GraphNode[] {
  const used = new Set<string>();
  const kept = nodes.toReversed().filter((node) => {
    if (!isRequired(node) && !node.outputs.some((name) => used.has(name))) return false;
    for (const name of node.inputs) used.add(name);
    return true;
  });
  return kept.toReversed();
}

/** A node with one output and an operator of the ONNX standard. */
export function standardNode(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly Uint8Array[] = [],
): GraphNode {
  return { op, domain: null, inputs, outputs: [output], attributes };
}

/** A Constant node with a vector of integers. */
export function int64Constant(output: string, values: readonly bigint[]): GraphNode {
  const bytes = new Uint8Array(BigInt64Array.from(values).buffer);
  return constantTensor(output, DATA_TYPE.int64, [values.length], bytes);
}

/** A Constant node. @param bytes the values in little-endian order */
export function constantTensor(
  output: string,
  type: number,
  dims: readonly number[],
  bytes: Uint8Array,
): GraphNode {
  const writer = Writer.create()
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name))
    .string("value")
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.t))
    .fork();
  for (const dim of dims) writer.uint32(varintTag(TENSOR_PROTO.dims)).int64(dim);
  const attribute = writer
    .uint32(varintTag(TENSOR_PROTO.dataType))
    .int32(type)
    .uint32(lengthDelimitedTag(TENSOR_PROTO.rawData))
    .bytes(bytes)
    .ldelim()
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(ATTRIBUTE_TYPE.tensor)
    .finish();
  return standardNode("Constant", [], output, [attribute]);
}

/** A Constant node with one number of type float32. */
export function floatConstant(output: string, value: number): GraphNode {
  return constantTensor(output, DATA_TYPE.float, [], new Uint8Array(Float32Array.of(value).buffer));
}

/** A reduction over the last axis, which stays with size 1. @param opset version of the standard operators */
export function reduceLast(
  op: "ReduceMax" | "ReduceSum",
  input: string,
  output: string,
  opset: number,
): GraphNode[] {
  const keep = integerAttribute("keepdims", 1);
  // From this version on the axes are an input.
  if (opset < (op === "ReduceMax" ? 18 : 13)) {
    return [standardNode(op, [input], output, [keep, integersAttribute("axes", [-1])])];
  }
  const axis = `${output}/axis`;
  return [int64Constant(axis, [-1n]), standardNode(op, [input, axis], output, [keep])];
}

/** Parts of a value along its last axis. @param opset version of the standard operators */
export function splitLast(
  input: string,
  parts: readonly { readonly output: string; readonly size: number }[],
  opset: number,
): GraphNode[] {
  const outputs = parts.map(({ output }) => output);
  const sizes = parts.map(({ size }) => size);
  const axis = integerAttribute("axis", -1);
  const split = { op: "Split", domain: null, outputs } as const;
  // From this version on the sizes are an input.
  if (opset < 13) {
    return [{ ...split, inputs: [input], attributes: [axis, integersAttribute("split", sizes)] }];
  }
  const name = `${input}/sizes`;
  return [
    int64Constant(name, sizes.map(BigInt)),
    { ...split, inputs: [input, name], attributes: [axis] },
  ];
}

/** The two halves of a value along the axis before the last. @param opset version of the standard operators */
export function splitRows(
  input: string,
  outputs: readonly [string, string],
  opset: number,
): GraphNode {
  const axis = integerAttribute("axis", -2);
  // From this version on the number of parts is an attribute.
  const attributes = opset < 18 ? [axis] : [axis, integerAttribute("num_outputs", 2)];
  return { op: "Split", domain: null, inputs: [input], outputs, attributes };
}

/** An encoded attribute with a list of integers. */
function integersAttribute(name: string, values: readonly number[]): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name)).string(name);
  for (const value of values) writer.uint32(varintTag(ATTRIBUTE_PROTO.ints)).int64(value);
  return writer.uint32(varintTag(ATTRIBUTE_PROTO.type)).int32(ATTRIBUTE_TYPE.ints).finish();
}

/** An encoded attribute with an integer, such as Concat's `axis`. */
export function integerAttribute(name: string, value: number): Uint8Array {
  return Writer.create()
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name))
    .string(name)
    .uint32(varintTag(ATTRIBUTE_PROTO.i))
    .int64(value)
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(ATTRIBUTE_TYPE.int)
    .finish();
}
