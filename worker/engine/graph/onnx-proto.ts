/**
 * Field numbers of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3), one constant for each message
 * and only the fields that are used. Fields keep the names that they have there.
 */

export const MODEL_PROTO = {
  irVersion: 1,
  graph: 7,
  opsetImport: 8,
  metadataProps: 14,
  functions: 25,
} as const;
export const FUNCTION_PROTO = { node: 7 } as const;
export const GRAPH_PROTO = {
  node: 1,
  name: 2,
  initializer: 5,
  input: 11,
  output: 12,
  valueInfo: 13,
} as const;
export const NODE_PROTO = { input: 1, output: 2, opType: 4, attribute: 5, domain: 7 } as const;
export const ATTRIBUTE_PROTO = {
  name: 1,
  f: 2,
  i: 3,
  t: 5,
  g: 6,
  ints: 8,
  graphs: 11,
  type: 20,
} as const;
export const TENSOR_PROTO = {
  dims: 1,
  dataType: 2,
  floatData: 4,
  int32Data: 5,
  int64Data: 7,
  name: 8,
  rawData: 9,
  externalData: 13,
  dataLocation: 14,
} as const;
export const VALUE_INFO_PROTO = { name: 1, type: 2 } as const;
export const TYPE_PROTO = { tensorType: 1 } as const;
export const TYPE_PROTO_TENSOR = { elemType: 1, shape: 2 } as const;
export const TENSOR_SHAPE_PROTO = { dim: 1 } as const;
export const DIMENSION = { dimValue: 1, dimParam: 2 } as const;
export const OPERATOR_SET_ID_PROTO = { domain: 1, version: 2 } as const;
export const STRING_STRING_ENTRY_PROTO = { key: 1, value: 2 } as const;

/** AttributeProto.AttributeType. */
export const ATTRIBUTE_TYPE = { int: 2, tensor: 4, ints: 7 } as const;
/** TensorProto.DataType. */
export const DATA_TYPE = {
  float: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const;
/** TensorProto.DataLocation: the values are in another file. */
export const DATA_LOCATION_EXTERNAL = 1;

/** Domain of onnxruntime's own operators. */
export const MICROSOFT_DOMAIN = "com.microsoft";

/** Tag of a length-delimited field: a string, bytes or a message. */
export const lengthDelimitedTag = (field: number) => (field << 3) | 2;
/** Tag of a varint field: an integer or an enum. */
export const varintTag = (field: number) => field << 3;
