/** Renames the files with external weights: in the entries of a weight, and in the tensors of a node's attributes and inner graphs. */
import { ATTRIBUTE_PROTO, GRAPH_PROTO, NODE_PROTO, TENSOR_PROTO } from "./onnx-proto.ts";
import { externalDataField, messageField, rawFields, readEntry } from "./onnx-wire.ts";

/** New names by the old ones. */
export type ExternalNames = ReadonlyMap<string, string>;

/** An entry of a weight's external data as a field. */
export function renamedEntry(entry: Uint8Array, names: ExternalNames): Uint8Array {
  const [key, value] = readEntry(entry);
  return externalDataField(key, (key === "location" && names.get(value)) || value);
}

/** The fields of a node. */
export function renamedNode(node: Uint8Array, names: ExternalNames): Uint8Array[] {
  const tensor = (message: Uint8Array) =>
    Array.from(rawFields(message), ({ field, raw, content }) =>
      field === TENSOR_PROTO.externalData ? renamedEntry(content, names) : raw,
    );
  const graph = (message: Uint8Array) =>
    withFields(message, {
      [GRAPH_PROTO.node]: (inner) => renamedNode(inner, names),
      [GRAPH_PROTO.initializer]: tensor,
    });
  const { t, g, graphs } = ATTRIBUTE_PROTO;
  const attribute = (message: Uint8Array) =>
    withFields(message, { [t]: tensor, [g]: graph, [graphs]: graph });
  return withFields(node, { [NODE_PROTO.attribute]: attribute });
}

/** The fields of a message; some of them are messages with other fields. */
function withFields(
  message: Uint8Array,
  changes: Readonly<Partial<Record<number, (content: Uint8Array) => Uint8Array[]>>>,
): Uint8Array[] {
  return Array.from(rawFields(message), ({ field, raw, content }) => {
    const change = changes[field];
    return change ? messageField(field, change(content)) : raw;
  });
}
