/**
 * Adds nodes that gather the new keys and values from the output of GroupQueryAttention. This fused operator of onnxruntime
 * computes `present` itself, and places the new tokens of row b directly behind the old ones: from token
 * `seqlens_k[b] + 1 - count` on. With these nodes `present` is not fetched, so the copy of the whole cache stays in
 * onnxruntime's own memory, where it costs a fraction of what it costs in JS (base of 98M parameters at 1,024 tokens: 33 to
 * 50 ms a step with `present` fetched, 20 without). The operator does not accept several new tokens of several sequences in
 * one run.
 */
import { int64Constant, integerAttribute, standardNode, type GraphNode } from "./nodes.ts";
import { DATA_TYPE } from "./onnx-proto.ts";
import { attributeNamed, readIntegerAttribute } from "./onnx-wire.ts";
import type { CacheUpdate } from "./split-attention.ts";

/**
 * Positions of the operator's inputs and outputs
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention).
 */
const INPUT = { pastKey: 3, pastValue: 4, seqlensK: 5, attentionBias: 10 } as const;
const OUTPUT = { presentKey: 1, presentValue: 2 } as const;

/** A cache that GroupQueryAttention updates. */
export interface FusedCacheUpdate extends CacheUpdate {
  /** Name of the input `seqlens_k`: [B] tokens of each row after the run, less one. */
  readonly seqlens: string;
  readonly kvHeads: number;
}

/** The cache updates of a node: one for the keys and one for the values of a GroupQueryAttention; none for other nodes. */
export function fusedCacheUpdates({
  op,
  inputs,
  outputs,
  attributes,
}: GraphNode): FusedCacheUpdate[] {
  const kvHeads = readIntegerAttribute(attributes, "kv_num_heads");
  // An attention bias is not supported: the graph computes its columns for a layout in which the new tokens come after the
  // whole capacity of the cache.
  if (op !== "GroupQueryAttention" || kvHeads === null || inputs[INPUT.attentionBias]) return [];
  const seqlens = inputs[INPUT.seqlensK]!;
  return [
    [inputs[INPUT.pastKey]!, outputs[OUTPUT.presentKey]!],
    [inputs[INPUT.pastValue]!, outputs[OUTPUT.presentValue]!],
  ].map(([past, present]) => ({
    past: past!,
    present: present!,
    newRows: `${present}/new`,
    seqlens,
    kvHeads,
  }));
}

/**
 * The nodes with whole caches. onnxruntime-genai's builder gives layers with a window a cache as long as the window, from which
 * the operator removes the oldest tokens. Without this attribute the operator keeps all of them and attends to the same ones.
 * @returns null if no node has such a cache
 */
export function withWholeCaches(nodes: readonly GraphNode[]): GraphNode[] | null {
  const windowed = (node: GraphNode) =>
    node.op === "GroupQueryAttention" && attributeNamed(node.attributes, "sliding_window_cache");
  if (!nodes.some(windowed)) return null;
  return nodes.map((node) => {
    const attribute = windowed(node);
    return attribute
      ? { ...node, attributes: node.attributes.filter((each) => each !== attribute) }
      : node;
  });
}

/** Nodes that compute the `newRows` of every cache, [B, heads, tokens, head size]. They need opset 12 or newer. */
export function gatherNewRows(updates: readonly FusedCacheUpdate[]): GraphNode[] {
  const value = (name: string) => `new rows/${name}`;
  const nodes = [
    standardNode("Shape", ["input_ids"], value("shape")),
    int64Constant(value("second"), [1n]),
    standardNode("Gather", [value("shape"), value("second")], value("count")),
    int64Constant(value("one"), [1n]),
    standardNode("Expand", [value("one"), value("shape")], value("ones")),
    standardNode("CumSum", [value("ones"), value("second")], value("places")),
    // Index of new token t (counted from 1) in `present`: seqlens_k + t - count.
    standardNode("Sub", [value("places"), value("count")], value("from the end")),
    int64Constant(value("column"), [-1n, 1n]),
    int64Constant(value("index of a row"), [0n, 1n, -1n, 1n]),
  ];
  const indexes = new Set<string>();
  for (const { seqlens, kvHeads, present, newRows } of updates) {
    const index = value(`index ${seqlens} ${kvHeads}`);
    // Layers with the same lengths and number of heads share their index.
    if (!indexes.has(index)) {
      indexes.add(index);
      const part = (name: string) => `${index}/${name}`;
      nodes.push(
        standardNode("Cast", [seqlens], part("long"), [integerAttribute("to", DATA_TYPE.int64)]),
        standardNode("Reshape", [part("long"), value("column")], part("lengths")),
        standardNode("Add", [part("lengths"), value("from the end")], part("places")),
        standardNode("Reshape", [part("places"), value("index of a row")], part("index")),
        int64Constant(part("heads"), [1n, BigInt(kvHeads), 1n, 1n]),
        standardNode("Expand", [part("index"), part("heads")], index),
      );
    }
    nodes.push(
      standardNode("GatherND", [present, index], newRows, [integerAttribute("batch_dims", 2)]),
    );
  }
  return nodes;
}
