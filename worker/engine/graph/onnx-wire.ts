/**
 * Reads and writes the part of the ONNX file format that rewriting a decoder graph needs. Nodes are decoded and encoded; all
 * other fields, weights above all, are passed on as bytes. A function `...Field` returns an encoded field with its tag.
 */
import { Reader, Writer } from "protobufjs/minimal.js";
import { int64Constant, type GraphNode } from "./nodes.ts";
import {
  ATTRIBUTE_PROTO,
  FUNCTION_PROTO,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  NODE_PROTO,
  OPERATOR_SET_ID_PROTO,
  STRING_STRING_ENTRY_PROTO,
  TENSOR_PROTO,
  VALUE_INFO_PROTO,
  varintTag,
} from "./onnx-proto.ts";

const decoder = new TextDecoder();

/** The wanted length-delimited fields of a message in file order, each as a view of its bytes. Other fields are skipped. */
export function* readFields(
  message: Uint8Array,
  wanted: readonly number[],
): Generator<[field: number, content: Uint8Array]> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (!wanted.includes(tag >>> 3)) {
      reader.skipType(tag & 7);
      continue;
    }
    const length = reader.uint32();
    yield [tag >>> 3, message.subarray(reader.pos, reader.pos + length)];
    reader.skip(length);
  }
}

/** All fields of a message in file order: `raw` is the field with its tag, `content` the bytes without tag and length. */
export function* rawFields(
  message: Uint8Array,
): Generator<{ field: number; raw: Uint8Array; content: Uint8Array }> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    let contentStart = reader.pos;
    if ((tag & 7) === 2) {
      const length = reader.uint32();
      contentStart = reader.pos;
      reader.skip(length);
    } else {
      reader.skipType(tag & 7);
    }
    yield {
      field: tag >>> 3,
      raw: message.subarray(start, reader.pos),
      content: message.subarray(contentStart, reader.pos),
    };
  }
}

/** A message as a field, made of encoded fields. */
export function messageField(field: number, fields: readonly Uint8Array[]): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(field)).fork();
  for (const bytes of fields) writer.raw(bytes);
  return writer.ldelim().finish();
}

/** Name of a graph input or output, from its ValueInfoProto. */
export function valueInfoName(valueInfo: Uint8Array): string {
  return readStrings(valueInfo, VALUE_INFO_PROTO.name)[0] ?? "";
}

/** A graph output without a type; onnxruntime infers it. */
export function untypedOutputField(name: string): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(GRAPH_PROTO.output)).fork();
  writer.uint32(lengthDelimitedTag(VALUE_INFO_PROTO.name)).string(name);
  return writer.ldelim().finish();
}

/** Decodes a NodeProto, in one pass: a model has thousands of them. */
export function readNode(message: Uint8Array): GraphNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: Uint8Array[] = [];
  let op = "";
  let domain: string | null = null;
  for (const [field, bytes] of readFields(message, NODE_FIELDS)) {
    if (field === NODE_PROTO.input) inputs.push(decoder.decode(bytes));
    if (field === NODE_PROTO.output) outputs.push(decoder.decode(bytes));
    if (field === NODE_PROTO.opType) op = decoder.decode(bytes);
    if (field === NODE_PROTO.domain) domain = decoder.decode(bytes);
    if (field === NODE_PROTO.attribute) attributes.push(bytes);
  }
  return { inputs, outputs, op, domain, attributes };
}

const NODE_FIELDS = [
  NODE_PROTO.input,
  NODE_PROTO.output,
  NODE_PROTO.opType,
  NODE_PROTO.domain,
  NODE_PROTO.attribute,
];

/** A node as a field of the graph. */
export const nodeField = (node: GraphNode) => nodeOf(GRAPH_PROTO.node, node);

/** A node as a field of a function. */
export const functionNodeField = (node: GraphNode) => nodeOf(FUNCTION_PROTO.node, node);

function nodeOf(field: number, { op, domain, inputs, outputs, attributes }: GraphNode): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(field)).fork();
  for (const name of inputs) writer.uint32(lengthDelimitedTag(NODE_PROTO.input)).string(name);
  for (const name of outputs) writer.uint32(lengthDelimitedTag(NODE_PROTO.output)).string(name);
  writer.uint32(lengthDelimitedTag(NODE_PROTO.opType)).string(op);
  for (const attribute of attributes) {
    writer.uint32(lengthDelimitedTag(NODE_PROTO.attribute)).bytes(attribute);
  }
  if (domain !== null) writer.uint32(lengthDelimitedTag(NODE_PROTO.domain)).string(domain);
  return writer.ldelim().finish();
}

/** Value of an integer attribute; null if there is none of that name. */
export function readIntegerAttribute(
  attributes: readonly Uint8Array[],
  name: string,
): number | null {
  const attribute = attributeNamed(attributes, name);
  return attribute ? readInteger(attribute, ATTRIBUTE_PROTO.i) : null;
}

