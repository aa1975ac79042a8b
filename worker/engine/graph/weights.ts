/** Reads the headers of weights, and encodes new weights: TensorProtos. */
import { Reader, Writer } from "protobufjs/minimal.js";
import {
  DATA_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  TENSOR_PROTO,
  varintTag,
} from "./onnx-proto.ts";
import type { GraphNode } from "./nodes.ts";
import { initializerName, readInteger, readIntegerAttribute } from "./onnx-wire.ts";

export interface WeightInfo {
  readonly name: string;
  /** DATA_TYPE. */
  readonly type: number;
  readonly dims: readonly number[];
}

/** A weight without its values, from its TensorProto. */
export function readWeightInfo(tensor: Uint8Array): WeightInfo {
  const type = readInteger(tensor, TENSOR_PROTO.dataType) ?? 0;
  return { name: initializerName(tensor), type, dims: readDims(tensor) };
}

type UnnamedWeight = Omit<WeightInfo, "name">;

/** Weights by name, also those that the graph casts to another type: these too are the same in each run. */
export function withCasts(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, UnnamedWeight>,
): ReadonlyMap<string, UnnamedWeight> {
  const all = new Map(weights);
  for (const { op, inputs, outputs, attributes } of nodes) {
    const weight = op === "Cast" ? weights.get(inputs[0]!) : undefined;
    const type = weight && readIntegerAttribute(attributes, "to");
    if (weight && type) all.set(outputs[0]!, { type, dims: weight.dims });
  }
  return all;
}

/** The sizes of a TensorProto. */
export const readDims = (tensor: Uint8Array) => readIntegers(tensor, TENSOR_PROTO.dims);

/** A list of integers of a message. */
export function readIntegers(message: Uint8Array, field: number): number[] {
  const values: number[] = [];
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === varintTag(field)) values.push(Number(reader.int64()));
    else if (tag === lengthDelimitedTag(field)) {
      // Not as arguments, which are limited to about 100,000.
      for (const value of readPackedIntegers(reader.bytes())) values.push(value);
    } else reader.skipType(tag & 7);
  }
  return values;
}

/** A list of integers whose encoder has written them as one field. */
export function readPackedIntegers(content: Uint8Array): number[] {
  const values: number[] = [];
  const reader = Reader.create(content);
  while (reader.pos < reader.len) values.push(Number(reader.int64()));
  return values;
}

/** A weight with float32 values as a field of the graph, in parts that follow each other: the values are not copied. */
export function floatInitializerParts(
  name: string,
  dims: readonly number[],
  values: Float32Array,
): Uint8Array[] {
  const head = Writer.create();
  for (const size of dims) head.uint32(varintTag(TENSOR_PROTO.dims)).int64(size);
  const header = head
    .uint32(varintTag(TENSOR_PROTO.dataType))
    .int32(DATA_TYPE.float)
    .uint32(lengthDelimitedTag(TENSOR_PROTO.name))
    .string(name)
    .uint32(lengthDelimitedTag(TENSOR_PROTO.rawData))
    .uint32(values.byteLength)
    .finish();
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return inField(GRAPH_PROTO.initializer, [header, bytes]);
}

/** A message in parts, as the parts of a field. */
export function inField(field: number, parts: readonly Uint8Array[]): Uint8Array[] {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [Writer.create().uint32(lengthDelimitedTag(field)).uint32(length).finish(), ...parts];
}
