/**
 * Makes a Hugging Face style graph return only the new rows of its KV cache, without anyone exporting it again.
 * Such a graph ends each layer's cache with `present = Concat(past, new)`. onnxruntime copies every fetched output into
 * JS memory, so fetching `present` costs the whole cache at every token (10 to 20 ms of a 30 to 45 ms step at 1,024
 * tokens, 98M parameters). Here the Concat's second input becomes an output of its own, and `present` is none any more.
 * Weights are not copied: a prepared graph says where they lie in the original file or, as that does, beside it.
 */
import { fusedCaches, gatherRows } from "./fused-attention.ts";
import { PAST } from "./graph-io.ts";
import {
  GRAPH_INPUT,
  GRAPH_NODE,
  GRAPH_OUTPUT,
  GRAPH_WEIGHT,
  isHalf,
  lengthDelimited,
  MICROSOFT,
  MODEL_GRAPH,
  nameOf,
  nestedMessage,
  operatorDomains,
  operatorSet,
  readNode,
  untypedOutput,
  weightInFile,
  weightName,
  wholeFields,
  writeNode,
  type GraphNode,
  type ModelFile,
} from "./onnx-wire.ts";
import { splitAttention, type CacheConcat } from "./split-attention.ts";

/** A prepared graph that is worth trying. */
export interface Candidate {
  /** Without the cache's Concats, with them, or with rows gathered out of a fused operator's cache. */
  readonly form: "split" | "new rows" | "fused";
  /** `past_key_values.*` input -> name of the output with its new rows. */
  readonly newRows: ReadonlyMap<string, string>;
  /** Whether some activations are rounded to fewer bits than float32 has. */
  readonly rounds: boolean;
  readonly nodes: readonly GraphNode[];
  /** The graph's inputs, without its weights. */
  readonly inputs: ReadonlySet<string>;
  /** The model with the new outputs instead of the old ones, of these nodes and with these outputs besides. */
  readonly build: (nodes: readonly GraphNode[], more?: readonly string[]) => Uint8Array;
}

/** Candidates, the fastest first; none if some cache is made in a way that is not known here. */
export function prepareGraph(file: ModelFile): Candidate[] {
  const inputs = new Set<string>();
  const weights = new Set<string>();
  const nodes: GraphNode[] = [];
  let rounds = false;
  for (const [, graph] of lengthDelimited(file.bytes, [MODEL_GRAPH])) {
    for (const [field, part] of lengthDelimited(graph, [GRAPH_NODE, GRAPH_INPUT, GRAPH_WEIGHT])) {
      if (field === GRAPH_NODE) nodes.push(readNode(part));
      else if (field === GRAPH_INPUT) inputs.add(nameOf(part));
      else {
        weights.add(weightName(part));
        rounds ||= isHalf(part);
      }
    }
  }
  // Older exports name weights among the inputs too.
  for (const weight of weights) inputs.delete(weight);
  const pasts = [...inputs].filter((name) => name.startsWith(PAST));
  rounds ||= nodes.some(({ op }) => /Quantize|Integer|NBits/.test(op));
  const isAllOf = (caches: readonly CacheConcat[]) => {
    const made = new Set(caches.map(({ past }) => past));
    return pasts.length > 0 && pasts.every((past) => made.has(past));
  };
  const candidate = (
    form: Candidate["form"],
    caches: readonly CacheConcat[],
    changed: readonly GraphNode[],
  ): Candidate => ({
    form,
    newRows: new Map(caches.map(({ past, rows }) => [past, rows])),
    rounds,
    nodes: changed,
    inputs,
    build: (built, more = []) => rewritten(file, built, { caches, more }),
  });
  const fused = nodes.flatMap(fusedCaches);
  if (isAllOf(fused)) return [candidate("fused", fused, [...nodes, ...gatherRows(fused)])];
  const concats = nodes.flatMap((node) => cacheConcat(node) ?? []);
  if (!isAllOf(concats)) return [];
  const split = splitAttention(nodes, concats);
  return [
    ...(split ? [candidate("split", concats, split)] : []),
    candidate("new rows", concats, nodes),
  ];
}

function cacheConcat({ op, inputs, outputs }: GraphNode): CacheConcat | null {
  const [past, rows, ...more] = inputs;
  const [present] = outputs;
  if (op !== "Concat" || !past?.startsWith(PAST) || !present?.startsWith("present")) return null;
  return rows === undefined || more.length > 0 ? null : { past, rows, present };
}

/** The model with these nodes, and new rows for outputs instead of caches. */
function rewritten(
  file: ModelFile,
  nodes: readonly GraphNode[],
  { caches, more }: { caches: readonly CacheConcat[]; more: readonly string[] },
): Uint8Array {
  const presents = new Set(caches.map(({ present }) => present));
  const model: Uint8Array[] = [];
  const graph = nodes.map(writeNode);
  for (const { field, whole, content } of wholeFields(file.bytes)) {
    if (field !== MODEL_GRAPH) {
      model.push(whole);
      continue;
    }
    for (const part of wholeFields(content)) {
      if (part.field === GRAPH_NODE) continue;
      if (part.field === GRAPH_OUTPUT && presents.has(nameOf(part.content))) continue;
      const weight = part.field === GRAPH_WEIGHT ? weightInFile(part.content, file) : null;
      graph.push(weight ?? part.whole);
    }
  }
  // Two caches may share their rows (keys that are values).
  const outputs = new Set([...caches.map(({ rows }) => rows), ...more]);
  graph.push(...Array.from(outputs, untypedOutput));
  const sets = operatorDomains(file.bytes).includes(MICROSOFT) ? [] : [operatorSet(MICROSOFT, 1)];
  return Buffer.concat([...model, ...sets, nestedMessage(MODEL_GRAPH, graph)]);
}
