/**
 * Rewrites a Hugging Face style decoder graph so that it returns only the new tokens' keys and values, without a new export.
 * This is the folder's main file. The folder reads, changes and writes ONNX graphs and compares their logits with the
 * original's. It knows nothing of tokenizers, ensembles or scheduling; model/load-graph.ts decides which graph is used.
 *
 * An exported graph computes each layer's cache as `present = Concat(past, new)`. onnxruntime copies every fetched output
 * into JS memory, so fetching `present` copies the whole cache at every token (10 to 20 ms of a step of 30 to 45 ms at 1,024
 * tokens, 98M parameters). A rewritten graph has the second input of Concat as an output instead of `present`. Weights are
 * not copied: a prepared file refers to the original file, or to the file of external weights that the original refers to.
 *
 * To support another form of graph: recognise how its nodes update the cache, as `readCacheConcat` and
 * `fusedCacheUpdates` do, and return a rewrite with a new variant from `rewriteGraph`.
 */
import { LOGITS, LOGITS_COUNT, LOGITS_START, PAST } from "../decoder/graph-io.ts";
import { inlineCacheBranch } from "./cache-branch.ts";
import { removeCacheCasts } from "./cache-casts.ts";
import { fusedCacheUpdates, gatherNewRows, withWholeCaches } from "./fused-attention.ts";
import type { GraphNode } from "./nodes.ts";
import { DATA_TYPE, GRAPH_PROTO, MICROSOFT_DOMAIN, MODEL_PROTO } from "./onnx-proto.ts";
import {
  messageField,
  nodeField,
  operatorDomains,
  operatorSetField,
  outputNames,
  rawFields,
  standardOpset,
  readFields,
  readNode,
  untypedOutputField,
  valueInfoName,
} from "./onnx-wire.ts";
import { inputField, retypedField } from "./value-info.ts";
import { POSITION_IDS, usePositionInput } from "./position-input.ts";
import { scaleRows } from "./row-scales.ts";
import { splitAttention, type CacheUpdate } from "./split-attention.ts";
import { multiplyTransposed } from "./tied-weights.ts";
import { limitLogits } from "./wanted-logits.ts";
import { readWeightInfo, type WeightInfo } from "./weights.ts";

/** A rewritten graph. Its logits must be compared with the original's before it is used (probe.ts). */
export interface GraphRewrite {
  /**
   * - split: without the Concat of past and new keys and values (split-attention.ts)
   * - concat: with that Concat, whose second input is now an output
   * - fused: new keys and values are gathered from the output of GroupQueryAttention (fused-attention.ts)
   */
  readonly variant: "split" | "concat" | "fused";
  /** `past_key_values.*` input -> name of the output with the new tokens' keys or values. */
  readonly newKvOutputs: ReadonlyMap<string, string>;
  /** Whether some weights or activations have fewer bits than float32. */
  readonly isLowPrecision: boolean;
  /** Version of the standard operators. */
  readonly opset: number;
  /** In topological order. */
  readonly nodes: readonly GraphNode[];
  /** Names of the graph's inputs, without its weights. */
  readonly inputs: ReadonlySet<string>;
  /** Encodes a model of these nodes. Its outputs are the new rows instead of `present.*`, and `furtherOutputs` if given. */
  readonly build: (nodes: readonly GraphNode[], furtherOutputs?: readonly string[]) => Uint8Array;
}

/** A possible rewrite, before it is written. */
export interface RewritePlan {
  readonly variant: GraphRewrite["variant"];
  readonly updates: readonly CacheUpdate[];
  readonly nodes: readonly GraphNode[];
  /** The caches whose inputs become float16 (cache-casts.ts). */
  readonly float16Caches: ReadonlySet<string>;
  /** Whether the input `position_ids` is added (position-input.ts). */
  readonly addsPositions: boolean;
}

/**
 * Possible rewrites of a graph, the fastest first; none if some cache is updated in an unknown way.
 * @param inputs names of the graph's inputs, without its weights
 */
export function planRewrites(
  exported: readonly GraphNode[],
  inputs: ReadonlySet<string>,
): RewritePlan[] {
  const { nodes, float16Caches } = removeCacheCasts(exported);
  const pastInputs = [...inputs].filter((name) => name.startsWith(PAST));
  const coverAllCaches = (updates: readonly CacheUpdate[]) => {
    const updated = new Set(updates.map(({ past }) => past));
    return pastInputs.length > 0 && pastInputs.every((past) => updated.has(past));
  };
  const fused = nodes.flatMap(fusedCacheUpdates);
  if (coverAllCaches(fused)) {
    const gathering = [...nodes, ...gatherNewRows(fused)];
    const inputChanges = { float16Caches, addsPositions: false };
    return [{ variant: "fused", updates: fused, nodes: gathering, ...inputChanges }];
  }
  const updates = nodes.flatMap((concat) => readCacheConcat(concat) ?? []);
  if (!coverAllCaches(updates)) return [];
  const positioned = inputs.has(POSITION_IDS) ? null : usePositionInput(nodes);
  const concat = positioned ?? nodes;
  const split = splitAttention(concat, updates);
  const plan = { updates, float16Caches, addsPositions: positioned !== null };
  return [
    ...(split ? [{ variant: "split" as const, nodes: split, ...plan }] : []),
    { variant: "concat", nodes: concat, ...plan },
  ];
}

/** The model with whole caches instead of ones as long as a window; null if it has no such caches. */
export function wholeCacheModel(model: Uint8Array): Uint8Array | null {
  const nodes = withWholeCaches(readGraph(model).nodes);
  const float16Caches = new Set<string>();
  const unchanged = { updates: [], float16Caches, addedInputs: [], furtherOutputs: [] };
  return nodes && encodeModel(model, nodes, unchanged);
}

