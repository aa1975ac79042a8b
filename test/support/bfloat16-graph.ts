/** Brings a float32 graph with plain values to bfloat16, as an export in that type has it. */
import { Writer } from "protobufjs/minimal.js";
import { integerAttribute, type GraphNode } from "../../worker/engine/graph/nodes.ts";
import {
  ATTRIBUTE_PROTO,
  DATA_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  TENSOR_PROTO,
  varintTag,
} from "../../worker/engine/graph/onnx-proto.ts";
import {
  messageField,
  nodeField,
  rawFields,
  readInteger,
  readIntegerAttribute,
  readNode,
} from "../../worker/engine/graph/onnx-wire.ts";
import { hasType, retypedField } from "../../worker/engine/graph/value-info.ts";

/** The model with all float32 values rounded to bfloat16, and kept as float32 or as bfloat16. */
export function roundedGraph(model: Uint8Array, type: "float32" | "bfloat16"): Uint8Array {
  const { bfloat16, float } = DATA_TYPE;
  const element = type === "bfloat16" ? bfloat16 : float;
  const retypeNode = ({ attributes, ...node }: GraphNode) => {
    const isCast = readIntegerAttribute(attributes, "to") === float;
    if (isCast) return { ...node, attributes: [integerAttribute("to", element)] };
    return { ...node, attributes: attributes.map(withTensor) };
  };
  const withTensor = (attribute: Uint8Array) =>
    Buffer.concat(
      Array.from(rawFields(attribute), ({ field, raw, content }) =>
        field === ATTRIBUTE_PROTO.t ? messageField(field, rounded(content, element)) : raw,
      ),
    );
  const { node, initializer, input, output, valueInfo } = GRAPH_PROTO;
  const values: readonly number[] = [input, output, valueInfo];
  return Buffer.concat(
    Array.from(rawFields(model), ({ field, raw, content }) => {
      if (field !== MODEL_PROTO.graph) return raw;
      const parts = Array.from(rawFields(content), (part) => {
        if (part.field === node) return nodeField(retypeNode(readNode(part.content)));
        if (part.field === initializer) {
          return messageField(part.field, rounded(part.content, element));
        }
        return values.includes(part.field) && hasType(part.content, float)
          ? retypedField(part.field, part.content, element)
          : part.raw;
      });
      return messageField(field, parts);
    }),
  );
}

/** The fields of a tensor; only raw values are rounded. */
function rounded(tensor: Uint8Array, element: number): Uint8Array[] {
  const fields = [...rawFields(tensor)];
  const values = fields.find(({ field }) => field === TENSOR_PROTO.rawData)?.content;
  const isFloat = readInteger(tensor, TENSOR_PROTO.dataType) === DATA_TYPE.float;
  if (!isFloat || !values) return fields.map(({ raw }) => raw);
  const halves = Uint16Array.from(
    new Uint32Array(Uint8Array.from(values).buffer),
    // Towards zero.
    (bits) => bits >>> 16,
  );
  const bytes =
    element === DATA_TYPE.bfloat16
      ? new Uint8Array(halves.buffer)
      : new Uint8Array(Uint32Array.from(halves, (half) => half * 2 ** 16).buffer);
  const kept = fields.filter(
    ({ field }) => field !== TENSOR_PROTO.rawData && field !== TENSOR_PROTO.dataType,
  );
  const changed = Writer.create()
    .uint32(varintTag(TENSOR_PROTO.dataType))
    .int32(element)
    .uint32(lengthDelimitedTag(TENSOR_PROTO.rawData))
    .bytes(bytes)
    .finish();
  return [...kept.map(({ raw }) => raw), changed];
}
