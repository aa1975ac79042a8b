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
  const attribute = Writer.create()
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name))
    .string("value")
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.t))
    .fork()
    .uint32(varintTag(TENSOR_PROTO.dims))
    .int64(values.length)
    .uint32(varintTag(TENSOR_PROTO.dataType))
    .int32(DATA_TYPE.int64)
    .uint32(lengthDelimitedTag(TENSOR_PROTO.rawData))
    .bytes(new Uint8Array(BigInt64Array.from(values).buffer))
    .ldelim()
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(ATTRIBUTE_TYPE.tensor)
    .finish();
  return standardNode("Constant", [], output, [attribute]);
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
