/** Reads single numbers of a graph: weights and constants that a comparison or a distance uses. */
import { Reader } from "protobufjs/minimal.js";
import type { GraphNode, Producers } from "./nodes.ts";
import { ATTRIBUTE_PROTO, DATA_TYPE, TENSOR_PROTO } from "./onnx-proto.ts";
import { attributeNamed, readFields, readInteger } from "./onnx-wire.ts";
import { readDims } from "./weights.ts";

/** The number in a TensorProto; NaN if it has a type that is not read, null if there are several. */
export function readScalar(tensor: Uint8Array): number | null {
  return readDims(tensor).every((size) => size === 1) ? (readValue(tensor) ?? Number.NaN) : null;
}

function readValue(tensor: Uint8Array): number | null {
  const type = readInteger(tensor, TENSOR_PROTO.dataType);
  const [raw] = Array.from(readFields(tensor, [TENSOR_PROTO.rawData]), ([, bytes]) => bytes);
  if (!raw) return packedScalar(tensor, type);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  if (type === DATA_TYPE.int64 && raw.length === 8) return Number(view.getBigInt64(0, true));
  if (type === DATA_TYPE.int32 && raw.length === 4) return view.getInt32(0, true);
  if (type === DATA_TYPE.float && raw.length === 4) return view.getFloat32(0, true);
  return null;
}

/** The number of a field with packed values. */
function packedScalar(tensor: Uint8Array, type: number | null): number | null {
  const fields: Partial<Record<number, number>> = {
    [DATA_TYPE.int64]: TENSOR_PROTO.int64Data,
    [DATA_TYPE.int32]: TENSOR_PROTO.int32Data,
    [DATA_TYPE.float]: TENSOR_PROTO.floatData,
  };
  const field = fields[type ?? 0];
  if (field === undefined) return null;
  const [packed] = Array.from(readFields(tensor, [field]), ([, bytes]) => bytes);
  if (!packed) return type === DATA_TYPE.float ? null : readInteger(tensor, field);
  const reader = Reader.create(packed);
  const value = type === DATA_TYPE.float ? reader.float() : Number(reader.int64());
  return reader.pos === reader.len ? value : null;
}

/** The numbers of a graph by the names of their values: weights and the outputs of Constant nodes. */
export class Scalars {
  readonly #weights: ReadonlyMap<string, number | null>;
  readonly #producers: Producers;

  constructor(weights: ReadonlyMap<string, number | null>, producers: Producers) {
    this.#weights = weights;
    this.#producers = producers;
  }

  /** Null if the value is not a single number that is known. */
  of(name: string | undefined): number | null {
    if (name === undefined) return null;
    const weight = this.#weights.get(name);
    if (weight !== undefined) return weight;
    const producer = this.#producers.get(name);
    if (producer?.op === "Constant") return constantOf(producer);
    // A scalar often gets another type or shape first.
    const passes = producer && /^(Cast|Identity|Unsqueeze|Squeeze|Reshape)$/.test(producer.op);
    return passes ? this.of(producer.inputs[0]) : null;
  }

  /** Whether a value does not depend on the inputs. */
  isFixed(name: string | undefined): boolean {
    if (name === undefined) return true;
    if (this.#weights.has(name)) return true;
    const producer = this.#producers.get(name);
    return (
      producer !== undefined &&
      producer.inputs.every((input) => input !== "" && this.isFixed(input))
    );
  }
}

function constantOf({ attributes }: GraphNode): number | null {
  const integer = attributeNamed(attributes, "value_int");
  if (integer) return readInteger(integer, ATTRIBUTE_PROTO.i);
  const value = attributeNamed(attributes, "value");
  const [tensor] = value ? Array.from(readFields(value, [ATTRIBUTE_PROTO.t])) : [];
  return tensor ? readScalar(tensor[1]) : null;
}