/** The nodes of `planRewrites` when a graph is prepared. */
export const scaledRows = (nodes: readonly GraphNode[], opset: number) =>
  scaleRows(withWholeCaches(nodes) ?? nodes, opset);

/** The rewrites of `planRewrites`, ready to be written; each first with the logits of the wanted tokens only. */
export function rewriteGraph(model: Uint8Array): GraphRewrite[] {
  const { nodes, inputs, weights, isLowPrecision, opset } = readGraph(model);
  const multiplied = multiplyTransposed(scaledRows(nodes, opset), weights, outputNames(model));
  return planRewrites(multiplied, inputs).flatMap((plan) => {
    const limited = inputs.has(LOGITS_COUNT) ? null : limitLogits(plan.nodes, inputs, LOGITS);
    const rewrite = (built: readonly GraphNode[], isLimited: boolean): GraphRewrite => {
      const addedInputs = [
        ...(plan.addsPositions ? [{ name: POSITION_IDS, shape: [null, null] }] : []),
        ...(isLimited ? [{ name: LOGITS_START, shape: [1] }] : []),
      ];
      return {
        variant: plan.variant,
        newKvOutputs: new Map(plan.updates.map(({ past, newRows }) => [past, newRows])),
        isLowPrecision,
        opset,
        nodes: built,
        inputs: new Set([...inputs, ...addedInputs.map(({ name }) => name)]),
        build: (nodes, furtherOutputs = []) =>
          encodeModel(model, nodes, { ...plan, addedInputs, furtherOutputs }),
      };
    };
    return [...(limited ? [rewrite(limited, true)] : []), rewrite(plan.nodes, false)];
  });
}

/** Nodes of the branch with a cache, weights without their values, and names of the inputs without weights. */
function readGraph(model: Uint8Array): Pick<
  GraphRewrite,
  "nodes" | "inputs" | "isLowPrecision" | "opset"
> & {
  readonly weights: ReadonlyMap<string, WeightInfo>;
} {
  const inputs = new Set<string>();
  const weights = new Map<string, WeightInfo>();
  const exported: GraphNode[] = [];
  const { node, input, initializer } = GRAPH_PROTO;
  for (const [, graph] of readFields(model, [MODEL_PROTO.graph])) {
    for (const [field, content] of readFields(graph, [node, input, initializer])) {
      if (field === node) exported.push(readNode(content));
      else if (field === input) inputs.add(valueInfoName(content));
      else {
        const weight = readWeightInfo(content);
        weights.set(weight.name, weight);
      }
    }
  }
  // Older exports list weights as inputs too.
  for (const weight of weights.keys()) inputs.delete(weight);
  const nodes = inlineCacheBranch(exported);
  // Weights in bfloat16 are used as float32 (bfloat16.ts).
  const isLowPrecision =
    [...weights.values()].some(({ type }) => type === DATA_TYPE.float16) ||
    nodes.some(({ op }) => /Quantize|Integer|NBits/.test(op));
  return { nodes, inputs, weights, isLowPrecision, opset: standardOpset(model) };
}

/** The cache update that a node makes; null if it is not a Concat of past and new keys or values. */
function readCacheConcat({ op, inputs, outputs }: GraphNode): CacheUpdate | null {
  const [past, newRows, ...more] = inputs;
  const [present] = outputs;
  if (op !== "Concat" || !past?.startsWith(PAST) || !present?.startsWith("present")) return null;
  return newRows === undefined || more.length > 0 ? null : { past, newRows, present };
}

/** Encodes a model with other nodes, inputs and outputs. */
function encodeModel(
  source: Uint8Array,
  nodes: readonly GraphNode[],
  options: Pick<RewritePlan, "updates" | "float16Caches"> & {
    /** Of 64-bit integers; axes of any size are null. */
    readonly addedInputs: readonly { name: string; shape: readonly (number | null)[] }[];
    readonly furtherOutputs: readonly string[];
  },
): Uint8Array {
  const { updates, furtherOutputs, float16Caches, addedInputs } = options;
  const presents = new Set(updates.map(({ present }) => present));
  const model: Uint8Array[] = [];
  const graph = nodes.map(nodeField);
  for (const { field, raw, content } of rawFields(source)) {
    if (field !== MODEL_PROTO.graph) {
      model.push(raw);
      continue;
    }
    for (const part of rawFields(content)) {
      if (part.field === GRAPH_PROTO.node) continue;
      if (part.field === GRAPH_PROTO.output && presents.has(valueInfoName(part.content))) continue;
      if (part.field === GRAPH_PROTO.input && float16Caches.has(valueInfoName(part.content))) {
        graph.push(retypedField(part.field, part.content, DATA_TYPE.float16));
        continue;
      }
      graph.push(part.raw);
    }
  }
  for (const { name, shape } of addedInputs) graph.push(inputField(name, DATA_TYPE.int64, shape));
  // Two caches may share their new rows (keys that are also the values).
  const outputs = new Set([...updates.map(({ newRows }) => newRows), ...furtherOutputs]);
  graph.push(...Array.from(outputs, untypedOutputField));
  const hasMicrosoftDomain = operatorDomains(source).includes(MICROSOFT_DOMAIN);
  const operatorSets = hasMicrosoftDomain ? [] : [operatorSetField(MICROSOFT_DOMAIN, 1)];
  return Buffer.concat([...model, ...operatorSets, messageField(MODEL_PROTO.graph, graph)]);
}
