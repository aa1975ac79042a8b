/**
 * Brings a graph in bfloat16 to float32. onnxruntime's CPU provider has no bfloat16 versions of most operators. Every bfloat16 is a float32, so
 * the weights keep their values: they stay in their files, and onnxruntime casts them when it loads the graph. Activations and
 * caches have more digits than the exported graph would give them.
 */
import { Writer } from "protobufjs/minimal.js";
import { hasInnerGraphs, INNER_GRAPHS } from "./inner-graphs.ts";
import { integerAttribute, standardNode, type GraphNode } from "./nodes.ts";
import {
  ATTRIBUTE_PROTO,
  DATA_TYPE,
  FUNCTION_PROTO,
  GRAPH_PROTO,
  lengthDelimitedTag,
  MODEL_PROTO,
  TENSOR_PROTO,
  varintTag,
} from "./onnx-proto.ts";
import {
  functionNodeField,
  initializerName,
  messageField,
  nodeField,
  rawFields,
  readFields,
  readInteger,
  readNode,
  valueInfoName,
} from "./onnx-wire.ts";
import { hasType, retypedField } from "./value-info.ts";
import { readIntegers } from "./weights.ts";

/** The model in float32; null if nothing in it is bfloat16. */
export function inFloat32(model: Uint8Array): Uint8Array | null {
  const fields = [...rawFields(model)];
  const uses = fields.some(
    ({ field, content }) => field === MODEL_PROTO.graph && usesBfloat16(content),
  );
  if (!uses) return null;
  return Buffer.concat(
    fields.map(({ field, raw, content }) => {
      if (field === MODEL_PROTO.graph) return messageField(field, graphFields(content));
      if (field !== MODEL_PROTO.functions) return raw;
      const parts = Array.from(rawFields(content), (part) =>
        part.field === FUNCTION_PROTO.node
          ? functionNodeField(retyped(readNode(part.content)))
          : part.raw,
      );
      return messageField(field, parts);
    }),
  );
}

const VALUES: readonly number[] = [GRAPH_PROTO.input, GRAPH_PROTO.output, GRAPH_PROTO.valueInfo];

function usesBfloat16(graph: Uint8Array): boolean {
  for (const [field, content] of readFields(graph, [GRAPH_PROTO.initializer, ...VALUES])) {
    const isWeight = field === GRAPH_PROTO.initializer;
    const isBfloat16 = isWeight ? isBfloat16Tensor(content) : hasType(content, DATA_TYPE.bfloat16);
    if (isBfloat16) return true;
  }
  return false;
}

const isBfloat16Tensor = (tensor: Uint8Array) =>
  readInteger(tensor, TENSOR_PROTO.dataType) === DATA_TYPE.bfloat16;

/** The fields of a graph, which may be that of an attribute. */
function graphFields(graph: Uint8Array): Uint8Array[] {
  const nodes: GraphNode[] = [];
  const others: Uint8Array[] = [];
  const outputs: string[] = [];
  const tensors = Array.from(readFields(graph, [GRAPH_PROTO.initializer]), ([, tensor]) => tensor);
  const weights = new Set(tensors.filter(isBfloat16Tensor).map(initializerName));
  for (const { field, raw, content } of rawFields(graph)) {
    if (field === GRAPH_PROTO.output) outputs.push(valueInfoName(content));
    if (field === GRAPH_PROTO.node) nodes.push(retyped(readNode(content)));
    // Older exports list weights as inputs too; here nodes compute them.
    else if (field === GRAPH_PROTO.input && weights.has(valueInfoName(content))) continue;
    else if (field === GRAPH_PROTO.initializer && isBfloat16Tensor(content)) {
      others.push(messageField(field, renamedTensor(content)));
    } else if (VALUES.includes(field) && hasType(content, DATA_TYPE.bfloat16)) {
      // Types of values in between are hints.
      if (field !== GRAPH_PROTO.valueInfo)
        others.push(retypedField(field, content, DATA_TYPE.float));
    } else others.push(raw);
  }
  return [...castWeights(nodes, weights, outputs).map(nodeField), ...others];
}

