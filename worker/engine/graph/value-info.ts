/** Inputs and outputs of a graph with their types and shapes, from their ValueInfoProtos. */
import {
  DIMENSION,
  TENSOR_SHAPE_PROTO,
  TYPE_PROTO,
  TYPE_PROTO_TENSOR,
  VALUE_INFO_PROTO,
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
