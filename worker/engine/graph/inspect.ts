/**
 * Reads facts about a graph file without reading its weights, which may be gigabytes: it reads only the headers of the
 * fields, the nodes, the inputs and outputs, and where weights in other files are.
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { fieldsOf, readRange, type FieldRange, type Range } from "./file-ranges.ts";
import { innerGraphs } from "./inner-graphs.ts";
import { refusePointer } from "./lfs-pointer.ts";
import { producersByValue, type GraphNode } from "./nodes.ts";
import {
  ATTRIBUTE_PROTO,
  DATA_TYPE,
  FUNCTION_PROTO,
  GRAPH_PROTO,
  MODEL_PROTO,
  TENSOR_PROTO,
} from "./onnx-proto.ts";
import {
  messageField,
  readEntry,
  readFields,
  readIntegerAttribute,
  readNode,
  standardOpset,
} from "./onnx-wire.ts";
import { readScalar } from "./scalars.ts";
import { readValueInfo, type ValueInfo } from "./value-info.ts";
import { readPackedIntegers, type WeightInfo } from "./weights.ts";

export interface GraphFacts {
  /** Names of the files with external weights, relative to the graph's folder; sorted. */
  readonly externalFiles: readonly string[];
  /** The bytes that each of these files has at least. */
  readonly externalBytes: ReadonlyMap<string, number>;
  /** Whether activations are rounded to a few levels (`quantizesActivations`). */
  readonly quantizesActivations: boolean;
  /** In topological order, without those of inner graphs. */
  readonly nodes: readonly GraphNode[];
  /** The nodes of functions, and those of inner graphs (branches of If, bodies of loops). */
  readonly innerNodes: readonly GraphNode[];
  /** Names of the weights; of those with one number its value, of others null. */
  readonly weights: ReadonlyMap<string, number | null>;
  /** Types and sizes of the weights. */
  readonly weightInfos: ReadonlyMap<string, WeightInfo>;
  /** Bytes of the weights in bfloat16, without those of inner graphs. */
  readonly bfloat16Bytes: number;
  /** Version of the standard operators. */
  readonly opset: number;
  /** Without weights, which older exports list as inputs too. */
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
}

/** `accuracy_level` with which MatMulNBits rounds each block of a row to 8 bits. */
const INT8_ACTIVATIONS = 4;
/** A TensorProto with one number has less, with its name. */
const SCALAR_BYTES_MAX = 256;

/** Graphs whose facts are kept: those of a few ensembles. The loading of a model asks for them several times. */
const KEPT_MAX = 8;

/** By file with its inode, size and time of change; the one that was asked for last at the end. */
const kept = new Map<string, GraphFacts>();

/** @throws Error if the file cannot be read or is not an ONNX model */
export function inspectGraph(file: string): GraphFacts {
  refusePointer(file);
  const fd = openSync(file, "r");
  try {
    const { ino, size, mtimeMs } = fstatSync(fd);
    const key = `${ino} ${size} ${mtimeMs} ${file}`;
    const facts = kept.get(key) ?? readGraph(fd, { start: 0, end: size });
    kept.delete(key);
    kept.set(key, facts);
    if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value!);
    return facts;
  } finally {
    closeSync(fd);
  }
}

function readGraph(fd: number, whole: Range): GraphFacts {
  const [nodes, innerNodes]: GraphNode[][] = [[], []];
  const [inputs, outputs]: ValueInfo[][] = [[], []];
  const weights = new Map<string, number | null>();
  const weightInfos = new Map<string, WeightInfo>();
  const operatorSets: Uint8Array[] = [];
  const externalBytes = new Map<string, number>();
  const content = (part: Range) => readRange(fd, part);
  const addExternal = (external: ExternalData | null) => {
    if (!external) return;
    const { location, end } = external;
    externalBytes.set(location, Math.max(end, externalBytes.get(location) ?? 0));
  };
  const readers: Partial<Record<number, (part: Range) => void>> = {
    [GRAPH_PROTO.node]: (part) => {
      const [node, ...inner] = withInnerNodes(content(part));
      nodes!.push(node!);
      innerNodes!.push(...inner);
    },
    [GRAPH_PROTO.input]: (part) => inputs!.push(readValueInfo(content(part))),
    [GRAPH_PROTO.output]: (part) => outputs!.push(readValueInfo(content(part))),
    [GRAPH_PROTO.initializer]: (part) => {
      const { external, ...info } = readWeight(fd, part);
      const { name } = info;
      weightInfos.set(name, info);
      const isSmall = part.end - part.start <= SCALAR_BYTES_MAX;
      weights.set(name, isSmall ? readScalar(content(part)) : null);
      addExternal(external);
    },
  };
  for (const part of fieldsOf(fd, whole)) {
    if (part.field === MODEL_PROTO.functions)
      innerNodes!.push(...nodesOf(content(part), FUNCTION_PROTO.node));
    if (part.field === MODEL_PROTO.opsetImport)
      operatorSets.push(messageField(part.field, [content(part)]));
    if (part.field !== MODEL_PROTO.graph) continue;
    for (const member of fieldsOf(fd, part)) readers[member.field]?.(member);
  }
  for (const node of [...nodes!, ...innerNodes!]) {
    for (const tensor of tensorsOf(node)) addExternal(externalDataOf(tensor));
  }
  if (nodes!.length === 0) throw new Error("The file is not an ONNX model: it has no graph");
  return {
    externalFiles: [...externalBytes.keys()].toSorted(),
    externalBytes,
    quantizesActivations: quantizesActivations([...nodes!, ...innerNodes!], weights),
    nodes: nodes!,
    innerNodes: innerNodes!,
    weights,
    weightInfos,
    bfloat16Bytes: bfloat16Bytes(weightInfos.values()),
    opset: standardOpset(Buffer.concat(operatorSets)),
    inputs: inputs!.filter(({ name }) => !weights.has(name)),
    outputs: outputs!,
  };
}

