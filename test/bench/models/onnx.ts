/**
 * Reads and writes the part of the ONNX file format that inflating a decoder needs: nodes, weights, and a file made of them.
 * Nodes are read and written by the worker's code (worker/engine/graph).
 */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { Reader, Writer } from "protobufjs/minimal.js";
import type { GraphNode } from "../../../worker/engine/graph/nodes.ts";
import {
  ATTRIBUTE_PROTO,
  ATTRIBUTE_TYPE,
  DATA_LOCATION_EXTERNAL,
  DATA_TYPE,
  DIMENSION,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  OPERATOR_SET_ID_PROTO,
  TENSOR_PROTO,
  TENSOR_SHAPE_PROTO,
  TYPE_PROTO,
  TYPE_PROTO_TENSOR,
  VALUE_INFO_PROTO,
  varintTag,
} from "../../../worker/engine/graph/onnx-proto.ts";
import {
  externalDataField,
  nodeField,
  readFields,
  readNode,
} from "../../../worker/engine/graph/onnx-wire.ts";

/** A weight, or the value of a Constant node. */
export interface Tensor {
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int8Array;
}

export interface Graph {
  readonly nodes: readonly GraphNode[];
  readonly weights: ReadonlyMap<string, Tensor>;
}

/** A graph input or output; symbolic axes are strings. */
export interface ValueInfo {
  readonly name: string;
  readonly type: "float" | "int64";
  readonly shape: readonly (number | string)[];
}

/** Reads the nodes and the float32 and int64 weights of a file that contains its weights. */
export function readGraph(file: string): Graph {
  const nodes: GraphNode[] = [];
  const weights = new Map<string, Tensor>();
  const { node, initializer } = GRAPH_PROTO;
  for (const [, graph] of readFields(readFileSync(file), [MODEL_PROTO.graph])) {
    for (const [field, content] of readFields(graph, [node, initializer])) {
      if (field === node) {
        nodes.push(readNode(content));
        continue;
      }
      const { name, tensor } = readTensor(content);
      if (tensor) weights.set(name, tensor);
    }
  }
  return { nodes, weights };
}

/** The value of a Constant node; null for other nodes and for types that are not read here. */
export function constantValue(node: GraphNode): Tensor | null {
  if (node.op !== "Constant") return null;
  for (const [, message] of readFields(node.attributes[0]!, [ATTRIBUTE_PROTO.t])) {
    return readTensor(message).tensor;
  }
  return null;
}

export function constantNode(output: string, value: Tensor): GraphNode {
  const attribute = Writer.create()
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name))
    .string("value")
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(ATTRIBUTE_TYPE.tensor)
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.t))
    .bytes(Buffer.concat([tensorHead("", value), bytesOf(value)]))
    .finish();
  return { op: "Constant", domain: null, inputs: [], outputs: [output], attributes: [attribute] };
}

export interface GraphIo {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
}

/** Writes a model file weight by weight. Protobuf merges a graph that is written in parts, so no part has to be large. */
export function writeModel(file: string, graph: Graph & GraphIo, opset: number): void {
  const out = openSync(file, "w");
  writeSync(out, encodeGraph(graph, opset));
  for (const [name, tensor] of graph.weights) {
    for (const part of weightInParts(tensorHead(name, tensor), bytesOf(tensor))) {
      writeSync(out, part);
    }
  }
  closeSync(out);
}

