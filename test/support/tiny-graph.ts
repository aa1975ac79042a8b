/**
 * A minimal decoder graph with logits that can be computed by hand: the two logits of a token are the sum of all token ids
 * that the mask includes, and twice that sum. Its KV cache holds the ids.
 */
import { Writer } from "protobufjs/minimal.js";
import {
  ATTRIBUTE_PROTO,
  ATTRIBUTE_TYPE,
  DATA_TYPE,
  DIMENSION,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  NODE_PROTO,
  OPERATOR_SET_ID_PROTO,
  TENSOR_SHAPE_PROTO,
  TYPE_PROTO,
  TYPE_PROTO_TENSOR,
  VALUE_INFO_PROTO,
  varintTag,
} from "../../worker/engine/graph/onnx-proto.ts";

export interface TinyGraph {
  readonly type: "float32" | "float16";
  /** `present` is a copy of the output of Concat, so the graph cannot be rewritten. */
  readonly hidesConcat?: boolean;
  /** Inputs and outputs are float32 although the graph computes in float16. */
  readonly castsCaches?: boolean;
  /** The logits depend on all entries of the cache, also on masked ones. */
  readonly ignoresMask?: boolean;
}

type Attribute = readonly [name: string, value: number | readonly number[]];

/** The bytes of its model file. The graph takes one token a run, because its sums are not causal. */
export function tinyGraph({ type, hidesConcat, castsCaches, ignoresMask }: TinyGraph): Uint8Array {
  const element = type === "float16" ? DATA_TYPE.float16 : DATA_TYPE.float;
  const cache = hidesConcat || castsCaches ? "cache" : "present.0.key";
  const outside = castsCaches ? DATA_TYPE.float : element;
  const nodes = [
    node("Cast", ["input_ids"], "id", ["to", element]),
    node("Unsqueeze", ["id"], "row", ["axes", [1, 3]]),
    node("Cast", ["row"], "wide", ["to", DATA_TYPE.float]),
    node("Add", ["wide", "wide"], "twice"),
    node("Cast", ["twice"], "double", ["to", element]),
    node("Concat", ["row", "double"], "rows", ["axis", 3]),
    ...(castsCaches ? [node("Cast", ["past_key_values.0.key"], "past", ["to", element])] : []),
    node("Concat", [castsCaches ? "past" : "past_key_values.0.key", "rows"], cache, ["axis", 2]),
    ...(castsCaches ? [node("Cast", [cache], "present.0.key", ["to", outside])] : []),
    ...(hidesConcat ? [node("Identity", [cache], "present.0.key")] : []),
    node("Cast", [cache], "ids", ["to", DATA_TYPE.float]),
    node("Cast", ["attention_mask"], "mask", ["to", DATA_TYPE.float]),
    node("Unsqueeze", ["mask"], "shown", ["axes", [1, 3]]),
    ignoresMask ? node("Sigmoid", ["ids"], "seen") : node("Mul", ["ids", "shown"], "seen"),
    node("ReduceSum", ["seen"], "sums", ["axes", [1, 2]], ["keepdims", 0]),
    node("Unsqueeze", ["sums"], "positions", ["axes", [1]]),
    node("Cast", ["positions"], "logits", ["to", element]),
  ];
  return encodeModel({
    nodes,
    inputs: [
      valueInfo("input_ids", DATA_TYPE.int64, ["batch", "tokens"]),
      valueInfo("attention_mask", DATA_TYPE.int64, ["batch", "total"]),
      valueInfo("position_ids", DATA_TYPE.int64, ["batch", "tokens"]),
      valueInfo("past_key_values.0.key", outside, ["batch", 1, "past", 2]),
    ],
    outputs: [
      valueInfo("present.0.key", outside, ["batch", 1, "past", 2]),
      valueInfo("logits", element, ["batch", "tokens", 2]),
    ],
  });
}

export interface GraphParts {
  readonly nodes: readonly Uint8Array[];
  readonly inputs: readonly Uint8Array[];
  readonly outputs: readonly Uint8Array[];
  /** Encoded TensorProtos. */
  readonly initializers?: readonly Uint8Array[];
}

/** The bytes of a model file. Its operator set is 11, the last one in which axes are attributes. */
export function encodeModel({ nodes, inputs, outputs, initializers = [] }: GraphParts): Uint8Array {
  const graph = Writer.create();
  const add = (field: number, parts: readonly Uint8Array[]) => {
    for (const bytes of parts) graph.uint32(lengthDelimitedTag(field)).bytes(bytes);
  };
  add(GRAPH_PROTO.node, nodes);
  graph.uint32(lengthDelimitedTag(GRAPH_PROTO.name)).string("tiny");
  add(GRAPH_PROTO.initializer, initializers);
  add(GRAPH_PROTO.input, inputs);
  add(GRAPH_PROTO.output, outputs);
  const model = Writer.create().uint32(varintTag(MODEL_PROTO.irVersion)).uint32(6);
  model.uint32(lengthDelimitedTag(MODEL_PROTO.graph)).bytes(graph.finish());
  model
    .uint32(lengthDelimitedTag(MODEL_PROTO.opsetImport))
    .fork()
    .uint32(lengthDelimitedTag(OPERATOR_SET_ID_PROTO.domain))
    .string("")
    .uint32(varintTag(OPERATOR_SET_ID_PROTO.version))
    .uint32(11)
    .ldelim();
  return model.finish();
}

/** An encoded NodeProto. */
export function node(
  operator: string,
  inputs: readonly string[],
  output: string,
  ...attributes: Attribute[]
): Uint8Array {
  const writer = Writer.create();
  for (const input of inputs) writer.uint32(lengthDelimitedTag(NODE_PROTO.input)).string(input);
  writer.uint32(lengthDelimitedTag(NODE_PROTO.output)).string(output);
  writer.uint32(lengthDelimitedTag(NODE_PROTO.opType)).string(operator);
  for (const [name, value] of attributes) {
    writer.uint32(lengthDelimitedTag(NODE_PROTO.attribute)).fork();
    writer.uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name)).string(name);
    const isList = typeof value !== "number";
    if (isList)
      for (const item of value) writer.uint32(varintTag(ATTRIBUTE_PROTO.ints)).uint32(item);
    else writer.uint32(varintTag(ATTRIBUTE_PROTO.i)).uint32(value);
    const type = isList ? ATTRIBUTE_TYPE.ints : ATTRIBUTE_TYPE.int;
    writer.uint32(varintTag(ATTRIBUTE_PROTO.type)).uint32(type).ldelim();
  }
  return writer.finish();
}

/** An encoded ValueInfoProto; symbolic axes are strings. */
export function valueInfo(
  name: string,
  element: number,
  shape: readonly (string | number)[],
): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(VALUE_INFO_PROTO.name)).string(name);
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.type)).fork();
  writer.uint32(lengthDelimitedTag(TYPE_PROTO.tensorType)).fork();
  writer.uint32(varintTag(TYPE_PROTO_TENSOR.elemType)).uint32(element);
  writer.uint32(lengthDelimitedTag(TYPE_PROTO_TENSOR.shape)).fork();
  for (const axis of shape) {
    writer.uint32(lengthDelimitedTag(TENSOR_SHAPE_PROTO.dim)).fork();
    if (typeof axis === "number") writer.uint32(varintTag(DIMENSION.dimValue)).uint32(axis);
    else writer.uint32(lengthDelimitedTag(DIMENSION.dimParam)).string(axis);
    writer.ldelim();
  }
  return writer.ldelim().ldelim().ldelim().finish();
}
