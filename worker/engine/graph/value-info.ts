/** Inputs and outputs of a graph with their types and shapes: reads and writes their ValueInfoProtos. */
import { Writer } from "protobufjs/minimal.js";
import {
  DIMENSION,
  GRAPH_PROTO,
  lengthDelimitedTag,
  TENSOR_SHAPE_PROTO,
  TYPE_PROTO,
  TYPE_PROTO_TENSOR,
  VALUE_INFO_PROTO,
  varintTag,
} from "./onnx-proto.ts";
import { readFields, readInteger, valueInfoName } from "./onnx-wire.ts";

export interface ValueInfo {
  readonly name: string;
  /** DATA_TYPE; 0 if the graph does not declare it. */
  readonly type: number;
  /** Symbolic axes have the size null. */
  readonly shape: readonly (number | null)[];
}

export function readValueInfo(message: Uint8Array): ValueInfo {
  const tensor = nested(message, VALUE_INFO_PROTO.type, TYPE_PROTO.tensorType);
  const shape = tensor && nested(tensor, TYPE_PROTO_TENSOR.shape);
  const axes = shape ? Array.from(readFields(shape, [TENSOR_SHAPE_PROTO.dim])) : [];
  return {
    name: valueInfoName(message),
    type: (tensor && readInteger(tensor, TYPE_PROTO_TENSOR.elemType)) ?? 0,
    shape: axes.map(([, axis]) => readInteger(axis, DIMENSION.dimValue) || null),
  };
}

/** The message that is reached through these fields. */
function nested(message: Uint8Array, ...fields: readonly number[]): Uint8Array | null {
  return fields.reduce<Uint8Array | null>(
    (at, field) => (at && Array.from(readFields(at, [field]))[0]?.[1]) ?? null,
    message,
  );
}

/** Whether a ValueInfoProto declares this element type. */
export function hasType(message: Uint8Array, type: number): boolean {
  const tensor = nested(message, VALUE_INFO_PROTO.type, TYPE_PROTO.tensorType);
  return tensor !== null && readInteger(tensor, TYPE_PROTO_TENSOR.elemType) === type;
}

/** An input or output as a field of the graph: that of this message with another element type. */
export function retypedField(field: number, message: Uint8Array, type: number): Uint8Array {
  const shape = nested(
    message,
    VALUE_INFO_PROTO.type,
    TYPE_PROTO.tensorType,
    TYPE_PROTO_TENSOR.shape,
  );
  return valueField(field, valueInfoName(message), type, shape ?? new Uint8Array());
}

/** An input as a field of the graph; axes of any size are null. */
export const inputField = (name: string, type: number, shape: readonly (number | null)[]) =>
  valueField(GRAPH_PROTO.input, name, type, encodedShape(shape));

/** An output as a field of the graph. */
export const outputField = (name: string, type: number, shape: readonly (number | null)[]) =>
  valueField(GRAPH_PROTO.output, name, type, encodedShape(shape));

function encodedShape(shape: readonly (number | null)[]): Uint8Array {
  const axes = Writer.create();
  for (const size of shape) {
    const axis = axes.uint32(lengthDelimitedTag(TENSOR_SHAPE_PROTO.dim)).fork();
    if (size !== null) axis.uint32(varintTag(DIMENSION.dimValue)).int64(size);
    axis.ldelim();
  }
  return axes.finish();
}

/** @param shape an encoded TensorShapeProto */
function valueField(field: number, name: string, type: number, shape: Uint8Array): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(field)).fork();
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.name)).string(name);
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.type)).fork();
  writer.uint32(lengthDelimitedTag(TYPE_PROTO.tensorType)).fork();
  writer.uint32(varintTag(TYPE_PROTO_TENSOR.elemType)).uint32(type);
  writer.uint32(lengthDelimitedTag(TYPE_PROTO_TENSOR.shape)).bytes(shape);
  return writer.ldelim().ldelim().ldelim().finish();
}