const stored = (weight: string) => `${weight}/bfloat16`;
const toFloat = integerAttribute("to", DATA_TYPE.float);

/**
 * Casts weights under their names, also for inner graphs; of a table only the rows that are looked up.
 * @param outputs of the graph
 */
function castWeights(
  nodes: readonly GraphNode[],
  weights: ReadonlySet<string>,
  outputs: readonly string[],
): GraphNode[] {
  const isLookUp = ({ op, inputs }: GraphNode) => op === "Gather" && weights.has(inputs[0]!);
  const lookedUp = nodes.flatMap((node) => {
    if (!isLookUp(node)) return [node];
    const [table, ...rest] = node.inputs as [string, ...string[]];
    const [output] = node.outputs as [string];
    return [
      { ...node, inputs: [stored(table), ...rest], outputs: [stored(output)] },
      standardNode("Cast", [stored(output)], output, [toFloat]),
    ];
  });
  const used = new Set([...lookedUp.flatMap(({ inputs }) => inputs), ...outputs]);
  const mayUseAll = hasInnerGraphs(nodes);
  const cast = [...weights].filter((name) => mayUseAll || used.has(name));
  return [
    ...cast.map((name) => standardNode("Cast", [stored(name)], name, [toFloat])),
    ...lookedUp,
  ];
}

/** Integer attributes that name a type. */
const TYPES = new Set(["to", "dtype", "output_dtype"]);

function retyped(node: GraphNode): GraphNode {
  return { ...node, attributes: node.attributes.map(retypedAttribute) };
}

function retypedAttribute(attribute: Uint8Array): Uint8Array {
  const fields = [...rawFields(attribute)];
  const name = new TextDecoder().decode(
    fields.find(({ field }) => field === ATTRIBUTE_PROTO.name)?.content,
  );
  if (TYPES.has(name) && readInteger(attribute, ATTRIBUTE_PROTO.i) === DATA_TYPE.bfloat16) {
    return integerAttribute(name, DATA_TYPE.float);
  }
  return Buffer.concat(
    fields.map(({ field, raw, content }) => {
      if (INNER_GRAPHS.includes(field)) return messageField(field, graphFields(content));
      const isTensor = field === ATTRIBUTE_PROTO.t && isBfloat16Tensor(content);
      return isTensor ? messageField(field, float32Tensor(content)) : raw;
    }),
  );
}

function renamedTensor(tensor: Uint8Array): Uint8Array[] {
  const kept = Array.from(rawFields(tensor)).filter(({ field }) => field !== TENSOR_PROTO.name);
  const field = Writer.create()
    .uint32(lengthDelimitedTag(TENSOR_PROTO.name))
    .string(stored(initializerName(tensor)))
    .finish();
  return [...kept.map(({ raw }) => raw), field];
}

/** A constant's tensor with its values as float32. */
function float32Tensor(tensor: Uint8Array): Uint8Array[] {
  const { rawData, int32Data, dataType } = TENSOR_PROTO;
  const replaced: readonly number[] = [rawData, int32Data, dataType];
  const kept = Array.from(rawFields(tensor)).filter(({ field }) => !replaced.includes(field));
  const values = Float32Array.from(bfloat16Values(tensor));
  const fields = Writer.create()
    .uint32(varintTag(dataType))
    .int32(DATA_TYPE.float)
    .uint32(lengthDelimitedTag(rawData))
    .bytes(new Uint8Array(values.buffer))
    .finish();
  return [...kept.map(({ raw }) => raw), fields];
}

/** The values are the upper halves of float32 numbers: two bytes each, or one integer each. */
function bfloat16Values(tensor: Uint8Array): number[] {
  const [raw] = Array.from(readFields(tensor, [TENSOR_PROTO.rawData]), ([, bytes]) => bytes);
  const halves = raw
    ? Array.from(new Uint16Array(Uint8Array.from(raw).buffer))
    : readIntegers(tensor, TENSOR_PROTO.int32Data);
  return Array.from(new Float32Array(Uint32Array.from(halves, (half) => half * 2 ** 16).buffer));
}
