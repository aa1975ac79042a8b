/**
 * As much of ONNX as inflating a decoder needs: nodes, float weights, and a file made of them.
 * Attributes are carried as bytes, because nothing in here has to understand them.
 * Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx).
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { Reader, Writer } from "protobufjs/minimal.js";

export interface Node {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** AttributeProto messages. */
  readonly attributes: readonly Uint8Array[];
}

/** An initializer, or the value of a Constant. */
export interface Value {
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int8Array;
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly weights: ReadonlyMap<string, Value>;
}

/** A graph input or output; symbolic axes are named. */
export interface Port {
  readonly name: string;
  readonly type: "float" | "int64";
  readonly shape: readonly (number | string)[];
}

const FLOAT = 1;
const INT8 = 3;
const INT64 = 7;
const MODEL_GRAPH = 7;
const TENSOR_RAW_DATA = 9;
const ATTRIBUTE_TENSOR = 5;

/** Reads nodes and float weights of a file whose weights are inside. */
export function readGraph(file: string): Graph {
  const nodes: Node[] = [];
  const weights = new Map<string, Value>();
  for (const [field, graph] of fields(readFileSync(file))) {
    if (field !== MODEL_GRAPH) continue;
    for (const [part, message] of fields(graph)) {
      if (part === 1) nodes.push(readNode(message));
      if (part !== 5) continue;
      const { name, value } = readTensor(message);
      if (value) weights.set(name, value);
    }
  }
  return { nodes, weights };
}

/** The value of a Constant node; null if it is of a kind that is not read here. */
export function constantValue(node: Node): Value | null {
  if (node.op !== "Constant") return null;
  for (const [field, message] of fields(node.attributes[0]!)) {
    if (field === ATTRIBUTE_TENSOR) return readTensor(message).value;
  }
  return null;
}

export function constantNode(output: string, value: Value): Node {
  const tensor = tensorHead("", value);
  const attribute = Writer.create();
  attribute
    .uint32(key(1))
    .string("value")
    .uint32(20 << 3)
    .int32(4);
  attribute.uint32(key(ATTRIBUTE_TENSOR)).bytes(Buffer.concat([tensor, bytesOf(value)]));
  return { op: "Constant", inputs: [], outputs: [output], attributes: [attribute.finish()] };
}

/** An attribute with an integer, such as Cast's `to`. */
export function integerAttribute(name: string, value: number): Uint8Array {
  const writer = Writer.create().uint32(key(1)).string(name);
  return writer
    .uint32(3 << 3)
    .int64(value)
    .uint32(20 << 3)
    .int32(2)
    .finish();
}

/** Writes a model file, weight by weight: protobuf merges a graph that comes in parts, so no part has to be large. */
export function writeModel(
  file: string,
  graph: Graph & { readonly inputs: readonly Port[]; readonly outputs: readonly Port[] },
  opset: number,
): void {
  const out = openSync(file, "w");
  const header = Writer.create()
    .uint32(1 << 3)
    .int64(8);
  header
    .uint32(key(8))
    .fork()
    .uint32(key(1))
    .string("")
    .uint32(2 << 3)
    .int64(opset)
    .ldelim();
  const body = header.uint32(key(MODEL_GRAPH)).fork();
  for (const node of graph.nodes) writeNode(body, node);
  body.uint32(key(2)).string("inflated");
  for (const port of graph.inputs) writePort(body, 11, port);
  for (const port of graph.outputs) writePort(body, 12, port);
  writeSync(out, header.ldelim().finish());
  for (const [name, value] of graph.weights) {
    const [head, raw] = [tensorHead(name, value), bytesOf(value)];
    const tensorBytes = head.length + raw.length;
    const tensorKey = Writer.create().uint32(key(5)).uint32(tensorBytes).finish();
    const graphKey = Writer.create().uint32(key(MODEL_GRAPH));
    writeSync(out, graphKey.uint32(tensorKey.length + tensorBytes).finish());
    for (const part of [tensorKey, head, raw]) writeSync(out, part);
  }
  closeSync(out);
}

function readNode(message: Uint8Array): Node {
  const node = {
    op: "",
    inputs: [] as string[],
    outputs: [] as string[],
    attributes: [] as Uint8Array[],
  };
  for (const [field, bytes] of fields(message)) {
    if (field === 1) node.inputs.push(text(bytes));
    if (field === 2) node.outputs.push(text(bytes));
    if (field === 4) node.op = text(bytes);
    if (field === 5) node.attributes.push(bytes);
  }
  return node;
}

function readTensor(message: Uint8Array): { name: string; value: Value | null } {
  const reader = Reader.create(message);
  const dims: number[] = [];
  let [name, type, raw] = ["", 0, new Uint8Array()];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const field = tag >>> 3;
    if (field === 1 && (tag & 7) === 0) dims.push(Number(reader.int64()));
    else if (field === 1) {
      const end = reader.uint32() + reader.pos;
      while (reader.pos < end) dims.push(Number(reader.int64()));
    } else if (field === 2) type = reader.int32();
    else if (field === 8) name = reader.string();
    else if (field === TENSOR_RAW_DATA) raw = Uint8Array.from(reader.bytes());
    else reader.skipType(tag & 7);
  }
  if (type === FLOAT) return { name, value: { dims, data: new Float32Array(raw.buffer) } };
  if (type === INT64) return { name, value: { dims, data: new BigInt64Array(raw.buffer) } };
  return { name, value: null };
}

/** A TensorProto up to its bytes. */
function tensorHead(name: string, { dims, data }: Value): Uint8Array {
  const type = data instanceof Float32Array ? FLOAT : data instanceof Int8Array ? INT8 : INT64;
  const writer = Writer.create();
  for (const axis of dims) writer.uint32(1 << 3).int64(axis);
  writer.uint32(2 << 3).int32(type);
  if (name !== "") writer.uint32(key(8)).string(name);
  return writer.uint32(key(TENSOR_RAW_DATA)).uint32(data.byteLength).finish();
}

function bytesOf({ data }: Value): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function writeNode(writer: Writer, { op, inputs, outputs, attributes }: Node): void {
  writer.uint32(key(1)).fork();
  for (const name of inputs) writer.uint32(key(1)).string(name);
  for (const name of outputs) writer.uint32(key(2)).string(name);
  writer.uint32(key(4)).string(op);
  for (const attribute of attributes) writer.uint32(key(5)).bytes(attribute);
  writer.ldelim();
}

function writePort(writer: Writer, field: number, { name, type, shape }: Port): void {
  writer.uint32(key(field)).fork().uint32(key(1)).string(name);
  const tensor = writer.uint32(key(2)).fork().uint32(key(1)).fork();
  tensor
    .uint32(1 << 3)
    .int32(type === "float" ? FLOAT : INT64)
    .uint32(key(2))
    .fork();
  for (const axis of shape) {
    tensor.uint32(key(1)).fork();
    if (typeof axis === "number") tensor.uint32(1 << 3).int64(axis);
    else tensor.uint32(key(2)).string(axis);
    tensor.ldelim();
  }
  writer.ldelim().ldelim().ldelim().ldelim();
}

/** The length-delimited fields of a message, each a view of its bytes. */
function* fields(message: Uint8Array): Generator<[field: number, bytes: Uint8Array]> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if ((tag & 7) === 2) yield [tag >>> 3, reader.bytes()];
    else reader.skipType(tag & 7);
  }
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
/** Tag of a length-delimited field. */
const key = (field: number) => (field << 3) | 2;
