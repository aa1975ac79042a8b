/** Changes graphs, and brings them into the form of optimum's older exports: an If whose condition is `use_cache_branch`. */
import { Writer } from "protobufjs/minimal.js";
import {
  ATTRIBUTE_PROTO,
  DATA_TYPE,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  NODE_PROTO,
  varintTag,
} from "../../worker/engine/graph/onnx-proto.ts";
import { standardNode, type GraphNode } from "../../worker/engine/graph/nodes.ts";
import {
  messageField,
  nodeField,
  rawFields,
  readNode,
  valueInfoName,
} from "../../worker/engine/graph/onnx-wire.ts";
import { valueInfo } from "./tiny-graph.ts";

/** AttributeProto.AttributeType of a graph. */
const GRAPH_ATTRIBUTE = 5;

/** A model with changes to the nodes of its graph. @param change what stands in the place of a node */
export function changeNodes(
  model: Uint8Array,
  change: (node: GraphNode) => GraphNode | readonly GraphNode[],
): Uint8Array {
  const fields = Array.from(rawFields(model), ({ field, raw, content }) => {
    if (field !== MODEL_PROTO.graph) return raw;
    const parts = Array.from(rawFields(content)).flatMap((part) =>
      part.field === GRAPH_PROTO.node
        ? [change(readNode(part.content))].flat().map(nodeField)
        : [part.raw],
    );
    return messageField(MODEL_PROTO.graph, parts);
  });
  return Buffer.concat(fields);
}

/** A llama of test/vectors whose logits are computed with its transposed embeddings. */
export const tiedGraph = (model: Uint8Array) =>
  changeNodes(model, (node) => {
    if (!node.outputs.includes("logits")) return node;
    const transposed = standardNode("Transpose", ["model.embed_tokens.weight"], "transposed");
    return [transposed, { ...node, inputs: [node.inputs[0]!, "transposed"] }];
  });

/** A model whose two branches are the graph of the given model. */
export function mergedGraph(model: Uint8Array): Uint8Array {
  const fields = [...rawFields(model)];
  const graph = fields.find(({ field }) => field === MODEL_PROTO.graph)!;
  const parts = [...rawFields(graph.content)];
  const { node, input, output, initializer } = GRAPH_PROTO;
  const raw = (...wanted: number[]) =>
    parts.filter(({ field }) => wanted.includes(field)).map((part) => part.raw);
  const outputs = parts
    .filter(({ field }) => field === output)
    .map(({ content }) => valueInfoName(content));
  const name = stringField(GRAPH_PROTO.name, "branch");
  const branch = messageField(ATTRIBUTE_PROTO.g, [...raw(node, output), name]);
  const choice = messageField(node, [
    stringField(NODE_PROTO.input, "use_cache_branch"),
    ...outputs.map((each) => stringField(NODE_PROTO.output, each)),
    stringField(NODE_PROTO.opType, "If"),
    ...["then_branch", "else_branch"].map((each) => attribute(each, branch)),
  ]);
  const flag = Writer.create()
    .uint32(lengthDelimitedTag(input))
    .bytes(valueInfo("use_cache_branch", DATA_TYPE.bool, [1]))
    .finish();
  const merged = [choice, name, ...raw(initializer, input, output), flag];
  return Buffer.concat([
    ...fields.filter((field) => field !== graph).map((field) => field.raw),
    messageField(MODEL_PROTO.graph, merged),
  ]);
}

const stringField = (field: number, text: string) =>
  Writer.create().uint32(lengthDelimitedTag(field)).string(text).finish();

function attribute(name: string, graph: Uint8Array): Uint8Array {
  const type = Writer.create()
    .uint32(varintTag(ATTRIBUTE_PROTO.type))
    .int32(GRAPH_ATTRIBUTE)
    .finish();
  return messageField(NODE_PROTO.attribute, [stringField(ATTRIBUTE_PROTO.name, name), graph, type]);
}
