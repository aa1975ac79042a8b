/**
 * As much of the ONNX file format as rewriting a decoder's graph needs: nodes are read and made, everything else (weights
 * above all) is passed on as bytes. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx).
 */
import { Reader, Writer } from "protobufjs/minimal.js";

export const MODEL_GRAPH = 7;
const MODEL_OPERATOR_SET = 8;
const MODEL_PROPERTY = 14;
export const GRAPH_NODE = 1;
export const GRAPH_WEIGHT = 5;
export const GRAPH_INPUT = 11;
export const GRAPH_OUTPUT = 12;
const VALUE_INFO_NAME = 1;
export const INT64 = 7;
/** Domain of onnxruntime's own operators. */
export const MICROSOFT = "com.microsoft";
const FLOAT16 = 10;
const BFLOAT16 = 16;
const WEIGHT_NAME = 8;
const TENSOR_BYTES = 9;
const EXTERNAL = 1;

export interface GraphNode {
  readonly op: string;
  /** Null where the standard operators are meant. */
  readonly domain: string | null;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** AttributeProto messages. */
  readonly attributes: readonly Uint8Array[];
}

/** Name of a value -> the node that makes it. */
export type Producers = ReadonlyMap<string, GraphNode>;

export function producers(nodes: readonly GraphNode[]): Producers {
  return new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
}

/** The wanted fields of a message in file order, each a view of its bytes; weights are skipped, not read. */
export function* lengthDelimited(
  message: Uint8Array,
  wanted: readonly number[],
): Generator<[field: number, bytes: Uint8Array]> {
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

/** Every field of a message as it stands in the file, tag included. */
export function* wholeFields(
  message: Uint8Array,
): Generator<{ field: number; whole: Uint8Array; content: Uint8Array }> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    let from = reader.pos;
    if ((tag & 7) === 2) {
      const length = reader.uint32();
      from = reader.pos;
      reader.skip(length);
    } else {
      reader.skipType(tag & 7);
    }
    const whole = message.subarray(start, reader.pos);
    yield { field: tag >>> 3, whole, content: message.subarray(from, reader.pos) };
  }
}

/** A length-delimited field of parts that are fields themselves. */
export function nestedMessage(field: number, parts: readonly Uint8Array[]): Uint8Array {
  const writer = Writer.create().uint32(key(field)).fork();
  for (const part of parts) writer.raw(part);
  return writer.ldelim().finish();
}

export function nameOf(valueInfo: Uint8Array): string {
  return strings(valueInfo, VALUE_INFO_NAME)[0] ?? "";
}

/** A graph output whose type is left to onnxruntime. */
export function untypedOutput(name: string): Uint8Array {
  const writer = Writer.create().uint32(key(GRAPH_OUTPUT)).fork();
  return writer.uint32(key(VALUE_INFO_NAME)).string(name).ldelim().finish();
}

export function readNode(message: Uint8Array): GraphNode {
  return {
    inputs: strings(message, 1),
    outputs: strings(message, 2),
    op: strings(message, 4)[0] ?? "",
    domain: strings(message, 7)[0] ?? null,
    attributes: Array.from(lengthDelimited(message, [5]), ([, bytes]) => bytes),
  };
}

/** A node as a field of the graph. */
export function writeNode({ op, domain, inputs, outputs, attributes }: GraphNode): Uint8Array {
  const writer = Writer.create().uint32(key(GRAPH_NODE)).fork();
  for (const name of inputs) writer.uint32(key(1)).string(name);
  for (const name of outputs) writer.uint32(key(2)).string(name);
  writer.uint32(key(4)).string(op);
  for (const attribute of attributes) writer.uint32(key(5)).bytes(attribute);
  if (domain !== null) writer.uint32(key(7)).string(domain);
  return writer.ldelim().finish();
}

export function standardNode(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly Uint8Array[] = [],
): GraphNode {
  return { op, domain: null, inputs, outputs: [output], attributes };
}

export function integerAttribute(name: string, value: number): Uint8Array {
  const writer = Writer.create().uint32(key(1)).string(name);
  return writer
    .uint32(3 << 3)
    .int64(value)
    .uint32(20 << 3)
    .int32(2)
    .finish();
}

/** Value of an integer attribute; null if there is none of that name. */
export function integerOf(attributes: readonly Uint8Array[], name: string): number | null {
  const attribute = attributes.find((message) => strings(message, 1)[0] === name);
  return attribute ? integer(attribute, 3) : null;
}

export function weightName(weight: Uint8Array): string {
  return strings(weight, WEIGHT_NAME)[0] ?? "";
}