/** An AttributeProto by its name. */
export function attributeNamed(
  attributes: readonly Uint8Array[],
  name: string,
): Uint8Array | undefined {
  return attributes.find((message) => readStrings(message, ATTRIBUTE_PROTO.name)[0] === name);
}

/** Name of a weight, from its TensorProto. */
export function initializerName(tensor: Uint8Array): string {
  return readStrings(tensor, TENSOR_PROTO.name)[0] ?? "";
}

/** Names of a model's outputs. */
export function outputNames(model: Uint8Array): string[] {
  return Array.from(readFields(model, [MODEL_PROTO.graph])).flatMap(([, graph]) =>
    Array.from(readFields(graph, [GRAPH_PROTO.output]), ([, output]) => valueInfoName(output)),
  );
}

/** The smallest model that onnxruntime loads: it returns a constant. */
export function constantModel(): Uint8Array {
  const graph = messageField(MODEL_PROTO.graph, [
    nodeField(int64Constant("one", [1n])),
    Writer.create().uint32(lengthDelimitedTag(GRAPH_PROTO.name)).string("constant").finish(),
    untypedOutputField("one"),
  ]);
  const writer = Writer.create().uint32(varintTag(MODEL_PROTO.irVersion)).int32(8).raw(graph);
  return writer
    .uint32(lengthDelimitedTag(MODEL_PROTO.opsetImport))
    .fork()
    .uint32(varintTag(OPERATOR_SET_ID_PROTO.version))
    .int32(13)
    .ldelim()
    .finish();
}

/** Domains of the operators that a model imports; "" is the ONNX standard. */
export function operatorDomains(model: Uint8Array): string[] {
  return Array.from(
    readFields(model, [MODEL_PROTO.opsetImport]),
    ([, operatorSet]) => readStrings(operatorSet, OPERATOR_SET_ID_PROTO.domain)[0] ?? "",
  );
}

/** The version of the standard operators that a model imports. */
export function standardOpset(model: Uint8Array): number {
  for (const [, operatorSet] of readFields(model, [MODEL_PROTO.opsetImport])) {
    const domain = readStrings(operatorSet, OPERATOR_SET_ID_PROTO.domain)[0] ?? "";
    if (domain === "" || domain === "ai.onnx")
      return readInteger(operatorSet, OPERATOR_SET_ID_PROTO.version) ?? 1;
  }
  return 1;
}

/** The field with which a model imports a domain's operators. A domain may be imported only once. */
export function operatorSetField(domain: string, version: number): Uint8Array {
  return Writer.create()
    .uint32(lengthDelimitedTag(MODEL_PROTO.opsetImport))
    .fork()
    .uint32(lengthDelimitedTag(OPERATOR_SET_ID_PROTO.domain))
    .string(domain)
    .uint32(varintTag(OPERATOR_SET_ID_PROTO.version))
    .int64(version)
    .ldelim()
    .finish();
}

/** A metadata entry as a field of the model. Applications may choose keys and values freely. */
export function metadataField(key: string, value: string): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(MODEL_PROTO.metadataProps)).fork();
  return writeEntry(writer, key, value).ldelim().finish();
}

/** Value of a model's metadata entry; null if there is none with this key. */
export function readMetadata(model: Uint8Array, key: string): string | null {
  for (const [, entry] of readFields(model, [MODEL_PROTO.metadataProps])) {
    const [name, value] = readEntry(entry);
    if (name === key) return value;
  }
  return null;
}

/** Decodes a StringStringEntryProto. */
export function readEntry(entry: Uint8Array): [key: string, value: string] {
  const { key, value } = STRING_STRING_ENTRY_PROTO;
  return [readStrings(entry, key)[0] ?? "", readStrings(entry, value)[0] ?? ""];
}

/** Encodes a StringStringEntryProto. */
function writeEntry(writer: Writer, key: string, value: string): Writer {
  return writer
    .uint32(lengthDelimitedTag(STRING_STRING_ENTRY_PROTO.key))
    .string(key)
    .uint32(lengthDelimitedTag(STRING_STRING_ENTRY_PROTO.value))
    .string(value);
}

/** An integer of a message; null if it has none. */
export function readInteger(message: Uint8Array, field: number): number | null {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === varintTag(field)) return Number(reader.int64());
    reader.skipType(tag & 7);
  }
  return null;
}

/** A float of a message; null if it has none. */
export function readFloat(message: Uint8Array, field: number): number | null {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    // Wire type 5: four bytes.
    if (tag === ((field << 3) | 5)) return reader.float();
    reader.skipType(tag & 7);
  }
  return null;
}

/** A member of a TensorProto's reference to another file, as a field. */
export function externalDataField(key: string, value: string): Uint8Array {
  const writer = Writer.create().uint32(lengthDelimitedTag(TENSOR_PROTO.externalData)).fork();
  return writeEntry(writer, key, value).ldelim().finish();
}

function readStrings(message: Uint8Array, field: number): string[] {
  return Array.from(readFields(message, [field]), ([, bytes]) => decoder.decode(bytes));
}