const bfloat16Bytes = (weights: Iterable<WeightInfo>) =>
  Array.from(weights)
    .filter(({ type }) => type === DATA_TYPE.bfloat16)
    .reduce((sum, { dims }) => sum + 2 * dims.reduce((size, axis) => size * axis, 1), 0);

/** The part of another file that has a weight's values. */
interface ExternalData {
  readonly location: string;
  readonly end: number;
}

function readWeight(
  fd: number,
  part: Range,
): WeightInfo & { readonly external: ExternalData | null } {
  let name = "";
  let type = 0;
  const dims: number[] = [];
  const entries: Uint8Array[] = [];
  const readers: Partial<Record<number, (field: FieldRange) => void>> = {
    [TENSOR_PROTO.name]: (field) => {
      name = new TextDecoder().decode(readRange(fd, field));
    },
    [TENSOR_PROTO.dataType]: ({ value }) => {
      type = value ?? 0;
    },
    [TENSOR_PROTO.dims]: (field) => {
      const read = field.value === null ? readPackedIntegers(readRange(fd, field)) : [field.value];
      for (const size of read) dims.push(size);
    },
    [TENSOR_PROTO.externalData]: (field) => entries.push(readRange(fd, field)),
  };
  for (const field of fieldsOf(fd, part)) readers[field.field]?.(field);
  return { name, type, dims, external: readExternalData(entries) };
}

/** From the entries of a TensorProto; null if it has its values itself. */
function readExternalData(encoded: readonly Uint8Array[]): ExternalData | null {
  const entries = new Map(encoded.map(readEntry));
  const location = entries.get("location");
  const end = Number(entries.get("offset") ?? 0) + Number(entries.get("length") ?? 0);
  return location === undefined ? null : { location, end };
}

const externalDataOf = (tensor: Uint8Array) =>
  readExternalData(Array.from(readFields(tensor, [TENSOR_PROTO.externalData]), ([, it]) => it));

/** The tensors in a node's attributes, and the weights of its inner graphs. */
const tensorsOf = (node: GraphNode) =>
  [
    ...node.attributes.flatMap((each) => [...readFields(each, [ATTRIBUTE_PROTO.t])]),
    ...innerGraphs(node).flatMap((graph) => [...readFields(graph, [GRAPH_PROTO.initializer])]),
  ].map(([, tensor]) => tensor);

/** Operators that round their inputs themselves or take rounded ones; QLinearAdd, QLinearMatMul and others have constant scales. */
const QUANTIZED_OPERATORS = /^(DynamicQuantize|QLinear|QAttention|QGemm|(MatMul|Conv)Integer)/;

/**
 * Whether activations are rounded to a few levels, with scales that are constant or computed in each run. A form that is not known
 * counts as such. Then the last digit of a sum decides between two levels; and a computed scale may cover all tokens of the
 * run, so that the logits of one sequence depend on the other sequences and on the number of tokens.
 * @param weights names of the weights
 */
export function quantizesActivations(
  nodes: readonly GraphNode[],
  weights: Pick<ReadonlyMap<string, unknown>, "has">,
): boolean {
  const producers = producersByValue(nodes);
  const isWeight = (value: string) => weights.has(value) || producers.get(value)?.op === "Constant";
  return nodes.some(({ op, inputs, attributes }) => {
    if (op === "MatMulNBits") {
      return readIntegerAttribute(attributes, "accuracy_level") === INT8_ACTIVATIONS;
    }
    if (op === "QuantizeLinear") return !isWeight(inputs[0]!);
    return QUANTIZED_OPERATORS.test(op);
  });
}

/** A node and the nodes of the graphs in its attributes (branches of If, bodies of loops). */
function withInnerNodes(message: Uint8Array): GraphNode[] {
  const node = readNode(message);
  return [node, ...innerGraphs(node).flatMap((graph) => nodesOf(graph, GRAPH_PROTO.node))];
}

const nodesOf = (message: Uint8Array, field: number) =>
  Array.from(readFields(message, [field])).flatMap(([, node]) => withInnerNodes(node));