/** Whether a weight is of a type of 16 bits. */
export function isHalf(weight: Uint8Array): boolean {
  const type = integer(weight, 2);
  return type === FLOAT16 || type === BFLOAT16;
}

/** A Constant with a vector of integers. */
export function integersNode(output: string, values: readonly bigint[]): GraphNode {
  const raw = new Uint8Array(BigInt64Array.from(values).buffer);
  const attribute = Writer.create().uint32(key(1)).string("value");
  const tensor = attribute
    .uint32(key(5))
    .fork()
    .uint32(1 << 3)
    .int64(values.length);
  tensor
    .uint32(2 << 3)
    .int32(INT64)
    .uint32(key(9))
    .bytes(raw)
    .ldelim();
  return standardNode("Constant", [], output, [
    tensor
      .uint32(20 << 3)
      .int32(4)
      .finish(),
  ]);
}

/** Where the bytes of a message lie that is a view of them. */
export interface ModelFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Fewer are copied: what is small may be computed with while a graph is loaded. */
const IN_FILE_BYTES_MIN = 1_024;

/**
 * A weight as a field of the graph, its values left where they lie in a file.
 * @returns null if it has few values, or none in this message
 */
export function weightInFile(message: Uint8Array, file: ModelFile): Uint8Array | null {
  const kept: Uint8Array[] = [];
  let values: Uint8Array | null = null;
  for (const { field, whole, content } of wholeFields(message)) {
    if (field === TENSOR_BYTES) values = content;
    else kept.push(whole);
  }
  if (!values || values.length < IN_FILE_BYTES_MIN) return null;
  const writer = Writer.create().uint32(key(GRAPH_WEIGHT)).fork();
  for (const part of kept) writer.raw(part);
  const offset = values.byteOffset - file.bytes.byteOffset;
  const place = { location: file.name, offset, length: values.length };
  for (const [name, value] of Object.entries(place)) {
    writer.uint32(key(13)).fork().uint32(key(1)).string(name);
    writer.uint32(key(2)).string(String(value)).ldelim();
  }
  return writer
    .uint32(14 << 3)
    .int32(EXTERNAL)
    .ldelim()
    .finish();
}

/** Names of a model's outputs. */
export function outputNames(model: Uint8Array): string[] {
  return Array.from(lengthDelimited(model, [MODEL_GRAPH])).flatMap(([, graph]) =>
    Array.from(lengthDelimited(graph, [GRAPH_OUTPUT]), ([, output]) => nameOf(output)),
  );
}

/** The smallest model that loads. */
export function constantModel(): Uint8Array {
  const graph = nestedMessage(MODEL_GRAPH, [
    writeNode(integersNode("one", [1n])),
    Writer.create().uint32(key(2)).string("constant").finish(),
    untypedOutput("one"),
  ]);
  const writer = Writer.create()
    .uint32(1 << 3)
    .int32(8)
    .raw(graph);
  return writer
    .uint32(key(MODEL_OPERATOR_SET))
    .fork()
    .uint32(2 << 3)
    .int32(13)
    .ldelim()
    .finish();
}

/** Domains whose operators a model may use; "" is the standard's. */
export function operatorDomains(model: Uint8Array): string[] {
  return Array.from(
    lengthDelimited(model, [MODEL_OPERATOR_SET]),
    ([, set]) => strings(set, 1)[0] ?? "",
  );
}

/** What a model must say, once, to use a domain's operators. */
export function operatorSet(domain: string, version: number): Uint8Array {
  const writer = Writer.create().uint32(key(MODEL_OPERATOR_SET)).fork().uint32(key(1));
  return writer
    .string(domain)
    .uint32(2 << 3)
    .int64(version)
    .ldelim()
    .finish();
}

/** One of the model's properties: names and values of anybody's choosing. */
export function property(name: string, value: string): Uint8Array {
  const writer = Writer.create().uint32(key(MODEL_PROPERTY)).fork();
  return writer.uint32(key(1)).string(name).uint32(key(2)).string(value).ldelim().finish();
}

export function readProperty(model: Uint8Array, name: string): string | null {
  for (const [, entry] of lengthDelimited(model, [MODEL_PROPERTY])) {
    if (strings(entry, 1)[0] === name) return strings(entry, 2)[0] ?? "";
  }
  return null;
}

function integer(message: Uint8Array, field: number): number | null {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === field << 3) return Number(reader.int64());
    reader.skipType(tag & 7);
  }
  return null;
}

function strings(message: Uint8Array, field: number): string[] {
  const decoder = new TextDecoder();
  return Array.from(lengthDelimited(message, [field]), ([, bytes]) => decoder.decode(bytes));
}

/** Tag of a length-delimited field. */
const key = (field: number) => (field << 3) | 2;
