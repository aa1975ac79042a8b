/** Finds the graphs in the attributes of nodes: branches of If, bodies of loops. They may use any value of the graph around them. */
import type { GraphNode } from "./nodes.ts";
import { ATTRIBUTE_PROTO } from "./onnx-proto.ts";
import { readFields } from "./onnx-wire.ts";

/** Fields of an attribute with graphs. */
export const INNER_GRAPHS: readonly number[] = [ATTRIBUTE_PROTO.g, ATTRIBUTE_PROTO.graphs];

/** The encoded graphs of a node, without those inside them. */
export const innerGraphs = ({ attributes }: GraphNode): Uint8Array[] =>
  attributes.flatMap((attribute) =>
    Array.from(readFields(attribute, INNER_GRAPHS), ([, graph]) => graph),
  );

export const hasInnerGraphs = (nodes: readonly GraphNode[]) =>
  nodes.some((node) => innerGraphs(node).length > 0);
