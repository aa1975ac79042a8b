/**
 * Makes a Hugging Face style graph return only the new rows of its KV cache, without anyone exporting it again.
 * Such a graph ends each layer's cache with `present = Concat(past, new)`. onnxruntime copies every fetched output into
 * JS memory, so fetching `present` costs the whole cache at every token (10 to 20 ms of a 30 to 45 ms step at 1,024
 * tokens, 98M parameters). Here the Concat's second input becomes an output of its own, and `present` is never fetched.
 */
import { PAST } from "./graph-io.ts";
import {
  fieldHead,
  GRAPH_INPUT,
  GRAPH_NODE,
  GRAPH_OUTPUT,
  lengthDelimited,
  MODEL_GRAPH,
  nameOf,
  readNode,
  untypedOutput,
  wholeFields,
  writeNode,
  type GraphNode,
} from "./onnx-wire.ts";
import { splitAttention, type CacheConcat } from "./split-attention.ts";

export interface PreparedGraph {
  /** The model file with the new outputs. */
  readonly bytes: Uint8Array;
  /** `past_key_values.*` input -> name of the output with its new rows. */
  readonly newRows: ReadonlyMap<string, string>;
  /** The model file with the new outputs, and neither the old ones nor their Concats; null if they cannot be spared. */
  split(): Uint8Array | null;
}

/**
 * @param bytes a model file
 * @returns null if some cache is not made by a Concat (fused attention operators make it inside)
 */
export function prepareGraph(bytes: Uint8Array): PreparedGraph | null {
  const pasts = new Set<string>();
  const caches = new Map<string, CacheConcat>();
  const nodes: GraphNode[] = [];
  const graphs = Array.from(lengthDelimited(bytes, [MODEL_GRAPH]), ([, graph]) => graph);
  for (const graph of graphs) {
    for (const [field, message] of lengthDelimited(graph, [GRAPH_NODE, GRAPH_INPUT])) {
      if (field === GRAPH_INPUT) {
        const name = nameOf(message);
        if (name.startsWith(PAST)) pasts.add(name);
        continue;
      }
      const node = readNode(message);
      nodes.push(node);
      const cache = cacheConcat(node);
      if (cache) caches.set(cache.past, cache);
    }
  }
  if (pasts.size === 0 || [...pasts].some((past) => !caches.has(past))) return null;
  const newRows = new Map(Array.from(caches, ([past, { rows }]) => [past, rows]));
  // Two caches may share their rows (keys that are values).
  const outputs = [...new Set(newRows.values())].map(untypedOutput);
  return {
    bytes: withOutputs(bytes, outputs),
    newRows,
    split() {
      const split = splitAttention(nodes, [...caches.values()]);
      if (!split) return null;
      const dropped = new Set(Array.from(caches.values(), ({ present }) => present));
      return withOutputs(withNodes(bytes, split, dropped), outputs);
    },
  };
}

function cacheConcat({ op, inputs, outputs }: GraphNode): CacheConcat | null {
  const [past, rows, ...more] = inputs;
  const [present] = outputs;
  if (op !== "Concat" || !past?.startsWith(PAST) || !present?.startsWith("present")) return null;
  return rows === undefined || more.length > 0 ? null : { past, rows, present };
}

/** Appends graph outputs: protobuf merges a message that occurs twice, so the file itself need not be rewritten. */
function withOutputs(bytes: Uint8Array, outputs: readonly Uint8Array[]): Uint8Array {
  const appended = concat(outputs);
  return concat([bytes, fieldHead(MODEL_GRAPH, appended.length), appended]);
}

/** The file with other nodes and without some outputs. */
function withNodes(
  bytes: Uint8Array,
  nodes: readonly GraphNode[],
  droppedOutputs: ReadonlySet<string>,
): Uint8Array {
  const model: Uint8Array[] = [];
  const graph = nodes.map(writeNode);
  for (const { field, whole, content } of wholeFields(bytes)) {
    if (field !== MODEL_GRAPH) {
      model.push(whole);
      continue;
    }
    for (const part of wholeFields(content)) {
      const isDropped = part.field === GRAPH_OUTPUT && droppedOutputs.has(nameOf(part.content));
      if (part.field !== GRAPH_NODE && !isDropped) graph.push(part.whole);
    }
  }
  const length = graph.reduce((sum, part) => sum + part.length, 0);
  return concat([...model, fieldHead(MODEL_GRAPH, length), ...graph]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
