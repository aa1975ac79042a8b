/**
 * Reads facts about a graph file without reading its weights, which may be gigabytes: it reads only the headers of the
 * fields, the nodes, and the names of the files with external weights.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Reader } from "protobufjs/minimal.js";
import { producersByValue, type GraphNode } from "./nodes.ts";
import {
  ATTRIBUTE_PROTO,
  FUNCTION_PROTO,
  GRAPH_PROTO,
  MODEL_PROTO,
  TENSOR_PROTO,
} from "./onnx-proto.ts";
import { readEntry, readFields, readNode } from "./onnx-wire.ts";

export interface GraphFacts {
  /** Names of the files with external weights, relative to the graph's folder; sorted. */
  readonly externalFiles: readonly string[];
  /** Whether activations are quantized with scales that are computed in each run (`isDynamicallyQuantized`). */
  readonly isDynamicallyQuantized: boolean;
}

/** @throws Error if the file cannot be read or is not an ONNX model */
export function inspectGraph(file: string): GraphFacts {
  const fd = openSync(file, "r");
  try {
    const nodes: GraphNode[] = [];
    const externalFiles = new Set<string>();
    for (const part of fieldsOf(fd, { start: 0, end: fstatSync(fd).size })) {
      if (part.field === MODEL_PROTO.functions) {
        nodes.push(...nodesOf(readRange(fd, part), FUNCTION_PROTO.node));
      }
      if (part.field !== MODEL_PROTO.graph) continue;
      for (const member of fieldsOf(fd, part)) {
        if (member.field === GRAPH_PROTO.node) nodes.push(...withInnerNodes(readRange(fd, member)));
        if (member.field !== GRAPH_PROTO.initializer) continue;
        for (const field of fieldsOf(fd, member)) {
          if (field.field !== TENSOR_PROTO.externalData) continue;
          const [name, value] = readEntry(readRange(fd, field));
          if (name === "location") externalFiles.add(value);
        }
      }
    }
    return {
      externalFiles: [...externalFiles].toSorted(),
      isDynamicallyQuantized: isDynamicallyQuantized(nodes),
    };
  } finally {
    closeSync(fd);
  }
}

/**
 * Whether activations are quantized with scales that are computed in each run. Such a scale covers all tokens of the run, so the
 * logits of one sequence depend on the other sequences and on the number of tokens. A form that is not known counts as dynamic.
 */
export function isDynamicallyQuantized(nodes: readonly GraphNode[]): boolean {
  const producers = producersByValue(nodes);
  /** The operator that computes a value; undefined for weights, inputs of the graph and constants. */
  const producer = (value: string | undefined) => {
    const op = producers.get(value ?? "")?.op;
    return op === "Constant" ? undefined : op;
  };
  return nodes.some(({ op, inputs }) => {
    if (op.startsWith("DynamicQuantize")) return true;
    if (op === "QuantizeLinear") return producer(inputs[1]) !== undefined;
    if (!/^(MatMul|Conv)Integer/.test(op)) return false;
    return [inputs[0], inputs[1]].map(producer).some((by) => by && by !== "QuantizeLinear");
  });
}

/** A node and the nodes of the graphs in its attributes (branches of If, bodies of loops). */
function withInnerNodes(message: Uint8Array): GraphNode[] {
  const node = readNode(message);
  const inner = node.attributes.flatMap((attribute) =>
    Array.from(readFields(attribute, [ATTRIBUTE_PROTO.g, ATTRIBUTE_PROTO.graphs])),
  );
  return [node, ...inner.flatMap(([, graph]) => nodesOf(graph, GRAPH_PROTO.node))];
}

const nodesOf = (message: Uint8Array, field: number) =>
  Array.from(readFields(message, [field])).flatMap(([, node]) => withInnerNodes(node));

/** A part of a file, in bytes from its begin; `end` is excluded. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/** A field's tag and length need at most 15 bytes, a 64-bit number at most 10. */
const HEADER_BYTES_MAX = 16;

/** The length-delimited fields of a message in a file, without their contents. */
function* fieldsOf(fd: number, { start, end }: Range): Generator<Range & { field: number }> {
  let at = start;
  while (at < end) {
    const reader = Reader.create(
      readRange(fd, { start: at, end: Math.min(end, at + HEADER_BYTES_MAX) }),
    );
    const tag = reader.uint32();
    const isDelimited = (tag & 7) === 2;
    const length = isDelimited ? reader.uint32() : 0;
    if (!isDelimited) reader.skipType(tag & 7);
    const contentStart = at + reader.pos;
    at = contentStart + length;
    if (isDelimited) yield { field: tag >>> 3, start: contentStart, end: at };
  }
}

function readRange(fd: number, { start, end }: Range): Uint8Array {
  const bytes = new Uint8Array(end - start);
  if (readSync(fd, bytes, 0, bytes.length, start) !== bytes.length) {
    throw new Error("The graph file ends within a field");
  }
  return bytes;
}