/** A weight without its values, which are in another file. */
export interface ExternalTensor {
  readonly dims: readonly number[];
  readonly type: "float" | "int8";
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Writes a model file whose weights are in another file. */
export function writeExternalModel(
  file: string,
  graph: Pick<Graph, "nodes"> & GraphIo,
  weights: ReadonlyMap<string, ExternalTensor>,
  opset: number,
): void {
  const fields = Array.from(weights, ([name, { dims, type, file, offset, bytes }]) => {
    const writer = Writer.create();
    for (const axis of dims) writer.uint32(varintTag(TENSOR_PROTO.dims)).int64(axis);
    writer.uint32(varintTag(TENSOR_PROTO.dataType)).int32(DATA_TYPE[type]);
    writer.uint32(lengthDelimitedTag(TENSOR_PROTO.name)).string(name);
    const entries = { location: file, offset: String(offset), length: String(bytes) };
    for (const [key, value] of Object.entries(entries)) writer.raw(externalDataField(key, value));
    writer.uint32(varintTag(TENSOR_PROTO.dataLocation)).int32(DATA_LOCATION_EXTERNAL);
    return weightInParts(writer.finish(), new Uint8Array());
  });
  writeFileSync(file, Buffer.concat([encodeGraph(graph, opset), ...fields.flat()]));
}

/** A weight as a field of a graph of its own: the parts follow each other. */
function weightInParts(head: Uint8Array, values: Uint8Array): Uint8Array[] {
  const tensorBytes = head.length + values.length;
  const initializerTag = Writer.create()
    .uint32(lengthDelimitedTag(GRAPH_PROTO.initializer))
    .uint32(tensorBytes)
    .finish();
  const graphTag = Writer.create()
    .uint32(lengthDelimitedTag(MODEL_PROTO.graph))
    .uint32(initializerTag.length + tensorBytes)
    .finish();
  return [graphTag, initializerTag, head, values];
}

/** A model without its weights. */
function encodeGraph(graph: Pick<Graph, "nodes"> & GraphIo, opset: number): Uint8Array {
  const model = Writer.create().uint32(varintTag(MODEL_PROTO.irVersion)).int64(8);
  model
    .uint32(lengthDelimitedTag(MODEL_PROTO.opsetImport))
    .fork()
    .uint32(lengthDelimitedTag(OPERATOR_SET_ID_PROTO.domain))
    .string("")
    .uint32(varintTag(OPERATOR_SET_ID_PROTO.version))
    .int64(opset)
    .ldelim();
  const body = model.uint32(lengthDelimitedTag(MODEL_PROTO.graph)).fork();
  for (const node of graph.nodes) body.raw(nodeField(node));
  body.uint32(lengthDelimitedTag(GRAPH_PROTO.name)).string("inflated");
  for (const input of graph.inputs) writeValueInfo(body, GRAPH_PROTO.input, input);
  for (const output of graph.outputs) writeValueInfo(body, GRAPH_PROTO.output, output);
  return model.ldelim().finish();
}

function readTensor(message: Uint8Array): { name: string; tensor: Tensor | null } {
  const reader = Reader.create(message);
  const dims: number[] = [];
  let [name, type, raw] = ["", 0, new Uint8Array()];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const field = tag >>> 3;
    if (tag === varintTag(TENSOR_PROTO.dims)) dims.push(Number(reader.int64()));
    else if (field === TENSOR_PROTO.dims) {
      const end = reader.uint32() + reader.pos;
      while (reader.pos < end) dims.push(Number(reader.int64()));
    } else if (field === TENSOR_PROTO.dataType) type = reader.int32();
    else if (field === TENSOR_PROTO.name) name = reader.string();
    else if (field === TENSOR_PROTO.rawData) raw = Uint8Array.from(reader.bytes());
    else reader.skipType(tag & 7);
  }
  if (type === DATA_TYPE.float) {
    return { name, tensor: { dims, data: new Float32Array(raw.buffer) } };
  }
  if (type === DATA_TYPE.int64) {
    return { name, tensor: { dims, data: new BigInt64Array(raw.buffer) } };
  }
  return { name, tensor: null };
}

/** An encoded TensorProto up to its values: `bytesOf` must follow. */
function tensorHead(name: string, { dims, data }: Tensor): Uint8Array {
  const writer = Writer.create();
  for (const axis of dims) writer.uint32(varintTag(TENSOR_PROTO.dims)).int64(axis);
  writer.uint32(varintTag(TENSOR_PROTO.dataType)).int32(dataType(data));
  if (name !== "") writer.uint32(lengthDelimitedTag(TENSOR_PROTO.name)).string(name);
  const valuesTag = lengthDelimitedTag(TENSOR_PROTO.rawData);
  return writer.uint32(valuesTag).uint32(data.byteLength).finish();
}

function dataType(data: Tensor["data"]): number {
  if (data instanceof Float32Array) return DATA_TYPE.float;
  return data instanceof Int8Array ? DATA_TYPE.int8 : DATA_TYPE.int64;
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function writeValueInfo(writer: Writer, field: number, { name, type, shape }: ValueInfo): void {
  writer.uint32(lengthDelimitedTag(field)).fork();
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.name)).string(name);
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.type)).fork();
  writer.uint32(lengthDelimitedTag(TYPE_PROTO.tensorType)).fork();
  writer.uint32(varintTag(TYPE_PROTO_TENSOR.elemType)).int32(DATA_TYPE[type]);
  writer.uint32(lengthDelimitedTag(TYPE_PROTO_TENSOR.shape)).fork();
  for (const axis of shape) {
    writer.uint32(lengthDelimitedTag(TENSOR_SHAPE_PROTO.dim)).fork();
    if (typeof axis === "number") writer.uint32(varintTag(DIMENSION.dimValue)).int64(axis);
    else writer.uint32(lengthDelimitedTag(DIMENSION.dimParam)).string(axis);
    writer.ldelim();
  }
  writer.ldelim().ldelim().ldelim().ldelim();
}
