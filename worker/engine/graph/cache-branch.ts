/**
 * Takes the branch with a cache out of an If. Optimum's older exports (`decoder_model_merged.onnx`) have one graph for the first run
 * and one for all others, and an input `use_cache_branch` that chooses. In a prepared graph the cache is never empty.
 */
import { Writer } from "protobufjs/minimal.js";
import { standardNode, type GraphNode } from "./nodes.ts";
import {
  ATTRIBUTE_PROTO,
  ATTRIBUTE_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  varintTag,
} from "./onnx-proto.ts";
import {
  attributeNamed,
  initializerName,
  readFields,
  readNode,
  valueInfoName,
} from "./onnx-wire.ts";

/** The nodes with those of the branch in place of the If; the same nodes if there is none. */
export function inlineCacheBranch(nodes: readonly GraphNode[]): readonly GraphNode[] {
  const choice = nodes.find(({ op, inputs }) => op === "If" && inputs[0] === "use_cache_branch");
  const attribute = choice && attributeNamed(choice.attributes, "then_branch");
  const [branch] = attribute ? Array.from(readFields(attribute, [ATTRIBUTE_PROTO.g])) : [];
  if (!choice || !branch) return nodes;
  return nodes.flatMap((node) => (node === choice ? nodesOf(branch[1], choice.outputs) : [node]));
}

/** @param outputs names that the results of the branch have outside */
function nodesOf(graph: Uint8Array, outputs: readonly string[]): GraphNode[] {
  const constants: GraphNode[] = [];
  const nodes: GraphNode[] = [];
  const results: string[] = [];
  const { node, initializer, output } = GRAPH_PROTO;
  for (const [field, content] of readFields(graph, [node, initializer, output])) {
    if (field === node) nodes.push(readNode(content));
    else if (field === output) results.push(valueInfoName(content));
    else constants.push(standardNode("Constant", [], initializerName(content), [value(content)]));
  }
  const names = new Map(results.map((result, i) => [result, outputs[i]!]));
  const rename = (name: string) => names.get(name) ?? name;
  const renamed = nodes.map((inner) => ({
    ...inner,
    inputs: inner.inputs.map(rename),
    outputs: inner.outputs.map(rename),
  }));
  return [...constants, ...renamed];
}

/** The attribute of a Constant with a tensor. */
function value(tensor: Uint8Array): Uint8Array {
  return Writer.create()
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.name))
    .string("value")
    .uint32(lengthDelimitedTag(ATTRIBUTE_PROTO.t))
    .bytes(tensor)
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(ATTRIBUTE_TYPE.tensor)
    .finish();
}
