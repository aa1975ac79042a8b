/** Reads a prepared graph for adapters. */
import type { AdaptedGraph } from "./adapter-targets.ts";
import type { GraphNode } from "./nodes.ts";
import { GRAPH_PROTO, MODEL_PROTO } from "./onnx-proto.ts";
import { rawFields, readNode, standardOpset } from "./onnx-wire.ts";
import { readWeightInfo, type WeightInfo } from "./weights.ts";

export function readAdaptedGraph(model: Uint8Array): AdaptedGraph {
  const nodes: GraphNode[] = [];
  const weights = new Map<string, WeightInfo>();
  for (const { field, content } of rawFields(model)) {
    if (field !== MODEL_PROTO.graph) continue;
    for (const part of rawFields(content)) {
      if (part.field === GRAPH_PROTO.node) nodes.push(readNode(part.content));
      if (part.field !== GRAPH_PROTO.initializer) continue;
      const weight = readWeightInfo(part.content);
      weights.set(weight.name, weight);
    }
  }
  return { nodes, weights, opset: standardOpset(model) };
}
